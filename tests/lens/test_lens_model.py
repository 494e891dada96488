"""The lens: beside its base, in plain diffusers, and what others publish."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from lens_parts import base, pictures, pipeline
from safetensors.torch import load_file, save_file

from hubmodels.hub import HubError
from hubmodels.lens import base as bases
from hubmodels.lens.model import DiffusionLens, DiffusionLensConfig

EVERYWHERE = "to_q to_k to_v to_out.0 ff.net.0.proj conv1 conv_in"


def lens(conditioned: bool = False, learned: bool = True, **settings: Any) -> DiffusionLens:
    parts = base(conditioned)
    torch.manual_seed(1)
    made = DiffusionLens.fresh(DiffusionLensConfig(**{"rank": 4, "size": 16} | settings), parts)
    made.attach(parts)
    if learned:
        with torch.no_grad():
            for weight in made.learned.values():
                weight.add_(0.2 * torch.randn_like(weight))
    return made.eval()


@pytest.mark.parametrize("targets", ["to_q to_k to_v to_out.0", EVERYWHERE])
def test_one_that_has_learned_nothing_is_its_base(targets: str) -> None:
    given = pictures(3)
    fresh = lens(learned=False, targets=targets)
    with fresh.as_base():
        wanted = fresh.edit(given, 3)
    assert torch.equal(fresh.edit(given, 3), wanted)
    taught = lens(targets=targets)
    assert (taught.edit(given, 3) - wanted).abs().mean() > 1e-3
    with taught.as_base():
        assert torch.equal(taught.edit(given, 3), wanted)


def test_all_weights_can_be_learned() -> None:
    given, whole = pictures(2), lens(learned=False, rank=0)
    fresh = lens(learned=False)
    torch.testing.assert_close(whole.edit(given, 1), fresh.edit(given, 1))
    assert sum(p.numel() for p in whole.parameters()) == sum(p.numel() for p in base().unet.parameters())
    source = torch.randn(2, 4, 8, 8)
    whole(source, torch.tensor([5, 5]), source, torch.randn(1, 16, 64)).sum().backward()
    assert all(weight.grad is not None for weight in whole.learned.values())


def test_all_weights_that_were_learned_leave_the_base_as_it_is(tmp_path: Path) -> None:
    pipeline(base()).save_pretrained(tmp_path)
    taught = lens(rank=0, base=str(tmp_path))
    given = pictures(2)
    before = taught.edit(given)
    with taught.as_base():
        torch.testing.assert_close(taught.edit(given), lens(learned=False).edit(given))  # laid out otherwise in memory
    assert torch.equal(taught.edit(given), before) and not torch.equal(before, lens(learned=False).edit(given))
    with pytest.raises(HubError, match="nowhere"), lens(rank=0, base=str(tmp_path / "nowhere")).as_base():
        pass


@pytest.mark.parametrize("rank", [4, 0])
def test_what_is_merged_says_the_same(rank: int) -> None:
    taught = lens(rank=rank, targets=EVERYWHERE)
    before = {name: weight.clone() for name, weight in taught.base.unet.state_dict().items()}
    given = (torch.randn(2, 4, 8, 8), torch.tensor([99, 49]), torch.randn(2, 4, 8, 8), torch.randn(1, 16, 64))
    with torch.no_grad():
        wanted = taught(*given)
        with taught.as_base():
            untaught = taught(*given)
        with taught.merged():
            merged = taught(*given)
        assert torch.equal(taught(*given), wanted)
    torch.testing.assert_close(merged, wanted, atol=1e-4, rtol=1e-4)
    assert rank == 0 or float((untaught - wanted).abs().max()) > 0.01
    after = taught.base.unet.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    with pytest.raises(RuntimeError), taught.merged():
        raise RuntimeError("in the middle")
    with torch.no_grad():
        assert torch.equal(taught(*given), wanted)
    taught(*given).square().mean().backward()
    assert all(weight.grad is not None for weight in taught.learned.values())


def test_only_what_is_learned_is_trained_and_saved(tmp_path: Path) -> None:
    taught = lens(conditioned=True)
    trained = dict(taught.named_parameters())
    assert len(trained) == len(taught.learned) and all("lora_" in name for name in trained)
    source = torch.randn(2, 4, 8, 8)
    taught(source, torch.tensor([5, 5]), source, torch.randn(1, 16, 64)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in trained.values())
    for part in (taught.base.vae, taught.base.text_encoder):
        assert not any(weight.requires_grad for weight in part.parameters())
    taught.save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == set(trained)


@pytest.mark.parametrize("conditioned", [False, True])
def test_a_folder_brings_the_same_edits_back(conditioned: bool, tmp_path: Path) -> None:
    taught, given = lens(conditioned, targets=EVERYWHERE), pictures(3)
    wanted = taught.edit(given, 3)
    pipeline(base(conditioned)).save_pretrained(tmp_path / "base")
    taught.save_pretrained(tmp_path / "lens")
    values = json.loads((tmp_path / "lens" / "config.json").read_text())
    (tmp_path / "lens" / "config.json").write_text(json.dumps(values | {"base": str(tmp_path / "base")}))
    again = DiffusionLens.from_pretrained(tmp_path / "lens")
    torch.testing.assert_close(again.edit(given, 3), wanted)
    published = DiffusionLens.of_lora(tmp_path / "lens", again.config, bases.loaded(str(tmp_path / "base")))
    torch.testing.assert_close(published.edit(given, 3), wanted)


def test_plain_diffusers_loads_it(tmp_path: Path) -> None:
    taught = lens(targets=EVERYWHERE)
    taught.save_pretrained(tmp_path / "lens")
    pipeline(base()).save_pretrained(tmp_path / "base")
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "base", safety_checker=None)
    x, time, text = torch.randn(2, 4, 8, 8), torch.tensor(99), torch.randn(2, 16, 64)
    before = pipe.unet(x, time, text).sample
    pipe.load_lora_weights(str(tmp_path / "lens"))
    found, wanted = pipe.unet(x, time, text).sample, taught.base.unet(x, time, text).sample
    torch.testing.assert_close(found, wanted)
    assert not torch.allclose(found, before)


def test_the_form_that_trl_writes_is_read(tmp_path: Path) -> None:
    """`unet.…lora.down.weight` and `.up.weight`, rank 4, as the original published its files."""
    taught, given = lens(rank=4), pictures(2)
    old = {}
    for key, weight in taught.learned.items():
        layer, _, part = key.replace("/", ".").rpartition(".")
        old[f"unet.{layer}.lora.{'down' if part == 'lora_A' else 'up'}.weight"] = weight.detach().clone()
    save_file(old, tmp_path / "pytorch_lora_weights.safetensors")
    again = DiffusionLens.of_lora(tmp_path / "pytorch_lora_weights.safetensors", DiffusionLensConfig(size=16), base())
    assert again.config.rank == 4
    torch.testing.assert_close(again.edit(given, 1), taught.edit(given, 1))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"unet.mid_block.attentions.0.nothing.lora_A.weight": torch.zeros(4, 16)}, "has no place in the UNet"),
        ({"unet.conv_in.lora_A.weight": torch.zeros(4, 3, 3, 3)}, "has no place in the UNet"),
        ({"text_encoder.layers.0.lora_A.weight": torch.zeros(4, 16)}, "no LoRA of linear layers of a UNet"),
    ],
)
def test_a_lora_for_another_base_is_named(tensors: dict[str, torch.Tensor], words: str, tmp_path: Path) -> None:
    up = {name.replace("lora_A", "lora_B"): torch.zeros(16, 4) for name in tensors}
    save_file(tensors | up, tmp_path / "pytorch_lora_weights.safetensors")
    with pytest.raises(HubError, match=words):
        DiffusionLens.of_lora(tmp_path, DiffusionLensConfig(size=16), base())


def test_a_lens_for_another_base_is_named() -> None:
    with pytest.raises(HubError, match="the lens was made for 'org/lens-base'"):
        lens(targets="conv_in").attach(base(conditioned=True))


def test_edits_hang_on_the_picture_and_its_seed() -> None:
    taught, given = lens(conditioned=True), pictures(40)
    wanted = taught.edit(given, 5)
    torch.testing.assert_close(taught.edit(given[33:35], 38), wanted[33:35], atol=1e-4, rtol=0)
    assert wanted.shape == given.shape and wanted.abs().max() <= 1
    assert not torch.allclose(taught.edit(given[:1], 6), wanted[:1])
    strong = taught.edit(given[:4], 5, strength=0.9)
    assert (strong - given[:4]).abs().mean() > 0 and not torch.allclose(strong, wanted[:4])
    back = taught.roundtrip(given[:4])
    assert back.shape == (4, 3, 16, 16) and torch.equal(back, taught.roundtrip(given[:4]))


@pytest.mark.parametrize(
    ("given", "settings", "words"),
    [
        (pictures(1, 17), {}, "multiples of 2, got 17 x 17"),
        (pictures(1, 1), {}, "multiples of 2, got 1 x 1"),
        (pictures(1)[:, :1], {}, "pictures are (B, 3, H, W)"),
        (pictures(1), {"strength": 0.0}, "strength must be above 0 and at most 1"),
        (pictures(1), {"strength": 1.5}, "strength must be above 0 and at most 1"),
        (pictures(1), {"strength": 0.01}, "leave none to run"),
    ],
)
def test_what_cannot_be_edited_is_said(given: torch.Tensor, settings: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        lens().edit(given, **settings)


@pytest.mark.parametrize(
    "settings",
    [{"strength": 0.0}, {"strength": 1.5}, {"steps": 0}, {"rank": -1}, {"eta": 2.0}, {"gate": -0.1}, {"shapes": "a:b"}],
)
def test_a_configuration_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        DiffusionLensConfig(**settings)


def test_a_base_of_parts_that_do_not_fit(tmp_path: Path) -> None:
    pipeline(base()).save_pretrained(tmp_path / "good")
    assert not bases.loaded(str(tmp_path / "good")).conditioned
    pipeline(base(latent=8)).save_pretrained(tmp_path / "wide")
    (tmp_path / "good" / "vae").rename(tmp_path / "narrow")
    with pytest.raises(HubError, match="it has no vae"):
        bases.loaded(str(tmp_path / "good"))
    (tmp_path / "wide" / "vae").rename(tmp_path / "good" / "vae")
    with pytest.raises(HubError, match="takes 4 channels and gives 4, but latents of its VAE have 8"):
        bases.loaded(str(tmp_path / "good"))
    with pytest.raises(HubError, match="neither a folder here nor"):
        bases.loaded(str(tmp_path / "nowhere"), local_files_only=True)
