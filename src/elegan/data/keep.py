"""From a listing, or rows that are there, to a store: in order, in threads, with a journal to go on from."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elegan.data import pack, store
from elegan.data.listing import Layout, Listing, Progress, silent
from elegan.data.source import Source
from elegan.errors import DataError, ResourceError

JOURNAL_SECONDS = 5.0
LABEL = Layout((), "int64")


def to_store(
    splits: Mapping[str, Listing | Source], path: Path, progress: Progress = silent, *, form: Mapping[str, Any]
) -> None:
    """Pack splits, each a listing or rows that need no decoding, into a store at a path; go on where an earlier try was
    stopped. form: what of a form the rows are in, as `Form.to_json`.

    Errors: `DataError` as `in_memory`; `ResourceError` if the disk is full or refuses.
    """
    try:
        with store.being_written(path, progress) as part:
            if part is None:
                return
            try:
                made = {
                    split: _copy(found, split, part, progress)
                    if isinstance(found, Source)
                    else _pack(found, split, part, progress)
                    for split, found in splits.items()
                }
            except DataError:  # there is nothing to go on with
                part.discard()
                raise
            name = next(iter(splits.values())).name
            store.publish(part, path, {"name": name, "form": dict(form), "splits": made})
    except OSError as error:
        raise ResourceError(
            f"{str(path)!r} cannot be written ({error.strerror or error}): make room, or choose another place; "
            "what is packed so far is kept."
        ) from error


def _copy(source: Source, split: str, part: store.Part, progress: Progress) -> dict[str, Any]:
    """Write rows that are there already; what the manifest says of them."""
    made = {}
    store.free_for(part.path, sum(rows.nbytes for rows in source.arrays.values()))
    for field, rows in source.arrays.items():
        with part.column(split, field, Layout(rows.shape[1:], rows.dtype.str)) as column:
            portion = max(1, pack.AHEAD // max(1, column.layout.row_bytes))
            for start in range(0, len(rows), portion):
                column.append(rows[start : start + portion])
                progress("packing", column.rows, len(rows))
            made[field] = column.finish()
    return {
        "about": source.about, "spec": source.spec.to_json(), "fields": made, "left_out": list(source.left_out),
    }  # fmt: skip


def _pack(listing: Listing, split: str, part: store.Part, progress: Progress) -> dict[str, Any]:
    """Write the arrays of one split; what the manifest says of it."""
    journal = part.journal(split, f"{listing.fingerprint} {store.FORMAT}")
    if journal["made"]:
        return journal["made"]
    found = pack.survey(listing, progress)
    total = sum(len(samples) for samples in listing.streams.values())
    there = sum(file.stat().st_size for file in part.home.glob(f"{split}-*.npy"))
    store.free_for(part.path, total * found.row_bytes - there)
    fields: dict[str, Any] = {}
    ranges: dict[str, tuple[float, float]] = {}
    for stream in listing.streams:
        fields |= _pack_stream(listing, stream, found, split, part, journal, progress)
        ranges |= {field: (low, high) for field, (low, high) in journal["streams"][stream]["ranges"].items()}
    labels = np.load(part.home / fields["label"]["file"], mmap_mode="r") if listing.classes else None
    pack.some_kept(listing, {stream: fields[names[0]]["shape"][0] for stream, names in listing.fields.items()})
    spec = pack.spec_of(listing, found, labels, ranges)
    about = pack.describe(listing, spec, {field: made["shape"][0] for field, made in fields.items()})
    left = pack.left_out(listing, found.faults)
    journal["made"] = {"about": about, "spec": spec.to_json(), "fields": fields, "left_out": left}
    part.note(split, journal)
    return journal["made"]


def _pack_stream(
    listing: Listing, stream: str, found: pack.Survey, split: str, part: store.Part, journal: Any, progress: Progress
) -> dict[str, Any]:
    """Write the arrays of one stream, with notes in the journal of how far they are synced; what the manifest says of
    each."""
    blank: dict[str, Any] = {"done": 0, "faults": {}, "columns": {}, "ranges": {}}
    state, samples = journal["streams"].get(stream, blank), listing.streams[stream]
    done, faults, ranges = state["done"], state["faults"], state["ranges"]
    found.faults[stream].update({int(place): reason for place, reason in faults.items()})
    layouts = {field: found.layouts[field] for field in listing.fields[stream]}
    layouts |= {"label": LABEL} if listing.classes else {}
    with contextlib.ExitStack() as stack:
        columns = {
            field: stack.enter_context(part.column(split, field, layout, state["columns"].get(field)))
            for field, layout in layouts.items()
        }

        def note() -> None:
            synced = {field: column.sync() for field, column in columns.items()}
            journal["streams"][stream] = {"done": done, "faults": faults, "ranges": ranges, "columns": synced}
            part.note(split, journal)

        noted = time.monotonic()
        rows_of = stack.enter_context(contextlib.closing(pack.decoded(listing, stream, found, done)))
        for place, sample, rows in rows_of:
            if isinstance(rows, str):
                found.faults[stream][place] = faults[str(place)] = rows
                pack.tolerate(listing, found.faults)
            else:
                for (field, column), row in zip(columns.items(), [*rows, np.array(sample.label)], strict=False):
                    column.append(row[None])
                    if row.dtype.kind == "f":
                        ranges[field] = _wider(ranges.get(field), row)
            done = place + 1
            progress("packing", done, len(samples))
            if time.monotonic() - noted > JOURNAL_SECONDS:
                note()
                noted = time.monotonic()
        note()
        return {field: column.finish() for field, column in columns.items()}


def _wider(known: Sequence[float] | None, row: np.ndarray) -> list[float]:
    low, high = pack.spread(row)
    return [low, high] if known is None else [min(known[0], low), max(known[1], high)]
