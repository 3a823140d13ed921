"""How the processes of one training find each other, and how they end as one.

What a rank ends by it leaves in the store through which they met. Whoever loses it reads there why, ends with the same
exit code, and one of them says the line. A rank that leaves no word has gone: its line, a connection over which nothing
is ever sent, is cut by the system when its process ends, however it ends.
"""

import functools
import itertools
import json
import os
import socket
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import torch.distributed as dist

from elegan.errors import ElegantError, OptionError, ResourceError

TIMEOUT = 1800.0  # seconds a rank waits for another; the first may score and draw for long while they wait
SOON = 120.0  # seconds for ranks that are all here to connect; one that dies meanwhile is not noticed before
GRACE = 10.0  # seconds that ranks give each other to say what they ended by
POLL = 0.02
INTERRUPTED = 143
CODES = {kind.code: kind for kind in ElegantError.__subclasses__()}

Word = tuple[int, str]  # what a rank ended by: exit code and line; no line if it was interrupted or has lost another


class Gone(ResourceError):
    """Another rank has ended, or does not answer: it has … how. remedy: what to do, once that is known."""

    def __init__(self, how: str = "gone", remedy: str = "start again"):
        super().__init__(f"another process of this training has {how}; {remedy}.")
        self.how, self.remedy = how, remedy


