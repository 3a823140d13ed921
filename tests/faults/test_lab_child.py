"""The process of a lab, driven over its pipes: what it answers, how it paces itself, and how it ends."""

import contextlib
import json
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from elegan.studio import wire
from elegan.studio.lab.child import Pace
from elegan.studio.lab.pipes import END, Inbox, Outbox
from elegan.studio.setup import Setup

pytestmark = pytest.mark.process
SMALL = {
    "data": {"kind": "preset", "name": "ring"},
    "benches": [{"game": "gan", "preset": "vector", "options": {"widths": [8], "judge_widths": [8]}}],
    "batch": 16,
}
PATIENCE = 30.0


class Spoken:
    """A child and what it says."""

    def __init__(self, root: Path, code: str = ""):
        run = ("-c", code) if code else ("-m", "elegan.studio.lab")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, *run, str(root)], stdin=pipe, stdout=pipe, stderr=pipe)
        self.said: queue.Queue = queue.Queue()
        self.listening = threading.Thread(target=self._listen, daemon=True)
        self.listening.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        while len(length := self.process.stdout.read(4)) == 4:
            self.said.put(wire.unpack(self.process.stdout.read(int.from_bytes(length, "little"))))
        self.said.put(({"kind": "end"}, {}))

    def say(self, do: str | bytes, **rest: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(do if isinstance(do, bytes) else json.dumps({"do": do, **rest}).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self, *kinds: str) -> tuple[dict, dict[str, np.ndarray]]:
        """The next message of some kind."""
        while True:
            head, arrays = self.said.get(timeout=PATIENCE)
            if head["kind"] in kinds:
                return head, arrays
            assert head["kind"] not in ("end", "failed", "refused"), head

    def until(self, step: int) -> list[dict]:
        """Frames up to one that stands still at a step."""
        frames = []
        while not frames or frames[-1]["playing"] or frames[-1]["step"] < step:
            frames.append(self.hear("frame")[0])
        return frames

    def end(self) -> int:
        """Close its input, and wait. What it wrote to stderr is `errors` then."""
        stdin, stdout, stderr = self.process.stdin, self.process.stdout, self.process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        code = self.process.wait(PATIENCE)
        self.listening.join(PATIENCE)
        self.errors = stderr.read().decode()
        stdout.close()
        stderr.close()
        return code


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spoken]:
    spoken = Spoken(tmp_path_factory.mktemp("runs"))
    spoken.root = tmp_path_factory.getbasetemp()
    yield spoken
    assert spoken.end() == 0
    assert spoken.errors == ""


def opened(child: Spoken, **setup: object) -> dict:
    child.say("open", setup={**SMALL, **setup})
    head = child.hear("opened")[0]
    assert child.hear("frame")[0]["step"] == 0
    return head


def test_a_child_tells_its_catalogue_before_anyone_asks(tmp_path):
    spoken = Spoken(tmp_path)
    assert {"gan", "r3gan"} <= {game["name"] for game in spoken.hear("catalogue")[0]["games"]}
    spoken.process.send_signal(signal.SIGINT)  # a terminal's Ctrl-C is the server's
    spoken.say("catalogue")
    assert spoken.hear("catalogue")[0]["version"]
    opened(spoken)
    spoken.say("play")
    spoken.hear("frame")
    start = time.monotonic()
    spoken.process.terminate()
    assert spoken.end() == -signal.SIGTERM
    assert time.monotonic() - start < 1
    assert spoken.errors == ""


def test_what_is_opened_is_complete_and_plays_to_the_step_that_was_asked_for(child):
    head = opened(child)
    completed = Setup.model_validate(head["setup"])
    assert (completed.batch, completed.half_life_images) == (16, 20_000)
    assert head["modes"] == 8
    (bench,) = head["benches"]
    assert bench["judged"]
    assert bench["players"] == [
        {"name": name, "layers": [{"kind": kind, "size": size} for kind, size in sizes], "rate": f"{name}.lr"}
        for name, sizes in (
            ("G", [("input", 8), ("linear", 8), ("linear", 2)]),
            ("D", [("input", 2), ("linear", 8), ("linear", 1)]),
        )
    ]
    assert bench["rates"] == {"D.lr": 1e-3, "G.lr": 1e-3}
    child.say("play", until=40)
    frames = child.until(40)
    assert frames[-1]["step"] == 40
    assert [frame["seq"] for frame in frames] == sorted({frame["seq"] for frame in frames})
    assert frames[-1]["benches"][0]["terms"].keys() >= {"D.adv", "G.adv", "D.grad"}
    assert frames[-1]["images"] == 40 * 16


