"""Killed at random instants, a run loses at most the steps since its last checkpoint. FAULTS 1."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.process
def test_a_run_killed_at_random_instants_ends_as_if_it_never_was():
    """Twelve kills, at other instants each time; the program's own assertions say what must hold at each."""
    seed = str(time.time_ns())
    command = [sys.executable, "benchmarks/kill.py", "--kills", "12", "--steps", "120", "--seed", seed]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"--seed {seed}: {done.stderr}"
    said = re.fullmatch(r"12 kills, .* runs bitwise equal: (\d+)/(\d+); \d+ s\n", done.stdout)
    assert said, done.stdout
    assert int(said[1]) == int(said[2]) > 0
