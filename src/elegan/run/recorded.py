"""What a run records of its data, and whether its options and its data are still what they were, in words if not."""

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elegan.data.form import Form
from elegan.data.source import Source, bytes_of
from elegan.data.sources import has_name
from elegan.errors import CheckpointError, DataError
from elegan.run.checkpoint import Checkpoint
from elegan.run.directory import Plan, RunDirectory

LASTING = {  # of a plan, what a resume must find as it was: all of a part, or some of it
    "game": None,
    "options": None,
    "spec": None,
    "data": ("form", "fingerprint"),
    "training": ("batch", "shards", "seed", "half_life_images", "until_still", "rescue"),
    "compute": ("threads", "precision"),
}
LOOSE = {  # what may be edited, but not out of its type: where the data lies by now, and more steps
    "data": {"name": str, "path": str, "count": int},
    "training": {"steps": int, "keep": int},
    "compute": {"device": str, "why": str},
}
LATER = ("keep",)  # what runs begun before it was an option do not have
SHOWN = 5  # differences that are written out
WIDE = 60  # letters of a value that are written out
CHECKED = 256  # parts into which data is cut, all its fields together, so that a change can be placed
MOST = 256 << 20  # bytes of data that are read once more for that
MISSING = "missing"


def recorded_data(data: str | os.PathLike[str], source: Source, form: Form) -> dict[str, Any]:
    """What a run remembers of its data: enough to open it again from anywhere, and to notice and place a change."""
    path = "" if has_name(data) else str(Path(data).expanduser().resolve())
    return {
        "name": str(data), "path": path, "split": "train", "form": form.to_json(), "count": len(source),
        "about": source.about, "fingerprint": source.fingerprint, "parts": parts_of(source),
    }  # fmt: skip


def parts_of(source: Source) -> dict[str, str]:
    """CRC-32 as hex of equal parts of each field's rows, one after the other; empty of data that is too large."""
    small = sum(rows.nbytes for rows in source.arrays.values()) <= MOST
    if source.cuts or not small:
        return {}
    count = max(1, CHECKED // len(source.arrays))
    return {
        name: "".join(f"{zlib.crc32(bytes_of(rows[a:b])):08x}" for a, b in _cuts(len(rows), count))
        for name, rows in source.arrays.items()
    }


def _cuts(rows: int, count: int) -> list[tuple[int, int]]:
    """The first and the last row, and one, of each of so many parts of equal size, of fewer if there are fewer rows."""
    count = min(count, rows)
    return [(rows * k // count, rows * (k + 1) // count) for k in range(count)]


def unchanged(run: RunDirectory, plan: Plan, found: Checkpoint) -> None:
    """Raise `CheckpointError` with all differences if the options were edited since a checkpoint was written.

    Where a checkpoint is of an older run, what it recorded of them is compared.
    """
    facts = found.facts
    was = facts.get("plan") or {part: facts[part] for part in LASTING if part in facts}
    then, now = lasting(was), lasting({part: plan[part] for part in was if part in plan})
    if "plan" not in facts:  # it recorded what could not change then
        now = {name: value for name, value in now.items() if name in then or not name.startswith("training.")}
    if told := differences(then, now):
        remedy = "put it back, or train a new run"
        raise CheckpointError(f"{run.options_file} was edited after {found.path.name} was written: {told}; {remedy}.")
    for part, kinds in LOOSE.items():
        for name, kind in kinds.items():
            missing = name in LATER and name not in plan[part]
            if not missing and type(value := plan[part].get(name)) is not kind:
                raise CheckpointError(f"{run.options_file} is damaged: {part}.{name} is {value!r}.")


def unchanged_data(run: RunDirectory, plan: Plan, source: Source) -> None:
    """Raise `DataError` with the difference if a run's data is not what it was made from."""
    data = plan["data"]
    if source.fingerprint == data["fingerprint"]:
        return
    then = {"samples": data["count"], **_shape(plan["spec"])}
    now = {"samples": len(source), **_shape(source.spec.to_json())}
    told = differences(then, now) or _placed(data.get("parts", {}), source) or "its contents differ"
    raise DataError(f"the data {data['name']!r} has changed since {run.path} was made: {told}. Train a new run.")


def lasting(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What must last of a plan, by dotted names."""
    kept: dict[str, Any] = {}
    for part, names in LASTING.items():
        if part in plan:
            inside = plan[part]
            chosen = inside if names is None else {n: inside[n] for n in names if n in inside}
            kept |= flat(chosen, part)
    return kept


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted names."""
    if not isinstance(value, Mapping):
        return {name: value}
    return {inner: leaf for key, part in value.items() for inner, leaf in flat(part, f"{name}.{key}").items()}


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """`name: was → is` of each difference, at most a handful and how many more; empty if there is none."""
    names = [name for name in {**then, **now} if then.get(name, MISSING) != now.get(name, MISSING)]
    told = [f"{name}: {_text(then, name)} → {_text(now, name)}" for name in names[:SHOWN]]
    more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return ", ".join([*told, *more])


def _text(values: Mapping[str, Any], name: str) -> str:
    text = repr(values[name]) if name in values else MISSING
    return text if len(text) <= WIDE else f"{text[: WIDE - 1]}…"


def _shape(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Of a spec as JSON, what people know their data by."""
    told = ("kind", "shape", "classes", "names", "counts")
    found = {f"{field}.{name}": made[name] for field, made in spec.items() for name in told}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def _placed(parts: Mapping[str, str], source: Source) -> str:
    """Where data of the same form differs from what was recorded of its parts; empty if that is not known."""
    now = parts_of(source)
    for field, rows in source.arrays.items():
        was, is_ = parts.get(field, ""), now.get(field, "")
        odd = [k for k in range(len(is_) // 8) if was[8 * k : 8 * k + 8] != is_[8 * k : 8 * k + 8]]
        if odd and len(was) == len(is_):
            first, last = _cuts(len(rows), len(is_) // 8)[odd[0]]
            where = f"sample {first}" if last == first + 1 else f"samples {first} to {last - 1}"
            return f"{len(odd)} of {len(is_) // 8} parts of its {field!r} differ, the first in {where}"
    return ""