def test_opening_again_begins_from_the_start_with_the_same_points(child):
    child.say("open", setup=SMALL)
    child.hear("opened")
    first = child.hear("frame")[1]
    child.say("play", until=5)
    child.until(5)
    child.say("open")
    assert child.hear("opened")[0]["setup"]["batch"] == 16
    head, again = child.hear("frame")
    assert head["step"] == 0
    assert all(np.array_equal(again[name], array) for name, array in first.items())


def test_a_rate_is_kept(child):
    opened(child)
    start = time.monotonic()
    child.say("play", rate=20.0, until=20)
    child.until(20)
    assert 0.9 <= time.monotonic() - start < 3


def test_a_pause_stops_at_once_and_shows_where(child):
    opened(child)
    child.say("play")
    while child.hear("frame")[0]["step"] < 30:
        pass
    child.say("pause")
    frames = child.until(0)
    assert not frames[-1]["playing"]
    child.say("view", points=32)
    head, arrays = child.hear("frame")
    assert head["step"] == frames[-1]["step"], "and not further"
    assert arrays["0/fake"].shape == (32, 2)


def test_a_view_leaves_out_what_nobody_looks_at(child):
    opened(child)
    child.say("view", arrows=False, surface=False, manifold=False, average=False, points=16)
    head, arrays = child.hear("frame")
    assert set(arrays) == {"0/fake", "0/noise", "0/judged", "0/judged_real"}
    assert head["average"] is False
    child.say("view", arrows=True, surface=True, average=True)
    arrays = child.hear("frame")[1]
    assert arrays["0/surface"].shape == (64, 64)
    assert arrays["0/surface"].dtype == np.uint8
    assert arrays["0/arrows"].shape == (16, 2)


def test_changes_steps_stages_and_saving_are_answered(child):
    opened(child)
    child.say("step", who="D")
    assert child.hear("frame")[0]["step"] == 0
    child.say("step", who="G")
    assert child.hear("frame")[0]["step"] == 1
    child.say("slow")
    head, arrays = child.hear("frame")
    assert head["stage"] == {"player": "D", "name": "draw", "number": 1, "of": 5, "move": 1, "moves": 1}
    assert arrays["0/batch_real"].shape == (16, 2)
    child.say("change", change={"D.lr": 0.5})
    assert child.hear("frame")[0]["benches"][0]["rates"]["D.lr"] == 0.5
    child.say("measure", what="gap")
    assert isinstance(child.hear("measured")[0]["gap"], float)
    assert child.hear("frame")[0]["benches"][0]["measures"]["gap"] is not None
    child.say("save")
    (name,) = child.hear("saved")[0]["runs"]
    assert child.hear("frame")[0]["step"] == 2, "the round is finished first"
    child.say("load", path=str(next(child.root.rglob(name))))
    head = child.hear("opened")[0]
    assert head["benches"][0]["rates"]["D.lr"] == 0.5
    assert child.hear("frame")[0]["step"] == 2


