"""What one client is sent: the newest frame only, and everything else in order."""

import asyncio
from collections import deque

UNSEEN = 2  # frames on their way that the page has not drawn
MOST_WAITING = 256  # messages that are no frames; a client that lets more lie is dropped


class Stream:
    """Between a lab, which never waits, and a client, which may be slow."""

    def __init__(self) -> None:
        self.dropped = False
        self._told: deque[bytes] = deque()
        self._frame: tuple[int, bytes] | None = None
        self._unseen: list[int] = []
        self._news = asyncio.Event()

    def show(self, seq: int, frame: bytes) -> None:
        """Offer a frame, instead of one that has not been sent yet."""
        self._frame = (seq, frame)
        self._news.set()

    def tell(self, message: bytes, *, anew: bool = False) -> None:
        """Add a message that is not to be lost. anew: what follows has nothing to do with the frames before."""
        if anew:
            self._frame = None
            self._unseen.clear()
        if len(self._told) >= MOST_WAITING:
            self.drop()
        else:
            self._told.append(message)
        self._news.set()

    def seen(self, seq: int) -> None:
        """The page has drawn this frame, and so all before it."""
        self._unseen = [number for number in self._unseen if number > seq]
        self._news.set()

    def drop(self) -> None:
        """End it: `next` gives nothing more."""
        self.dropped = True
        self._told.clear()
        self._frame = None
        self._news.set()

    async def next(self) -> bytes | None:
        """The next message to send, when there is one; None once the stream has been dropped."""
        while not self.dropped:
            if self._told:
                return self._told.popleft()
            if self._frame is not None and len(self._unseen) < UNSEEN:
                (seq, frame), self._frame = self._frame, None
                self._unseen.append(seq)
                return frame
            self._news.clear()
            await self._news.wait()
        return None
