"""Child processes that train: started warm, spoken to by lines of JSON, heard by messages of `wire`.

A child imports torch, which the server never does, and may die of anything without taking the page with it. It has a
process group of its own, so that Ctrl-C reaches the server only, and ends when its stdin closes, so that it does not
outlive a server that was killed.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from elegan.errors import DataError, ResourceError, plain
from elegan.studio import wire

COMMAND = (sys.executable, "-m", "elegan.studio.lab")
FULLEST_PIPE = 8 << 20  # bytes of commands that a child has not read
LAST_WORDS = 50  # lines of stderr that are kept
LONGEST_LINE = 300  # letters of one
PATIENCE = 1.0  # seconds to end in peace
START = 60.0  # seconds to begin, on a machine that is busy


class Child:
    """One process. `read` gives its messages, `write` a command to it."""

    def __init__(self, process: asyncio.subprocess.Process):
        self.process = process
        self._said: deque[str] = deque(maxlen=LAST_WORDS)
        self._hearing = asyncio.create_task(self._hear_stderr())
        self._swept = False

    @classmethod
    async def start(cls, root: Path, command: Sequence[str] = COMMAND) -> "Child":
        """Start one that keeps its runs under `root`. Raises `ResourceError` if the system refuses."""
        pipe = asyncio.subprocess.PIPE
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        try:
            process = await asyncio.create_subprocess_exec(
                *command, str(root), stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True,
                env={**os.environ, **one_thread}, limit=1 << 20,
            )  # fmt: skip
        except OSError as error:
            raise ResourceError(f"no process for a lab could be started ({error.strerror or error}).") from error
        return cls(process)

    @property
    def alive(self) -> bool:
        return self.process.returncode is None and self.process.stdout is not None and not self.process.stdout.at_eof()

    def write(self, line: str) -> None:
        """Give it a command, JSON in one line. Raises `ResourceError` if it has too many unread, or has gone."""
        pipe = self.process.stdin
        assert pipe is not None
        if not self.alive or pipe.is_closing():
            raise ResourceError("the lab's process has gone; open it anew.")
        if pipe.transport.get_write_buffer_size() > FULLEST_PIPE:
            raise ResourceError("the lab is too busy to take more; wait a moment.")
        pipe.write(line.encode() + b"\n")

    async def read(self) -> bytes:
        """The next message. Raises `ResourceError` with what became of the process if there is none."""
        pipe = self.process.stdout
        assert pipe is not None
        try:
            length = int.from_bytes(await pipe.readexactly(4), "little")
            if length > wire.LARGEST:
                raise DataError(f"a message of {length:,} bytes")
            message = await pipe.readexactly(length)
            wire.header(message)
            return message
        except DataError as error:
            await self.end()
            raise ResourceError(f"the lab's process sent what is no message and was ended: {error}") from error
        except (asyncio.IncompleteReadError, OSError) as error:
            await self.end()
            raise ResourceError(self.ending()) from error

    def ending(self) -> str:
        """How it ended, in a sentence."""
        code = self.process.returncode
        if code is None:
            return "the lab's process does not answer."
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"the lab's process was killed by {signal.Signals(-code).name}."
        said = f": {self._said[-1]}" if self._said else ""
        return f"the lab's process ended with status {code}{said}."

    async def end(self) -> None:
        """End it and whatever it started: in peace if it can, else at once. May be called again."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):  # first see whether the end of its input is enough
            if self.process.returncode is None:
                self._signal(number)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(self.process.wait()), PATIENCE)
        if not self._swept:
            self._swept = True
            self._signal(signal.SIGKILL)  # its own children, if it had any; later that group may be somebody else's
        await asyncio.wait({self._hearing}, timeout=PATIENCE)
        self._hearing.cancel()

    def _signal(self, number: signal.Signals | None) -> None:
        if number is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    async def _hear_stderr(self) -> None:
        pipe = self.process.stderr
        assert pipe is not None
        rest = b""
        while block := await pipe.read(1 << 16):
            *lines, rest = (rest + block).split(b"\n")
            rest = rest[-LONGEST_LINE:]
            for line in lines:
                if text := plain(line.decode(errors="replace").strip())[:LONGEST_LINE]:
                    self._said.append(text)


class Warm:
    """Keeps one child ready, which has imported torch and told its catalogue."""

    def __init__(self, root: Path, command: Sequence[str] = COMMAND):
        self.root, self.command = root, command
        self._asked = asyncio.Lock()  # one at a time speaks to the spare
        self._spare: asyncio.Task[tuple[Child, bytes]] | None = None

    def prepare(self) -> None:
        """See to it that one is on its way."""
        gone = self._spare is None or (
            self._spare.done() and (self._spare.exception() is not None or not self._spare.result()[0].alive)
        )
        if gone:
            self._spare = asyncio.create_task(self._start())

    async def take(self) -> Child:
        """A child that is ready; the next one is started. Raises `ResourceError` if none starts."""
        async with self._asked:
            child, _ = await self._ready()
            self._spare = None
            self.prepare()
            return child

    async def catalogue(self) -> dict:
        """What a child says there is."""
        async with self._asked:
            return wire.header((await self._ready())[1])

    async def ask(self, line: str) -> bytes:
        """What the spare answers to a command that needs no lab."""
        async with self._asked:
            child, _ = await self._ready()
            try:
                child.write(line)
                async with asyncio.timeout(START):
                    return await child.read()
            except BaseException as error:  # also if whoever asked is gone: the answer must not reach the next
                await self._drop()
                if isinstance(error, TimeoutError):
                    raise ResourceError(f"no answer within {START:g} seconds; try something smaller.") from error
                raise

    async def end(self) -> None:
        if self._spare is not None:
            self._spare.cancel()
            with contextlib.suppress(asyncio.CancelledError, ResourceError):
                await (await self._spare)[0].end()
            self._spare = None

    async def _ready(self) -> tuple[Child, bytes]:
        self.prepare()
        assert self._spare is not None
        return await asyncio.shield(self._spare)

    async def _drop(self) -> None:
        await self.end()
        self.prepare()

    async def _start(self) -> tuple[Child, bytes]:
        child = await Child.start(self.root, self.command)
        try:
            async with asyncio.timeout(START):
                return child, await child.read()
        except BaseException as error:
            await child.end()
            if isinstance(error, TimeoutError):
                raise ResourceError(f"the lab's process was not ready within {START:g} seconds.") from error
            raise