def test_data_can_be_looked_at_before_it_is_opened(child):
    child.say("preview", data={"kind": "equation", "x": "t", "y": "t*t", "spread": 0.0, "samples": 50})
    head, arrays = child.hear("preview")
    assert head["samples"] == 50
    assert arrays["points"].shape == (50, 2)
    assert np.allclose(arrays["points"][:, 1], arrays["points"][:, 0] ** 2, atol=1e-3)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{\n", "not JSON|does not read"),
        (b"[1]\n", "does not read"),
        (b'{"do": "fly"}\n', "does not read"),
        (b'{"do": "play", "until": "5"}\n', "until"),
        (b'{"do": "change", "bench": 3, "change": {"lr": 0.1}}\n', "no game 4"),
        (b'{"do": "change", "change": {"lr": "fast"}}\n', "lr"),
        (b'{"do": "open", "setup": {"data": {"kind": "csv", "text": "1,2"}}}\n', "10 or more"),
        (b'{"do": "preview", "data": {"kind": "equation", "x": "open(t)", "y": "t"}}\n', "no function"),
        (b'{"do": "load", "path": "/nowhere"}\n', "no run at"),
        (b"\xff\xfe\n", "not JSON|does not read"),
        (b"[" * 100_000 + b"\n", "JSON|does not read"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence_and_the_lab_goes_on(child, line, said):
    opened(child)
    child.say(line)
    error = child.hear("refused")[0]["error"]
    assert re.search(said, error), error
    assert "\n" not in error
    child.say("play", until=2)
    assert child.until(2)[-1]["step"] == 2


def test_nothing_can_be_steered_before_a_lab_is_open_and_nothing_but_messages_reaches_stdout(tmp_path):
    """In a child whose training prints, crashes, and is asked for a measure that its loss forbids."""
    code = """
import sys
from elegan.studio.lab import child, lab
plain = lab.Lab.round
def round(self):
    print("from Python", flush=True)
    import os; os.system("echo from a shell")
    if self.step == 3:
        raise RuntimeError("a hole in the floor\\nand more")
    plain(self)
lab.Lab.round = round
sys.exit(child.main(sys.argv[1]))
"""
    spoken = Spoken(tmp_path, code)
    spoken.hear("catalogue")
    spoken.say("play")
    assert "no lab is open" in spoken.hear("refused")[0]["error"]
    opened(spoken)
    spoken.say("play")
    failed = spoken.hear("failed")[0]
    assert failed["error"] == "the lab has failed: a hole in the floor"
    assert spoken.end() == 1
    assert spoken.errors.count("from Python") == 4
    assert spoken.errors.count("from a shell") == 4
    assert "Traceback" in spoken.errors


# ---- the pipes and the pace by themselves


class Slow:
    """A pipe whose reader takes a message only when it is let."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.may = threading.Semaphore(0)

    def write(self, message: bytes) -> None:
        assert self.may.acquire(timeout=5)
        self.taken.append(message[4:])

    def flush(self) -> None: ...


def test_of_frames_only_the_newest_waits_and_everything_else_comes_in_order():
    pipe = Slow()
    outbox = Outbox(pipe)
    outbox.say(b"first")
    time.sleep(0.05)  # the writer holds it now
    for k in range(50):
        outbox.show(b"frame %d" % k)
        outbox.say(b"told %d" % k)
    pipe.may.release(60)
    outbox.close()
    assert pipe.taken == [b"first", *(b"told %d" % k for k in range(50)), b"frame 49"]


def test_a_frame_of_what_was_open_before_is_not_shown_after():
    pipe = Slow()
    outbox = Outbox(pipe)
    outbox.say(b"first")
    time.sleep(0.05)
    outbox.show(b"old frame")
    outbox.say(b"opened", anew=True)
    pipe.may.release(9)
    outbox.close()
    assert pipe.taken == [b"first", b"opened"]


def test_lines_are_taken_in_order_and_the_end_is_seen():
    inbox = Inbox(iter([b"one\n", b"\n", b"two\n"]))
    inbox.wait(5)
    time.sleep(0.05)
    assert [inbox.take() for _ in range(3)] == [b"one\n", b"two\n", END]
    assert not inbox


def test_a_pace_spends_its_share_of_the_time_and_no_more():
    pace = Pace(0.1, least=0.03, most=0.5)
    pace.took(10.0, 0.001)
    assert not pace.due(10.029)
    assert pace.due(10.031), "not more often than it may"
    for _ in range(30):
        pace.took(20.0, 0.02)
    assert pace.next == pytest.approx(20.2, abs=0.005), "a tenth of the time"
    for _ in range(30):
        pace.took(30.0, 1.0)
    assert pace.next == 30.5, "but that often it must"
