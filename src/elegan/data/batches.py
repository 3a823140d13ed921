"""Batches as a function of (seed, number, shard): no iterator, no workers, no state that a resume could lose.

The samples of a stream form one endless sequence: epoch after epoch, each a fresh permutation. Batch and shard say
where in it to read, so any batch can be had at any time, on any rank, and is always the same.

Of data that is streamed from files, file t belongs to shard t mod shards, and each shard has a sequence of its own: so
a rank reads only files of its own, and still the order is the same for any number of ranks.
"""

import hashlib
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elegan.data.codec import codec_of
from elegan.data.source import Source
from elegan.errors import DataError, nearest
from elegan.spec import Spec

RECENT = 4  # epochs per stream whose permutation is kept
MANY = 1 << 22  # samples of a stream whose permutation takes too much memory to be kept
ROUNDS = 8  # of the network that permutes so many
ROOM = 0.5  # share of a device's free memory that data may take


def place_seed(*place: int | str) -> int:
    """A seed in [0, 2⁶³) for a place such as `(seed, "order", stream, epoch)`.

    It is a hash (BLAKE2b): the same on every machine and in every process, and different places are independent.
    Errors: `TypeError` if a part is neither int nor str, whose text might differ between versions.
    """
    for part in place:
        if type(part) not in (int, str):
            raise TypeError(f"a place is made of int and str, not of {type(part).__name__}: {part!r}")
    return int.from_bytes(hashlib.blake2b(repr(place).encode(), digest_size=8).digest(), "big") >> 1


