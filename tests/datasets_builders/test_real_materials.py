"""Archives made here stand in for the packages: what is read out of them, and what is refused."""

import base64
import hashlib
import io
import os
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets_builders import packages, real_materials
from datasets_builders.folder import BuildError
from datasets_builders.packages import Package, fetch
from datasets_builders.real_materials import (
    HELD_OUT_LIGHT,
    MATERIALS,
    TRAINING_LIGHT,
    Real,
    environment,
    read,
)
from hubmodels.images import linear_to_srgb, srgb_to_linear


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def wheel(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    return archive.getvalue()


def tar(files: dict[str, bytes], mode: str) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode=mode) as out:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return archive.getvalue()


def deb(members: dict[str, bytes]) -> bytes:
    whole = b"!<arch>\n"
    for name, content in members.items():
        whole += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        whole += content + b"\n" * (len(content) % 2)
    return whole


def package(manager, content: bytes, file: str = "tiny-1.0.archive") -> Package:
    return Package("tiny", "1.0", manager, file, hashlib.sha256(content).hexdigest())


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("HUBMODELS_CACHE", str(tmp_path / "cache"))
    return packages.cache()


@pytest.fixture
def kept(cache):
    """Puts an archive into the cache, as if it had been fetched."""

    def keep(manager, content: bytes) -> Package:
        cache.mkdir(exist_ok=True)
        (cache / "tiny-1.0.archive").write_bytes(content)
        return package(manager, content)

    return keep


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """A command of some name on an otherwise empty PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!{sys.executable} -S\nimport sys\n{script}\n")
        path.chmod(0o755)
        return path

    return install


# --- fetching ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "command", "arguments"),
    [
        ("npm", "npm", ["pack", "--silent", "tiny@1.0"]),
        ("apt", "apt-get", ["download", "-q", "tiny=1.0"]),
        ("pip", "python", ["-m", "pip", "download", "--quiet", "--no-deps", "tiny==1.0"]),
    ],
)
def test_an_archive_is_fetched_once_with_its_manager(kind, command, arguments, cache, manager, tmp_path, monkeypatch):
    content, log = b"archive", tmp_path / "log"
    deliver = f"if '--version' in sys.argv: sys.exit()\nopen({str(log)!r}, 'a').write(repr(sys.argv[1:]) + '\\n')\n"
    path = manager(command, deliver + f"open('tiny-1.0.archive', 'wb').write({content!r})")
    if kind == "pip":
        monkeypatch.setattr(sys, "executable", str(path))
    for _ in range(2):
        assert fetch(package(kind, content)).read_bytes() == content
    assert log.read_text() == f"{arguments!r}\n"
    assert os.listdir(cache) == ["tiny-1.0.archive"]


def test_without_pip_it_is_run_by_uv(cache, manager, monkeypatch):
    manager("uv", "assert 'pip' in sys.argv\nopen('tiny-1.0.archive', 'wb').write(b'archive')")
    monkeypatch.setattr(sys, "executable", str(manager("python", "sys.exit('No module named pip')")))
    assert fetch(package("pip", b"archive")).read_bytes() == b"archive"


def test_other_bytes_than_were_looked_at_are_refused(cache, manager):
    manager("npm", "open('tiny-1.0.archive', 'wb').write(b'evil')")
    with pytest.raises(BuildError, match="tiny-1.0.archive is not the file that was looked at"):
        fetch(package("npm", b"archive"))
    assert not cache.exists()
    cache.mkdir()
    (cache / "tiny-1.0.archive").write_bytes(b"half an arch")  # a damaged copy is fetched anew
    manager("npm", "open('tiny-1.0.archive', 'wb').write(b'archive')")
    assert fetch(package("npm", b"archive")).read_bytes() == b"archive"


def test_a_manager_that_is_missing_or_fails_is_one_line(cache, manager):
    with pytest.raises(BuildError, match="tiny is fetched with npm, which is not installed here"):
        fetch(package("npm", b""))
    manager("npm", "sys.exit('warning: x\\n404 no such package')")
    with pytest.raises(BuildError, match="^npm could not fetch tiny 1.0: 404 no such package$"):
        fetch(package("npm", b""))
    manager("npm", "")
    with pytest.raises(BuildError, match="it said nothing"):
        fetch(package("npm", b""))


# --- materials --------------------------------------------------------------------------------------------------


def test_maps_are_cut_to_a_square_averaged_and_in_range(kept):
    rng = np.random.default_rng(0)
    albedo, rough = rng.integers(0, 256, (40, 64, 3), np.uint8), rng.integers(0, 256, (40, 64), np.uint8)
    normal = np.broadcast_to(np.array([128, 128 + 90, 128 + 90], np.uint8), (40, 64, 3))
    source = kept("pip", wheel({"a.png": png(albedo), "r.png": png(rough), "n.png": png(normal.copy())}))
    files = {"albedo": "a.png", "roughness": "r.png", "normal": "n.png"}
    maps = read(Real("x", source, "wood", "", "", files, metallic=1.0), 20)
    assert {name: tuple(one.shape) for name, one in maps.items()} == {
        "albedo": (3, 20, 20),
        "roughness": (1, 20, 20),
        "normal": (3, 20, 20),
        "metallic": (1, 20, 20),
    }
    expected = rough[:, :40].reshape(20, 2, 20, 2).mean((1, 3)) / 255
    assert np.allclose(maps["roughness"][0], expected, atol=1e-5)
    assert np.allclose(maps["albedo"][:, 0, 0], albedo[:2, :2].mean((0, 1)) / 255, atol=1e-5)
    assert torch.allclose(
        maps["normal"][:, 3, 3], torch.tensor([0.0, 0.7071, 0.7071]), atol=0.01
    )  # up, as OpenGL has it
    assert (maps["metallic"] == 1).all()


def test_a_colour_fills_or_tints(kept):
    grey = np.full((16, 16, 3), 188, np.uint8)
    flat = np.full((16, 16, 3), (128, 128, 255), np.uint8)
    source = kept("npm", tar({"a.png": png(grey), "n.png": png(flat), "r.png": png(grey[..., 0].copy())}, "w:gz"))
    plain = Real("x", source, "metal", "", "", {"normal": "n.png", "roughness": "r.png"}, (0.9, 0.5, 0.1))
    assert torch.allclose(read(plain, 16)["albedo"][:, 5, 5], torch.tensor([0.9, 0.5, 0.1]), atol=1e-5)
    tinted = read(replace(plain, files={**plain.files, "albedo": "a.png"}), 16)["albedo"][:, 5, 5]
    light = srgb_to_linear(torch.tensor(188 / 255)) * srgb_to_linear(torch.tensor([0.9, 0.5, 0.1]))
    assert torch.allclose(tinted, linear_to_srgb(light), atol=1e-5)


def test_a_debian_package_without_data_is_refused(kept):
    source = kept("apt", deb({"debian-binary": b"2.0", "control.tar.xz": b"x"}))
    with pytest.raises(BuildError, match="is no Debian package"):
        packages.member(source, "a")


def test_the_list_of_materials_is_whole():
    names = [real.name for real in MATERIALS]
    assert len(set(names)) == len(names) >= 18
    for real in MATERIALS:
        assert {"normal", "roughness"} <= set(real.files) and ("albedo" in real.files or real.color)
        assert real.source and (real.category == "metal") == (real.metallic == 1)
    assert not set(TRAINING_LIGHT) & set(HELD_OUT_LIGHT)


# --- light ------------------------------------------------------------------------------------------------------


def exr(light: np.ndarray, path: Path) -> bytes:
    """(3, H, W) as OpenEXR."""
    openexr = pytest.importorskip("OpenEXR")
    channels = dict(zip("RGB", light.astype(np.float32), strict=True))
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    openexr.File(header, channels).write(str(path))
    return path.read_bytes()


@pytest.mark.parametrize("origin", ["pmndrs", "blender"])
def test_light_comes_upright_without_negative_pixels_and_of_mean_1(origin, kept, tmp_path, monkeypatch):
    light = np.random.default_rng(0).uniform(0, 4, (3, 8, 16))
    light[:, 0, 0] = -100
    content = exr(light, tmp_path / "x.exr")
    if origin == "pmndrs":
        script = b'export default "data:application/octet-stream;base64,' + base64.b64encode(content) + b'"'
        source = kept("npm", tar({"package/hdri/city.exr.js": script}, "w:gz"))
    else:
        name = "./usr/share/blender/datafiles/studiolights/world/city.exr"
        members = {"debian-binary": b"2.0", "control.tar": b"odd", "data.tar.xz": tar({name: content}, "w:xz")}
        source = kept("apt", deb(members))
    monkeypatch.setattr(real_materials, origin.upper(), source)
    environment.cache_clear()
    try:
        found = environment(f"{origin}/city", 8)
    finally:
        environment.cache_clear()
    small = np.maximum(light, 0).reshape(3, 4, 2, 8, 2).mean((2, 4))
    assert np.allclose(found, small / small.mean(), rtol=1e-3)
