"""The lab from end to end, in a real browser: how soon it is there, how fast it trains while it draws, how late it is.

A server is started as a user starts it, with Chromium before it. The page is watched from outside: a script that runs
before its own counts the frames that reach its socket and the acknowledgements it sends once it has drawn them.
Training with the preset `gan-lab`, 1,024 points and as many arrows; then the lab's own default for a minute, whose
points are held against the known density. What drawing costs is a ratio from one process without a page, which trains
in turns with its frames and without them.

    python benchmarks/lab.py [--seconds 20] [--minute 60] [--only drawing cost default] [--out FILE]

Prints one JSON object. Needs the page (`make page`), Chromium, and the extras `studio` and `dev`.
"""

import argparse
import gzip
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

import elegan
from elegan.studio.lab.child import Child, command
from elegan.studio.lab.pipes import Inbox, Outbox
from tests.browser import FLAGS, WATCH, Studio, chromium, studio, wait

PAGE = Path(elegan.__file__).parent / "studio" / "page"
GAN_LAB = {"benches": [{"game": "gan", "preset": "gan-lab"}]}
EVERYTHING = {"do": "view", "points": 1_024, "arrows": True, "surface": True, "manifold": True}


@contextmanager
def browser() -> Iterator[Page]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = opened.new_page(viewport={"width": 1_440, "height": 900})
        page.add_init_script(WATCH)
        yield page
        opened.close()


def weight() -> int:
    """Bytes of the page, each file compressed as a server would."""
    return sum(len(gzip.compress(path.read_bytes(), 9)) for path in PAGE.rglob("*") if path.is_file())


def usable(page: Page, link: str) -> dict[str, float]:
    """Seconds from the address to a page whose play button can be pressed, and to its first frame drawn."""
    begun = time.perf_counter()
    page.goto(link)
    page.get_by_role("button", name="Play", exact=True).and_(page.locator(":enabled")).first.wait_for()
    pressed = time.perf_counter() - begun
    wait(page, "() => window.__seen?.drawn.length > 0")
    return {"usable_s": round(pressed, 3), "first_frame_s": round(time.perf_counter() - begun, 3)}


def drawing(page: Page, server: Studio, seconds: float) -> dict[str, Any]:
    """GAN Lab's defaults with everything on, watched; then the same without anybody who watches."""
    server.open(GAN_LAB)
    page.goto(server.base)
    wait(page, "() => window.__seen?.drawn.length > 0")
    tell(page, EVERYTHING)
    tell(page, {"do": "play"})
    page.wait_for_timeout(3_000)  # what warms up
    page.evaluate("window.__seen.frames.length = window.__seen.drawn.length = 0")
    page.wait_for_timeout(seconds * 1_000)
    seen = page.evaluate("window.__seen")
    frames, drawn = seen["frames"], seen["drawn"]
    span = frames[-1]["at"] - frames[0]["at"]
    rounds = (frames[-1]["step"] - frames[0]["step"]) / (frames[-1]["made"] - frames[0]["made"])
    late = sorted(one["at"] - one["made"] for one in drawn if one["made"])
    return {
        "rounds_per_s": round(rounds),
        "frames_received_per_s": round((len(frames) - 1) / span, 1),
        "frames_drawn_per_s": round((len(drawn) - 1) / (drawn[-1]["at"] - drawn[0]["at"]), 1),
        "latency_median_ms": round(1_000 * statistics.median(late), 1),
        "latency_p95_ms": round(1_000 * late[int(0.95 * len(late))], 1),
        "frame_bytes": round(statistics.median(one["bytes"] for one in frames)),
        "shapes": frames[-1]["shapes"],
        "measures": frames[-1]["measures"],
    }


def tell(page: Page, command: dict[str, Any]) -> None:
    """Send a command as the page does, over its own socket."""
    page.evaluate("told => window.__socket.send(JSON.stringify(told))", command)


def default(page: Page, server: Studio, minute: float, seed: int) -> dict[str, Any]:
    """The lab's own default on the ring for a minute, in the browser."""
    server.open({"seed": seed})
    page.goto(server.base)
    wait(page, "() => window.__seen?.drawn.length > 0")
    tell(page, {"do": "view", "average": True})
    tell(page, {"do": "play"})
    page.wait_for_timeout(minute * 1_000)
    last = page.evaluate("window.__seen.frames.at(-1)")
    return {"seed": seed, "step": last["step"], "measures": last["measures"]}


def cost(seconds: float) -> dict[str, float]:
    """Rounds a second of a lab's process that draws, and of the same that does not, in turns."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    with open(os.devnull, "rb") as nothing, open(os.devnull, "wb") as nowhere:
        child = Child(Path(), Inbox(nothing), Outbox(nowhere))
        child.do(command(json.dumps({"do": "open", "setup": GAN_LAB}).encode()))
        child.do(command(json.dumps(EVERYTHING).encode()))
        child.do(command(b'{"do": "play"}'))
        assert child.lab is not None
        for block in range(10):
            draws = bool(block % 2)
            child.frames.next = child.measures.next = 0.0 if draws else float("inf")
            begun, step = time.perf_counter(), child.lab.step
            while time.perf_counter() < begun + seconds / 10:
                child.train(child.lab)
            rates[draws].append((child.lab.step - step) / (time.perf_counter() - begun))
        child.outbox.close()
    with_frames, without = statistics.median(rates[True]), statistics.median(rates[False])
    slower = 1 - with_frames / without
    return {"with": round(with_frames), "without": round(without), "slower": round(slower, 3)}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of drawing that are watched")
    parser.add_argument("--minute", type=float, default=60, help="seconds of the lab's own default")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", default=["drawing", "cost", "default"])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(argv)
    told: dict[str, Any] = {"page_bytes_gzip": weight()}
    with tempfile.TemporaryDirectory() as folder, studio(Path(folder)) as server, browser() as page:
        told["ready_s"] = round(server.seconds, 3)
        told |= usable(page, server.link)
        if "drawing" in asked.only:
            told["drawing"] = drawing(page, server, asked.seconds)
        if "default" in asked.only:
            told["default"] = [default(page, server, asked.minute, seed) for seed in asked.seeds]
    if "cost" in asked.only:
        told["cost_of_drawing"] = cost(asked.seconds)
    text = json.dumps(told, indent=2)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
