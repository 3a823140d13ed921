"""`elegan doctor`: what this machine is, and what elegan would use of it."""

import platform
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from elegan import __version__
from elegan.cli.parser import Verb

VERB = Verb("doctor", "Say what this machine is and what elegan would use of it.")


def main(tokens: Sequence[str]) -> int:
    if VERB.parse(tokens) is None:
        return 0
    import torch

    from elegan.training import precision

    rows = {
        "elegan": f"{__version__}, from {Path(__file__).parent.parent}",
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
    }
    rows |= {name: metadata.version(name) for name in ("torch", "numpy", "pillow", "safetensors")}
    count = torch.cuda.device_count()
    rows["cuda"] = ", ".join(torch.cuda.get_device_name(k) for k in range(count)) or "none"
    rows["machine"] = precision.machine()
    rows["disk"] = f"{shutil.disk_usage('.').free / 2**30:.0f} GiB free here"
    times = precision.probe()
    best = min(times.values())
    for name, value in rows.items():
        print(f"{name:12} {value}")
    print("\na small training step, by precision and threads:")
    for (kind, threads), seconds in sorted(times.items()):
        note = "  fastest" if seconds == best else ""
        print(f"  {kind}  {threads} thread{'s' * (threads > 1)}  {seconds * 1e3:6.2f} ms{note}")
    choice = precision.choose()
    print(f"\na run would use {choice.device}, {choice.precision}, {choice.threads} threads: {choice.why}")
    print(f"(remembered in {precision.probe_file()}; delete it to probe again)")
    return 0
