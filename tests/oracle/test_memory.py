"""Freed memory stays mapped: a training step takes the sizes it took before and faults no new pages."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import torch
from elegan import zoo
from elegan.data.batches import Batches
from elegan.data.sources import open_data
from elegan.training import precision
from elegan.training.loop import train
from elegan.training.memory import keep_freed_memory

torch.set_num_threads(1)
data = open_data("digits", split="test")
game = zoo.build("gan", data.spec)
precision.install(game, "bf16")
steps = train(game, Batches(data, rows=64), 10**6)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        next(steps)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before = faults()
assert keep_freed_memory()
faults()
print(before, faults())
"""


@pytest.mark.process
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc, which this system has not")
def test_freed_memory_is_kept():
    fixed = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}  # the defaults, held to
    command = [sys.executable, "-c", PROGRAM]
    said = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **fixed}).stdout
    before, after = map(int, said.split())
    assert after < before / 20  # the rest is the heap still finding its place: a few hundred of 100,000
