"""The `hubmodels` command in this process, as a person sees it."""

import sys
from pathlib import Path

import pytest

from hubmodels import cli


def run(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["hubmodels", *arguments])
        cli.main()


def refusal(*arguments: str) -> str:
    """What goes to stderr, one line; a string that Python is left with is printed there, and the exit code is 1.

    Nothing in the current folder was made or changed.
    """
    before = contents()
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    line = stop.value.code
    assert isinstance(line, str) and line.startswith("hubmodels: ") and "\n" not in line, line
    assert contents() == before, "something half-written is left"
    return line


def contents() -> dict[Path, bytes | bool]:
    return {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
