"""Odd surroundings: closed streams, odd terminals and locales, no home, no room, no right to write; interruptions.

FAULTS 20.
"""

import contextlib
import os
import pty
import pwd
import random
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import elegan
from elegan.run import checkpoint, events
from tests.conftest import ELEGAN, TINY, everything, tensors
from tests.faults.forked import SECONDS, Ended, at_most, forked, one_line
from tests.faults.forked import elegan as command


def test_memory_that_is_not_there_is_exit_6(small, tmp_path):
    """For real: what a child may take beside what is warm would hold the small game, not this one."""

    def limited():
        held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (held + (256 << 20),) * 2)
        return command("train", "gan", small, *TINY, "--widths", "8192,8192", "--out", tmp_path / "run")()

    ended = forked(limited)
    assert ended.code == 6
    one_line(ended, "train")
    assert "out of memory: try a smaller --batch" in ended.err


# ---- streams


BROKEN = {"closed": ">&-", "full": ">/dev/full", "gone": "| true"}


@pytest.mark.process
@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("how", BROKEN)
def test_a_stdout_that_takes_nothing(how, buffered):
    line = f"{shlex.join(ELEGAN)} zoo show r3gan {BROKEN[how]}; exit ${{PIPESTATUS[0]}}"
    env = {**os.environ, "PYTHONUNBUFFERED": buffered}
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=env)
    if how == "full":
        assert done.returncode == 6
        assert done.stderr in (
            "elegan: stdout: No space left on device.\n",
            "elegan: the system: No space left on device.\n",
        )
    else:
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.process
@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full", "2>&1 >/dev/null | true", ">&- 2>&- <&-"])
def test_a_stderr_that_takes_nothing_changes_no_code(how):
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join(ELEGAN)} trian {how}; exit ${{PIPESTATUS[0]}}"], capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


def test_a_file_never_gets_the_number_of_a_closed_stream():
    """Or what a library says on stderr would be written into the log of a run."""

    def closed():
        for number in (0, 1, 2):
            os.close(number)
        sys.stdout = sys.stderr = None
        code = command("zoo", "list")()
        with open(os.devnull) as other:
            return code or other.fileno() < 3

    assert forked(closed).code == 0


@pytest.mark.parametrize("how", ["full", "gone"])
def test_a_display_that_nobody_sees_costs_no_training(how, small, tmp_path, straight_six):
    reading, gone = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        work = command("train", "dcgan", small, *TINY, "--steps", 6, "--out", tmp_path / "run")
        ended = forked(work, stdout=gone if how == "gone" else full)
    finally:
        os.close(gone)
        os.close(full)
    assert ended.code == (0 if how == "gone" else 6)  # what could not be said at the very end is no success
    assert list(events.read(tmp_path / "run" / "events.jsonl"))[-1]["by"] == "end"
    assert tensors(tmp_path / "run") == straight_six


@pytest.fixture(scope="module")
def straight_six(tmp_path_factory, small) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("straight") / "run"
    elegan.train("dcgan", small, out=out, preset="tiny", steps=6, batch=8, threads=1, precision="fp32")
    return tensors(out)


# ---- terminals and locales


