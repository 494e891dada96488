"""The rules of the house that a reader of one file cannot see: which way imports point, and what is never written."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("hubmodels", "train_scripts", "datasets_builders", "spaces", "benchmarks")
FILES = sorted(path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in ROOT.glob(f"{folder}/**/*.py"))

BASE = {"nn", "losses", "metrics", "images", "hub"}
SYSTEMS = {"distill", "circular", "pixelscene", "lens", "neuropbr"}
PUBLIC = {"", "images", "hub", "metrics", "scenes", "circular", "pixelscene", "lens"}
"""Modules of hubmodels that a Space may use; "" is the package itself, which has the models."""
BELOW = {
    **{part: BASE for part in BASE},
    "training": {"training"},
    "scenes": BASE | {"scenes"},
    **{system: BASE | {"scenes", system} for system in SYSTEMS},
}
"""What each part of hubmodels may import of it. On top stand the command, scripts, builders, benchmarks, Spaces."""
RANGES = {"hubmodels/images.py", "hubmodels/training/journal.py"}
"""Who may know that a level is 1/255; training imports none of ours, so it cannot ask."""


def part_of(module: str) -> str:
    """The part of hubmodels that a module belongs to; "" for the package itself."""
    return module.removeprefix("hubmodels").strip(".").partition(".")[0]


def imports(path: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and module of each import, wherever in the file; relative ones in full."""
    package = path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*parent, *filter(None, [node.module])])
            # `from hubmodels import images` is the module images, not only the package
            parts = BELOW.keys() | {"cli"}
            names = [alias.name for alias in node.names if module == "hubmodels" and alias.name in parts]
            yield from ((node.lineno, f"hubmodels.{name}") for name in names)
            if len(names) < len(node.names):
                yield node.lineno, module


def is_space(path: str) -> bool:
    return path.startswith("spaces/") or path.endswith("/app.py")


def import_faults(path: str, tree: ast.AST) -> Iterator[str]:
    own = part_of(path.removesuffix(".py").replace("/", "."))
    below = BELOW.get(own) if path.startswith("hubmodels/") and not is_space(path) else None
    for line, module in imports(path, tree):
        top, target = module.partition(".")[0], part_of(module)
        where = f"{path}:{line} imports {module}"
        if (
            top == "tyro"
            and path != "hubmodels/cli.py"
            and not path.startswith(("train_scripts/", "datasets_builders/", "benchmarks/"))
        ):
            yield f"{where}: options are read by the command, scripts, builders and benchmarks only"
        if top in ("pickle", "dill", "cloudpickle", "joblib"):
            yield f"{where}: pickles run code when they are read"
        if below is not None and top in FOLDERS and (top != "hubmodels" or target not in below):
            yield f"{where}: the arrow points up"
        if is_space(path) and (target not in PUBLIC if top == "hubmodels" else top in FOLDERS and top != "spaces"):
            yield f"{where}: a Space uses public names only"


def called(node: ast.AST) -> str:
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def rule_faults(path: str, tree: ast.AST) -> Iterator[str]:
    own = part_of(path.removesuffix(".py").replace("/", "."))
    if path.startswith("hubmodels/") and own not in BELOW.keys() | {"cli", "__init__"}:
        yield f"{path}: {own} has no place among the layers"
    for node in ast.walk(tree):
        line = f"{path}:{getattr(node, 'lineno', 0)}"
        if called(node) in ("torch.load", "torch.save"):
            yield f"{line}: {called(node)} pickles; use safetensors"
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{line}: a bare except hides what went wrong"
        if isinstance(node, ast.BinOp) and path not in RANGES:
            sides = {ast.Div: [node.right], ast.Mult: [node.left, node.right]}.get(type(node.op), [])
            if any(isinstance(side, ast.Constant) and side.value in (255, 127.5) for side in sides):
                yield f"{line}: ranges are the business of hubmodels/images.py"
        if isinstance(node, ast.ImportFrom) and node.module == "__future__" and path.startswith("hubmodels/"):
            yield f"{line}: with postponed annotations from_pretrained hands a dict to the constructor"
    if re.search(r"(^|/)(utils|util|helpers|common|misc)(\.py|/)", path):
        yield f"{path}: name it for what it is about"


def faults(path: str, source: str) -> list[str]:
    tree = ast.parse(source)
    return [*import_faults(path, tree), *rule_faults(path, tree)]


@pytest.mark.parametrize("path", FILES)
def test_file_keeps_the_rules(path: str) -> None:
    assert not faults(path, (ROOT / path).read_text())


def test_files_were_found() -> None:
    assert {"hubmodels/images.py", "hubmodels/training/run.py", "train_scripts/distill.py"} <= set(FILES)


