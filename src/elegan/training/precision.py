"""Precision, threads and device: chosen in one place, by a short probe of this machine, and said aloud.

Autocast wraps each player's call and hands back float32; losses, penalties and terms stay outside it, in float32.
"""

import json
import os
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elegan.disk import write_whole
from elegan.errors import OptionError, ResourceError
from elegan.game import Game
from elegan.training.memory import keep_freed_memory

Precision = Literal["fp32", "bf16"]
LOAD = Path("/proc/loadavg")
FASTER = 0.9  # a candidate must take at most this share of the time before it displaces a simpler one


@dataclass(frozen=True)
class Choice:
    """What a run computes with, and why. Recorded in its options and reused when it is resumed."""

    device: str
    precision: Precision
    threads: int
    why: str

    def apply(self) -> None:
        """Set the number of threads of this process, and let it keep the memory it frees."""
        torch.set_num_threads(self.threads)
        keep_freed_memory()


def place(game: Game, choice: Choice) -> None:
    """Put a game on the device of a choice, its convolutions channels-last, its players in the precision chosen."""
    for p in game.parameters():
        if p.ndim == 4:
            p.data = p.data.contiguous(memory_format=torch.channels_last)
    game.to(choice.device)
    install(game, choice.precision)


def install(game: Game, precision: Precision) -> None:
    """Make each player of `game` compute in `precision`; a no-op for fp32. Copies of the game carry it along."""
    if precision == "fp32":
        return
    for part in _callables(game.children()):
        part.register_forward_pre_hook(partial(_enter, next(part.parameters()).device.type))
        part.register_forward_hook(_leave, always_call=True)


