"""The network against closed forms: what each pixel is told, by which thing, and that nothing else leaks."""

import math
import re
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hubmodels.distill.model import (
    SEED,
    Binding,
    Block,
    DistilledRenderer,
    DistilledRendererConfig,
    Things,
    tokenize,
)
from hubmodels.scenes import GrammarError, caption, parse, place

TINY = DistilledRendererConfig(
    width=32,
    layers=2,
    heads=2,
    feedforward=32,
    sentence=24,
    channels_8=8,
    channels_16=8,
    channels_32=4,
    channels_64=4,
    hidden=8,
)
CAPTIONS = [
    "There are two red balls at 12 40 and 30 22.",
    "The large green cube at 10 12 is left of the three blue stars at 50 10 and 51 30 and 48 52.",
    "There is one small pink ring at 33 20. The background is checkered.",
]


def network(config: DistilledRendererConfig = TINY) -> DistilledRenderer:
    torch.manual_seed(0)
    return DistilledRenderer(config).eval()


def said(model: DistilledRenderer, tokens: Tensor) -> tuple[Tensor, Things]:
    """The sentence vector and the things that the decoder is handed."""
    heard: list = []
    hook = model.decoder.register_forward_pre_hook(lambda _, inputs: heard.extend(inputs))
    with torch.no_grad():
        model(tokens)
    hook.remove()
    return heard[0], heard[1]


def things(*rows: tuple[int, int, int], width: int = TINY.width) -> Things:
    """Things with random states, from (picture, x, y)."""
    table = torch.tensor(rows)
    state = torch.randn(len(rows), width, generator=torch.Generator().manual_seed(1))
    return Things(table[:, 0], state, table[:, 1:])


# --- the whole network ---


@pytest.mark.parametrize("config", [TINY, replace(TINY, resolution=128), replace(TINY, blocks=2)])
def test_picture_has_the_resolution(config):
    picture = network(config)(tokenize(CAPTIONS))
    assert picture.shape == (3, 3, config.resolution, config.resolution)
    assert picture.dtype == torch.float32 and picture.isfinite().all()


@torch.no_grad()
def test_output_does_not_saturate():
    """The head is linear: twice the head's weights and bias are exactly twice the picture, however bright."""
    model, tokens = network(), tokenize(CAPTIONS)
    before = model(tokens)
    for parameter in model.decoder.head.parameters():
        parameter *= 16
    torch.testing.assert_close(model(tokens), 16 * before)
    assert model(tokens).abs().max() > 1
    assert model.draw(tokens).abs().max() == 1


@torch.no_grad()
def test_padding_and_company_change_nothing():
    model, tokens = network(), tokenize(CAPTIONS)
    together = model(tokens)
    torch.testing.assert_close(model(F.pad(tokens, (0, 17))), together, atol=1e-5, rtol=0)
    for row, words in enumerate(CAPTIONS):
        torch.testing.assert_close(model(tokenize([words]))[0], together[row], atol=1e-5, rtol=0)


@torch.no_grad()
def test_same_tokens_give_the_same_bits():
    model, tokens = network(), tokenize(CAPTIONS)
    picture = model(tokens)
    assert torch.equal(model(tokens), picture)
    tight = network(replace(TINY, max_tokens=tokens.shape[1]))  # no room to begin later
    assert torch.equal(tight.train()(tokens), tight.eval()(tokens))


@torch.no_grad()
def test_a_word_attends_to_its_neighbours_and_to_cls():
    """One layer: a state changes with words inside of its window and with no other, but for [CLS], which sees all."""
    model = network(replace(TINY, layers=1, window=4)).encoder
    tokens = tokenize([CAPTIONS[1]])
    words, sentence = model(tokens)
    moved = tokens.clone()
    moved[0, 12] = 40 if tokens[0, 12] != 40 else 41
    others, other = model(moved)
    changed = (words - others).abs().amax(-1)[0] > 1e-6
    assert changed.nonzero().flatten().tolist() == list(range(8, 17)) and (other - sentence).abs().max() > 1e-4
    wide = network(replace(TINY, layers=1, window=0)).encoder
    assert ((wide(tokens)[0] - wide(moved)[0]).abs().amax(-1) > 1e-6).all()


