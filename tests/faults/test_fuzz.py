"""Mutations of good files, and every target of `fuzz.py`: an `ElegantError` or nothing, soon, and no file elsewhere.

FAULTS 5, 18. Reproducible; `python -m tests.faults.fuzz TARGET` looks further.
"""

import copy
import io
import json
import math
import os
import resource
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elegan.data.codec import codec_of
from elegan.errors import DataError
from elegan.spec import Field
from tests.conftest import everything
from tests.faults import fuzz
from tests.faults.forked import at_most, forked

EXAMPLES = int(os.environ.get("ELEGAN_EXAMPLES", "200"))
SECONDS, ROOM = 30, 1 << 30  # of one example; of memory, beside what is warm

ODD: list[Any] = [
    None, True, False, -1, 0, 1, 3.5, -0.0, 10**18, 10**400, 1e308, float("nan"), float("inf"), "", "x", "\ud800", "\0",
    "../../../x", "x" * 10_000, [], {}, [1, 2, 3], ["a"], [None], [[]], {"a": {}}, [True, 8, 8],
]  # fmt: skip
JOINTS = [b"", b"\0", b"\xff", b"{", b"[" * 5_000, b'"', b"\n", b"9" * 30, b"\x80\x04.", b"null"]


@st.composite
def spoilt(draw: st.DrawFn, good: bytes) -> bytes:
    """Bytes with some of them flipped, cut out, put in, or taken from another place."""
    made = bytearray(good)
    place = st.integers(0, len(good))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(place)
        match draw(st.sampled_from(("flip", "cut", "end", "insert", "splice", "swap"))):
            case "flip" if at < len(made):
                made[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del made[at : at + draw(st.integers(1, 300))]
            case "end":
                del made[at:]
            case "insert":
                made[at:at] = draw(st.sampled_from(JOINTS))
            case "splice":
                start = draw(place)
                made[at:at] = good[start : start + draw(st.integers(1, 600))]
            case "swap":
                start = draw(place)
                made[at : at + 8] = good[start : start + 8]
    return bytes(made)


def places(value: Any, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where JSON has values, as the keys that lead there."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield (*so_far, key)
        yield from places(part, (*so_far, key))


@st.composite
def altered(draw: st.DrawFn, good: Any) -> bytes:
    """JSON with some values exchanged, taken away, doubled, or nested without end."""
    made = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 2))):
        there = list(places(made))
        if not there:
            break
        *way, last = draw(st.sampled_from(there))
        holder = made
        for key in way:
            holder = holder[key]
        match draw(st.sampled_from(("exchange", "exchange", "swap", "take", "deep", "double"))):
            case "exchange":
                holder[last] = copy.deepcopy(draw(st.sampled_from(ODD)))
            case "swap":
                holder[last] = copy.deepcopy(draw(st.sampled_from(list(good.values()))))
            case "take":
                del holder[last]
            case "deep":
                holder[last] = "@deep@"
            case "double" if isinstance(holder, dict):
                holder[last] = {"@": holder[last]}
    depth = draw(st.sampled_from((5, 500, 100_000)))
    said = json.dumps(made).replace('"@deep@"', "[" * depth + "]" * depth)
    return said.replace('{"@": ', f'{{"twice": 1, "twice": {json.dumps(draw(st.sampled_from(ODD)))}, "@": ').encode()


def lines(good: bytes) -> st.SearchStrategy[bytes]:
    """A log of which some lines are altered or spoilt."""
    kept = good.decode().splitlines()

    def one(k: int) -> st.SearchStrategy[bytes]:
        line = kept[k].encode()
        return st.one_of(altered(json.loads(line)), altered(json.loads(line)), spoilt(line)).map(
            lambda other: b"\n".join(
                [*(x.encode() for x in kept[:k]), other, *(x.encode() for x in kept[k + 1 :]), b""]
            )
        )

    return st.integers(0, len(kept) - 1).flatmap(one)


def mutated(name: str) -> st.SearchStrategy[bytes]:
    """What a target is given: any bytes, and mutations of what is good."""
    kinds: list[st.SearchStrategy[bytes]] = [st.binary(max_size=64)]
    for seed in fuzz.seeds(name):
        head, body = (seed[:1], seed[1:]) if name in ("bundle", "archive") else (b"", seed)
        kinds.append(spoilt(body).map(head.__add__))
        if name == "events":
            kinds += [lines(body)] * 3
        elif name != "archive" and body.startswith(b"{"):
            kinds += [altered(json.loads(body)).map(head.__add__)] * 3
    return st.one_of(kinds)


