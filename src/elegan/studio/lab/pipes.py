"""The pipes of a lab's process: commands come in a line each, messages go out, and training waits for neither.

Standard output carries messages only. What a library prints goes to standard error.
"""

import os
import threading
from collections import deque
from typing import BinaryIO

from elegan.studio import wire

END = b""  # what is read once standard input is closed
MOMENT = 5.0  # seconds in which the last messages must be taken


def claimed_stdout() -> BinaryIO:
    """Standard output for messages alone: whatever else writes to it from now on reaches standard error."""
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return stream


def claimed_stdin() -> BinaryIO:
    """Standard input for commands alone; not the interpreter's own, which would wait for its reader at the end."""
    stream = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return stream


class Inbox:
    """Lines as they come, read by a thread of its own; after the last comes `END`."""

    def __init__(self, stream: BinaryIO):
        self._stream, self._lines = stream, deque[bytes]()
        self._came = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def take(self) -> bytes:
        """The oldest line."""
        return self._lines.popleft()

    def wait(self, seconds: float | None = None) -> None:
        """Until there is a line, or so many seconds have passed."""
        if not self._lines:
            self._came.wait(seconds)
        self._came.clear()

    def _read(self) -> None:
        for line in self._stream:
            if line.strip():
                self._put(line)
        self._put(END)

    def _put(self, line: bytes) -> None:
        self._lines.append(line)
        self._came.set()


class Outbox:
    """Messages on their way, written by a thread of its own: all of them but frames, of which the newest is enough."""

    def __init__(self, stream: BinaryIO):
        self._stream, self._messages, self._frame = stream, deque[bytes](), b""
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def say(self, message: bytes, *, anew: bool = False) -> None:
        """Send a message. anew: frames before it are of the past."""
        with self._changed:
            self._frame = b"" if anew else self._frame
            self._messages.append(message)
            self._changed.notify()

    def show(self, frame: bytes) -> None:
        """Send a frame, unless a newer one comes before the reader has time for it."""
        with self._changed:
            self._frame = frame
            self._changed.notify()

    def close(self) -> None:
        """Send what there is, if the reader takes it within a moment, and no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(MOMENT)

    def _write(self) -> None:
        while True:
            with self._changed:
                while not (self._messages or self._frame or self._closed):
                    self._changed.wait()
                if self._messages:
                    message = self._messages.popleft()
                elif self._frame:
                    message, self._frame = self._frame, b""
                else:
                    return
            try:
                wire.write(self._stream, message)
            except OSError:
                os._exit(0)  # nobody listens any more
