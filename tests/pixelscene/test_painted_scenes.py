"""Procedural backgrounds: pure, of VGA's colours, dithered, and captions that say what is to be seen."""

import re
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest

from hubmodels.pixelscene import procedural, things
from hubmodels.pixelscene.drawing import BAYER, LEVELS, RAMPS, Canvas, dac, fbm, ramp
from hubmodels.pixelscene.palettes import six_bits
from hubmodels.pixelscene.procedural import PLACES, TIMES, WEATHERS, make
from hubmodels.pixelscene.things import Setting

SOME = [make(seed) for seed in range(48)]


def test_a_seed_is_the_same_picture_in_any_process() -> None:
    code = (
        "from hashlib import sha256; from hubmodels.pixelscene.procedural import make; s = make(7);"
        "print(sha256(s.indices.tobytes() + s.palette.tobytes() + s.caption.encode()).hexdigest())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    again = make(7)
    assert said == sha256(again.indices.tobytes() + again.palette.tobytes() + again.caption.encode()).hexdigest()


def test_pictures_are_of_the_card_and_all_different() -> None:
    for scene in SOME:
        assert scene.indices.shape == (200, 320) and scene.indices.dtype == np.uint8
        assert scene.palette.shape == (256, 3) and np.array_equal(six_bits(scene.palette), scene.palette)
        assert len(np.unique(scene.indices)) > 25
    assert len({scene.indices.tobytes() for scene in SOME}) == len(SOME)
    assert make(3, 192).indices.shape == (192, 320)
    for seed, height in ((-1, 200), (0, 199)):
        with pytest.raises(ValueError, match="seeds are whole numbers"):
            make(seed, height)


def test_every_place_hour_and_weather_comes_up_and_nights_are_dark() -> None:
    assert len({scene.place for scene in SOME}) >= 14
    assert {scene.time for scene in SOME} == {*TIMES, ""} and {scene.weather for scene in SOME} == {*WEATHERS, ""}
    light = {
        time: np.mean([scene.palette[scene.indices].mean() for scene in SOME if scene.time == time]) for time in TIMES
    }
    assert light["night"] < 0.5 * light["day"] and light["sunset"] < light["day"]
    assert all((scene.time == "") == (not PLACES[scene.place][1]) for scene in SOME)


@pytest.mark.parametrize("place", PLACES)
def test_each_place_can_be_drawn(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procedural, "PLACES", {place: PLACES[place]})
    for seed in range(4):
        scene = make(seed)
        assert scene.place == place and len(np.unique(scene.indices)) > 20


def test_captions_are_true_of_what_was_drawn() -> None:
    for scene in SOME:
        words = scene.caption.lower()
        assert any(said in words or said.split(" ", 1)[1] in words for said in procedural.SAID[scene.place])
        for time in TIMES:
            said = any(
                words.endswith(hour) or f"{hour} " in words or f"{hour}," in words or f"{hour}:" in words
                for hour in procedural.HOURS[time]
            )
            assert said == (time == scene.time), (scene.caption, time)
        listed = re.split(r", with |, showing |: | with ", scene.caption)
        for thing in re.split(r", | and ", listed[-1]) if len(listed) > 1 else []:
            assert re.sub("^(a|an|the) ", "", thing) in scene.said, (scene.caption, scene.said)
        assert set(scene.said) <= set(scene.objects) and len(scene.said) == len(set(scene.said)) <= 4
    assert len({scene.caption for scene in SOME}) == len(SOME)


def test_what_is_hidden_is_not_named() -> None:
    c = Canvas.blank(200, 320, np.random.default_rng(0))
    s = Setting(c, "day", "clear", horizon=110)
    things.well(s, 100, 180, 30)
    things.signpost(s, 200, 180, 40)
    assert s.visible() == ("well", "signpost")
    c.paint(things.box(c, 60, 0, 140, 200), "leaves", 0.5)
    assert s.visible() == ("signpost",)


def test_a_thing_counts_as_often_as_it_is_seen() -> None:
    c = Canvas.blank(200, 320, np.random.default_rng(0))
    s = Setting(c, "day", "clear", horizon=110)
    for x in (60, 200):
        things.house(s, x, 180, 60, 40)
    assert s.seen("house") == 2
    c.paint(things.box(c, 0, 0, 120, 200), "leaves", 0.5)
    assert s.seen("house") == 1
    with s.drawing("hills"):
        things.hills(s, "middle", 100, 30, 3)
    things.ground(s)
    assert "hills" in s.visible(), "most of them lies below the ground, but not all"
    c.paint(np.ones((1, 1), bool), "cloud", 0.5)
    assert not s.visible()


def test_a_clear_sky_has_no_clouds() -> None:
    """What a caption calls clear, pixel by pixel, where no snow on a mountain has the colours of clouds."""
    cloud = RAMPS.index("cloud")
    kinds: dict[str, list[float]] = {"clear": [], "cloudy": []}
    for scene in [*SOME, *map(make, range(1000, 1040))]:
        if scene.weather in kinds and scene.place in ("forest", "desert", "swamp", "street", "graveyard"):
            kinds[scene.weather].append(float((scene.indices[:90] // LEVELS == cloud).mean()))
    assert len(kinds["clear"]) >= 8 and len(kinds["cloudy"]) >= 4
    assert max(kinds["clear"]) == 0 < min(kinds["cloudy"])


@pytest.mark.parametrize("place", PLACES)
def test_what_is_named_was_drawn_and_is_to_be_seen(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Painted over at the end, each thing is named no more: nothing is only said to be there."""
    monkeypatch.setattr(procedural, "PLACES", {place: PLACES[place]})
    settings: list[Setting] = []
    visible = Setting.visible

    def kept(s: Setting) -> tuple[str, ...]:
        settings.append(s)
        return visible(s)

    monkeypatch.setattr(Setting, "visible", kept)
    named = 0
    for seed in range(6):
        scene = make(seed)
        s = settings.pop()
        for thing in scene.objects:
            before = s.c.ramp.copy()
            for where, _ in s.drawn[thing]:
                s.c.ramp[where] = len(RAMPS)
            assert thing not in visible(s), thing
            s.c.ramp[:] = before
            named += 1
    assert named >= 6


def test_the_split_follows_from_the_facts() -> None:
    assert SOME[0].facts == make(0).facts
    assert len({scene.facts for scene in SOME}) > 40


# --- drawing ------------------------------------------------------------------------------------------------------


def test_the_dither_is_ordered_and_keeps_the_mean() -> None:
    assert sorted(BAYER.flatten()) == list(range(64)) and BAYER[:2, :2].tolist() == [[0, 32], [48, 16]]
    c = Canvas.blank(64, 64, np.random.default_rng(0))
    for tone in (0.0, 0.11, 0.5, 0.83, 1.0):
        c.paint(np.ones((1, 1), bool), "wood", tone)
        indices = c.indices()
        assert (indices // LEVELS == RAMPS.index("wood")).all()
        assert (indices % LEVELS).mean() == pytest.approx(tone * (LEVELS - 1), abs=0.02)
        assert len(np.unique(indices)) <= 2


def test_a_part_of_a_canvas_is_the_canvas() -> None:
    c = Canvas.blank(40, 60, np.random.default_rng(0))
    part = c.part(10, 5, 29, 24)
    part.paint(things.ellipse(part, 20, 15, 6, 4), "roof", 0.7)
    other = Canvas.blank(40, 60, np.random.default_rng(0))
    other.paint(things.ellipse(other, 20, 15, 6, 4), "roof", 0.7)
    assert np.array_equal(c.ramp, other.ramp) and np.array_equal(c.tone, other.tone) and c.ramp.any()
    assert np.array_equal(part.texture(5, 5), c.texture(5, 5)[5:26, 10:31])
    assert c.part(-50, -50, -40, -40).tone.size == 1, "what is outside is small, and no error"


def test_polygons_against_brute_force() -> None:
    c = Canvas.blank(20, 20, np.random.default_rng(0))
    corners = (2.13, 3.37), (17.41, 5.03), (9.29, 18.11)
    mask = things.polygon(c, *corners)

    def side(p: tuple[float, float], a: tuple[float, float], b: tuple[float, float]) -> float:
        return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])

    for y in range(20):
        for x in range(20):
            middle = x + 0.5, y + 0.5
            inside = all(side(middle, a, b) > 0 for a, b in zip(corners, corners[1:] + corners[:1], strict=True))
            assert mask[y, x] == inside


def test_ramps_get_lighter_and_noise_stays_in_bounds() -> None:
    for hue in np.linspace(0, 1, 9):
        colours = ramp((float(hue), 0.5, 0.6))
        assert (np.diff(colours @ [0.2126, 0.7152, 0.0722]) >= -1e-3).all() and dac(colours).dtype == np.uint8
    field = fbm(np.random.default_rng(0), 64, 64, 4, 4)
    assert 0.5 < abs(field).max() <= 1.5 and abs(field.mean()) < 0.3