@torch.no_grad()
def test_in_training_captions_begin_anywhere_and_half_of_them_at_the_start():
    model, tokens = network(replace(TINY, max_tokens=20)), tokenize(["There are two red balls at 12 40 and 30 22."])
    table, spare = model.encoder.position.weight.clone(), 20 - tokens.shape[1]
    expected = []
    for begin in range(spare + 1):
        model.encoder.position.weight.data = table.roll(-begin, 0)
        expected.append(model.encoder(tokens)[1][0])
    model.encoder.position.weight.data = table
    drawn = model.encoder.train()(tokens.expand(400, -1))[1]
    begins = (drawn[:, None] - torch.stack(expected)).abs().amax(-1)
    assert begins.amin(1).max() < 1e-5  # each is one of them
    counts = torch.bincount(begins.argmin(1), minlength=spare + 1)
    assert 160 <= counts[0] <= 270 and counts.min() > 0


@torch.no_grad()
def test_a_caption_without_places_draws_its_background():
    model = network()
    picture = model(tokenize(["There is one red ball."]))
    _, heard = said(model, tokenize(["There is one red ball."]))
    assert len(heard.which) == 0 and picture.isfinite().all()


def test_gradients_reach_every_parameter():
    """On the second step: while FiLM is zero, nothing flows through it into the sentence vector."""
    model = network().train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        (model(tokenize(CAPTIONS)) - 0.3).abs().mean().backward()
        optimizer.step()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


def test_it_learns_one_batch():
    """Forty steps on three pictures take off most of the error of the best single colour for each."""
    from hubmodels.scenes import render

    model, tokens = network(replace(TINY, hidden=16)).train(), tokenize(CAPTIONS)
    teacher = render([parse(words) for words in CAPTIONS]) / 127.5 - 1
    optimizer = torch.optim.AdamW(model.parameters(), 6e-3)
    for _ in range(40):
        loss = F.mse_loss(model(tokens), teacher)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    blank = F.mse_loss(teacher.mean((2, 3), keepdim=True).expand_as(teacher), teacher)
    assert loss < 0.5 * blank


