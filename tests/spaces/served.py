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

ROOT = Path(__file__).parents[2]


@contextmanager
def served(name: str, folder: Path, env: dict[str, str]) -> Iterator[str]:
    """The address of spaces/`name`, which runs from an empty folder with more variables; no error may be in its log."""
    shutil.copytree(ROOT / "spaces" / name, folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ours = {key: value for key, value in os.environ.items() if key not in ("MODEL", "HOST")}
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
    assert "Traceback" not in log.read_text()