@pytest.mark.parametrize(
    ("path", "line", "message"),
    [
        ("hubmodels/lens/model.py", "from hubmodels.distill.model import DistilledRenderer", "up"),
        ("hubmodels/lens/model.py", "from hubmodels import DistilledRenderer", "up"),
        ("hubmodels/lens/model.py", "from hubmodels import training", "up"),
        ("hubmodels/lens/model.py", "def f():\n    import train_scripts.lens", "up"),
        ("hubmodels/lens/model.py", "from ..circular import model", "up"),
        ("hubmodels/scenes/reader.py", "import hubmodels.distill", "up"),
        ("hubmodels/scenes/reader.py", "from hubmodels.cli import main", "up"),
        ("hubmodels/hub.py", "from .scenes import parse", "up"),
        ("hubmodels/images.py", "from datasets_builders import scenes", "up"),
        ("hubmodels/training/run.py", "from hubmodels.images import to_pil", "up"),
        ("hubmodels/training/run.py", "from ..images import to_pil", "up"),
        ("hubmodels/extras/a.py", "x = 1", "no place"),
        ("spaces/lens/app.py", "from hubmodels.distill.model import DistilledRenderer", "public"),
        ("spaces/lens/app.py", "from train_scripts.lens import main", "public"),
        ("hubmodels/metrics/modules/a/app.py", "from hubmodels.training import Run", "public"),
        ("spaces/lens/app.py", "import tyro", "options"),
        ("hubmodels/lens/data.py", "from tyro import cli", "options"),
        ("hubmodels/lens/data.py", "import pickle", "pickles"),
        ("datasets_builders/lens.py", "x = torch.load(path)", "pickles"),
        ("hubmodels/lens/model.py", "from __future__ import annotations", "postponed"),
        ("train_scripts/lens.py", "x = image / 255", "ranges"),
        ("train_scripts/lens.py", "x = image / 127.5 - 1", "ranges"),
        ("hubmodels/lens/model.py", "x = (image + 1) * 127.5", "ranges"),
        ("hubmodels/lens/model.py", "try:\n    f()\nexcept:\n    pass", "bare"),
        ("hubmodels/lens/utils.py", "x = 1", "what it is about"),
        ("benchmarks/utils/clock.py", "x = 1", "what it is about"),
    ],
)
def test_a_planted_fault_is_found(path: str, line: str, message: str) -> None:
    (fault,) = faults(path, line)
    assert fault.startswith(path) and message in fault


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("hubmodels/lens/model.py", "from hubmodels.scenes import parse\nfrom hubmodels import images"),
        ("hubmodels/lens/data.py", "from .model import Lens\nfrom ..hub import HubModel"),
        ("hubmodels/scenes/grammar.py", "import torch\nfrom hubmodels.scenes.world import Scene"),
        ("hubmodels/cli.py", "import tyro\nfrom spaces.gallery import app"),
        ("train_scripts/lens.py", "import tyro\nfrom hubmodels.training import Run\nfrom hubmodels import lens"),
        ("spaces/lens/app.py", "from hubmodels import DiffusionLens\nfrom hubmodels.images import to_pil"),
        ("spaces/gallery/app.py", "from spaces.lens.app import demo"),
        ("hubmodels/images.py", "x = image / 127.5 - 1"),
        ("hubmodels/scenes/renderer.py", "x = 255.0 - 115.0 * y / 64"),
    ],
)
def test_what_is_allowed_passes(path: str, line: str) -> None:
    assert faults(path, line) == []


def test_importing_the_package_is_cheap() -> None:
    """No torch until a name is used, and none of the slow packages then; but a lens is made of two of them."""
    script = """
import sys
before = set(sys.modules)
import hubmodels
assert not {"torch", "numpy", "PIL", "huggingface_hub"} & (set(sys.modules) - before), "import hubmodels is heavy"
assert set(hubmodels.__all__) <= set(dir(hubmodels)), "dir() hides public names"
assert hubmodels.__version__.count(".") == 2
light = [name for name in hubmodels.__all__ if not name.startswith("DiffusionLens")]
for name in light:
    assert getattr(hubmodels, name).__name__ == name
try:
    hubmodels.DistilledRendererr
except AttributeError as error:
    assert str(error) == "module 'hubmodels' has no attribute 'DistilledRendererr'"
else:
    raise AssertionError("a wrong name is found")
import hubmodels.images, hubmodels.losses, hubmodels.metrics
heavy = {"torchmetrics", "torchvision", "evaluate", "datasets", "accelerate", "gradio", "ray", "transformers"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
for name in set(hubmodels.__all__) - set(light):
    assert getattr(hubmodels, name).__name__ == name
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
