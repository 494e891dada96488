"""A Space as a visitor meets it: started from a copy of its folder, as on the Hub, on a port of our choice."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"
CHOICES = "HOST", "MODEL", "DISTILL", "NEUROPBR", "VQGAN", "PRIOR", "BACKEND", "CIRCULAR", "GROUNDED"
CHOICES += "LENS", "JUDGE"
"""What a Space reads of the environment; these tests say it themselves."""
QUIET = "--headless --no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader --disable-quic --no-first-run"
QUIET += " --disable-background-networking --disable-component-update --disable-sync"


@contextmanager
def served(name: str, folder: Path, env: dict[str, str]) -> Iterator[str]:
    """The address of spaces/`name`, which runs from an empty folder with more variables; no error may be in its log."""
    shutil.copytree(ROOT / "spaces" / name, folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ours = {key: value for key, value in os.environ.items() if key not in CHOICES}
    ours |= {"PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "gradio")} | env
    log = folder / "log"
    with log.open("w") as out:
        server = subprocess.Popen([sys.executable, "app.py"], cwd=folder / "app", env=ours, stdout=out, stderr=out)
    try:
        for _ in range(240):
            assert server.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)
    said = log.read_text()
    # a browser that leaves in the middle of an upload is no error of the Space
    assert said.count("Traceback") == said.count("starlette.requests.ClientDisconnect\n"), said


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window. Where none is installed tests are skipped, and in CI they fail."""
    if not Path(CHROMIUM).exists():
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say(f"no {CHROMIUM}: install Chromium (Debian: apt install chromium)")
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        yield browser
        browser.close()


@contextmanager
def visited(name: str, folder: Path, env: dict[str, str]) -> Iterator[Page]:
    """The page of spaces/`name` in a browser; see `served`."""
    with served(name, folder, env) as url, chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(30_000)
        page.goto(url)
        yield page
