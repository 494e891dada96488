"""Folders of Spaces: as the Hub wants them, and of the versions that are tested here."""

import importlib.metadata
import re

import pytest
import yaml
from served import ROOT

MODELS = {
    "distill": ["distill"],
    "circular": ["circular", "circular-grounded"],
    "neuropbr": ["neuropbr"],
    "pixelscene": ["pixelscene-vqgan", "pixelscene"],
    "lens": ["lens", "lens-base", "lens-classifier", "lens-judge"],
}
MODELS["gallery"] = [model for models in MODELS.values() for model in models]


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_is_what_the_hub_wants(name: str) -> None:
    folder = ROOT / "spaces" / name
    _, head, _ = (folder / "README.md").read_text().split("---\n", 2)
    about = yaml.safe_load(head)
    assert about["sdk"] == "gradio" and (folder / about["app_file"]).is_file()
    assert about["models"] == [f"org/{model}" for model in MODELS[name]]
    assert about["license"] == "mit" and about["emoji"]
    assert len(about["short_description"]) <= 60  # the Hub refuses longer ones
    pins = dict(line.split("==") for line in (folder / "requirements.txt").read_text().split())
    lock = dict(re.findall(r"^(\S+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.M))
    assert about["sdk_version"] == pins["gradio"] == lock["gradio"] and pins["torch"] == lock["torch"]
    assert pins["hubmodels"] == importlib.metadata.version("hubmodels") and "spaces" in pins


def test_all_folders_are_looked_at() -> None:
    assert {folder.name for folder in (ROOT / "spaces").iterdir() if (folder / "app.py").is_file()} == set(MODELS)


def test_the_spaces_package_of_the_hub_keeps_its_place() -> None:
    """The Hub installs another `spaces` into every Gradio Space; ours lies beside it as long as it has no __init__."""
    assert not (ROOT / "spaces" / "__init__.py").exists()
