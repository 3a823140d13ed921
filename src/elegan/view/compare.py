"""Several runs side by side: their scores, in one table only where protocols agree, their samples, their curves."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from elegan.run import events
from elegan.run.directory import RunDirectory
from elegan.view.frames import shown
from elegan.view.history import Curve, history
from elegan.view.page import PICTURE_BYTES, digest, image
from elegan.view.scores import ARROWS, against, columns, count, interval, number

if TYPE_CHECKING:
    from elegan.metrics.protocol import Score

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Table:
    """Scores that may stand together: label -> run -> score. why: what keeps them apart from the table before."""

    rows: Mapping[str, Mapping[str, "Score"]]
    why: Sequence[str] = ()

    @property
    def runs(self) -> list[str]:
        """The runs that have a score here, in order."""
        return list(dict.fromkeys(run for scores in self.rows.values() for run in scores))

    def cells(self) -> list[list[str]]:
        """Heading and rows: label, each run's value, floor, baseline."""
        made = [["score", *self.runs, "floor", "baseline"]]
        for label, scores in self.rows.items():
            one = next((score for score in scores.values() if score.floor is not None), next(iter(scores.values())))
            values = [number(scores[run].value) if run in scores else "" for run in self.runs]
            made.append([f"{label} {ARROWS[one.better]}", *values, number(one.floor), number(one.baseline)])
        return made

    def about(self) -> list[str]:
        """What all of it was measured by, a line each."""
        scores = [score for found in self.rows.values() for score in found.values()]
        what, *lines = against(scores)
        return [f"{count(scores[0].protocol.count)} {what}", *lines]

    def best(self, label: str) -> str:
        """The run with the best value of a label; "" if there is but one, or several are, or more is not better."""
        scores = {run: s for run, s in self.rows[label].items() if s.value is not None}
        better = next(iter(self.rows[label].values())).better
        if len(scores) < 2 or better == "near":
            return ""
        values = {run: score.value for run, score in scores.items() if score.value is not None}
        best = (min if better == "lower" else max)(values.values())
        runs = [run for run, value in values.items() if value == best]
        return runs[0] if len(runs) == 1 else ""


def text(tables: Sequence[Table], unscored: Sequence[str]) -> str:
    """The tables for a terminal; runs without scores are named with the remedy."""
    parts = []
    for made in tables:
        why = [f"not in the first table: {'; '.join(made.why)}"] if made.why else []
        parts.append("\n".join([*made.about(), *why, "", *columns(made.cells())]))
    parts += [f"{run} has no scores: make them with: elegan evaluate {shlex.quote(run)}" for run in unscored]
    return "\n\n".join(parts)


def page(tables: Sequence[Table], unscored: Sequence[str], runs: Mapping[str, RunDirectory]) -> str:
    """The page as text: one file that needs no network and nothing beside it."""
    names = ("compare.html", "page.css", "compare.css", "page.js")
    html, basis, style, script = ((HERE / name).read_text(encoding="utf-8") for name in names)
    panels = curves(runs)
    step = max((c.steps[-1] for made in panels.values() for c in made if c.steps), default=0)
    told = {"step": step, "panels": {name: [asdict(c) for c in made] for name, made in panels.items()}}
    data = json.dumps(told, allow_nan=False, separators=(",", ":"))
    style = basis + style
    return Template(html).substitute(
        title=escape(f"{len(runs)} runs side by side"),
        policy=f"default-src 'none'; img-src data:; style-src '{digest(style)}'; script-src '{digest(script)}'; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        data=data.replace("<", "\\u003c"),
        scores=scores(tables, unscored),
        grids="".join(grid(name, run) for name, run in runs.items()),
        curves="".join(panel(name) for name in panels),
    )


def curves(runs: Mapping[str, RunDirectory]) -> dict[str, list[Curve]]:
    """Term -> the curve of each run that has it, named by the run; scores before losses."""
    found: dict[str, list[Curve]] = {}
    told = {
        name: history(events.read(run.events_file), run.read_options()["training"]["steps"])
        for name, run in runs.items()
    }
    for part in ("scores", "terms"):
        for name, one in told.items():
            drawn: list[Curve] = getattr(one, part)
            for curve in drawn:
                found.setdefault(curve.name, []).append(Curve(name, curve.steps, curve.values, curve.missing))
    return found


def panel(name: str) -> str:
    return (
        f'<section class="panel" data-panel="{escape(name)}"><header><h3>{escape(name)}</h3>'
        f'<button type="button" class="log" aria-pressed="false">log scale</button></header>'
        f'<div class="plot"></div><div class="legend"></div></section>'
    )


def grid(name: str, run: RunDirectory) -> str:
    """The newest samples of a run, with its name."""
    for path in sorted(run.samples.glob("[0-9]*.png"), reverse=True):
        if got := shown(path, PICTURE_BYTES):
            caption = f"{escape(name)}, step {int(path.stem):,}"
            return f"<figure>{image(got, f'Samples of {caption}')}<figcaption>{caption}</figcaption></figure>"
    return f"<figure><figcaption>{escape(name)}: nothing is drawn yet.</figcaption></figure>"


def scores(tables: Sequence[Table], unscored: Sequence[str]) -> str:
    """The tables in HTML: values with their intervals, the best in bold, why there are several."""
    parts = []
    for made in tables:
        why = f"<p class='note'>Not in the first table: {escape('; '.join(made.why))}.</p>" if made.why else ""
        about = "".join(f"<p class='hint'>{escape(line)}</p>" for line in made.about())
        head = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in made.cells()[0])
        rows = "".join(row(made, label, cells) for label, cells in zip(made.rows, made.cells()[1:], strict=True))
        parts.append(
            f"<div class='scores'>{about}{why}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        )
    parts += [f"<p class='none'>{escape(run)} has no scores yet.</p>" for run in unscored]
    return "".join(parts)


def row(made: Table, label: str, cells: Sequence[Any]) -> str:
    best, shown_cells = made.best(label), []
    for run, cell in zip(made.runs, cells[1:-2], strict=True):
        score = made.rows[label].get(run)
        small = f"<small>{interval(score)}</small>" if score and score.low is not None else ""
        mark = " class='best'" if run == best else ""
        shown_cells.append(f"<td{mark}>{escape(cell)}{small}</td>")
    ends = "".join(f"<td>{escape(cell)}</td>" for cell in cells[-2:])
    return f"<tr><th scope='row'>{escape(cells[0])}</th>{''.join(shown_cells)}{ends}</tr>"
