"""The Chromium that tests of pages look through, and the lab before it; `make test` sees to it that there is one."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

# Runs before the page's own scripts: what comes over its socket, and what it says once it has drawn a frame.
WATCH = """
(() => {
  const seen = window.__seen = {frames: [], drawn: [], bytes: new Map()}
  const made = new Map()
  const head = bytes => JSON.parse(new TextDecoder().decode(
    new Uint8Array(bytes, 4, new DataView(bytes).getUint32(0, true))))
  window.WebSocket = class extends window.WebSocket {
    constructor(...given) {
      super(...given)
      window.__socket = this
      this.addEventListener('message', event => {
        const found = head(event.data)
        if (found.kind !== 'frame') return
        made.set(found.seq, found.at)
        if (seen.bytes.size < 400) seen.bytes.set(found.seq, event.data)
        const first = found.arrays.filter(a => a.name.startsWith('0/'))
        seen.frames.push({seq: found.seq, at: Date.now() / 1000, made: found.at, step: found.step, stage: found.stage,
          bytes: event.data.byteLength, measures: found.benches[0].measures,
          shapes: Object.fromEntries(first.map(a => [a.name, a.shape]))})
      })
    }
    send(text) {
      const told = JSON.parse(text)
      if (told.do === 'seen') seen.drawn.push({at: Date.now() / 1000, made: made.get(told.seq)})
      super.send(text)
    }
  }
})()
"""


def chromium() -> str:
    """The browser's path."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "tests of pages need Chromium: sh browser.sh"
    return found


def dump(url: str, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """What a page has become once its scripts ran, on stdout. folder: holds the browser's profile."""
    command = [chromium(), *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def wait(page: Any, function: str, argument: Any = None, seconds: float = 60) -> None:
    """Until a function of the page's says so. Asked from outside: the page's policy evaluates no text."""
    end = time.monotonic() + seconds
    while not page.evaluate(function, argument):
        assert time.monotonic() < end, f"not in {seconds:g} seconds: {function}"
        page.wait_for_timeout(40)


class Studio:
    """A server of the lab that runs, and a client that it trusts. seconds: from its start to its first answer."""

    def __init__(self, link: str, seconds: float, process: subprocess.Popen[str], runs: Path):
        self.link, self.seconds, self.process, self.runs = link, seconds, process, runs
        self.base = link.partition("/?")[0]
        self.client = httpx.Client(base_url=self.base, headers={"Origin": self.base}, timeout=60)
        self.client.get(link)

    def close_labs(self) -> None:
        for lab in self.client.get("/api/labs").json():
            self.client.delete(f"/api/labs/{lab['id']}").raise_for_status()

    def open(self, setup: dict[str, Any]) -> str:
        """Start a lab, and end those before it; its id."""
        self.close_labs()
        return self.client.post("/api/labs", json=setup).raise_for_status().json()["id"]


@contextmanager
def studio(runs: Path) -> Iterator[Studio]:
    """`elegan studio` on a free port, as a user starts it."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "elegan", "studio", "--no-browser", "--port", "0", "--runs", str(runs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, "the studio did not start"
        assert httpx.get(found.group(0)).status_code == 303
        running = Studio(found.group(0), time.perf_counter() - begun, process, runs)
        yield running
        running.client.close()
    finally:
        process.terminate()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()
