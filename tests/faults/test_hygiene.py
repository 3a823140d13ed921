"""A process that trains for long, or again and again, keeps its memory, its descriptors and its threads."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

import elegan
from elegan.run.directory import RunDirectory
from elegan.view import page
from tests.e2e.test_programs import program
from tests.faults.forked import forked

SETTINGS = dict(preset="tiny", batch=8, threads=1, precision="fp32")
soak = program("benchmarks/soak.py")

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")


def test_a_longer_training_keeps_no_object_of_a_step(tmp_path):
    """Counted by Python itself; what lies below it is for `benchmarks/soak.py`: under 1 MB in 10,000 steps."""

    def work() -> int:
        def count(event):
            if event.step in (500, 1_000):
                gc.collect()
                print(sys.getallocatedblocks(), soak.descriptors())

        elegan.train("gan", "ring", out=tmp_path / "run", steps=1_000, listeners=[count], **SETTINGS)
        return 0

    first, files, last, files_then = map(int, forked(work).out.split())
    assert last - first < 300, "blocks of memory in 500 steps, 50 of them logged and five probed: seen 102"
    assert files == files_then


THIRTY = """
import gc, os, signal, sys, threading
from pathlib import Path
import numpy as np
import elegan
from tests.faults.test_hygiene import SETTINGS, soak

small, folder = sys.argv[1:]
read = []
for k in range(30):
    out = Path(folder) / f"run-{k}"
    elegan.train("dcgan", small, out=out, steps=1, **SETTINGS)
    if k % 5 == 0:
        elegan.resume(out, steps=2).sample(2)
        gc.collect()
    read.append((soak.anonymous(), soak.descriptors(), threading.active_count(), len(os.listdir("/proc/self/task"))))
memory, *others = zip(*read, strict=True)
print(np.polyfit(range(10, 30), memory[10:], 1)[0], *(f"{max(one[10:]) - one[10]}" for one in others))
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


@pytest.mark.process
def test_thirty_trainings_in_one_process_leave_nothing_open(tmp_path, small):
    """In a process of its own: what other tests left behind has holes that its memory would be seen to fill."""
    command = [sys.executable, "-c", THIRTY, str(small), str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    megabytes, *grown, term, interrupt = done.stdout.split()
    assert float(megabytes) < 0.2, "for each training"
    assert list(map(int, grown)) == [0, 0, 0], "descriptors, threads of Python, threads of the system"
    assert (term, interrupt) == ("True", "True"), "handlers are put back"


def test_a_page_remembers_no_more_pictures_than_it_shows(tiny_run):
    known = {(Path(f"gone-{k}.png"), k): None for k in range(500)}
    page.write(RunDirectory(tiny_run), known)
    shown = [path for path, _ in known if path.parent == tiny_run / "samples"]
    assert len(shown) == len(list((tiny_run / "samples").iterdir())) > 2
    assert len(known) <= page.FRAMES + len(page.PICTURES)


def test_the_slope_is_that_of_the_later_steps():
    """Against a line that is known, with a start that is not to count."""
    read = [(step, 100 + 3 * step / 10_000 + (50 if step <= 2_000 else 0), 9) for step in range(100, 10_001, 100)]
    assert soak.slope(read) == pytest.approx(3)


LEAK = """
import os, sys
from pathlib import Path
import numpy as np
import elegan
from tests.faults.test_hygiene import soak

kept, honest = [], elegan.train

def leak(event):
    kept.append(np.ones(200_000, np.uint8))
    os.dup(0)

def leaking(*arguments, listeners, **options):
    return honest(*arguments, listeners=[leak, *listeners], **options)

elegan.train = leaking
read = soak.trained(Path(sys.argv[1]) / "run", 300, every=25)
print()
print(soak.slope(read), read[-1][2] - read[0][2])
"""


@pytest.mark.process
def test_what_a_leak_would_look_like(tmp_path):
    """The readings see what a training keeps: 0.2 MB a step are 2,000 MB in 10,000."""
    command = [sys.executable, "-c", LEAK, str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    slope, opened = map(float, done.stdout.split()[-2:])
    assert slope == pytest.approx(2_000, rel=0.2)
    assert opened == 275
