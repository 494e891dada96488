"""What every public model promises, whatever it draws. To add one: a line in MODELS.

An example is a tiny network and the arguments of its `forward`, which returns tensors, or tuples,
mappings or dataclasses of them.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lens_parts
import pytest
import torch
from loopback_hub import LoopbackHub
from safetensors.torch import load_file, save_file
from tiny import Tiny, TinyConfig
from torch import Tensor

from hubmodels.circular.model import CircularScene, CircularSceneConfig
from hubmodels.distill.model import DistilledRenderer, DistilledRendererConfig, tokenize
from hubmodels.hub import HubError, HubModel
from hubmodels.lens.model import DiffusionLens, DiffusionLensConfig
from hubmodels.neuropbr.model import NeuroPBR, NeuroPBRConfig
from hubmodels.pixelscene.shape import COLOURS, PixelTransformerConfig, PixelVQGANConfig
from hubmodels.pixelscene.transformer import Asked, PixelTransformer
from hubmodels.pixelscene.vqgan import PixelVQGAN
from hubmodels.scenes import caption, parse, place

BASES = TemporaryDirectory(prefix="lens-base-")
Example = tuple[HubModel, tuple[Any, ...]]


def tiny() -> Example:
    return Tiny(TinyConfig()), (torch.randn(4, 3),)


def distilled_renderer() -> Example:
    small = {f"channels_{size}": 4 for size in (8, 16, 32, 64)}
    config = DistilledRendererConfig(width=16, layers=1, feedforward=16, sentence=16, hidden=4, **small)
    sentences = ("The red ball is left of the blue cube.", "There are two green cubes.")
    return DistilledRenderer(config), (tokenize([caption(place(parse(said), 0)) for said in sentences]),)


def circular_scene(**settings: Any) -> Example:
    small = {"width": 32, "layers": 1, "heads": 2, "feedforward": 32, "painter": 16, "reader": 16, "reader_layers": 1}
    model = CircularScene(CircularSceneConfig(**small, **settings))
    tokens, layout = model.tokenized(["The red ball is left of the blue cube.", "There are two green cubes."])
    return model, (tokens, layout, torch.rand(1, 3, 64, 64) * 2 - 1)


def circular_scene_with_a_layout() -> Example:
    return circular_scene(language="scenes", layout=True, slots=8)


def circular_scene_of_visual_words() -> Example:
    return circular_scene(bottleneck="vq", codes=16)


def neuropbr() -> Example:
    config = NeuroPBRConfig(channels=8, growth=1.0, levels=2, summary=16, heads=2, depth=1)
    return NeuroPBR(config), (torch.rand(1, 2, 3, 32, 32), None, None, None, None, True)  # and where light comes from


def pixel_vqgan() -> Example:
    config = PixelVQGANConfig(channels=8, growth="1,1,1,1", blocks=1, levels="4,3,2", features=4)
    return PixelVQGAN(config), (torch.rand(1, 3, 16, 24), torch.rand(1, 5, 3))


def pixel_transformer() -> Example:
    config = PixelTransformerConfig(
        width=32, layers=1, heads=2, feedforward=32, colours=4, thumbnails=2, text="words", vocabulary="a b castle"
    )
    palette, tokens = torch.tensor([[0, 1, 5, 9]]), torch.tensor([[[1, 2, 3], [4, 1000, 6]]])
    small, large = torch.tensor([[[0, 4]]]), torch.tensor([[[0, 1, 2], [3, 4, 0]]])
    pictures = [Asked(1, palette, None, small), Asked(2, palette, large, large), Asked(3, palette, large, tokens)]
    asked = [Asked(0, torch.tensor([[0, 1, 5, COLOURS]])), *pictures]
    return PixelTransformer(config), (asked, torch.tensor([[0, 2]]), torch.tensor([[True, False]]))


def diffusion_lens() -> Example:
    """With its base, which it looks for where its configuration says."""
    folder, _ = lens_parts.saved(Path(BASES.name), lens_parts.LABELS)
    config = DiffusionLensConfig(str(folder), size=16, rank=2)
    lens = DiffusionLens.fresh(config, lens_parts.base(conditioned=True))
    with torch.no_grad():
        for weight in lens.learned.values():
            weight.normal_(std=0.1)
    source = torch.randn(2, 4, 8, 8)
    return lens, (torch.randn(2, 4, 8, 8), torch.tensor([99, 49]), source, torch.randn(1, 16, lens_parts.tiny.WIDTH))


CIRCULAR = [circular_scene, circular_scene_with_a_layout, circular_scene_of_visual_words]
MODELS: list[Callable[[], Example]] = [
    *(tiny, distilled_renderer, *CIRCULAR, diffusion_lens, neuropbr, pixel_vqgan, pixel_transformer),
]


@pytest.fixture(params=MODELS, ids=lambda function: function.__name__)
def example(request: pytest.FixtureRequest) -> Example:
    torch.manual_seed(0)
    return request.param()


def tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if is_dataclass(output):
        output = vars(output)
    values = output.values() if isinstance(output, Mapping) else output
    return [tensor for value in values for tensor in tensors(value)]


def test_hub_round_trip_is_exact(hub: LoopbackHub, example: Example, tmp_path: Path) -> None:
    model, inputs = example
    model.push_to_hub("org/model")
    loaded = type(model).from_pretrained("org/model", cache_dir=tmp_path)
    mine, theirs = model.state_dict(), loaded.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name
    assert all(tensor.dtype == torch.float32 for tensor in mine.values() if tensor.is_floating_point())
    assert not loaded.training
    with torch.no_grad():
        for here, there in zip(tensors(model.eval()(*inputs)), tensors(loaded(*inputs)), strict=True):
            assert torch.equal(here, there)


def test_loading_is_strict(example: Example, tmp_path: Path) -> None:
    model, _ = example
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)
    name = min(whole)
    for wrong in (
        {key: tensor for key, tensor in whole.items() if key != name},
        whole | {"unknown": torch.zeros(1)},
        whole | {name: whole[name].new_zeros(*whole[name].shape, 2)},
    ):
        save_file(wrong, file)
        with pytest.raises(HubError, match="unknown" if "unknown" in wrong else name):
            type(model).from_pretrained(tmp_path)


def test_configuration_is_flat_json(example: Example, tmp_path: Path) -> None:
    model, _ = example
    config: Any = model.config
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == vars(config)
    assert {type(value) for value in vars(config).values()} <= {int, float, str, bool}
    with pytest.raises(FrozenInstanceError):
        setattr(config, next(iter(vars(config))), 0)


def test_every_parameter_learns(example: Example) -> None:
    model, inputs = example
    model.train()
    for parameter in model.parameters():  # layers that start at zero stop all gradients before them
        parameter.data += 0.1 * torch.randn_like(parameter)
    outputs = [out for out in tensors(model(*inputs)) if out.requires_grad]  # not the tokens of a tokenizer
    loss = torch.stack([(out * torch.randn_like(out)).sum() for out in outputs]).sum()
    loss.backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_eval_is_deterministic(example: Example) -> None:
    model, inputs = example
    model.eval()
    with torch.no_grad():
        first, second = (tensors(model(*inputs)) for _ in range(2))
    for here, there in zip(first, second, strict=True):
        assert torch.equal(here, there)
