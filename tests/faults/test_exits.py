"""Every verb with every kind of wrong word, stream, terminal, locale and directory: one line, and a known exit code.

FAULTS 20, 21.
"""

import contextlib
import os
import pty
import pwd
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import elegan
from elegan.model import Model
from elegan.run import checkpoint, events, saving
from elegan.zoo.dcgan import DCGAN
from tests.conftest import ELEGAN, TINY, Said, everything, tensors
from tests.faults.forked import HUNG, TRACEBACK, Ended, forked
from tests.faults.forked import elegan as command

CODES = {2, 3, 4, 5, 6, 7}
SECONDS = 30  # in which the machine says what is wrong, busy as it may be


@pytest.fixture(scope="module")
def there(tmp_path_factory, small, _tiny_run) -> dict[str, Path]:
    """What words may name: runs of three kinds, and things that are none."""
    folder = tmp_path_factory.mktemp("there")
    settings = dict(preset="tiny", steps=1, batch=8, threads=1, precision="fp32")
    rng = np.random.default_rng(0)
    np.savez(folder / "pair.npz", **{side: rng.integers(0, 255, (16, 8, 8), dtype=np.uint8) for side in "ab"})
    elegan.train("gan", "ring", out=folder / "points", **settings)
    elegan.train("cyclegan", folder / "pair.npz", out=folder / "sides", **settings)
    shutil.copytree(_tiny_run, folder / "run")
    (folder / "photos").mkdir()
    for k in range(12):
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / "photos" / f"{k}.png")
    (folder / "empty").mkdir()
    (folder / "file").write_text("")
    (folder / "binary").write_bytes(bytes(range(256)))
    return {path.stem.upper(): path for path in folder.iterdir()} | {"SMALL": small}


WORDS = [
    "", "none-such", "FILE", "BINARY", "EMPTY", "PHOTOS", "/dev/zero", "-1", "nan", "9" * 400, "caf\udce9", "\x1b[2Ja\nb",
    "~nobody-at-all/x", "--",
]  # fmt: skip
COMMANDS = [
    "@",
    "train @", "train dcgan @ --preset tiny --batch 8 --steps 1 --threads 1 --precision fp32",
    "train cyclegan @ --preset tiny --batch 8 --steps 1 --threads 1 --precision fp32",
    "train dcgan SMALL --preset @ --batch 8 --steps 1",
    *(f"train dcgan SMALL --preset tiny --batch 8 --steps 1 --threads 1 --precision fp32 --{flag} @"
      for flag in ("out", "track", "size", "without", "holdout", "device", "loss", "images", "keep")),
    "resume @", "resume RUN --track @",
    "sample @", "sample RUN -n @", "sample RUN --checkpoint @", "sample RUN -n 1 --out @", "sample RUN --truncation @",
    "sample RUN -n 1 --label @",
    "evaluate @", "evaluate @ --against SMALL --metrics kid --embedder pixels", "evaluate RUN -n 8 --metrics kid --embedder pixels --against @",
    "evaluate RUN -n 8 --metrics @", "evaluate RUN -n 8 --metrics kid --embedder @",
    "evaluate RUN -n 8 --metrics kid --embedder pixels --out @", "evaluate RUN -n 8 --metrics kid --save @",
    "evaluate RUN -n 8 --metrics kid --embedder pixels --split @", "evaluate RUN -n 8 --metrics kid --checkpoint @",
    "evaluate RUN --people --style @", "evaluate RUN --people --questions @",
    "compare @", "compare RUN @", "compare RUN POINTS --out @",
    "apply @ PHOTOS", "apply SIDES @", "apply SIDES PHOTOS --direction @", "apply SIDES PHOTOS --out @",
    "edit @", "edit interpolate @", "edit interpolate RUN --rows @", "edit interpolate RUN --steps @",
    "edit interpolate RUN --label @", "edit interpolate RUN --rows 1 --steps 2 --out @", "edit interpolate SIDES --seed @",
    "data @", "data list @", "data fetch @", "data inspect @", "data inspect PHOTOS --out @", "data inspect PHOTOS --size @",
    "data clean @", "data clean PHOTOS --out @", "data clean PHOTOS --rules @", "data clean PHOTOS --restore @",
    "data clean PHOTOS --out @ --move moved", "data prepare @ store", "data prepare PHOTOS @",
    "data augment @", "data augment PHOTOS --augment @", "data augment PHOTOS --strength @", "data augment PHOTOS --out @",
    "zoo @", "zoo show @", "zoo list @", "doctor @",
]  # fmt: skip
LONG = {"doctor --", "train --"}  # what is right, and takes its time


