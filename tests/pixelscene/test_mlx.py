"""The twin on MLX: one file for both, and the same answers."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_transformer import CAPTIONS, SIZE, network, sequence
from test_vqgan import TINY, palettes, pictures
from tiny import awake

from hubmodels.pixelscene import transformer_mlx, twins, vqgan_mlx, weights_mlx
from hubmodels.pixelscene.text import numbered
from hubmodels.pixelscene.transformer import PixelTransformer
from hubmodels.pixelscene.vqgan import PixelVQGAN, coloured, log_shares, snapped, wanted


def pair(folder: Path, change: dict[str, Any]) -> tuple[PixelVQGAN, vqgan_mlx.PixelVQGAN]:
    torch.manual_seed(0)
    config = replace(TINY, **change)
    model = awake(PixelVQGAN(config)).eval()
    model.save_pretrained(folder)
    twin = vqgan_mlx.PixelVQGAN(config)
    weights_mlx.load(twin, folder / "model.safetensors")
    return model, twin


@pytest.mark.parametrize("change", [{}, {"quantizer": "vq"}, {"head": "nearest"}, {"stride": 16, "levels": "5,4,3"}])
def test_the_twin_says_the_same(tmp_path: Path, change: dict[str, Any]) -> None:
    model, twin = pair(tmp_path, change)
    indices, palette = pictures(), palettes("ega", "c64")
    with torch.no_grad():
        ours = model(coloured(indices, palette), palette)
    theirs = mx.array(indices.numpy()), mx.array(palette.numpy())
    logits, colours, tokens, commitment = twin(vqgan_mlx.coloured(*theirs), theirs[1])
    np.testing.assert_allclose(np.array(colours).transpose(0, 3, 1, 2), ours.colours, atol=1e-4)
    largest = float(ours.logits.abs().max())
    np.testing.assert_allclose(np.array(logits).transpose(0, 3, 1, 2) / largest, ours.logits / largest, atol=1e-4)
    assert np.array_equal(np.array(tokens), ours.tokens.numpy())
    assert float(commitment) == pytest.approx(float(ours.commitment), abs=1e-5)
    assert np.array_equal(np.array(twin.encode(*theirs)), model.encode(indices, palette).numpy())
    assert np.array_equal(np.array(twin.decode(tokens, theirs[1])), model.decode(ours.tokens, palette).numpy())


def test_channels_stay_last_from_end_to_end(tmp_path: Path) -> None:
    """The original turned every picture around twice in each block. Here more blocks turn nothing."""
    graphs = []
    for blocks in (1, 3):
        twin = vqgan_mlx.PixelVQGAN(replace(TINY, blocks=blocks))
        mx.eval(twin.parameters())
        file = tmp_path / f"{blocks}.dot"
        mx.export_to_dot(str(file), *twin(mx.zeros((1, 32, 32, 3)), mx.zeros((1, 16, 3))))
        graphs.append(file.read_text())
    convolutions, turns = ([graph.count(f'"{name}"') for graph in graphs] for name in ("Convolution", "Transpose"))
    assert convolutions[1] > 1.5 * convolutions[0] and turns[1] == turns[0] > 0


def test_the_colour_that_is_chosen_is_one_and_the_same() -> None:
    palette, generator = palettes("ega", "c64"), torch.Generator().manual_seed(1)
    palette[:, 9] = palette[:, 4]
    logits = 2 * torch.randn(2, palette.shape[1], 40, 40, generator=generator)
    said = 0.5 * torch.rand(2, 3, 40, 40, generator=generator)
    shares = log_shares(logits, palette)
    theirs = *(mx.array(one.permute(0, 2, 3, 1).numpy()) for one in (logits, said)), mx.array(palette.numpy())
    likeliest, found = (np.array(vqgan_mlx.chosen(*theirs, plain)) for plain in (True, False))
    assert np.array_equal(likeliest, shares.argmax(1).numpy())
    assert (found == snapped(wanted(shares, said, palette), palette).numpy()).mean() > 0.999, "ties may fall either way"
    assert (found != likeliest).mean() > 0.1 and not (found == 9).any()


@pytest.mark.parametrize("quantizer", ["fsq", "vq"])
def test_one_file_serves_both(tmp_path: Path, quantizer: str) -> None:
    _, twin = pair(tmp_path, {"quantizer": quantizer})
    weights_mlx.save(twin, tmp_path / "again.safetensors")
    before, after = load_file(tmp_path / "model.safetensors"), load_file(tmp_path / "again.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name].float(), after[name].float()) for name in before)
    (tmp_path / "again.safetensors").replace(tmp_path / "model.safetensors")
    PixelVQGAN.from_pretrained(tmp_path)


def test_another_network_is_refused_by_name(tmp_path: Path) -> None:
    _, twin = pair(tmp_path, {})
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["encoder.extra"] = tensors.pop("encoder.enter.bias")
    tensors["pointer.key1.weight"] = torch.zeros(2, 2)
    save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(
        ValueError, match="encoder.enter.bias is missing, encoder.extra is unknown, pointer.key1.weight"
    ):
        weights_mlx.load(twin, tmp_path / "odd.safetensors")


def same_gradients(one: torch.nn.Module, other: torch.nn.Module) -> None:
    for (name, ours), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None, name
        atol = 1e-6 + 1e-3 * float(ours.grad.abs().max())
        np.testing.assert_allclose(theirs.grad, ours.grad, atol=atol, err_msg=name)


@pytest.mark.parametrize("change", [{}, {"quantizer": "vq"}, {"head": "nearest"}])
def test_training_on_mlx_has_the_gradients_and_codes_of_torch(tmp_path: Path, change: dict[str, Any]) -> None:
    model, _ = pair(tmp_path, change)
    model.train()
    other = copy.deepcopy(model)
    indices, palette = pictures(), palettes("ega", "c64")
    colours = coloured(indices, palette)
    for net, forward in ((model, model), (other, twins.trained_vqgan(other))):
        torch.manual_seed(3)
        for _ in range(2):  # the second time codes have moved
            made = forward(colours, palette)
        (1e-4 * made.logits.square().mean() + made.colours.square().mean() + made.commitment).backward()
        assert net.encoder.enter.weight.grad.abs().max() > 0, "the rounding lets them pass"
    same_gradients(model, other)
    for (name, ours), theirs in zip(model.named_buffers(), other.buffers(), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("order", ["masked", "grouped", "ar"])
def test_training_the_transformer_on_mlx_likewise(order: str) -> None:
    model = network(order)
    other = copy.deepcopy(model)
    for forward in (model, twins.trained_transformer(other)):
        made = forward(sequence(order=order), *numbered(CAPTIONS, model.config))
        torch.stack([one.square().mean() for one in made]).sum().backward()
    same_gradients(model, other)


def test_dropout_on_mlx_is_that_of_the_seed_on_both_ways() -> None:
    """Backward goes the way forward again: with other chance, the gradient would be of another function."""
    model = awake(PixelTransformer(replace(network("masked").config, dropout=0.5))).train()
    forward = twins.trained_transformer(model)
    said = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        said.append(forward(sequence(), *numbered(CAPTIONS, model.config))[2])
    assert torch.equal(said[0], said[1]) and not torch.equal(said[0], said[2])
    direction = torch.randn_like(model.part_shade.weight)
    slope = (torch.autograd.grad(said[0].square().mean(), model.part_shade.weight)[0] * direction).sum()
    ends = []
    for step in (1e-3, -1e-3):
        with torch.no_grad():
            model.part_shade.weight += step * direction
            torch.manual_seed(1)
            ends.append(forward(sequence(), *numbered(CAPTIONS, model.config))[2].double().square().mean())
            model.part_shade.weight -= step * direction
    assert float(slope) == pytest.approx(float(ends[0] - ends[1]) / 2e-3, rel=0.02)


@pytest.mark.parametrize("order", ["masked", "grouped", "ar"])
def test_the_transformer_too(tmp_path: Path, order: str) -> None:
    model = network(order)
    model.save_pretrained(tmp_path)
    twin = transformer_mlx.PixelTransformer(model.config)
    weights_mlx.load(twin, tmp_path / "model.safetensors")
    twin.eval()
    words, told = numbered(CAPTIONS, model.config)
    stages = sequence(order=order)
    with torch.no_grad():
        ours = model(stages, words, told)
    asked = mx.array(words.numpy()), mx.array(told.numpy())
    theirs = twin([twins._asked(one) for one in stages], *asked)
    for a, b in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(np.array(a), b, atol=1e-4)
    if order == "ar":
        assert stages[0].plane is not None
        known = np.concatenate([stages[0].palette.numpy(), stages[0].plane.flatten(1).numpy()], 1)
        context, there = twin.read(*asked)
        cache: list[transformer_mlx.Seen] = []
        for place in range(19):
            last = mx.array(known[:, place - 1]) if place else None
            said, cache = twin.step(last, place, SIZE, context, there, cache)
            whole = theirs[0][:, place] if place < 4 else theirs[1][:, place - 4]
            np.testing.assert_allclose(np.array(said), np.array(whole), atol=1e-4)