def _callables(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """The players proper: what has parameters and is called, looking through lists of modules."""
    found = []
    for module in modules:
        if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
            found += _callables(module.children())
        elif next(module.parameters(), None) is not None:
            found.append(module)
    return found


_open: list[torch.autocast] = []


def _enter(device: str, module: nn.Module, args: Any) -> None:
    region = torch.autocast(device, dtype=torch.bfloat16)
    region.__enter__()
    _open.append(region)


def _leave(module: nn.Module, args: Any, output: Any) -> Any:
    _open.pop().__exit__(None, None, None)
    return _float(output)


def _float(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.float() if output.dtype == torch.bfloat16 else output
    if isinstance(output, dict):
        return type(output)((name, _float(part)) for name, part in output.items())
    if isinstance(output, tuple) and hasattr(output, "_fields"):  # a named tuple takes its parts one by one
        return type(output)(*map(_float, output))
    if isinstance(output, (list, tuple)):
        return type(output)(map(_float, output))
    return output


def choose(
    device: str = "auto", precision: str = "auto", threads: int | None = None, cache: Path | None = None
) -> Choice:
    """Choose what to compute with. Whatever is "auto" or None is probed once per machine and remembered in `cache`.

    Raises `OptionError` for a device that is no device, `ResourceError` for one that is not there.
    """
    name = _device(device)
    if precision not in ("auto", "fp32", "bf16"):
        raise OptionError(f"--precision {precision!r} is not one of auto, fp32, bf16.")
    if threads is not None and threads < 1:
        raise OptionError(f"--threads {threads} must be 1 or more.")
    if precision != "auto" and (threads or name != "cpu"):
        return Choice(name, "bf16" if precision == "bf16" else "fp32", threads or torch.get_num_threads(), "as asked")
    if name != "cpu":
        native = name.startswith("cuda") and torch.cuda.get_device_capability(name)[0] >= 8
        kind: Precision = "bf16" if native else "fp32"
        return Choice(name, kind, threads or torch.get_num_threads(), f"{kind} is what this device multiplies natively")
    times = _remembered(cache or probe_file())
    busy = 0 if threads else cores() - idle_cores()
    most = threads or (cores() - busy if busy else max(t for _, t in times))
    near = max(t for _, t in times if t <= most)  # one thread is always measured
    tried = range(near if threads else 1, near + 1)
    wanted: Times = {(p, t): s for (p, t), s in times.items() if precision in ("auto", p) and t in tried}
    (kind, count), seconds = _best(wanted)
    base = times["fp32", 1]
    why = f"a step of the probe took {seconds * 1e3:.1f} ms, against {base * 1e3:.1f} ms in fp32 on one thread"
    if busy:
        why += f"; {busy} of {cores()} cores are busy"
    return Choice(name, kind, threads or count, why)


def _device(device: str) -> str:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise OptionError(f"--device {device!r} is no device; use auto, cpu or cuda.") from None
    if kind.type not in ("cpu", "cuda"):
        raise OptionError(f"--device {device!r} is not supported; use auto, cpu or cuda.")
    if kind.type == "cuda" and not 0 <= (kind.index or 0) < torch.cuda.device_count():
        raise ResourceError(f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices; use cpu.")
    return device


Times = dict[tuple[Precision, int], float]


def _best(times: Times) -> tuple[tuple[Precision, int], float]:
    """The fastest candidate, simplest first: another must be clearly faster to be taken."""
    best, least = None, float("inf")
    for candidate in sorted(times, key=lambda c: (c[1], c[0] == "bf16")):
        if times[candidate] < least * FASTER:
            best, least = candidate, times[candidate]
    assert best is not None
    return best, least


def probe_file() -> Path:
    """Where the probe's result is kept: one small file in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "elegan" / "probe.json"


def machine() -> str:
    """What the probe's result depends on."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), model)
    return f"{model}, {cores()} cores, torch {torch.__version__}"


def cores() -> int:
    """Cores this process may count on: those it may run on, shared with its peers under `torchrun`."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, here // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def idle_cores(looks: int = 9, seconds: float = 0.02) -> int:
    """Cores that nothing else uses just now, at least one.

    Threads that wait for each other at every operation crawl when another process takes one's core away, so on a busy
    machine fewer are faster. Known on Linux only; elsewhere all cores count as idle.
    """
    if not LOAD.exists():
        return cores()
    others = []
    for _ in range(looks):
        others.append(int(LOAD.read_text().split()[3].partition("/")[0]) - 1)  # running now, without this process
        time.sleep(seconds)
    share = sorted(others)[looks // 2] / (os.cpu_count() or 1)
    return max(1, round(cores() * (1 - share)))


def _remembered(path: Path) -> Times:
    try:
        kept = json.loads(path.read_text())
        times = {(p, t): s for p, t, s in kept["seconds"]}
        if kept["machine"] == machine() and _sensible(times):
            return times
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no probe yet, or one that cannot be read: measure
    times = probe()
    if idle_cores() < cores():
        return times  # true now, and not worth remembering
    try:
        text = json.dumps({"machine": machine(), "seconds": [[p, t, s] for (p, t), s in times.items()]})
        write_whole(path, text.encode())
    except OSError:
        pass  # a cache that cannot be written costs a second at the next start, no more
    return times


def _sensible(times: Times) -> bool:
    """Whether a probe could have measured this."""
    sound = (p in ("fp32", "bf16") and type(t) is int and t > 0 and 0 < s < float("inf") for (p, t), s in times.items())
    return all(sound) and {("fp32", 1), ("bf16", 1)} <= times.keys()


def probe(repeats: int = 5) -> Times:
    """Seconds of a small training step (a convolution, a linear layer) by precision and threads; about a second."""
    before, state = torch.get_num_threads(), torch.get_rng_state()
    counts = sorted({1, max(1, cores() // 2), cores()})
    net = nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 64, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(64 * 49, 512), nn.LeakyReLU(0.2), nn.Linear(512, 256),
    )  # fmt: skip
    x = torch.randn(64, 1, 28, 28)
    times: Times = {}
    kinds: tuple[Precision, ...] = ("fp32", "bf16")
    try:
        for threads in counts:
            torch.set_num_threads(threads)
            for kind in kinds:
                seconds = []
                for _ in range(repeats + 2):
                    start = time.perf_counter()
                    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == "bf16"):
                        y = net(x)
                    F.softplus(y.float()).mean().backward()
                    seconds.append(time.perf_counter() - start)
                times[kind, threads] = sorted(seconds[2:])[repeats // 2]
    finally:
        torch.set_num_threads(before)
        torch.set_rng_state(state)
    return times


def describe(choice: Choice) -> dict[str, Any]:
    """The choice as JSON."""
    return asdict(choice)