@pytest.mark.parametrize("columns", ["0", "1", "2", "abc", "100000"])
def test_help_comes_to_an_end_on_any_screen(cli, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    with at_most(SECONDS):
        said = cli("resume", "--help")
    assert said.code == 0
    assert "steps" in said.out


@pytest.mark.parametrize(
    "env",
    [
        {"COLUMNS": "1"},
        {"COLUMNS": "0"},
        {"LINES": "1", "COLUMNS": "3"},
        {"TERM": "dumb"},
        {"TERM": ""},
        {"TERM": "\x1b[2J"},
    ],
    ids=str,
)
def test_a_training_on_an_odd_terminal(small, tmp_path, env):
    far, near = pty.openpty()

    def work():
        os.environ.update(env)
        sys.stdin = sys.stderr = sys.stdout
        return command("train", "dcgan", small, *TINY, "--steps", 3, "--out", tmp_path / "run")()

    ended = forked(work, stdout=near)
    os.close(near)
    shown = b""
    with contextlib.suppress(OSError), open(far, "rb", buffering=0) as screen:
        while part := screen.read(1 << 16):
            shown += part
    assert ended.code == 0, shown
    assert b"Traceback" not in shown
    assert b"3" in shown


LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # nothing but ASCII


@pytest.mark.process
@pytest.mark.parametrize("tokens", ["--help", "zoo show r3gan", "sample --help", "trian"])
def test_a_terminal_of_ascii(tokens):
    done = subprocess.run([*ELEGAN, *tokens.split()], capture_output=True, env={**os.environ, **LOCALE})
    assert done.returncode == (2 if tokens == "trian" else 0), done.stderr
    assert (done.stdout + done.stderr).isascii()


def test_a_machine_without_a_home(cli, small, monkeypatch):
    """As in a container that runs under a number of its own."""

    def nobody(_):
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    said = cli("train", "dcgan", small, "--preset", "tiny", "--batch", 8, "--steps", 1, "--out", "run")
    assert said.code == 6
    assert said.line == "no home directory is known here: set HOME, and write paths without ~."
    assert cli("train", "dcgan", small, *TINY, "--steps", 1, "--out", "run").code == 0, "it is not always needed"


# ---- directories


def test_a_current_directory_that_is_gone(cli, small, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    said = cli("train", "dcgan", small, *TINY, "--steps", 1)
    assert said.code == 6
    assert said.line == "the current directory is gone: change to one that is there."


MOUNTED = f"""
mount -t tmpfs -o size=4m none "$1" || exit 90
{shlex.quote(sys.executable)} - "$1"/run "$2" <<'END'
import os, pathlib, sys
from elegan import api
def fill(event):
    if event.step == 3:
        with open(os.path.join(os.path.dirname(sys.argv[1]), "filler"), "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
from elegan.cli import main
honest = api.fit
api.fit = lambda *a: honest(*a[:5], [fill], *a[6:])
code = main(["train", "dcgan", sys.argv[2], *{TINY!r}, "--steps", "30", "--out", sys.argv[1]])
sys.exit(code)
END
code=$?
rm -f "$1"/filler
cp -r "$1"/run "$3"
exit $code
"""


@pytest.mark.process
def test_a_full_disk_stops_a_training_only_where_its_checkpoint_does_not_fit(small, tmp_path, cli):
    """The disk is full from step 3 on: nothing more is logged or drawn; training goes on; the last save fails."""
    (tmp_path / "disk").mkdir()
    run = tmp_path / "run"
    done = subprocess.run(
        ["unshare", "-Urm", "bash", "-c", MOUNTED, "-", tmp_path / "disk", small, run], capture_output=True, text=True
    )
    if done.returncode == 90 or "unshare" in done.stderr:
        pytest.skip(f"no mount in a namespace of one's own: {done.stderr}")
    said = Ended(done.returncode, done.stdout, done.stderr)
    assert done.returncode == 6, done.stderr
    assert len(said.said) == 1
    assert "step-00000030 cannot be written" in said.said[0]
    assert "older ones are intact" in said.said[0]
    assert len([line for line in said.err.splitlines() if "events.jsonl cannot be written" in line]) == 1
    assert "step 30/30" in said.out
    assert checkpoint.newest(run / "checkpoints").step == 0
    assert cli("resume", run).code == 0
    assert checkpoint.newest(run / "checkpoints").step == 30


READ_ONLY = f"""
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 90
cd "$1" && exec {shlex.join(ELEGAN)} train dcgan "$2" {shlex.join(TINY)} --steps 1
"""


@pytest.mark.process
def test_a_directory_that_may_only_be_read_is_exit_6_before_training(small, tmp_path):
    (tmp_path / "here").mkdir()
    done = subprocess.run(
        ["unshare", "-Urm", "bash", "-c", READ_ONLY, "-", tmp_path / "here", small], capture_output=True, text=True
    )
    if done.returncode == 90 or "unshare" in done.stderr:
        pytest.skip(f"no mount in a namespace of one's own: {done.stderr}")
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr == "elegan: runs cannot be written (Read-only file system): choose a place with --out.\n"


# ---- names that are no text, and interruptions


def test_names_that_are_no_text(cli, small, tmp_path):
    """As a disk from elsewhere has them: bytes that are no UTF-8."""
    data, run = tmp_path / "caf\udce9" / "s.npz", tmp_path / "r\udce9n"
    data.parent.mkdir()
    data.write_bytes(small.read_bytes())
    assert cli("train", "dcgan", data, *TINY, "--steps", 2, "--out", run).code == 0
    assert cli("resume", run, "--steps", 3).code == 0
    assert elegan.load(run).plan["data"]["path"] == str(data)
    assert cli("sample", run, "-n", 2, "--out", tmp_path / "dr\udce9wn").code == 0
    assert cli("evaluate", run, "-n", 8, "--metrics", "kid", "--embedder", "pixels").code == 0
    assert cli("data", "inspect", data, "--out", tmp_path / "p\udce9ge").code in (0, 1)
    assert cli("data", "prepare", data, tmp_path / "st\udce9re").code == 0
    assert cli("train", "dcgan", tmp_path / "st\udce9re", *TINY, "--steps", 1, "--out", tmp_path / "x\udce9").code == 0
    said = cli("compare", run, tmp_path / "x\udce9", "--out", tmp_path / "p\udce9.html")
    assert (said.code, said.err) == (0, "")
    events.EventLog(run / "log").write("alarm", why=str(data))
    assert [line["why"] for line in events.read(run / "log")] == [str(data)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_at_any_moment_is_one_line_at_most(small, tmp_path, number):
    draw = random.Random(number)
    for k in range(5):
        run = tmp_path / f"run-{k}"
        ready = tmp_path / f"ready-{k}"

        def work(run=run, ready=ready):
            ready.touch()
            return command("train", "dcgan", small, *TINY, "--steps", 1_000_000, "--out", run)()

        def meanwhile(pid, ready=ready, wait=draw.uniform(0.005, 0.3)):
            while not ready.exists():
                time.sleep(0.001)
            time.sleep(wait)
            for _ in range(3):  # Python loses an interruption that falls into a destructor; people ask again
                os.kill(pid, number)
                until = time.monotonic() + 10
                while time.monotonic() < until:
                    if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                        return
                    time.sleep(0.05)

        ended = forked(work, meanwhile=meanwhile, seconds=40)
        assert ended.code in ({143} if number == signal.SIGTERM else {130, 143}), ended
        assert len(ended.said) <= 1, ended
        if (run / "checkpoints").exists() and checkpoint.steps(run / "checkpoints"):
            assert checkpoint.newest(run / "checkpoints").step >= 0
            assert everything(run)