class Batches:
    """Batches as a function of (seed, number, shard): stateless, so a resumed run reads on as if it never stopped.

    source: the data. A processor reads it where it lies, in memory or mapped from a file; to another device it is
        copied once if it fits into half of what is free there, else batch by batch. One that is streamed is read
        when it is asked for, a batch ahead.
    rows: samples of a shard. shards: shards of a batch. `batch` is their product.
    device: where batches are made.
    derived: more fields, each a function of the batch's own, computed only when a call names them.
    Errors: `DataError` if a stream has fewer samples than one batch, or fewer files than shards.
    """

    def __init__(
        self,
        source: Source,
        *,
        rows: int,
        shards: int = 1,
        device: torch.device | str = "cpu",
        derived: Mapping[str, Callable[[dict[str, Tensor]], Tensor]] | None = None,
    ):
        self.source, self.rows, self.shards = source, rows, shards
        self.device = torch.device(device)
        self.derived = dict(derived or {})
        self._codecs = {name: codec_of(field) for name, field in source.spec.items()}
        self._lengths = {field.stream: len(source.arrays[name]) for name, field in source.spec.items()}
        self._hands = [
            _rows_of(range(k, len(source.cuts), shards), source) for k in range(shards if source.cuts else 0)
        ]
        self._enough()
        size = sum(source.arrays[name].nbytes for name in source.spec)
        self.home = self.device if fits(size, self.device) and not source.cuts else torch.device("cpu")
        self._data = {name: _tensor(source.arrays[name], self.home) for name in source.spec}
        self._order = lru_cache(maxsize=RECENT * max(len(self._lengths), len(self._hands)))(self._permutation)

    @property
    def batch(self) -> int:
        """Samples of one batch, over all its shards."""
        return self.rows * self.shards

    @property
    def spec(self) -> Spec:
        return self.source.spec

    def __call__(
        self, seed: int, number: int, shard: int, rows: int, fields: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """The shard of a batch, as the codecs encode it: images are float32 (rows, C, H, W) in [-1, 1].

        Its sample i is number (number * shards + shard) * rows + i of the endless sequence; of the shard's own
        sequence, if it has one, number * rows + i.
        fields: what to compute; None is every field of the spec.
        Errors: `DataError` if a field is unknown.
        """
        wanted = self.spec if fields is None else fields
        for name in wanted:
            if name not in self._data and name not in self.derived:
                hint = nearest(name, (*self._data, *self.derived))
                raise DataError(f"{self.source.name!r} has no field {name!r}.{hint}")
        base = self.spec if any(name in self.derived for name in wanted) else wanted
        places: dict[str, Tensor] = {}  # stream -> (rows,)
        batch: dict[str, Tensor] = {}
        for name in base:
            stream = self.spec[name].stream
            if stream not in places:
                places[stream] = self._places(seed, stream, number, shard, rows)
            found = _taken(self._data[name], places[stream])
            batch[name] = self._codecs[name].encode(found.to(self.device, non_blocking=True))
        for name in base if self._hands else ():
            if not isinstance(data := self._data[name], Tensor):
                data.expect(self._places(seed, self.spec[name].stream, number + 1, shard, rows).numpy())
        return {name: batch[name] if name in batch else self.derived[name](batch) for name in wanted}

    def _places(self, seed: int, stream: str, number: int, shard: int, rows: int) -> Tensor:
        """Which rows of a stream a shard of a batch is made of.  (rows,)"""
        if self._hands:
            hand, sequence, start = self._hands[shard], f"{stream} {shard} of {self.shards}", number * rows
        else:
            hand, sequence, start = None, stream, (number * self.shards + shard) * rows
        n = self._lengths[stream] if hand is None else len(hand)
        pieces = []
        while rows > 0:
            epoch, offset = divmod(start, n)
            piece = self._order(seed, sequence, epoch, n)[offset : offset + rows]
            pieces.append(piece)
            start, rows = start + len(piece), rows - len(piece)
        places = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        return places if hand is None else hand(places)

    def _permutation(self, seed: int, sequence: str, epoch: int, n: int) -> "Tensor | Shuffle":
        key = place_seed(seed, "order", sequence, epoch)
        if n > MANY:
            return Shuffle(n, key, self.home)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(key))  # on the CPU: the same for every device
        return order.to(self.home)

    def _enough(self) -> None:
        for k, hand in enumerate(self._hands):
            if len(hand) < self.rows:
                held = f"shard {k + 1} of {self.shards} has {len(hand)} samples of {len(self.source.cuts)} tars"
                raise DataError(
                    f"{self.source.name!r} is dealt out by whole tars, and {held}, fewer than its {self.rows} of a "
                    "batch: use fewer --shards, a smaller --batch, or smaller tars"
                )
        for stream, n in self._lengths.items():
            if n < self.batch:
                shards = self.shards if self.shards <= n else 1
                fits = shards * 2 ** ((n // shards).bit_length() - 1)
                where = "" if stream == "main" else f" in {stream!r}"
                raise DataError(
                    f"{self.source.name!r} has {n} sample{'s' * (n > 1)}{where}, fewer than one batch of {self.batch}: "
                    f"use --batch {fits}" + (" --shards 1" if shards != self.shards else "")
                )


def fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes may live on a device; a processor needs no room for what is in memory or mapped already."""
    return device.type != "cuda" or size <= torch.cuda.mem_get_info(device)[0] * ROOM


class Shuffle:
    """A permutation of n numbers that is not kept but computed where it is asked for: `shuffle[a:b]` is int64 (b - a,).

    A Feistel network permutes the least 4ᵏ numbers that hold n; whatever leaves n is sent through again until it is
    back (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains", cycle walking).
    """

    def __init__(self, n: int, key: int, device: torch.device | str = "cpu"):
        self.n, self.device = n, device
        half = max(1, ((n - 1).bit_length() + 1) // 2)
        self._half, self._low = np.uint64(half), np.uint64((1 << half) - 1)
        self._keys = [np.uint64(place_seed(key, "round", k)) for k in range(ROUNDS)]

    def __getitem__(self, where: slice) -> Tensor:
        at = self._permuted(np.arange(*where.indices(self.n), dtype=np.uint64))
        while (out := at >= self.n).any():
            at[out] = self._permuted(at[out])
        return torch.from_numpy(at.astype(np.int64)).to(self.device)

    def _permuted(self, at: np.ndarray) -> np.ndarray:
        left, right = at >> self._half, at & self._low
        for key in self._keys:
            left, right = right, left ^ (_mixed(right ^ key) & self._low)
        return left << self._half | right


def _mixed(x: np.ndarray) -> np.ndarray:
    """Any change of a bit of uint64 changes half of them: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class _Hand:
    """The rows of the files dealt to a shard, counted through: `hand(places)` are rows of the whole."""

    def __init__(self, firsts: Sequence[int], ends: Sequence[int]):
        self._firsts = torch.tensor(firsts, dtype=torch.int64)
        lengths = torch.tensor(ends, dtype=torch.int64) - self._firsts
        self._ends = lengths.cumsum(0)
        self._starts = self._ends - lengths

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __call__(self, places: Tensor) -> Tensor:
        file = torch.searchsorted(self._ends, places, right=True)
        return self._firsts[file] + places - self._starts[file]


def _rows_of(files: Iterable[int], source: Source) -> _Hand:
    cuts = [*source.cuts, len(source)]
    files = list(files)
    return _Hand([cuts[k] for k in files], [cuts[k + 1] for k in files])


def _taken(rows: Any, places: Tensor) -> Tensor:
    return rows.index_select(0, places) if isinstance(rows, Tensor) else torch.from_numpy(rows[places.numpy()])


def _tensor(rows: np.ndarray, home: torch.device) -> Any:
    """Rows as a tensor that shares their memory, or a copy elsewhere; it is only ever read from. A stream as it is."""
    if not isinstance(rows, np.ndarray):
        return rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that a mapped file cannot be written to
        return torch.from_numpy(np.ascontiguousarray(rows)).to(home)
