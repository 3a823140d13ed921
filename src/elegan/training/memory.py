"""Keeping freed memory in the process, so that the next step finds it mapped.

A training step frees and takes the same sizes again and again. The C library's defaults give blocks above 128 kB back
to the system each time, and every page of the next one faults anew: on the tutorials' MLP that is a third of the time.
"""

import ctypes

MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2  # glibc's numbers for mallopt
BLOCK = 64 << 20  # larger blocks are still given back
KEPT = 1 << 30


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed, up to 1 GiB. False where it has no such setting (macOS, musl)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(
        mallopt(name, size) for name, size in ((MMAP_THRESHOLD, BLOCK), (TRIM_THRESHOLD, KEPT), (TOP_PAD, BLOCK))
    )