@contextlib.contextmanager
def at_most(seconds: float):
    """Fail, and go on, where something would last for ever."""

    def late(*_):
        pytest.fail(f"not done in {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def one_line(said: Said | Ended, tokens: object) -> None:
    """One line that names the program, without a traceback; nothing printed before that would sound like success."""
    lines = [line for line in said.err.splitlines() if not line.startswith("elegan: warning: ")]
    assert len(lines) == 1, (tokens, said)
    assert lines[0].startswith("elegan: "), (tokens, said)
    assert lines[0].isprintable(), (tokens, said)
    assert "unforeseen" not in lines[0], (tokens, said)
    assert len(lines[0]) < 1_500, (tokens, said)
    assert said.out == "", (tokens, said)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_wrong_word_is_one_line_and_a_known_code(cli, there, line):
    failures = 0
    for word in WORDS:
        tokens = [word if token == "@" else str(there.get(token, token)) for token in line.split()]
        tokens = [str(there.get(token, token)) for token in tokens]
        if " ".join(tokens) in LONG:
            continue
        before = sorted(Path().rglob("*"))
        with at_most(SECONDS):
            said = cli(*tokens)
        if said.code == 0:
            assert "elegan: " not in said.err.replace("elegan: warning: ", ""), (tokens, said)
        elif tokens[:2] == ["data", "inspect"] and said.out:
            assert said.code in (1, 3), (tokens, said)  # how bad what it found is
        else:
            failures += 1
            assert said.code in CODES, (tokens, said)
            one_line(said, tokens)
            if said.code != 6:
                assert sorted(Path().rglob("*")) == before, (tokens, "nothing is left behind")
    assert failures, "none of these was wrong"


# ---- errors that nobody foresaw


@pytest.mark.parametrize(
    ("error", "words"),
    [(ValueError("mine\nand more"), "ValueError: mine"), (KeyError("x"), "KeyError: 'x'"), (AssertionError(), "AssertionError"),
     (RecursionError("too deep"), "RecursionError: too deep"), (ImportError("x" * 9_999), f"ImportError: {'x' * 500}")],
)  # fmt: skip
def test_an_unforeseen_error_is_one_line_too_and_loses_nothing(cli, small, monkeypatch, error, words):
    honest = DCGAN.g_loss

    def g_loss(self, real):
        if self.step == 3:
            raise error
        return honest(self, real)

    with monkeypatch.context() as patch:
        patch.setattr(DCGAN, "g_loss", g_loss)
        patch.setattr(saving, "LEAST_SECONDS", 0.0)
        patch.setattr(saving, "SAVES_COST", 0)
        said = cli("train", "dcgan", small, *TINY, "--steps", 6, "--out", "run")
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert said.err.startswith(f"elegan: {words} (unforeseen; ELEGAN_DEBUG=1 shows where).")
    assert list(events.read(Path("run/events.jsonl")))[-1]["by"] == type(error).__name__
    assert checkpoint.newest(Path("run/checkpoints")).step == 3
    assert cli("resume", "run").code == 0


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("yes", True), ("0", False), ("", False), (None, False)])
def test_tracebacks_are_for_those_who_ask(cli, monkeypatch, value, shown):
    monkeypatch.delenv("ELEGAN_DEBUG", raising=False)
    if value is not None:
        monkeypatch.setenv("ELEGAN_DEBUG", value)
    said = cli("sample", "none-such")
    assert said.code == 4
    assert said.err.startswith("Traceback (most recent call last):\n" if shown else "elegan: no run at none-such")
    assert said.err.endswith("elegan: no run at none-such: no such directory.\n")


