"""A studio to attack: the real server in a process of its own, with a stand-in for the child that trains.

Run as a program, this file is that stand-in: it speaks the messages of a lab, imports no torch, and does on demand what
a child may do at its worst.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from websockets.sync.client import ClientConnection, connect

from elegan.studio import wire

SERVE = """
import sys
from pathlib import Path
from elegan.studio.server import app, connections, exports, guard, jobs, labs, recording, serve
root, page, before, *command = sys.argv[1:]
exec(before)
told = lambda link, once: print(link, once, flush=True)
serve.serve("127.0.0.1", 0, Path(root), ready=told, command=command, page=Path(page))
assert "torch" not in sys.modules, "the server imports torch"
"""
PAGE = "<!doctype html><title>a page</title>"


@dataclass
class Studio:
    """A server that runs. link: as it is printed, with the token. once: as its own browser gets it."""

    process: subprocess.Popen
    link: str
    once: str
    root: Path

    @property
    def port(self) -> int:
        return int(re.search(r":(\d+)/", self.link)[1])

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        return self.link.partition("token=")[2]

    @property
    def ticket(self) -> str:
        return self.once.partition("token=")[2]

    @property
    def cookie(self) -> str:
        return f"elegan-{self.port}={self.token}"

    def client(self, **headers: str) -> httpx.Client:
        """One that has come through the link, as the page does."""
        said = {"Origin": self.origin, "Cookie": self.cookie, **headers}
        return httpx.Client(base_url=self.origin, headers=said, timeout=20, trust_env=False, verify=False)

    def stream(self, lab: str, **headers: str) -> ClientConnection:
        said = {"Cookie": self.cookie, **headers}
        address = f"ws://127.0.0.1:{self.port}/api/labs/{lab}/stream"
        return connect(address, origin=self.origin, additional_headers=said, max_size=None, proxy=None)

    def lab(self, **setup: object) -> str:
        """Open a lab; its id."""
        with self.client() as client:
            answer = client.post("/api/labs", json=setup)
            assert answer.status_code == 200, answer.text
            return answer.json()["id"]

    def close_labs(self) -> None:
        with self.client() as client:
            for lab in client.get("/api/labs").json():
                client.delete(f"/api/labs/{lab['id']}")

    def raw(self, request: bytes, seconds: float = 10.0) -> bytes:
        """What comes back for these very bytes, until the server closes, or the head of it and its body."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as line:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                line.sendall(request)
            got = b""
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                while block := line.recv(1 << 16):
                    got += block
                    head, _, body = got.partition(b"\r\n\r\n")
                    length = re.search(rb"content-length: (\d+)", head, re.I)
                    if length and len(body) >= int(length[1]):
                        break
            return got

    def memory(self) -> float:
        """Its resident memory in MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024

    def children(self) -> list[int]:
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return [int(number) for number in found.stdout.split()]


@contextlib.contextmanager
def studio(
    folder: Path, command: list[str] | None = None, before: str = "", environment: dict[str, str] | None = None
) -> Iterator[Studio]:
    """A server over `folder/runs`, ended hard: an open WebSocket would hold up a graceful stop.

    command: starts a child, the stand-in by default. before: Python that the server runs first, to change its bounds.
    """
    (folder / "page" / "assets").mkdir(parents=True, exist_ok=True)
    (folder / "page" / "index.html").write_text(PAGE)
    (folder / "page" / "assets" / "a-1234.js").write_text("0")
    (folder / "runs").mkdir(exist_ok=True)
    (folder / "secret.txt").write_text("the secret")
    child = command or [sys.executable, __file__]
    said = (folder / "said.txt").open("w")
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder / "runs"), str(folder / "page"), before, *child],
        stdout=subprocess.PIPE, stderr=said, text=True, env={**os.environ, **(environment or {})},
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        link, _, once = process.stdout.readline().strip().partition(" ")
        assert link.startswith("http://"), (folder / "said.txt").read_text()
        yield Studio(process, link, once, folder / "runs")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        said.close()


def messages(socket: ClientConnection, seconds: float = 10.0) -> Iterator[tuple[dict, bytes]]:
    """Header and bytes of what a stream sends, until nothing comes for so long."""
    while True:
        try:
            message = socket.recv(timeout=seconds)
        except TimeoutError:
            return
        yield wire.header(message), message


def heard(socket: ClientConnection, kind: str, seconds: float = 10.0) -> dict:
    """The header of the next message of a kind."""
    return next(head for head, _ in messages(socket, seconds) if head["kind"] == kind)


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process ends within so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            if not re.search(r"State:\s+Z", Path(f"/proc/{pid}/status").read_text()):
                time.sleep(0.02)
                continue
        return True
    return False


# the stand-in -------------------------------------------------------------------------------------------------------


class StandIn:
    """Counts instead of training. Orders for faults come as changes: `crash`, `noise`, `long`, `spam`, `hang`."""

    def __init__(self) -> None:
        self.out = os.fdopen(os.dup(1), "wb")
        self.seq = self.step = 0
        self.playing = False
        self.setup: dict = {}
        self.lock = threading.Lock()

    def say(self, header: dict, arrays: dict[str, np.ndarray] | None = None) -> None:
        with self.lock:
            wire.write(self.out, wire.pack(header, arrays or {}))

    def frame(self) -> None:
        self.seq += 1
        bench = {"terms": {"D.adv": 0.5, "G.adv": 1 / self.seq}, "rates": {"D.lr": 0.1}, "measures": None, "alarms": [],
                 "ended": "", "figures": {}}  # fmt: skip
        count = len(self.setup["benches"])
        head = {"kind": "frame", "seq": self.seq, "at": time.time(), "step": self.step, "images": 0, "rate": 1.0,
                "playing": self.playing, "average": True, "stage": None, "benches": [bench] * count}  # fmt: skip
        rng = np.random.default_rng(self.seq)
        arrays = {}
        for k in range(count):
            arrays |= {
                f"{k}/fake": rng.normal(size=(64, 2)).astype(np.float32),
                f"{k}/surface": rng.integers(0, 256, (64, 64), dtype=np.uint8),
            }
        self.say(head, arrays)

    def open(self, setup: dict | None) -> None:
        setup = setup or self.setup
        if any(bench["game"] == "refuse" for bench in setup["benches"]):
            return self.say({"kind": "refused", "error": "no game named 'refuse'."})
        if any(bench["game"] == "die" for bench in setup["benches"]):
            os._exit(4)
        self.setup = {**setup, "batch": setup.get("batch") or 64, "half_life_images": 1_000}
        self.step = 0
        benches = [{"game": bench["game"], "options": bench["options"], "players": [], "rates": {}, "live": [],
                    "z_dim": 2, "prior": "normal", "judged": True} for bench in setup["benches"]]  # fmt: skip
        head = {"kind": "opened", "setup": self.setup, "about": "points", "modes": 8, "benches": benches,
                "window": {"left": -2.0, "low": -2.0, "side": 4.0}}  # fmt: skip
        self.say(head, {"real": np.random.default_rng(0).normal(size=(256, 2)).astype(np.float32)})
        return self.frame()

    def change(self, change: dict) -> None:
        order = next(iter(change))
        if order == "crash":
            print("Traceback (most recent call last):\nRuntimeError: it broke", file=sys.stderr, flush=True)
            os._exit(3)
        if order == "noise":
            self.out.write(b"\x10\x00\x00\x00this is no frame")
            self.out.flush()
        if order == "long":
            self.out.write((1 << 31).to_bytes(4, "little"))
            self.out.flush()
        if order == "spam":
            for _ in range(change["spam"]):
                self.step += 1
                self.frame()
        if order == "hang":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(3600)

    def obey(self, command: dict) -> None:
        do = command["do"]
        if do == "open":
            self.open(command["setup"])
        elif do == "preview":
            told = {"kind": "preview", "samples": 3, "about": "three points"}
            bad = command["data"].get("text", "").startswith("bad")
            self.say({"kind": "refused", "error": "line 1: no numbers"} if bad else told, {"points": np.eye(3, 2)})
        elif do == "load":
            self.open({**command, "benches": [{"game": "gan", "preset": None, "options": {}}], "data": {}})
        elif do == "change":
            self.change(command["change"])
        else:
            self.playing = do == "play"
            self.step += do in ("step", "slow")
            self.frame()

    def tick(self) -> None:
        while True:
            time.sleep(0.03)
            if self.playing:
                self.step += 10
                self.frame()

    def run(self) -> None:
        self.say({"kind": "catalogue", "version": "0", "games": [], "data": [], "trained": [], "setup": {}})
        threading.Thread(target=self.tick, daemon=True).start()
        for line in sys.stdin:
            self.obey(json.loads(line))


if __name__ == "__main__":
    StandIn().run()
