"""The labs that are open: each a child that trains, a recording of what it sent, and the clients that look on."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from elegan.errors import DataError, OptionError, ResourceError
from elegan.studio import setup, wire
from elegan.studio.server.jobs import COMMAND, Child, Warm
from elegan.studio.server.recording import Recording
from elegan.studio.server.stream import Stream

MOST_LABS = 4
MOST_STREAMS = 8  # of one lab
OPENING = 120.0  # seconds until a setup is built, or refused
RATE, BURST = 200.0, 400.0  # commands a second, and so many at once
MOST_CHANGES = 100  # that are remembered


class Lab:
    """One lab. `opened` is the child's newest message of that kind, `changed` those since, `step` how far it is."""

    def __init__(self, child: Child):
        self.id = secrets.token_urlsafe(9)
        self.child = child
        self.recording = Recording()
        self.streams: set[Stream] = set()
        self.opened = b""
        self.newest = b""
        self.head: dict[str, Any] = {}  # of `opened`
        self.step = 0
        self.changed: list[bytes] = []
        self.by_hand = False  # whether single players were moved
        self.failed = b""  # what is said of a child that has gone
        self.closed = False
        self._renewing = asyncio.Lock()
        self.tokens = Tokens()
        self._answer: asyncio.Future[None] | None = None
        self._listening = asyncio.create_task(self._listen())

    @property
    def alive(self) -> bool:
        return self.child.alive

    def info(self) -> dict[str, Any]:
        return {"id": self.id, "setup": self.head["setup"], "alive": self.alive, "step": self.step}

    @property
    def changes(self) -> list[tuple[int, dict[str, Any]]]:
        """What was changed on the way: the step it happened at, bench and change."""
        return [(head["step"], head) for head in map(wire.header, self.changed)]

    async def ask(self, line: str) -> None:
        """Give a command that opens, and wait until it has. Raises what the child says against it."""
        self._answer = asyncio.get_running_loop().create_future()
        self.child.write(line)
        try:
            async with asyncio.timeout(OPENING):
                await self._answer
        except TimeoutError:
            raise ResourceError(f"the lab was not ready within {OPENING:g} seconds; try something smaller.") from None

    async def do(self, command: setup.Command, warm: Warm) -> None:
        """Give the child a command of the page; `open` gives a lab whose child has gone another one.

        Raises `ResourceError` if it cannot take it.
        """
        async with self._renewing:
            if not self.alive and isinstance(command, setup.Open):
                return await self._renew(await warm.take(), command)
        self.child.write(command.model_dump_json())
        if isinstance(command, setup.Step):
            self.by_hand = self.by_hand or command.who != "both"
        return None

    async def _renew(self, child: Child, command: setup.Open) -> None:
        self._listening.cancel()
        await self.child.end()
        self.child, self.failed = child, b""
        if self.closed:
            return await child.end()
        self._listening = asyncio.create_task(self._listen())
        line = command.model_dump_json()
        return child.write(line if command.setup else json.dumps({"do": "open", "setup": self.head["setup"]}))

    def look(self) -> Stream:
        """A stream of all that comes, and first of what there is. Raises `HTTPException` 429 if there are too many."""
        if len(self.streams) >= MOST_STREAMS:
            raise HTTPException(429, f"{MOST_STREAMS} pages look at this lab already; close one.")
        stream = Stream()
        self.streams.add(stream)
        for message in (self.opened, *self.changed):
            if message:
                stream.tell(message)
        if self.newest:
            stream.show(wire.header(self.newest)["seq"], self.newest)
        if self.failed:
            stream.tell(self.failed)
        return stream

    async def close(self) -> None:
        self.closed = True
        self._listening.cancel()
        for stream in self.streams:
            stream.drop()
        await self.child.end()
        self.recording.close()

    async def _listen(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                try:
                    self._hear(await self.child.read())
                except ResourceError as error:
                    if not self.failed:  # which the child may have said itself
                        self._hear(wire.pack({"kind": "failed", "error": str(error)}))
                    return

    def _hear(self, message: bytes) -> None:
        head = wire.header(message)
        kind = head.get("kind")
        if kind == "frame":
            return self._show(head, message)
        if kind == "opened":
            self.opened, self.newest, self.head, self.step = message, b"", head, 0
            self.changed, self.by_hand = [], False
            self.recording.clear()
        elif kind == "changed":
            self.changed = [*self.changed, message][-MOST_CHANGES:]
        elif kind == "failed":
            self.failed = message
        for stream in self.streams:
            stream.tell(message, anew=kind == "opened")
        if self._answer is not None and not self._answer.done():
            if kind == "opened":
                self._answer.set_result(None)
            elif kind in ("refused", "failed"):
                wrong = OptionError if kind == "refused" else ResourceError
                self._answer.set_exception(wrong(head.get("error", "")))
        return None

    def _show(self, head: dict[str, Any], frame: bytes) -> None:
        self.newest, self.step = frame, head["step"]
        try:
            self.recording.add(head, frame)
        except OSError as error:
            said = f"the timeline cannot be recorded ({error.strerror}); make room in the folder for temporary files."
            for stream in self.streams:
                stream.tell(wire.pack({"kind": "refused", "error": said}))
        for stream in self.streams:
            stream.show(head["seq"], frame)


class Tokens:
    """So many commands at once, and so many a second."""

    def __init__(self) -> None:
        self.left, self.at = BURST, 0.0

    def take(self, now: float) -> bool:
        """Whether one more is in order at this time, in seconds."""
        self.left = min(BURST, self.left + (now - self.at) * RATE)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Labs:
    """All of them, and the warm child that the next one takes."""

    def __init__(self, root: Path, command: Sequence[str] = COMMAND):
        self.warm = Warm(root, command)
        self._open: dict[str, Lab] = {}
        self._coming = 0

    def __iter__(self):
        return iter(self._open.values())

    def __getitem__(self, name: str) -> Lab:
        """A lab by its id. Raises `HTTPException` 404."""
        try:
            return self._open[name]
        except KeyError:
            raise HTTPException(404, "there is no such lab (any more).") from None

    async def open(self, line: str) -> Lab:
        """A new lab from a command, `open` or `load`; if there are too many, in place of the oldest nobody looks at.

        Raises `HTTPException` 429, or what the child says against it.
        """
        idle = next((lab for lab in self if not lab.streams), None)
        if len(self._open) + self._coming >= MOST_LABS and idle is not None:
            await self.close(idle.id)
        if len(self._open) + self._coming >= MOST_LABS:
            raise HTTPException(429, f"{MOST_LABS} labs are open already; close one first.")
        self._coming += 1
        try:
            lab = Lab(await self.warm.take())
            try:
                await lab.ask(line)
            except BaseException:
                await lab.close()
                raise
            self._open[lab.id] = lab
            return lab
        finally:
            self._coming -= 1

    async def close(self, name: str) -> None:
        """End a lab. Raises `HTTPException` 404."""
        lab = self[name]
        del self._open[name]
        await lab.close()

    async def end(self) -> None:
        await asyncio.gather(self.warm.end(), *(lab.close() for lab in self._open.values()))
        self._open.clear()

    async def preview(self, data: dict[str, Any]) -> dict[str, Any]:
        """What data would look like. Raises `DataError` with what is wrong with it."""
        head, arrays = wire.unpack(await self.warm.ask(json.dumps({"do": "preview", "data": data})))
        if head.get("kind") != "preview":
            raise DataError(head.get("error", "the data cannot be shown."))
        return {"points": arrays["points"].tolist(), "samples": head["samples"], "about": head["about"]}
