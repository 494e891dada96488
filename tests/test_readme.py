"""The README keeps its word: commands parse, Python runs, links lead somewhere, numbers are the code's."""

import argparse
import functools
import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import lens_parts
import pytest
import torch
import tyro
from accelerate.commands.launch import launch_command_parser
from loopback_hub import LoopbackHub
from PIL import Image
from torch.distributed.run import get_args_parser

from datasets_builders import lens as hidden
from datasets_builders import neuropbr as materials
from datasets_builders import pixelscene as backgrounds
from datasets_builders import scenes
from hubmodels import (
    CircularScene,
    CircularSceneConfig,
    DiffusionLens,
    DiffusionLensConfig,
    DistilledRenderer,
    NeuroPBR,
    cli,
)
from hubmodels.distill.model import DistilledRendererConfig
from hubmodels.neuropbr.model import NeuroPBRConfig
from hubmodels.scenes import parse, place, world
from hubmodels.scenes.renderer import RESOLUTIONS
from tests.pixelscene.test_scene import models

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
CODE = re.findall(r"`([^`\n]+)`", PROSE)
PROGRAMS = ("make", "hubmodels", "python", "accelerate", ".")
PYTHON = [source for language, source in BLOCKS if language == "python"]
LISTINGS = [text for language, text in BLOCKS if not language]
COMMANDS = [
    command.strip()
    for text in LISTINGS
    if text.split()[0] in PROGRAMS
    for line in text.splitlines()
    for command in line.split("&&")
]
DIAGRAMS = [text for text in LISTINGS if text.split()[0] not in PROGRAMS]


def script_config(system: str) -> type:
    """`Config` of a training script, which lies outside of any package."""
    path = ROOT / "train_scripts" / f"{system}.py"
    spec = importlib.util.spec_from_file_location(f"{system}_script", path)
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Config


def parsed_only(verb: Callable) -> Callable[..., dict[str, Any]]:
    """The verb's own options, without its deeds."""
    return functools.wraps(verb)(lambda **options: options)


INTERFACES: dict[str, Callable] = {
    "hubmodels draw": parsed_only(cli.draw),
    "hubmodels eval": parsed_only(cli.evaluate),
    "hubmodels demo": parsed_only(cli.demo),
    "hubmodels roundtrip": parsed_only(cli.roundtrip),
    "hubmodels pbr": parsed_only(cli.pbr),
    "hubmodels lens": parsed_only(cli.lens),
    "hubmodels scene": parsed_only(cli.scene),
    "python -m datasets_builders.scenes": scenes.Config,
    "python -m datasets_builders.neuropbr": materials.Config,
    "python -m datasets_builders.pixelscene": backgrounds.Config,
    "python -m datasets_builders.lens": hidden.Config,
    "accelerate launch train_scripts/distill.py": script_config("distill"),
    "accelerate launch train_scripts/circular.py": script_config("circular"),
    "accelerate launch train_scripts/neuropbr.py": script_config("neuropbr"),
    "accelerate launch train_scripts/lens.py": script_config("lens"),
    "accelerate launch train_scripts/pixelscene_vqgan.py": script_config("pixelscene_vqgan"),
    "accelerate launch train_scripts/pixelscene_transformer.py": script_config("pixelscene_transformer"),
}


def check(command: str) -> None:
    """Fails for a command, option or value that nothing here would accept."""
    if command.startswith("make "):
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert command.split()[1] in targets, command
    elif command != ". .venv/bin/activate":
        name = next((name for name in INTERFACES if command.startswith(name + " ")), None)
        assert name, f"{command}: no such command"
        try:
            tyro.cli(INTERFACES[name], args=shlex.split(command.removeprefix(name), comments=True))
        except SystemExit:
            pytest.fail(f"{command}: it is not accepted")


def options_of(interface: Callable, capsys: pytest.CaptureFixture[str]) -> set[str]:
    with pytest.raises(SystemExit):
        tyro.cli(interface, args=["--help"])
    return set(re.findall(r"--[a-z][\w.-]*", capsys.readouterr().out))


def spelled(parser: argparse.ArgumentParser) -> set[str]:
    return {name.replace("-", "_") for action in parser._actions for name in action.option_strings}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_accepted(command: str) -> None:
    check(command)


@pytest.mark.parametrize(
    "command",
    [
        "hubmodels draw X --sed 7",
        "hubmodels paint X",
        "hubmodels eval glass",
        "python -m datasets_builders.scenes --out x --row 5",
        "accelerate launch train_scripts/distill.py --run.step 5",
        "accelerate launch train_scripts/distil.py",
        "make coffee",
    ],
)
def test_a_wrong_command_would_be_noticed(command: str) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(command)


def test_all_there_is_to_run_was_found() -> None:
    assert {command.split()[0] for command in COMMANDS} == set(PROGRAMS)
    assert len(COMMANDS) >= 9 and len(PYTHON) >= 2 and len(DIAGRAMS) == 1
    assert {language for language, _ in BLOCKS} <= {"", "python"}


