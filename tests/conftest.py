"""What all tests share: one thread, a probe that has been made already, seeds, small data, and a small finished run."""

import json
import os
import random
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from elegan.cli import main
from elegan.training import precision

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # for the processes that tests start
os.environ.pop("ELEGAN_DEBUG", None)
torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would ours

TINY = ("--preset", "tiny", "--batch", "8", "--threads", "1", "--precision", "fp32")
ELEGAN = (sys.executable, "-m", "elegan")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "process: starts real processes, a second or more each")


def write_probe(path: Path, seconds: Sequence[tuple[str, int, float]]) -> Path:
    """A probe's result, as `training/precision.py` keeps it, for this machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": precision.machine(), "seconds": seconds}))
    return path


@pytest.fixture(scope="session", autouse=True)
def probed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache in which the probe has found one thread in fp32 to be the best, so that nothing is ever measured."""
    cache = tmp_path_factory.mktemp("cache")
    times = [(kind, threads, 0.01) for kind in ("fp32", "bf16") for threads in sorted({1, precision.cores()})]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.setattr(precision, "LOAD", cache / "no-such-file")  # tests run beside each other: not busy, they say
        yield write_probe(precision.probe_file(), times)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 64 labelled images, 1×8×8, which opens in a millisecond."""
    rng = np.random.default_rng(0)
    label = np.arange(64) % 4
    real = rng.integers(0, 64, (64, 8, 8), dtype=np.uint8) + (label * 40).astype(np.uint8)[:, None, None]
    path = tmp_path_factory.mktemp("data") / "small.npz"
    np.savez(path, real=real, label=label)
    return path


@pytest.fixture(scope="session")
def _tiny_run(tmp_path_factory: pytest.TempPathFactory, small: Path) -> Path:
    import elegan
    from elegan.run import saving

    out = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "LEAST_SECONDS", 0.0)  # a checkpoint at every step; the newest two stay
        patch.setattr(saving, "SAVES_COST", 0)
        elegan.train("dcgan", small, out=out, preset="tiny", steps=4, batch=8, threads=1, precision="fp32")
    return out


@pytest.fixture
def tiny_run(_tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run of four steps with two checkpoints, 3 and 4."""
    return shutil.copytree(_tiny_run, tmp_path / "tiny")


@dataclass(frozen=True)
class Said:
    """What a command line answered."""

    code: int
    out: str
    err: str

    @property
    def warned(self) -> list[str]:
        """The warnings on stderr."""
        return [x.removeprefix("elegan: warning: ") for x in self.err.splitlines() if x.startswith("elegan: warning: ")]

    @property
    def line(self) -> str:
        """The one line on stderr: a failure says one, and it begins with the program's name."""
        assert self.err.startswith("elegan: "), self.err
        assert self.err.endswith("\n"), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("elegan: ").rstrip("\n")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Run a command line in this process, in an empty directory."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def run(*tokens: object) -> Said:
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)  # main prints them, as a user sees them
            try:
                code = main([str(token) for token in tokens])
            except SystemExit as stop:  # no command may end the process by itself
                pytest.fail(f"SystemExit({stop.code}) out of main")
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


def tensors(run: Path) -> dict[str, bytes]:
    """The bytes of every tensor file of a run's newest checkpoint."""
    newest = max((run / "checkpoints").glob("step-????????"))
    return {file.name: file.read_bytes() for file in sorted(newest.glob("*.safetensors"))}


def state(run: Path) -> dict:
    """What the newest checkpoint's manifest says of the place it stands at."""
    newest = max((run / "checkpoints").glob("step-????????"))
    manifest = json.loads((newest / "manifest.json").read_text())
    return {"step": manifest["step"], **manifest["facts"]["state"]}


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
