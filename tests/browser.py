"""The Chromium that tests of pages look through; `make test` sees to it that there is one."""

import shutil
import subprocess
from pathlib import Path

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def chromium() -> str:
    """The browser's path."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "tests of pages need Chromium: sh browser.sh"
    return found


def dump(url: str, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """What a page has become once its scripts ran, on stdout. folder: holds the browser's profile."""
    command = [chromium(), *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
