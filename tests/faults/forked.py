"""Work in a child forked from this process, warm as it is: to be killed, limited, or left without a stdout."""

import contextlib
import io
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from elegan.cli import main

TRACEBACK = 99  # the exit code after one
HUNG = 98  # the exit code of what was killed for lasting too long
SECONDS = 30  # in which a command says what is wrong, busy as the machine may be


@dataclass(frozen=True)
class Ended:
    """What became of a child. code: its exit status, negative for the signal that ended it."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        """What it said on stderr besides warnings."""
        return [line for line in self.err.splitlines() if not line.startswith("elegan: warning: ")]


def forked(
    work: Callable[[], Any],
    *,
    stdout: int | None = None,
    meanwhile: Callable[[int], object] = lambda pid: None,
    seconds: float = 60,
) -> Ended:
    """Do some work in a child; what it returns is its exit status. stdout: a descriptor instead of a file that is read.

    meanwhile: told the child's number once it is there, in this process.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            _be(work, out.fileno() if stdout is None else stdout, err.fileno())
        meanwhile(child)
        until = time.monotonic() + seconds
        status = None
        while status is None:
            found, ended = os.waitpid(child, os.WNOHANG)
            if found:
                status = os.waitstatus_to_exitcode(ended)
            elif time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                status = HUNG
            else:
                time.sleep(0.002)
        said = [os.pread(file.fileno(), 1 << 24, 0).decode("utf-8", "backslashreplace") for file in (out, err)]
    return Ended(status, *said)


def elegan(*tokens: object) -> Callable[[], int]:
    """A command line as work."""
    typed = [str(token) for token in tokens]

    def work() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            return main(typed)

    return work


def _be(work: Callable[[], Any], *streams: int) -> None:
    """Be the child, to its end: nothing of what pytest holds may come to an end in it as well."""
    code = TRACEBACK
    try:
        for name, number, stream in zip(("stdout", "stderr"), (1, 2), streams, strict=True):
            os.dup2(stream, number)
            setattr(sys, name, io.TextIOWrapper(os.fdopen(number, "wb", closefd=False), "utf-8", line_buffering=True))
        code = work() or 0
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with contextlib.suppress(OSError):
                stream.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
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


def one_line(said: Any, tokens: object) -> None:
    """One line that names the program, without a traceback; nothing printed before that would sound like success."""
    lines = [line for line in said.err.splitlines() if not line.startswith("elegan: warning: ")]
    assert len(lines) == 1, (tokens, said)
    assert lines[0].startswith("elegan: "), (tokens, said)
    assert lines[0].isprintable(), (tokens, said)
    assert "unforeseen" not in lines[0], (tokens, said)
    assert len(lines[0]) < 1_500, (tokens, said)
    assert said.out == "", (tokens, said)