def test_of_several_processes_the_one_that_has_it_speaks(cli, monkeypatch):
    from elegan.errors import CheckpointError

    error = CheckpointError("process 2 of 2 (rank 1): mine.")
    error.speaker = 1

    def load(*_, **__):
        raise error

    monkeypatch.setattr("elegan.api.load", load)
    for rank, err in ((None, ""), ("0", ""), ("1", "elegan: process 2 of 2 (rank 1): mine.\n")):
        if rank is not None:
            monkeypatch.setenv("RANK", rank)
        said = cli("sample", "run")
        assert (said.code, said.err) == (4, err)


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
        assert done.stderr in ("elegan: stdout: No space left on device.\n", "elegan: the system: No space left on device.\n")
    else:
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.process
@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full", "2>&1 >/dev/null | true", ">&- 2>&- <&-"])
def test_a_stderr_that_takes_nothing_changes_no_code(how):
    done = subprocess.run(["bash", "-c", f"{shlex.join(ELEGAN)} trian {how}; exit ${{PIPESTATUS[0]}}"], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


def test_a_file_never_gets_the_number_of_a_closed_stream(there):
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
    [{"COLUMNS": "1"}, {"COLUMNS": "0"}, {"LINES": "1", "COLUMNS": "3"}, {"TERM": "dumb"}, {"TERM": ""}, {"TERM": "\x1b[2J"}],
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


@pytest.mark.parametrize("out", ["/proc/none/such", "/dev/null/such", "FILE/such"])
@pytest.mark.parametrize(
    "line",
    ["sample RUN", "edit interpolate RUN", "apply SIDES PHOTOS", "evaluate RUN", "data inspect PHOTOS", "train dcgan SMALL",
     "data clean PHOTOS", "data augment PHOTOS"],
)  # fmt: skip
def test_an_out_that_cannot_be_written_is_found_before_the_work(cli, there, monkeypatch, out, line):
    def work(*_, **__):
        pytest.fail("the work was begun")

    for name in ("elegan.model.draw", "elegan.model.interpolation_of", "elegan.model.translate", "elegan.scoring.evaluate.resolve",
                 "elegan.data.curation.inspect.inspect", "elegan.data.curation.clean.clean", "elegan.data.sources.few",
                 "elegan.api.fit"):  # fmt: skip
        monkeypatch.setattr(name, work)
    tokens = [str(there.get(token, token)) for token in line.split()]
    where = out.replace("FILE", str(there["FILE"])) + {"clean": "/x.csv", "augment": "/x.png"}.get(tokens[1], "")
    said = cli(*tokens, *(TINY if tokens[0] == "train" else ()), "--out", where)
    assert said.code == 6
    assert "choose another --out" in said.line
    assert not list(Path().iterdir())


@pytest.mark.parametrize("verb", ["sample", "edit interpolate", "apply"])
def test_a_full_out_is_found_before_the_work(cli, there, verb, monkeypatch):
    monkeypatch.setattr(Model, "sample", None)
    monkeypatch.setattr(Model, "interpolate", None)
    monkeypatch.setattr(Model, "translate", None)
    inputs = [there["PHOTOS"]] if verb == "apply" else []
    said = cli(*verb.split(), there["SIDES" if verb == "apply" else "RUN"], *inputs, "--out", there["PHOTOS"])
    assert said.code == 7
    assert "photos is not empty; choose another --out" in said.line


def test_what_was_typed_beside_what_it_is_not_for_is_refused(cli, there):
    for tokens, words in [
        (["evaluate", there["SMALL"], "--against", there["SMALL"], "--checkpoint", "best"], ["--checkpoint best", "is none"]),
        (["zoo", "list", "dcgan"], ["zoo list takes no game", "zoo show dcgan"]),
        (["edit", "interpolate", there["SIDES"]], ["cyclegan draws no samples"]),
        (["edit", "interpolate", there["RUN"], "--label", "1"], ["--label 1", "knows no classes"]),
        (["sample", there["RUN"], "-n", "9" * 30], ["do not fit into memory"]),
        (["edit", "interpolate", there["RUN"], "--steps", "9" * 30], ["do not fit into memory"]),
    ]:
        said = cli(*tokens)
        assert said.code == (6 if "memory" in words[0] else 2)
        for word in words:
            assert word in said.line
    assert cli("evaluate", there["RUN"], "-n", 8, "--save", "s.safetensors", "--embedder", "pixels", "--metrics", "fd").code == 0
    said = cli("evaluate", "s.safetensors", "--against", "s.safetensors", "-n", 8)
    assert (said.code, "-n 8: statistics" in said.line) == (2, True)


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
    """The disk is full from step 3 on: nothing more is logged, drawn or shown; training goes on; the last save fails."""
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
    said = cli("compare", run, run.rename(tmp_path / "r\udce9n2"))
    assert said.code == 4
    assert cli("data", "inspect", data, "--out", tmp_path / "p\udce9ge").code in (0, 1)
    assert cli("data", "prepare", data, tmp_path / "st\udce9re").code == 0
    assert cli("train", "dcgan", tmp_path / "st\udce9re", *TINY, "--steps", 1, "--out", tmp_path / "x\udce9").code == 0
    said = cli("compare", tmp_path / "r\udce9n2", tmp_path / "x\udce9", "--out", tmp_path / "p\udce9.html")
    assert (said.code, said.err) == (0, "")


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
            os.kill(pid, number)

        ended = forked(work, meanwhile=meanwhile, seconds=40)
        assert ended.code in (130, 143), ended
        assert ended.code not in (TRACEBACK, HUNG)
        assert len(ended.said) <= 1, ended
        if (run / "checkpoints").exists() and checkpoint.steps(run / "checkpoints"):
            assert checkpoint.newest(run / "checkpoints").step >= 0
            assert everything(run)