def launched() -> tuple[int, int]:
    """Rank and number of ranks, as whoever launched them says. Raises `OptionError` if that makes no sense."""
    said = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
    if said["WORLD_SIZE"] in ("", "1"):
        return 0, 1
    rank, size, port = (said[name] for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    if not all(said.values()) or not (rank + size + port).isdecimal() or int(rank) >= int(size):
        given = ", ".join(f"{name}={value!r}" for name, value in said.items())
        raise OptionError(f"the environment describes no group of processes ({given}): start them with torchrun.")
    return int(rank), int(size)


@contextmanager
def reaching() -> Iterator[None]:
    """Turns what a backend or the store raises, where another process is needed, into `Gone`."""
    start = time.monotonic()
    try:
        yield
    except RuntimeError as error:
        traceback.clear_frames(error.__traceback__)  # they hold the group, and the others wait for its end
        raise Gone("gone" if time.monotonic() - start < TIMEOUT else silent()) from error


def silent() -> str:
    return f"not answered for {TIMEOUT / 60:.2g} minutes"


@contextmanager
def resumable(command: str) -> Iterator[None]:
    """Inside, a rank that loses another knows the command line to go on with."""
    try:
        yield
    except Gone as error:
        error.remedy = f"at most the steps since the last checkpoint are lost; go on with: {command}"
        raise


@dataclass
class Meeting:
    """The ranks of one training, seen from one of them. store: where words are left, of this training alone."""

    rank: int
    size: int
    store: dist.Store
    lines: dict[int, socket.socket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with _reach_store() as way:
            host = way.getsockname()[0]  # the address of this machine by which the others reach it
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.lines[self.rank] = socket.create_server((host, 0), family=family, backlog=self.size)
        self.store.set(f"line {self.rank}", json.dumps((host, self.lines[self.rank].getsockname()[1])))

    def group_store(self) -> dist.Store:
        """A store for a process group, which leaves keys behind: another at each call."""
        return dist.PrefixStore(f"group {next(_numbers)}", self.store)

    def close(self) -> None:
        for line in self.lines.values():
            line.close()

    def call_the_roll(self) -> None:
        """Wait until all ranks are here. Raises `Gone` if one has ended before, or does not come."""
        self.store.set(f"here {self.rank}", "")
        until = time.monotonic() + TIMEOUT
        for rank in range(self.size):
            while not (self.is_there(rank) and self.store.check([f"here {rank}"])):
                if self.word(rank) or not self.is_there(rank):
                    raise Gone
                if time.monotonic() > until:
                    raise Gone(silent())
                time.sleep(POLL)

    def is_there(self, rank: int) -> bool:
        """Whether the process of another rank has not ended; one that has not come yet may still come."""
        if rank not in self.lines and self.store.check([f"line {rank}"]):
            host, port = json.loads(self.store.get(f"line {rank}"))
            try:
                self.lines[rank] = socket.create_connection((host, port), timeout=1.0)
                self.lines[rank].setblocking(False)
            except TimeoutError:
                return True
            except OSError:
                return False
        return not self.is_cut(rank)

    def is_cut(self, rank: int) -> bool:
        """Whether there was a line to another rank, and is no more."""
        try:
            return rank != self.rank and rank in self.lines and not self.lines[rank].recv(1)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def leave_word(self, code: int, line: str) -> None:
        self.store.set(f"ended {self.rank}", json.dumps((code, line)))

    def word(self, rank: int) -> Word | None:
        """What a rank has ended by, if it says so."""
        if not self.store.check([f"ended {rank}"]):
            return None
        code, line = json.loads(self.store.get(f"ended {rank}"))
        return code, line

    def words(self) -> dict[int, Word]:
        """What the ranks ended by, of all that say so within `GRACE`. The first stays until the others have read it."""
        words: dict[int, Word] = {}
        awaited, until = {*range(self.size)}, time.monotonic() + GRACE
        while awaited and time.monotonic() < until:
            _reach_store().close()
            for rank in sorted(awaited):
                there = self.is_there(rank)
                if word := self.word(rank):
                    words[rank] = word
                if word or not there:
                    awaited.remove(rank)
            time.sleep(POLL)
        self.store.set(f"read {self.rank}", "")
        readers = [f"read {rank}" for rank, (code, _) in words.items() if code != INTERRUPTED]
        while self.rank == 0 and time.monotonic() < until and not self.store.check(readers):
            time.sleep(POLL)  # it may be the one that serves the store
        return words

    def agree(self, error: Exception) -> Exception:
        """The error that this rank is to end by, once all that are left have said what they end by."""
        known = error if isinstance(error, Gone) else Gone()
        line = "" if known is error else str(error) or type(error).__name__
        word: Word = (getattr(error, "code", 1), line)
        try:
            _reach_store().close()  # before the library tries, which would say at length that it cannot
            self.leave_word(*word)
            (code, line), speaker = verdict(self.words(), self.size, known.how, known.remedy)
        except (OSError, RuntimeError):  # nobody serves the store any more: the first has gone
            words = {**dict.fromkeys(range(1, self.size), (ResourceError.code, "")), self.rank: word}
            (code, line), speaker = verdict(words, self.size, known.how, known.remedy)
            if not word[1]:
                speaker = min(rank for rank in range(1, self.size) if not self.is_cut(rank))
        if not isinstance(error, ElegantError):
            return error  # nothing that a user can mend: with its traceback
        agreed = error if word == (code, line) else CODES.get(code, ElegantError)(line)
        vars(agreed).update(speaker=speaker)
        return agreed


def verdict(words: Mapping[int, Word], size: int, how: str, remedy: str) -> tuple[Word, int]:
    """The word that all ranks are to end by, and which of them says it, from the words of those that left one.

    how, remedy: what is said of those that did not.
    """
    name = "process {} of {} (rank {})".format
    for rank, (code, line) in sorted(words.items()):
        if line:
            alike = len(words) == size and set(words.values()) == {(code, line)}
            return (code, line if alike or not rank else f"{name(rank + 1, size, rank)}: {line}"), rank
    left = [rank for rank, (code, _) in words.items() if code != INTERRUPTED]
    gone = [name(rank + 1, size, rank) for rank in range(size) if rank not in left] or ["the connection"]
    line = f"{' and '.join(gone)} {'has' if len(gone) == 1 else 'have'} {how}; {remedy}."
    return (ResourceError.code, line), min(left)


_open: list[Meeting] = []  # the one this process takes part in
_numbers = itertools.count()


def current() -> Meeting:
    """The meeting that `together` has opened."""
    return _open[0]


def tell_signal(name: str) -> None:
    """Tell the others by which signal this rank was asked to stop all of them."""
    if _open:
        _open[0].store.set("signal", name)


def told_signal() -> str:
    """The signal by which another rank says it was asked to stop; empty if none was."""
    with suppress(RuntimeError):
        if _open and _open[0].store.check(["signal"]):
            return _open[0].store.get("signal").decode()
    return ""


@contextmanager
def together() -> Iterator[None]:
    """Inside, or around a function that it decorates, an error of one rank ends all by an error of the same code.

    Its attribute `speaker` is the rank that is to say it: of what one rank has, that one, with its number; of what all
    have alike, the first; of a rank that has gone, the first that is left.
    """
    rank, size = launched()
    if size == 1 or _open or dist.is_initialized():
        yield
        return
    here = Meeting(rank, size, dist.PrefixStore(str(next(_numbers)), _store(rank)))  # apart from an earlier training's
    _open.append(here)
    try:
        yield
    except KeyboardInterrupt:
        with suppress(RuntimeError):
            here.leave_word(INTERRUPTED, "")
        raise
    except Exception as error:
        agreed = here.agree(error)
        if agreed is error:
            raise
        raise agreed from error
    finally:
        _open.clear()
        here.close()


@functools.cache
def _store(rank: int) -> dist.Store:
    """The store that the launcher's agent serves, else the first rank: one for the life of a process."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    serves = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    until = time.monotonic() + TIMEOUT
    while not serves:  # here and not in the library, whose waiting no signal ends
        try:
            _reach_store().close()
            break
        except OSError as error:
            if time.monotonic() > until:
                remedy = "start all processes together"
                raise ResourceError(
                    f"nobody answers at {host}:{port} ({error.strerror or error}); {remedy}."
                ) from error
            time.sleep(POLL)
    try:
        store = dist.TCPStore(host, port, None, serves, timedelta(seconds=60), wait_for_workers=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ResourceError(f"{host}:{port} cannot be used ({reason}); choose another MASTER_PORT.") from error
    return dist.PrefixStore(f"elegan {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _reach_store() -> socket.socket:
    """A connection to whoever serves the store. Raises `OSError` if nobody does."""
    return socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), timeout=1.0)
