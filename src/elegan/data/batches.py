"""Batches as a function of (seed, number, shard): no iterator, no workers, no state that a resume could lose.

The samples of a stream form one endless sequence: epoch after epoch, each a fresh permutation. Batch and shard say
where in it to read, so any batch can be had at any time, on any rank, and is always the same.
"""

import hashlib
import warnings
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from elegan.data.codec import codec_of
from elegan.data.source import Source
from elegan.errors import DataError, nearest
from elegan.spec import Spec

RECENT = 4  # epochs per stream whose permutation is kept
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
        copied once if it fits into half of what is free there, else batch by batch.
    rows: samples of a shard. shards: shards of a batch. `batch` is their product.
    device: where batches are made.
    derived: more fields, each a function of the batch's own, computed only when a call names them.
    Errors: `DataError` if a stream has fewer samples than one batch.
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
        self._enough()
        size = sum(source.arrays[name].nbytes for name in source.spec)
        self.home = self.device if fits(size, self.device) else torch.device("cpu")
        self._data = {name: _tensor(source.arrays[name]).to(self.home) for name in source.spec}
        self._order = lru_cache(maxsize=RECENT * len(self._lengths))(self._permutation)

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

        Its sample i is number (number * shards + shard) * rows + i of the endless sequence.
        fields: what to compute; None is every field of the spec.
        Errors: `DataError` if a field is unknown.
        """
        wanted = self.spec if fields is None else fields
        for name in wanted:
            if name not in self._data and name not in self.derived:
                hint = nearest(name, (*self._data, *self.derived))
                raise DataError(f"{self.source.name!r} has no field {name!r}.{hint}")
        base = self.spec if any(name in self.derived for name in wanted) else wanted
        start = (number * self.shards + shard) * rows
        places: dict[str, Tensor] = {}  # stream -> (rows,)
        batch: dict[str, Tensor] = {}
        for name in base:
            stream = self.spec[name].stream
            if stream not in places:
                places[stream] = self._places(seed, stream, start, rows)
            found = self._data[name].index_select(0, places[stream])
            batch[name] = self._codecs[name].encode(found.to(self.device, non_blocking=True))
        return {name: batch[name] if name in batch else self.derived[name](batch) for name in wanted}

    def _places(self, seed: int, stream: str, start: int, rows: int) -> Tensor:
        """Rows start … start + rows - 1 of the endless sequence of a stream, which may straddle epochs."""  # (rows,)
        n = self._lengths[stream]
        pieces = []
        while rows > 0:
            epoch, offset = divmod(start, n)
            piece = self._order(seed, stream, epoch)[offset : offset + rows]
            pieces.append(piece)
            start, rows = start + len(piece), rows - len(piece)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _permutation(self, seed: int, stream: str, epoch: int) -> Tensor:
        draw = torch.Generator().manual_seed(place_seed(seed, "order", stream, epoch))
        order = torch.randperm(self._lengths[stream], generator=draw)  # on the CPU: the same for every device
        return order.to(self.home)

    def _enough(self) -> None:
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


def _tensor(rows: np.ndarray) -> Tensor:
    """Rows as a tensor that shares their memory; it is only ever read from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that a mapped file cannot be written to
        return torch.from_numpy(np.ascontiguousarray(rows))