def test_options_in_the_prose_exist(capsys: pytest.CaptureFixture[str]) -> None:
    known = set().union(*(options_of(interface, capsys) for interface in INTERFACES.values()))
    launchers = spelled(launch_command_parser()) | spelled(get_args_parser())
    named = {option for code in CODE for option in re.findall(r"--[a-z][\w.-]*", code)}
    assert {"--data", "--resume", "--push-to", "--run.processes"} <= named
    unknown = {option for option in named - known if option.replace("-", "_") not in launchers}
    assert not unknown


def test_sentences_belong_to_the_language() -> None:
    sentences = re.findall(r'"((?:The|There) [^"]+)"', README)
    assert len(sentences) >= 4
    for sentence in sentences:
        place(parse(sentence), seed=0)


def test_python_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: LoopbackHub) -> None:
    """In an empty folder with a small model where the released one is, and with a Hub to publish to."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    small = DistilledRendererConfig(width=32, layers=1, channels_8=8, channels_16=8, channels_32=4, channels_64=4)
    DistilledRenderer(small).save_pretrained("weights/distill")
    CircularScene(CircularSceneConfig(width=32, layers=1)).save_pretrained("weights/circular")
    NeuroPBR(NeuroPBRConfig(channels=8, growth=1, levels=3, summary=16)).save_pretrained("weights/neuropbr")
    for name, model in zip(("pixelscene-vqgan", "pixelscene"), models(), strict=True):
        model.save_pretrained(f"weights/{name}")
    base, reader = lens_parts.saved(tmp_path, lens_parts.LABELS)
    edits = DiffusionLensConfig(str(base), classifier=str(reader), labels="; ".join(lens_parts.LABELS), rank=2, size=16)
    DiffusionLens.fresh(edits, lens_parts.base(conditioned=True)).save_pretrained("weights/lens")
    for source in PYTHON:
        exec(compile(source, "README.md", "exec"), {})
    assert Image.open("x.png").size == (64, 64) and Image.open("castle.png").size == (320, 200)
    assert DistilledRenderer.from_pretrained("org/distill").config == small


def test_links_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", PROSE) if not link.startswith("http")]
    files = [code for code in CODE if re.fullmatch(r"[\w./-]+(\.md|/)", code)]
    assert links and files
    missing = [path for path in links + files if not (ROOT / path).exists()]
    assert not missing


def test_the_diagram_shows_what_is_there() -> None:
    names = re.findall(r"[a-z_/]+(?:\.py)?", re.sub(r"\(.*?\)", "", DIAGRAMS[0]))
    assert len(names) >= 10
    missing = [
        name
        for name in names
        if not any(
            (parent / (name + suffix)).exists() for parent in (ROOT, ROOT / "hubmodels") for suffix in ("", ".py")
        )
    ]
    assert not missing


def test_every_dependency_is_named_and_no_other() -> None:
    table = PROSE.partition("## What it stands on")[2]
    cells = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)[1:]
    named = {re.sub(r" \(.*\)", "", name) for cell in cells for name in cell.split(", ")} - {"---"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    assert named == {re.split(r"[<>=\[]", name)[0] for name in wanted}


def test_the_world_is_as_large_as_it_says() -> None:
    things = re.search(r"^\| things \| (.*) \|$", PROSE, re.MULTILINE)
    assert things
    assert things[1] == (
        f"{len(world.SHAPES)} shapes, {len(world.COLORS)} colours, {len(world.SIZES)} sizes, "
        f"{len(world.BACKGROUNDS)} backgrounds, 1 to {world.MAX_GROUPS} groups, "
        f"up to {world.MAX_INSTANCES} things"
    )
    assert f"any size from {RESOLUTIONS[0]} to {RESOLUTIONS[-1]}" in PROSE


@pytest.mark.parametrize(
    ("heading", "script", "least"),
    [
        ("Materials from photos", "neuropbr", 30),
        ("Sentences that a picture carries", "circular", 10),
        ("What a picture hides", "lens", 25),
    ],
)
def test_the_table_of_settings_has_the_defaults(heading: str, script: str, least: int) -> None:
    part = PROSE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|[^|]*\| ((?:`--[\w.-]+`(?:, )?)+) \| ([^|]+) \|", part, re.MULTILINE)
    assert len(rows) >= least
    config: Any = INTERFACES[f"accelerate launch train_scripts/{script}.py"]()
    for names, said in rows:
        values = [attrgetter(name.replace("-", "_"))(config) for name in re.findall(r"`--([\w.-]+)`", names)]
        texts = [value[0] if isinstance(value, tuple) else f"{value}" for value in values]
        assert said.replace("1,000,000", "1000000") == ", ".join(filter(None, texts)), names
