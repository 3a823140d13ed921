"""Runs side by side: the scores they have, in one table only where protocols agree."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from elegan.disk import write_whole
from elegan.errors import OptionError, ResourceError
from elegan.metrics.protocol import Score, apart, tables
from elegan.run.directory import RunDirectory
from elegan.scoring.evaluate import read
from elegan.view import compare as view

PAGE = "compare.html"


@dataclass(frozen=True)
class Comparison:
    """Several runs: `str()` of it is their tables, `page` the file that shows them side by side."""

    tables: Sequence[view.Table]
    unscored: Sequence[str]
    page: Path

    def __str__(self) -> str:
        return view.text(self.tables, self.unscored)

    __repr__ = __str__


def compare(*runs: str | os.PathLike[str], out: str | os.PathLike[str] = PAGE) -> Comparison:
    """Put the scores of runs into tables, and write a page with these, their newest samples and their curves.

    Scores are those of `evaluate`, the latest of each label and protocol; scores of different protocols stand in
    different tables that say why. out: the page, an .html file.
    Raises `OptionError` for fewer than two runs, `CheckpointError` for what is none, `ResourceError` of a full disk.
    """
    if len(runs) < 2:
        raise OptionError("compare at least two runs: elegan compare RUN RUN.")
    opened = {str(run).rstrip("/"): RunDirectory.open(run) for run in runs}
    if len({run.path.resolve() for run in opened.values()}) < len(runs):
        raise OptionError("a run is named twice; name each once.")
    path = Path(out)
    if path.suffix != ".html":
        raise OptionError(f"--out {str(out)!r} is no .html file.")
    known = {name: [score for score in read(name) if score.value is not None] for name in opened}
    made = arranged(known)
    unscored = [name for name, scores in known.items() if not scores]
    try:
        write_whole(path, view.page(made, unscored, opened).encode(errors="backslashreplace"))
    except OSError as error:
        raise ResourceError(f"{path} cannot be written ({error.strerror or error}); choose another --out.") from error
    return Comparison(made, unscored, path)


def arranged(known: dict[str, list[Score]]) -> list[view.Table]:
    """The tables of the scores of each run; the one that most runs stand in is the first."""
    owner = {id(score): run for run, scores in known.items() for score in scores}
    grouped = tables(score for scores in known.values() for score in scores)
    grouped.sort(key=lambda group: (-len({owner[id(s)] for row in group.values() for s in row}), -len(group)))
    made = []
    for k, group in enumerate(grouped):
        rows = {label: {owner[id(score)]: score for score in scores} for label, scores in group.items()}
        why = () if k == 0 else why_apart(group, grouped[0])
        made.append(view.Table(rows, why))
    return made


def why_apart(group: dict[str, list[Score]], other: dict[str, list[Score]]) -> list[str]:
    """What differs between two tables: by a score that both have if one does, else by any."""
    shared = [(group[label][0], other[label][0]) for label in group if label in other]
    pairs = [*shared, *((one[0], two[0]) for one in group.values() for two in other.values())]
    return next((why for one, two in pairs if (why := apart(one, two))), [])
