"""Two processes under a real torchrun against one: the same numbers to the bit, the same order, and a common end."""

import itertools
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from elegan.errors import OptionError
from elegan.run import events
from elegan.training.distributed import World, as_numbers, from_numbers, world
from tests.conftest import state, tensors

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
SHARDED = ("--shards", "2", "--batch", "16", "--precision", "fp32", "--threads", "1", "--preset", "tiny")
PATIENCE = 120  # seconds; what takes longer hangs


def two(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    tokens = [*TORCHRUN, *map(str, command)]
    with subprocess.Popen(tokens, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.terminate()  # the launcher ends its ranks
            raise
    return subprocess.CompletedProcess(tokens, process.returncode, out, err)


# ---- numbers that cross the wire


DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
)  # fmt: skip


@given(st.sampled_from(DTYPES), st.binary(max_size=64), st.integers(0, 2))
def test_buffers_survive_as_numbers_to_the_bit(dtype, content, dims):
    """Whatever the bytes: negative zeros, subnormals, NaNs with a payload, large ints."""
    if dtype == torch.bool:
        content = bytes(byte & 1 for byte in content)
    size = torch.empty((), dtype=dtype).element_size()
    content = content[: len(content) // size * size]
    value = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
    value = value[0] if dims == 0 and len(value) else value.view(1, -1, 1) if dims == 2 else value
    numbers = as_numbers(value)
    assert numbers.dtype == torch.float32
    assert numbers.ndim == 1
    back = from_numbers(numbers, value)
    assert back.dtype == value.dtype
    assert back.shape == value.shape
    assert back.reshape(-1).view(torch.uint8).equal(value.reshape(-1).view(torch.uint8))


@given(st.sampled_from(DTYPES[1:]), st.binary(min_size=8, max_size=64))
def test_numbers_survive_being_summed_with_zeros(dtype, content):
    """As an all-reduce sums them with what the other ranks put there."""
    if dtype == torch.bool:
        content = bytes(byte & 1 for byte in content)
    value = torch.frombuffer(bytearray(content[: len(content) // 8 * 8]), dtype=dtype)
    summed = as_numbers(value) + torch.zeros_like(as_numbers(value))
    assert from_numbers(summed, value).view(torch.uint8).equal(value.view(torch.uint8))


def test_a_strided_buffer_survives():
    value = torch.arange(24).view(2, 3, 4).permute(2, 0, 1)
    assert from_numbers(as_numbers(value), value).equal(value)


@given(st.integers(1, 64), st.integers(1, 16))
def test_shards_are_dealt_out_evenly_or_not_at_all(count, size):
    if count % size:
        with pytest.raises(OptionError, match=f"{count} shards cannot be dealt to {size}") as caught:
            World(0, size).shards(count)
        assert "\n" not in str(caught.value)
        return
    dealt = [list(World(rank, size).shards(count)) for rank in range(size)]
    assert sorted(itertools.chain(*dealt)) == list(range(count))
    assert {len(hand) for hand in dealt} == {count // size}
    assert dealt[0][0] == 0  # the first rank has shard 0, whose buffers are kept


def test_alone_nothing_is_summed():
    value = torch.ones(3)
    World().sum_([value])
    assert value.equal(torch.ones(3))
    assert World().gather("x") == ["x"]
    assert world() == World(0, 1)


# ---- the same run


@pytest.mark.process
def test_two_processes_end_where_one_ends_and_go_on_where_one_stopped(tmp_path, cli):
    command = ("train", "dcgan", "digits", *SHARDED, "--steps", "6", "--out")
    said = two("-m", "elegan", *command, tmp_path / "two", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("done after step 6") == 1, "one of the processes speaks for all"
    assert cli(*command, tmp_path / "one").code == 0
    assert tensors(tmp_path / "one") == tensors(tmp_path / "two")
    assert state(tmp_path / "one") == state(tmp_path / "two")

    def steps(run):
        return [(e["step"], e["terms"]) for e in events.read(run / "events.jsonl") if e["kind"] == "step"]

    assert steps(tmp_path / "one") == steps(tmp_path / "two"), "order and noise are the same at every step"
    assert len(steps(tmp_path / "one")) == 6

    # begun by two, resumed by one; begun by one, resumed by two; never stopped
    assert cli("resume", tmp_path / "two", "--steps", 8).code == 0
    said = two("-m", "elegan", "resume", tmp_path / "one", "--steps", 8, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert cli("train", "dcgan", "digits", *SHARDED, "--steps", 8, "--out", tmp_path / "straight").code == 0
    assert tensors(tmp_path / "two") == tensors(tmp_path / "straight")
    assert tensors(tmp_path / "one") == tensors(tmp_path / "straight")
    assert state(tmp_path / "one") == state(tmp_path / "straight") == state(tmp_path / "two")


DRIVER = '''
"""Trains several games for a few steps and writes a checksum of all their state and terms to a file."""
import contextlib, hashlib, io, json, os
import torch
from torch import nn
from elegan import zoo
from elegan.cli import main
from elegan.data.batches import Batches
from elegan.data.sources import open_data
from elegan.game import SGD, Adam, Game, RMSprop, Turn
from elegan.run.saving import arrays, named_state
from elegan.training.distributed import joined
from elegan.training.loop import State, train
from elegan.training.seeds import seed_at

class Coin(Game):
    """Half of the players' parts get no gradient, by a coin that falls anew for each shard."""

    def __init__(self, spec, *, z_dim: int = 3):
        super().__init__(spec)
        self.G = nn.ModuleList([nn.Linear(z_dim, 2), nn.Linear(z_dim, 2)])
        self.D = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)])
        self.register_buffer("heads", torch.zeros((), dtype=torch.long))

    def turns(self):
        adam = Adam(1e-2)
        return [
            Turn("D", self.d_loss, repeat=2, optim=RMSprop(1e-2)), Turn("G", self.g_loss, optim=adam),
            Turn("G", self.w_loss, optim=SGD(1e-2, momentum=0.5), every=2, clip=0.01),
        ]

    def d_loss(self, real):
        side = int(torch.randint(2, ()))
        self.heads.add_(side)
        return {"adv": (self.D[side](self.sample(self.rows)) - self.D[side](real)).mean(), "side": torch.tensor(side)}

    def g_loss(self):
        side = int(torch.randint(2, ()))
        return {"adv": self.D[side](self.G[side](self.noise(self.rows))).mean()}

    def w_loss(self):
        return {"size": self.sample(self.rows).square().mean()}

    def sample(self, n):
        return self.G[0](self.noise(n))

CASES = [
    ("coin", "ring", {}),
    ("dcgan", DATA, dict(zoo.describe("dcgan").presets["tiny"])),
    ("gan", "ring", dict(widths=(8,), judge_widths=(8,), norm=True, z_dim=4)),
    ("cgan", DATA, dict(zoo.describe("cgan").presets["tiny"])),
    ("wgan-gp", DATA, dict(z_dim=4, width=4, n_critic=2)),
    ("cyclegan", PAIR, dict(width=4, blocks=1, layers=1, pool=3)),
]

def digest():
    found = {}
    with joined():
        for name, data, options in CASES:
            source = open_data(data)
            seed_at(torch.device("cpu"), 0, "init")
            game = Coin(source.spec) if name == "coin" else zoo.build(name, source.spec, **options)
            game.to(memory_format=torch.channels_last)
            state = State.fresh(game)
            terms = [event.terms for event in train(game, Batches(source, rows=4, shards=2), 6, seed=5, state=state)]
            kept = [named_state(game), named_state(state.average.game), state.optim.tensors()]
            sums = [{n: hashlib.sha256(a.tobytes()).hexdigest() for n, a in arrays(part).items()} for part in kept]
            found[name] = {"state": sums, "terms": terms}
    return found

if __name__ == "__main__":
    torch.set_num_threads(1)
    said = io.StringIO()
    with joined(), contextlib.redirect_stderr(said):  # joined once: a second group would meet the first one's keys
        result = digest()
        code = main(["train", "gan", "ring", "--shards", "3", "--batch", "9", "--steps", "3", "--threads", "1",
                     "--precision", "fp32"])
    with open(OUT + "." + os.environ["RANK"], "w") as file:
        json.dump({"digest": result, "code": code, "said": said.getvalue()}, file)
'''


@pytest.mark.process
def test_every_kind_of_game_is_the_same_on_two_processes(tmp_path, small):
    """Missing gradients, BatchNorm, all optimisers, lazy and clipped turns, pools, labels; and 3 shards are refused."""
    rng = np.random.default_rng(0)
    pair = tmp_path / "pair.npz"
    np.savez(
        pair, a=rng.integers(0, 255, (24, 8, 8), dtype=np.uint8), b=rng.integers(0, 255, (20, 8, 8), dtype=np.uint8)
    )
    script = tmp_path / "driver.py"
    head = f"DATA, PAIR, OUT = {str(small)!r}, {str(pair)!r}, {str(tmp_path / 'out')!r}\n"
    script.write_text(head + DRIVER)
    said = two(script, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    ranks = [json.loads((tmp_path / f"out.{rank}").read_text()) for rank in (0, 1)]
    alone = json.loads(json.dumps(runpy.run_path(str(script), run_name="driver")["digest"]()))
    assert list(alone) == ["coin", "dcgan", "gan", "cgan", "wgan-gp", "cyclegan"]
    for name, expected in alone.items():
        for rank in ranks:
            for got, wanted in zip(rank["digest"][name]["state"], expected["state"], strict=True):
                assert got == wanted, name
            assert rank["digest"][name]["terms"] == expected["terms"], name
    # a world size that does not divide the shards
    assert [rank["code"] for rank in ranks] == [2, 2]
    line = "3 shards cannot be dealt to 2 processes; start 1 or 3 of them, or train a new run with --shards 2."
    assert [rank["said"] for rank in ranks] == [f"elegan: {line}\n", ""], "the first says it for all"
    assert not (tmp_path / "runs").exists()


# ---- the common end


def pids(parent: int) -> dict[int, int]:
    """The ranks started by a torchrun process, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(status[1]) == parent:
            rank = next((v for v in variables if v.startswith(b"RANK=")), None)
            if rank is not None:
                found[int(rank[5:])] = int(folder.name)
    return found


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to find the ranks")
@pytest.mark.parametrize("whom", ["launcher", "rank 1", "rank 1, to death"])
def test_a_signal_to_one_stops_all_together_saved(tmp_path, small, cli, whom):
    run = tmp_path / "run"
    command = (*TORCHRUN, "-m", "elegan", "train", "dcgan", small, *SHARDED, "--steps", "1000000", "--out", run)
    with open(tmp_path / "said", "w+") as said:
        process = subprocess.Popen([str(c) for c in command], cwd=tmp_path, stdout=said, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + PATIENCE
            while not (log := run / "events.jsonl").exists() or log.read_bytes().count(b'"kind": "step"') < 10:
                assert process.poll() is None, Path(said.name).read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            ranks = pids(process.pid)
            assert sorted(ranks) == [0, 1]
            how = signal.SIGKILL if "death" in whom else signal.SIGTERM
            os.kill(process.pid if whom == "launcher" else ranks[1], how)
            asked = time.monotonic()
            process.wait(timeout=PATIENCE)
            assert time.monotonic() - asked < 20, "no hang"
        finally:
            for pid in [*pids(process.pid).values(), process.pid]:
                if process.poll() is None or pid != process.pid:
                    os.kill(pid, signal.SIGKILL)
            process.wait()
        text = Path(said.name).read_text()
    stopped = re.search(r"stopped by SIGTERM after step ([\d,]+), saved", text)
    assert process.returncode != 0
    if "death" in whom:  # torchrun asks the others to stop; the one that is left says why it cannot go on
        assert text.count("\nelegan: ") == 1, text
        gone, stopped = "process 2 of 2 (rank 1) has gone; ", "stopped by SIGTERM, with nothing to save."
        assert f"elegan: {gone}" in text or f"elegan: {stopped}" in text, text  # its signal may come first
        assert not re.search(r'File "[^"]*/elegan/', text), "no traceback of ours"
        assert state(run)["step"] == 0
        return
    assert stopped, text
    step = state(run)["step"]
    assert 'Traceback (most recent call last):\n  File "' not in text or "torch/distributed" in text
    # what was saved is what one process has after so many steps
    out = tmp_path / "alone"
    assert cli("train", "dcgan", small, *SHARDED, "--steps", step, "--out", out).code == 0
    assert tensors(run) == tensors(out)
    assert state(run) == state(out)
