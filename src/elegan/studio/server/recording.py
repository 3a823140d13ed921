"""All frames of a lab, for its timeline: in a file without a name, which goes with the process; thinned as it grows."""

import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_FRAMES = 600
MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Entry:
    """Where a frame lies, and what the timeline says of it without opening it."""

    at: int
    size: int
    facts: dict[str, Any]  # seq, step, at, and of each bench terms and measures

    @property
    def seq(self) -> int:
        return self.facts["seq"]


def spread(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`, evenly spread, the last always."""
    return np.unique(np.linspace(count - 1, 0, min(count, most)).round().astype(int)).tolist()


class Recording:
    """Keeps every `stride`-th frame and the newest. At more than so many frames or bytes the stride doubles, and the
    timeline stays whole."""

    def __init__(self, frames: int = MOST_FRAMES, size: int = MOST_BYTES):
        self.most_frames, self.most_bytes = frames, size
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives until `close`)
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self._entries: list[Entry] = []  # the last one is the newest frame, be its turn or not
        self._added = 0
        self.stride = 1

    def add(self, header: dict[str, Any], frame: bytes) -> None:
        """Keep a frame. header: its own. Raises `OSError` if the disk refuses."""
        if (self._added - 1) % self.stride and self._entries:
            self._entries.pop()  # it was the newest, and not its turn
        benches = [{name: bench.get(name) for name in ("terms", "measures")} for bench in header["benches"]]
        facts = {**{name: header[name] for name in ("seq", "step", "at")}, "benches": benches}
        self._file.seek(self.size)
        self._file.write(frame)
        self._entries.append(Entry(self.size, len(frame), facts))
        self._added += 1
        while len(self._entries) > 2 and (len(self._entries) > self.most_frames or self.size > self.most_bytes):
            self._thin()

    @property
    def size(self) -> int:
        """Bytes of the frames that are kept."""
        return self._entries[-1].at + self._entries[-1].size if self._entries else 0

    def facts(self) -> list[dict[str, Any]]:
        """What is there, in order."""
        return [entry.facts for entry in self._entries]

    def frame(self, seq: int) -> bytes | None:
        """A frame, byte by byte as it came; None if it is not kept."""
        entry = next((entry for entry in self._entries if entry.seq == seq), None)
        return None if entry is None else self._read(entry)

    def between(self, first: int, last: int, most: int) -> list[bytes]:
        """The frames from one number to another, both with them; of more than `most`, so many spread over them all,
        the newest always."""
        found = [entry for entry in self._entries if first <= entry.seq <= last]
        return [self._read(found[k]) for k in spread(len(found), most)]

    def _read(self, entry: Entry) -> bytes:
        self._file.seek(entry.at)
        return self._file.read(entry.size)

    def _thin(self) -> None:
        """Keep every other frame, and the newest, each moved down to where there is room."""
        *old, newest = self._entries
        self._entries = []
        for entry in [*old[::2], newest]:
            frame = self._read(entry)
            self._file.seek(self.size)
            self._file.write(frame)
            self._entries.append(Entry(self.size, entry.size, entry.facts))
        self._file.truncate(self.size)
        self.stride *= 2

    def close(self) -> None:
        self._file.close()