def limited() -> None:
    """Let this process take so much memory more, and no more."""
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (held + ROOM,) * 2)


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_whatever_the_bytes_a_target_fails_well(name):
    cases = mutated(name)
    before = everything(fuzz.home())

    def work() -> int:
        limited()
        count = 0

        @settings(
            max_examples=EXAMPLES, derandomize=True, database=None, deadline=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(cases)
        def each(data: bytes) -> None:
            nonlocal count
            count += 1
            with at_most(SECONDS):
                fuzz.TARGETS[name](data)

        each()
        assert count >= EXAMPLES
        return 0

    ended = forked(work, seconds=600)
    assert ended.code == 0, ended.err[-6_000:]
    assert everything(fuzz.home()) == before, "nothing else was written, and what was there is as it was"


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_what_is_good_passes(name, monkeypatch):
    """Or the targets would show nothing: every seed is taken for what it is, without any error."""

    def strictly(function, *arguments, **named):
        with fuzz.suppressed():
            function(*arguments, **named)

    monkeypatch.setattr(fuzz, "attempt", strictly)
    for seed in fuzz.seeds(name):
        fuzz.TARGETS[name](seed)


def zipped(*names: str) -> bytes:
    """A zip, as the target takes it, of the same picture under some names."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(fuzz.packed("zip"))) as good, zipfile.ZipFile(file, "w") as made:
        for name in names:
            made.writestr(name, good.read("x/0.png"))
    return b"\0" + file.getvalue()


def with_facts(**facts: Any) -> bytes:
    """The good manifest with other facts, some of them gone."""
    manifest = json.loads(fuzz.seeds("manifest")[0])
    manifest["facts"] = {name: value for name, value in {**manifest["facts"], **facts}.items() if value is not None}
    return fuzz.sealed(manifest)


def with_spec(**field: Any) -> bytes:
    """The good options with another field `real`."""
    plan = json.loads(fuzz.seeds("options")[0])
    plan["spec"]["real"] |= field
    return json.dumps(plan).encode()


CODEC = {"kind": "image", "low": 0, "high": 255}
FOUND: dict[str, tuple[str, Callable[[], bytes]]] = {
    "folders a, A and b": ("archive", lambda: zipped("a/0.png", "A/0.png", "b/0.png")),
    "a log that counts seconds to infinity": ("events", lambda: b'{"kind": "step", "step": 1, "seconds": 1e999}\n'),
    "a log of a time after the sun": ("events", lambda: b'{"kind": "started", "step": 0, "time": 1e300}\n'),
    "a term of 400 digits": ("events", lambda: b'{"kind": "step", "step": 1, "terms": {"x": 1%s}}\n' % (b"0" * 400)),
    "terms that are one": ("events", lambda: b'{"kind": "step", "step": 1, "terms": 5}\n'),
    "steps that say nothing else": ("events", lambda: b'{"kind": "step", "step": 1}\n' * 3),
    "a line of a hundred thousand brackets": ("events", lambda: b"[" * 100_000),
    "a checkpoint of no training": ("manifest", lambda: with_facts(state=None)),
    "a checkpoint of endless images": ("manifest", lambda: with_facts(state={"images": math.inf, "changes": {}})),
    "changes of another game": ("manifest", lambda: with_facts(state={"images": 24, "changes": {"lr": "x", "b": 1}})),
    "a change to a network": ("manifest", lambda: with_facts(state={"images": 24, "changes": {"augment": "light"}})),
    "a shape of words": ("options", lambda: with_spec(shape=["1", 8, 8])),
    "a shape of truth": ("options", lambda: with_spec(shape=[True, 8, 8])),
    "a shape as large as the world": ("options", lambda: with_spec(shape=[1, 10**30, 8])),
    "no shape": ("options", lambda: with_spec(shape=None)),
    "a codec of text": ("bundle", lambda: b"\0" + with_spec(about={"codec": {**CODEC, "low": "0"}})),
    "a codec of no type": ("bundle", lambda: b"\0" + with_spec(about={"codec": {**CODEC, "dtype": "S9"}})),
    "a codec that is none": ("bundle", lambda: b"\0" + with_spec(about={"codec": [1]})),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_so_far(name):
    target, made = FOUND[name]
    with at_most(SECONDS):
        fuzz.TARGETS[target](made())


@pytest.mark.parametrize(
    "codec",
    [{**CODEC, "low": "0"}, {**CODEC, "low": 255}, {**CODEC, "high": math.inf}, {**CODEC, "dtype": "S9"},
     {**CODEC, "mode": 3}, {"kind": "image"}, {"kind": "vector", "shift": [0.0], "scale": [math.nan]},
     {"kind": "vector", "shift": [0.0] * 3, "scale": [1.0]}, {"kind": "vector", "shift": 0.0, "scale": [1.0]}, [1]],
)  # fmt: skip
def test_a_codec_that_nobody_can_have_written_is_refused(codec):
    with pytest.raises(DataError, match="the codec of a field of kind 'image' is damaged"):
        codec_of(Field("image", (1, 8, 8), about={"codec": codec}))
