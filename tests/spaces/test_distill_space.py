"""The page of `distill` behind a real server. A model that draws like its teacher makes every verdict known."""

import base64
import io
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from hubmodels import DistilledRenderer, DistilledRendererConfig
from hubmodels.images import to_pil
from hubmodels.scenes import Scene, caption, parse, place, render, sample, suggestions
from hubmodels.scenes.counterfactuals import KINDS
from hubmodels.scenes.splits import unplaced
from spaces.distill import app

ROOT = Path(__file__).parents[2]
SAID = "The red ball is left of the blue cube."


def tiny() -> DistilledRenderer:
    torch.manual_seed(0)
    channels = {"channels_8": 4, "channels_16": 4, "channels_32": 4, "channels_64": 4}
    shape: dict[str, Any] = {"width": 16, "layers": 1, "feedforward": 16, "sentence": 16, "hidden": 4, **channels}
    return DistilledRenderer(DistilledRendererConfig(**shape)).eval()


def perfect() -> DistilledRenderer:
    model: Any = tiny()
    model.generate = lambda captions: [to_pil(p) for p in render([parse(said) for said in captions])]
    return model


def served(blocks: gr.Blocks) -> Client:
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    return Client(url, verbose=False)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where Gradio would put files."""
    folder = tmp_path_factory.mktemp("gradio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def client(scratch: Path) -> Iterator[Client]:
    blocks = app.demo(perfect())
    yield served(blocks)
    blocks.close()


def pixels(uri: str) -> np.ndarray:
    """What a data URI shows, (256, 256, 3)."""
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def enlarged(scene: Scene) -> np.ndarray:
    return np.repeat(np.repeat(render([scene])[0].permute(1, 2, 0).numpy(), 4, 0), 4, 1)


def test_pictures_and_verdicts(client: Client) -> None:
    answer = client.predict(SAID, seed=7, n=3, api_name="/draw")
    assert len(answer) == 3
    for i, one in enumerate(answer):
        scene = place(parse(SAID), 7 + i)
        assert one["caption"] == caption(scene)
        np.testing.assert_array_equal(pixels(one["teacher"]), enlarged(scene))
        np.testing.assert_array_equal(pixels(one["student"]), enlarged(scene))
        assert one["exact"] and one["seen"] in (
            "one red ball, one blue cube; white background",
            "one blue cube, one red ball; white background",
        )
    assert len(client.predict(caption(place(parse(SAID), 7)), seed=0, n=3, api_name="/draw")) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_changes_one_thing_and_only_there(client: Client, kind: str) -> None:
    said = "The red ball is left of the two blue cubes."
    answer = client.predict(said, kind=kind, seed=3, attempt=1, api_name="/edit")
    before, after = (parse(answer[when]["caption"]) for when in ("before", "after"))
    assert before == place(parse(said), 3) and answer["after"]["exact"]
    same = {
        "color": [(g.shape, g.size, g.places) for g in before.groups]
        == [(g.shape, g.size, g.places) for g in after.groups],
        "shape": [(g.color, g.size, g.places) for g in before.groups]
        == [(g.color, g.size, g.places) for g in after.groups],
        "size": [(g.color, g.shape, g.places) for g in before.groups]
        == [(g.color, g.shape, g.places) for g in after.groups],
        "count": sum(abs(a.count - b.count) for a, b in zip(before.groups, after.groups, strict=True)) == 1,
        "relation": before.relations[0].kind != after.relations[0].kind,
    }
    assert same[kind] and unplaced(before) != unplaced(after)
    assert answer["inside"] == 1.0
    glow = pixels(answer["heat"])
    still = (enlarged(before) == enlarged(after)).all(2)
    red, blue = glow[..., 0], glow[..., 2]  # the outline is the one thing that has more blue
    assert not red[still & (red >= blue)].any() and red[~still & (red >= blue)].any()
    other = client.predict(said, kind=kind, seed=3, attempt=2, api_name="/edit")
    assert other["before"] == answer["before"]


def test_a_sentence_of_ones_own_keeps_what_it_can(client: Client) -> None:
    scene = place(parse(SAID), 5)
    for own, kept in (
        ("The red ball is left of the green cube.", True),
        ("The red ball is left of the blue cube. The background is black.", True),
        ("The red ball is left of the blue cube, which is above the pink star.", True),
        ("The red ball is right of the blue cube.", False),
    ):
        answer = client.predict(SAID, kind=app.OWN, seed=5, own=own, api_name="/edit")
        after = parse(answer["after"]["caption"])
        assert unplaced(after) == parse(own) and answer["kept"] == kept and answer["inside"] == 1.0
        assert ([g.places for g in after.groups[:2]] == [g.places for g in scene.groups]) == kept


@pytest.mark.parametrize(
    "endpoint, arguments, message",
    [
        ("/draw", {"caption": "The rde ball."}, "Word 2, “rde” is not a word of this world"),
        ("/draw", {"caption": ""}, "The caption is empty"),
        ("/draw", {"caption": "red " * 2500}, "10000 characters; at most 1000"),
        ("/draw", {"caption": "There is one red ball at 0 0."}, "reaches outside"),
        ("/draw", {"caption": SAID, "n": 0}, "from 1 to 8"),
        ("/draw", {"caption": SAID, "n": 9}, "from 1 to 8"),
        ("/draw", {"caption": SAID, "n": "many"}, "from 1 to 8"),
        ("/draw", {"caption": SAID, "seed": -1}, "from 0 to 9999"),
        ("/draw", {"caption": SAID, "seed": 10**30}, "from 0 to 9999"),
        ("/draw", {"caption": SAID, "seed": 0.5}, "from 0 to 9999"),
        ("/draw", {"caption": ["x"]}, "must be text"),
        ("/edit", {"caption": SAID, "kind": "mood"}, "An edit is one of: color, shape"),
        ("/edit", {"caption": "There is one red ball.", "kind": "relation"}, "no other relation"),
        ("/edit", {"caption": SAID, "kind": app.OWN, "own": "Hello."}, "Word 1, “hello”"),
    ],
)
def test_bad_input_gets_one_sentence(client: Client, endpoint: str, arguments: dict, message: str) -> None:
    with pytest.raises(AppError) as caught:
        client.predict(api_name=endpoint, **arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_is_written(client: Client, scratch: Path) -> None:
    client.predict(SAID, api_name="/draw")
    client.predict(SAID, kind="color", api_name="/edit")
    assert not [path for path in scratch.rglob("*") if path.is_file()]


def test_the_judge_follows_the_typing(client: Client) -> None:
    assert client.predict("The red ball", api_name="/validate")["state"] == "unfinished"
    judged = client.predict("The red bleu", api_name="/validate")
    assert judged["state"] == "wrong" and "[bleu]" in judged["message"] and "cube" in judged["next"]
    rng = random.Random(0)
    for _ in range(30):
        said = caption(sample(rng))
        assert app.validate(said)["state"] == "ok"
        for end in range(1, len(said)):
            judged = app.validate(said[:end])
            assert judged["state"] != "wrong", said[:end]
        words = said.split()
        for i, word in enumerate(words):
            right = word.strip(".,").lower()
            wrong = " ".join([*words[:i], "xyzzy" + word[len(right) :], *words[i + 1 :]])
            judged = app.validate(wrong)
            assert judged["state"] == "wrong" and "[xyzzy]" in judged["message"]
            assert judged["next"] == suggestions(" ".join(words[:i])) and right in judged["next"]
            assert parse(app.insert(wrong, right)) == parse(said)


def test_chips_alone_make_a_sentence() -> None:
    rng = random.Random(1)
    for _ in range(20):
        target = caption(sample(rng))
        said = ""
        for word in re.findall(r"[.,]|[^\s.,]+", target.lower()):
            assert word in app.validate(said)["next"]
            said = app.insert(said, word)
        assert said == target
    assert app.insert("The red ba", "ball") == "The red ball"


def test_what_a_person_writes_is_escaped() -> None:
    assert "<script>" not in app._status("<script>alert(1)</script>")


def test_an_untrained_model_is_not_flattered() -> None:
    assert not any(drawing.exact for drawing in app.draw(tiny(), SAID, 0, 4))


def test_errors_at_the_start_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for missing in (str(tmp_path), "org/nothing"):
        monkeypatch.setenv("MODEL", missing)
        with pytest.raises(SystemExit) as caught:
            app.main()
        assert missing in str(caught.value) and "\n" not in str(caught.value)
    blocks = app.demo(tiny())
    monkeypatch.setenv("PORT", "http")
    with pytest.raises(ValueError, match="PORT must be a number"):
        app.serve(blocks)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("PORT", str(taken.getsockname()[1]))
        monkeypatch.delenv("HOST", raising=False)
        with pytest.raises(OSError, match="choose another PORT"):
            app.serve(blocks)