def test_under_bfloat16_autocast_it_draws_nearly_the_same():
    model, tokens = network(), tokenize(CAPTIONS)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = model(tokens)
    torch.testing.assert_close(rough.float(), model(tokens), atol=0.05, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_under_autocast_on_cuda_it_trains():
    """There, unlike on the CPU, exp returns float32 among bfloat16."""
    model = network().train().cuda()
    with torch.autocast("cuda", torch.bfloat16):
        loss = model(tokenize(CAPTIONS).cuda()).float().square().mean()
    loss.backward()
    assert loss.isfinite()


def test_too_many_tokens():
    with pytest.raises(ValueError, match="at most 80 tokens are read, got 81"):
        network()(torch.ones(1, 81, dtype=torch.long))


# --- reading the caption ---


def test_things_are_the_number_pairs_of_the_caption():
    """Oracle: a regular expression over the text."""
    _, heard = said(network(), tokenize(CAPTIONS))
    pairs = [(row, *map(int, xy)) for row, t in enumerate(CAPTIONS) for xy in re.findall(r"(\d+) (\d+)", t)]
    assert pairs == [(int(row), *place) for row, place in zip(heard.which, heard.place.tolist(), strict=True)]


def test_the_encoder_is_not_shown_where_things_are():
    """Same words, other numbers: the same states, bit for bit."""
    model = network()
    here, there = (tokenize([re.sub(r"\d+", number, CAPTIONS[1])]) for number in ("20", "41"))
    (sentence, a), (other_sentence, b) = said(model, here), said(model, there)
    assert torch.equal(sentence, other_sentence) and torch.equal(a.state, b.state)
    assert not torch.equal(a.place, b.place)


def test_things_alike_are_told_apart_by_their_words():
    """Swapping two colours changes the states of both placement tokens."""
    model = network()
    words = "The red ball at 10 30 is left of the blue ball at 50 30."
    swapped = words.replace("red", "RED").replace("blue", "red").replace("RED", "blue")
    states = [said(model, tokenize([text]))[1].state for text in (words, swapped)]
    assert (states[0] - states[1]).abs().amax(1).min() > 1e-3


# --- FiLM ---


@torch.no_grad()
def test_film_starts_as_the_identity_and_is_one_plus_gamma():
    torch.manual_seed(0)
    block = Block(8, 24)
    x, sentence = torch.randn(2, 8, 5, 5), torch.randn(2, 24)
    hidden = block.norm2(block.conv1(F.relu(block.norm1(x))))
    torch.testing.assert_close(block(x, sentence), x + block.conv2(F.relu(hidden)))
    block.film.bias.copy_(torch.cat([torch.full((8,), 0.5), torch.full((8,), -0.25)]))
    torch.testing.assert_close(block(x, sentence), x + block.conv2(F.relu(1.5 * hidden - 0.25)))


def test_every_block_is_modulated():
    for config in (TINY, replace(TINY, blocks=2), replace(TINY, resolution=128)):
        blocks = [m for m in network(config).modules() if isinstance(m, Block)]
        assert len(blocks) == config.blocks * int(math.log2(config.resolution) - 2)
        assert len({id(block.film) for block in blocks}) == len(blocks)


# --- binding ---


def brute_force(binding: Binding, told: Things, batch: int) -> Tensor:
    """The docstring of Binding, a pixel and a thing at a time."""
    unit, half = 64 / binding.size, binding.window / 2
    centres, which = ((told.place + 0.5) / unit).tolist(), told.which.tolist()
    out = torch.zeros(batch, binding.channels, binding.size, binding.size)
    layers = binding.write(binding.norm(told.state)).view(-1, 7, binding.mix1.in_features)
    gates = binding.gates(binding.norm(told.state)).view(-1, 4, binding.mix1.in_features)
    depths = binding.depth(binding.norm(told.state))[:, 0]
    for row in range(batch):
        for j in range(binding.size):
            for i in range(binding.size):
                total, weights, bare = torch.zeros(binding.channels), 0.0, 1.0
                for k, (x, y) in enumerate(centres):
                    left, top = round(x - half), round(y - half)  # ties go to even, as in torch
                    near = 0 <= i - left < binding.window and 0 <= j - top < binding.window
                    if which[k] != row or not near:
                        continue
                    dx, dy = (i + 0.5 - x) * unit / 8, (j + 0.5 - y) * unit / 8
                    terms = torch.tensor([dx, abs(dx), dx * dx, dy, abs(dy), dy * dy, 1.0])
                    h = F.relu(terms @ layers[k])
                    h = F.relu(binding.mix1(h) * (1 + gates[k, 0]) + gates[k, 1])
                    h = F.relu(binding.mix2(h) * (1 + gates[k, 2]) + gates[k, 3])
                    *value, score = binding.read(h)
                    cover = score.sigmoid()
                    weight = cover * (depths[k] + binding.slope * (told.place[k, 1] - 32)).exp()
                    total, weights, bare = total + torch.stack(value) * weight, weights + weight, bare * (1 - cover)
                if weights:
                    out[row, :, j, i] = total / weights * (1 - bare)
    return out


@pytest.mark.parametrize("size", [16, 32])
@torch.no_grad()
def test_binding_mixes_the_things_near_each_pixel_by_cover_and_depth(size):
    """Two things that overlap, two at the border, and a picture without any."""
    torch.manual_seed(0)
    binding = Binding(4, size, TINY)
    told = things((0, 30, 30), (0, 36, 33), (2, 1, 62), (2, 63, 0))
    torch.testing.assert_close(binding(told, 3), brute_force(binding, told, 3), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("size", "step"), [(128, 1), (64, 1), (32, 2), (16, 4)])
@torch.no_grad()
def test_moving_everything_moves_what_pixels_are_told(size, step):
    """Translation equivariance: a step of `step` units is a whole number of pixels."""
    torch.manual_seed(0)
    binding = Binding(4, size, TINY)
    here = things((0, 20, 24), (0, 27, 26), (1, 30, 20))
    moved = replace(here, place=here.place + torch.tensor([3 * step, -step]))
    pixels = step * size // 64
    expected = binding(here, 2).roll((-pixels, 3 * pixels), (-2, -1))
    assert expected.any()
    torch.testing.assert_close(binding(moved, 2), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_thing_is_told_only_within_its_reach():
    torch.manual_seed(0)
    binding = Binding(4, 64, TINY)
    covered = binding(things((0, 40, 20)), 1)[0].abs().sum(0) > 0
    y, x = covered.nonzero().T
    assert (x.min(), x.max()) == (40 - TINY.reach, 40 + TINY.reach)
    assert (y.min(), y.max()) == (20 - TINY.reach, 20 + TINY.reach)


@torch.no_grad()
def test_what_stands_lower_hides_what_is_behind():
    torch.manual_seed(0)
    binding = Binding(4, 64, TINY)
    binding.slope.fill_(4.0)
    torch.nn.init.zeros_(binding.depth.weight)
    binding.read.weight[-1], binding.read.bias[-1] = 0, 12  # all that is in reach is covered
    both, behind, front = things((0, 30, 30), (0, 36, 34)), things((0, 30, 30)), things((0, 1, 1), (0, 36, 34))
    seen, alone = binding(both, 1)[0], binding(front, 1)[0]
    lower = (slice(None), slice(34 - 12, 34 + 13), slice(36 - 12, 36 + 13))
    torch.testing.assert_close(seen[lower], alone[lower], atol=1e-4, rtol=1e-4)
    assert (binding(behind, 1)[0][lower] - seen[lower]).abs().max() > 0.1  # there was something to hide


@torch.no_grad()
def test_order_of_mention_does_not_matter_to_binding():
    """Who is in front is said by the states, never by position in the batch."""
    torch.manual_seed(0)
    binding = Binding(4, 64, TINY)
    told = things((0, 30, 30), (1, 9, 9), (0, 33, 34), (0, 28, 36))
    order = torch.tensor([3, 1, 0, 2])
    shuffled = Things(told.which[order], told.state[order], told.place[order])
    torch.testing.assert_close(binding(shuffled, 2), binding(told, 2), atol=1e-5, rtol=1e-4)


# --- budgets ---


def multiplications(config: DistilledRendererConfig, words: str) -> tuple[int, float]:
    """Tokens of the caption, and multiply-adds of drawing it; attention is counted as the products it is."""
    model, tokens = DistilledRenderer(config), tokenize([words])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(tokens)
    return tokens.shape[1], counter.get_total_flops() / 2


def test_default_preset_keeps_its_budget():
    model = DistilledRenderer(DistilledRendererConfig())
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters <= 6_000_000
    assert 2 * sum(t.numel() for t in model.state_dict().values()) <= 16 * 2**20  # bytes in bfloat16
    length, macs = multiplications(model.config, CAPTIONS[1])
    assert length >= 24 and macs <= 0.15e9


def test_seed_preset_has_the_documented_size():
    """Documented: encoder about 2.4 M, decoder as measured 12.40 M, of which the stem's 8.40 M are gone."""
    model = DistilledRenderer(SEED)
    encoder, decoder = (sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.decoder))
    assert 2.2e6 < encoder < 2.5e6
    assert 12.40e6 - 8.40e6 < decoder < 6e6
    assert (SEED.layers, SEED.width, SEED.heads, SEED.feedforward, SEED.sentence) == (4, 256, 4, 512, 512)
    assert model(tokenize(CAPTIONS[:1])).shape == (1, 3, 64, 64)


@pytest.mark.parametrize("config", [TINY, SEED], ids=["tiny", "seed"])
def test_nothing_is_upsampled_by_a_transposed_convolution(config):
    modules = list(DistilledRenderer(config).modules())
    assert not any(isinstance(m, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.PixelShuffle) for m in modules)
    assert all(m.stride == (1, 1) for m in modules if isinstance(m, nn.Conv2d))


# --- configuration ---


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"vocabulary": ""}, "vocabulary must be distinct words"),
        ({"vocabulary": "<pad> red red"}, "vocabulary must be distinct words"),
        ({"resolution": 96}, "resolution must be 64 or 128, got 96"),
        ({"heads": 3}, "width 256 must be a multiple of twice the 3 heads"),
        ({"channels_64": 10}, "channels must be multiples of 4"),
        ({"channels_8": 0}, "channels must be multiples of 4"),
        ({"layers": 0}, "must be at least 1"),
        ({"reach": 0}, "must be at least 1"),
    ],
)
def test_configuration_checks_itself(change, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        DistilledRendererConfig(**change)


def test_configuration_is_flat_json():
    assert {type(value) for value in asdict(DistilledRendererConfig()).values()} == {int, str}


# --- finished pictures ---


def test_generate_draws_layouts_by_seed():
    model = network()
    pictures = model.generate(["There is one red ball.", "There is one blue cube."], seed=5, n=3)
    assert [p.size for p in pictures] == [(64, 64)] * 6 and {p.mode for p in pictures} == {"RGB"}
    placed = [place(parse("There is one red ball."), seed) for seed in (5, 6, 7)]
    tokens = tokenize([caption(scene) for scene in placed])
    expected = ((model.draw(tokens) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
    for picture, pixels in zip(pictures, expected, strict=False):
        drawn = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(64, 64, 3)
        assert (drawn.int() - pixels.int()).abs().max() <= 1  # another batch, another rounding
    assert len({p.tobytes() for p in pictures}) == 6


def test_generate_without_a_seed_draws_another_layout_each_time():
    model, words = network(), "There is one red ball."
    assert len({model.generate(words)[0].tobytes() for _ in range(3)}) > 1


def test_generate_keeps_stated_places():
    model = network()
    first, second = model.generate(CAPTIONS[0], seed=1)[0], model.generate(CAPTIONS[0], seed=2)[0]
    assert first.tobytes() == second.tobytes()


def test_generate_points_at_the_word_it_does_not_know():
    with pytest.raises(GrammarError, match="word 5.*wug"):
        network().generate(["There is one red wug."])
