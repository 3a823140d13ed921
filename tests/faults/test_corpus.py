"""Every kind of broken, hostile or odd data: no traceback, no hang, bounded memory, each bad file named, none lost."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TINY
from tests.faults import corpus_archives, corpus_arrays, corpus_files  # noqa: F401 (their kinds)
from tests.faults.corpus import KINDS, Kind
from tests.faults.corpus_cut import CUTS, Cut
from tests.faults.warm import Answer, Warm, warmed

SECONDS = 20.0  # for any command, also on a busy machine
ROOM = 600 << 20  # bytes of memory, the stacks of threads and all
OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # by a terminal
MPG123 = ("Note: ", "Warning: ")  # what this decoder writes by itself, and cannot be told not to
ALSO: dict[int, Callable[[Path, Path], list[object]]] = {  # what every tenth kind is asked beside
    0: lambda data, made: ["data", "prepare", data, made / "store"],
    1: lambda data, made: ["data", "clean", data, "--out", made / "list.csv"],
}


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with warmed() as process:
        yield process


def state(folder: Path) -> dict[str, tuple[int, ...]]:
    """What lies below a folder, but for what commands make: of each entry its kind, size and time."""
    found = {}
    for here, folders, files in os.walk(folder):
        if here == str(folder):
            folders[:] = [name for name in folders if name != "made"]
        for name in (*folders, *files):
            about = os.lstat(os.path.join(here, name))
            size = 0 if name in folders else about.st_size
            found[os.path.relpath(os.path.join(here, name), folder)] = (about.st_mode, size, about.st_mtime_ns)
    return found


def flags(options: Mapping[str, Any]) -> list[str]:
    """Options of `open_data` as they are typed."""
    typed = ((f"--{name.replace('_', '-')}", value) for name, value in options.items())
    return [word for flag, value in typed for word in ((flag,) if value is True else (flag, str(value)))]


def well_said(answer: Answer, *codes: int) -> None:
    """One of the exit codes, warnings, at most one error, and nothing that a terminal obeys."""
    assert answer.code in codes, answer
    assert not OBEYED.search(answer.out + answer.err), answer
    lines = [line for line in answer.err.splitlines() if not line.startswith(MPG123)]
    errors = [line for line in lines if not line.startswith("elegan: warning: ")]
    assert all(line.startswith("elegan: ") for line in errors), answer
    assert len(errors) <= (answer.code != 0), answer


def as_said(kind: Kind, answer: Answer) -> None:
    """So many rows, and in the words that are due; of refusals one line."""
    well_said(answer, 0 if kind.rows is not None else 3)
    assert bool(answer.err) == bool(kind.says), answer
    assert re.search(kind.says, answer.err), answer


@pytest.mark.parametrize("name", KINDS)
def test_a_kind(name: str, warm: Warm, tmp_path: Path):
    kind, root, made = KINDS[name], tmp_path / "root", tmp_path / "made"
    root.mkdir()
    made.mkdir()
    data = kind.make(root) or root
    before = state(tmp_path)
    commands = [["open", data], ["data", "inspect", data, "--out", made / "page", *flags(kind.options)]]
    if also := ALSO.get(list(KINDS).index(name) % 10):
        commands.append([*also(data, made), *flags(kind.options)])
    answers = warm.ask(*commands, here=tmp_path, options=kind.options, limits=kind.limits, seconds=SECONDS, room=ROOM)
    assert len(answers) == len(commands), answers
    opened, inspected, *rest = answers
    as_said(kind, opened)
    left = [] if kind.rows is None else opened.told["left"]
    if kind.rows is not None:
        assert opened.told["rows"] == kind.rows
        assert not opened.told["secret"]
    well_said(inspected, *((3,) if kind.rows is None else (0, 1)))
    for file, reason in left:
        assert repr(file) in inspected.out
        assert inspected.code == 1, reason
    for answer in rest:
        well_said(answer, *((0, 3) if kind.rows is None else (0,)))  # a list may be made of what would be refused
    assert state(tmp_path) == before


TRAINED: dict[str, tuple[str, int, int, str]] = {  # a kind -> game, batch, exit code, words
    "text called png": ("dcgan", 4, 0, "left out: 1 of 6 images cannot be read, the first is 'bad.png'"),
    "links out": ("dcgan", 4, 0, "not followed: 5 links"),
    "more than a tenth is bad": ("dcgan", 4, 3, "3 of 8 images cannot be read"),
    "a zip in a zip": ("dcgan", 4, 3, "holds no images"),
    "a folder called png": ("dcgan", 8, 3, "has 5 samples, fewer than one batch of 8: use --batch 4"),
    "folders 200 deep": ("cgan", 4, 3, "no classes|labels|class"),
}


@pytest.mark.parametrize("name", TRAINED)
def test_train(name: str, warm: Warm, tmp_path: Path):
    game, batch, code, words = TRAINED[name]
    root, run = tmp_path / "root", tmp_path / "made" / "run"
    root.mkdir()
    data = KINDS[name].make(root) or root
    before = state(tmp_path)
    tokens = ["train", game, data, "--out", run, "--steps", 1, *TINY[:2], *TINY[4:], "--size", 8, "--batch", batch]
    (answer,) = warm.ask(tokens, here=tmp_path, seconds=60, room=4 * ROOM)
    well_said(answer, code)
    assert re.search(words, answer.err), answer
    assert run.exists() == (code == 0)
    assert state(tmp_path) == before


def test_every_kind_says_what_is_expected():
    assert len(KINDS) >= 200
    for name, kind in KINDS.items():
        assert kind.says or kind.rows, name  # refused without a word, or of no rows, is no expectation


@pytest.mark.parametrize("name", CUTS)
def test_cut_at_each_tenth(name: str, warm: Warm, tmp_path: Path):
    """A file of each format, of which no more than some tenths are there."""
    cut = CUTS[name]
    places = [cut_at(cut, tmp_path / f"cut-{k}", k) for k in range(10)]
    before = state(tmp_path)
    commands = [["open", place] for place in places]
    commands.append(["data", "inspect", places[5], "--out", tmp_path / "made"])
    *opened, inspected = warm.ask(*commands, here=tmp_path, options=cut.options, seconds=SECONDS, room=ROOM)
    assert len(opened) == 10
    for k, answer in enumerate(opened):
        well_said(answer, *cut.codes)
        if answer.code == 0:
            assert answer.told["rows"] in cut.rows, (k, answer)
        if answer.code == 3 or not cut.shorter:
            assert (cut.says or cut.file) in answer.err, (k, answer)
    well_said(inspected, 0, 1, 3)
    assert state(tmp_path) == before


def cut_at(cut: Cut, root: Path, tenths: int) -> Path:
    root.mkdir()
    data = cut.make(root)
    (file,) = root.rglob(cut.file)
    os.truncate(file, file.stat().st_size * tenths // 10)
    return data or root
