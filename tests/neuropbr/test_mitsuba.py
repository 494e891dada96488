"""The renderer against a path tracer that shares no code with it: `principled` under a `normalmap`, lit by a point."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hubmodels.images import linear_to_srgb, srgb_to_linear
from hubmodels.neuropbr.lights import point
from hubmodels.neuropbr.shading import shade_supersampled

mitsuba = pytest.importorskip("mitsuba")

SIZE = 128
SAMPLES = 16
LIGHTS = [(0.8, 0.6, 1.6), (-1.0, 0.3, 1.2), (0.2, -1.1, 1.4)]
DISTANCE = 3.0
"""Of the eye; with a field of view of 2 atan(1 / 3) the texture fills the picture exactly."""


def material(relief: float) -> dict[str, Tensor]:
    """Domes on a rough ground, metal in patches: tileable, `relief` times as high as wide."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(*(((torch.arange(SIZE) + 0.5) / SIZE,) * 2), indexing="ij")
    height = torch.zeros(SIZE, SIZE)
    for cx, cy, radius in torch.rand(14, 3, generator=generator).tolist():
        dx, dy = (x - cx + 0.5) % 1 - 0.5, (y - cy + 0.5) % 1 - 0.5
        radius = 0.08 + 0.1 * radius
        height = torch.maximum(height, (1 - (dx**2 + dy**2) / radius**2).clamp(min=0) * radius)
    noise = waves(generator, 4)
    height = relief * (height + 0.004 * noise[0])
    right = (height.roll(-1, 1) - height.roll(1, 1)) * SIZE / 2
    up = (height.roll(1, 0) - height.roll(-1, 0)) * SIZE / 2  # row 0 is the top
    normal = F.normalize(torch.stack([-right, -up, torch.ones_like(up)]), dim=0)
    maps = {
        "albedo": 0.5 + 0.35 * noise[1] * torch.tensor([1.0, 0.8, 0.5])[:, None, None],
        "roughness": (0.5 + 0.2 * noise[2])[None],
        "metallic": (0.5 + 2 * noise[3]).clamp(0, 1)[None],
        "normal": normal,
    }
    return {name: value[None] for name, value in maps.items()}


def waves(generator: torch.Generator, count: int) -> Tensor:
    """(count, SIZE, SIZE) smooth and tileable, about from -1 to 1."""
    spectrum = torch.fft.rfft2(torch.randn(count, SIZE, SIZE, generator=generator))
    frequency = torch.hypot(torch.fft.fftfreq(SIZE)[:, None], torch.fft.rfftfreq(SIZE)) * SIZE
    field = torch.fft.irfft2(spectrum * torch.exp(-((frequency / 5) ** 2)))
    return field / field.abs().amax((1, 2), keepdim=True)


def traced(maps: dict[str, Tensor], light: tuple[float, ...]) -> Tensor:
    """(3, SIZE, SIZE) linear radiance by Mitsuba."""
    mitsuba.set_variant("scalar_rgb")  # the compiled variants abort the process on some versions of LLVM

    def texture(value: Tensor) -> dict:
        # row 0 of a bitmap is v = 0, the bottom
        pixels = value[0].flip(1).permute(1, 2, 0).contiguous().numpy()
        return {"type": "bitmap", "bitmap": mitsuba.Bitmap(pixels), "raw": True, "filter_type": "bilinear"}

    scene = mitsuba.load_dict(
        {
            "type": "scene",
            "integrator": {"type": "direct"},
            "sensor": {
                "type": "perspective",
                "fov": math.degrees(2 * math.atan(1 / DISTANCE)),
                "to_world": mitsuba.ScalarTransform4f().look_at([0, 0, DISTANCE], [0, 0, 0], [0, 1, 0]),
                "film": {"type": "hdrfilm", "width": SIZE, "height": SIZE, "rfilter": {"type": "box"}},
                "sampler": {"type": "multijitter", "sample_count": SAMPLES},
            },
            "lamp": {"type": "point", "position": list(light), "intensity": {"type": "rgb", "value": [12.0, 12, 12]}},
            "plane": {
                "type": "rectangle",
                "bsdf": {
                    "type": "normalmap",
                    "normalmap": texture((maps["normal"] + 1) / 2),
                    "bsdf": {
                        "type": "principled",
                        "base_color": texture(srgb_to_linear(maps["albedo"])),
                        "roughness": texture(maps["roughness"]),
                        "metallic": texture(maps["metallic"]),
                        "specular": 0.5,
                    },
                },
            },
        }
    )
    return torch.from_numpy(mitsuba.TensorXf(mitsuba.render(scene, seed=0)).numpy()).permute(2, 0, 1)[:3]


def shaded(maps: dict[str, Tensor], light: tuple[float, ...]) -> Tensor:
    lamp = point(torch.tensor([[light]]), torch.full((1, 1, 3), 12.0))
    return shade_supersampled(maps, lamp, torch.tensor([[0.0, 0, DISTANCE]]), factor=4)[0]


def psnr(a: Tensor, b: Tensor) -> float:
    a, b = (linear_to_srgb(each).clamp(0, 1) for each in (a, b))
    return -10 * math.log10((a - b).square().mean().item())


@pytest.mark.parametrize(("relief", "least"), [(1.0, 34.0), (0.1, 40.0)])
def test_radiance_agrees_with_a_path_tracer(relief: float, least: float) -> None:
    maps = material(relief)
    flipped = maps | {"normal": maps["normal"] * torch.tensor([1.0, -1, 1])[:, None, None]}
    for light in LIGHTS:
        oracle = traced(maps, light)
        assert psnr(shaded(maps, light), oracle) >= least
        assert psnr(shaded(flipped, light), oracle) < 27  # the control: the wrong convention of green must show
