"""The page of a run: RUN/index.html, one file that needs no server, no network and nothing beside it.

Whatever comes from the run is escaped; scripts and styles run only if they are those whose hashes the page names.
"""

import base64
import contextlib
import hashlib
import json
import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import timedelta
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from elegan.disk import write_whole
from elegan.errors import CheckpointError
from elegan.options import type_name
from elegan.run import events
from elegan.run.directory import SCORES, RunDirectory
from elegan.training.loop import Event
from elegan.view.frames import Shown, shown, spread
from elegan.view.history import Curve, History, history
from elegan.view.repeat import as_json, game_file, repeat, resume, spelled, unusual, use
from elegan.view.scores import number

NAME = "index.html"
HERE = Path(__file__).parent
FRAMES = 60
FRAMES_BYTES = 1_500_000  # of all frames
PICTURE_BYTES = 150_000
LEAST_SECONDS = 10.0
BUILDS_COST = 100  # the interval is at least so many times what the last build took

PICTURES = {
    "moves": "How the players move. Real points, drawn points, and behind them what the judge makes of the plane.",
    "interpolation": "From one noise to another. Each row walks from the sample at its left to the one at its right.",
    "classes": "One row a class, and the same noise down each column.",
    "nearest": "Samples, each at the left of the training images nearest to it: copies would show.",
}
PANELS = {
    "terms": ("Terms of the losses", "What each player minimises, by player and term."),
    "scores": ("Scores", "Of samples of the average, against the data; the protocol stands in scores.jsonl."),
    "logits": ("Logits of the judge", "Their means over real and over drawn samples."),
    "right": ("Told apart", "Share of pairs, one real and one drawn, in which the judge is right; 0.5 is a guess."),
    "gradients": ("Gradients", "Norm of the gradient of each move."),
    "speeds": ("Speed", "Real images read in a second."),
    "rates": ("Learning rates", "Of each turn."),
}
PLAIN = {
    "shards": 1,
    "seed": 0,
    "images": None,
    "until_still": None,
    "score": 0,
    "rescue": False,
    "keep": 2,
}  # training settings of which most runs say nothing


class Page:
    """A listener that keeps the page of a run up to date; inside a `with`, the last page is written on leaving.

    A page that cannot be written is said once and never ends a training.
    """

    def __init__(self, run: RunDirectory):
        self.run = run
        self.due = 0.0
        self._failed = False
        self._known: dict[tuple[Path, int], Shown | None] = {}

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_: object) -> None:
        self.write()

    def __call__(self, event: Event) -> None:
        """Build anew if the last build is long enough ago for it to cost less than a hundredth of the time."""
        if time.monotonic() >= self.due:
            self.write()

    def write(self) -> None:
        """Build now."""
        start = time.monotonic()
        try:
            write(self.run, self._known)
        except Exception as error:  # whatever is wrong with a page, the run is worth more
            if not self._failed:
                reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
                warnings.warn(f"{self.run.path / NAME} cannot be written ({reason}); training goes on.", stacklevel=2)
            self._failed = True
        now = time.monotonic()
        self.due = now + max(LEAST_SECONDS, BUILDS_COST * (now - start))


def write(run: RunDirectory, known: dict[tuple[Path, int], Shown | None] | None = None) -> Path:
    """Write RUN/index.html, whole or not at all. `known` remembers pictures between two builds.

    Raises `CheckpointError` if options.json is damaged, `OSError` if the disk refuses.
    """
    path = run.path / NAME
    known = {} if known is None else known
    try:
        text = build(run, known)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:  # events and scores are checked
        raise CheckpointError(f"{run.options_file} is damaged ({type(error).__name__}: {error}).") from error
    for key in list(known)[: -FRAMES - len(PICTURES)]:
        del known[key]
    write_whole(path, text.encode("utf-8", "backslashreplace"))
    return path


def build(run: RunDirectory, known: dict[tuple[Path, int], Shown | None]) -> str:
    """The page as text, from the options, the events and the pictures of a run."""
    plan = run.read_options()
    total = plan["training"]["steps"]
    told = history(events.read(run.events_file), total)
    style, script = ((HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    panels = {name: [asdict(curve) for curve in getattr(told, name)] for name in PANELS}
    data = json.dumps({"step": told.step, "panels": panels}, allow_nan=False, separators=(",", ":"))
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{plan['game']} on {Path(plan['data']['name']).name}"),
        policy=f"default-src 'none'; img-src data:; style-src '{digest(style)}'; script-src '{digest(script)}'; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        data=data.replace("<", "\\u003c"),
        head=head(plan, told, total),
        frames=frames(run, told.step, known),
        scores=scores(run),
        curves=curves(told),
        pictures=pictures(run, known),
        options=options(plan, told),
        commands=commands(run, plan, told),
    )


def digest(text: str) -> str:
    """The name of a script or style in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# ---- the sections of a page, from top to bottom


def head(plan: Mapping[str, Any], told: History, total: int) -> str:
    """What the run is, how far it is, and how fast it went."""
    preset = "" if plan.get("preset", "none") == "none" else f", preset {plan['preset']}"
    compute = plan["compute"]
    facts = {
        "step": f"{told.step:,} of {total:,}",
        "images read": f"{told.images:,}",
        "time": str(timedelta(seconds=round(told.seconds))),
        "images a second": f"{told.rate:,.0f}" if told.rate else "–",
        "computed with": f"{compute['device']}, {compute['precision']}, {compute['threads']} thread"
        + "s" * (compute["threads"] != 1),
        "begun": plan.get("created", "")[:16].replace("T", " "),
    }
    written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(told.written)) if told.written else "before its start"
    state = escape(told.state) + (f" <small>as of {written}; reload for more</small>" * (told.state == "training"))
    kind = "ended" if told.state.startswith("stopped by") else told.state.partition(" ")[0]
    return (
        f'<p class="about">{escape(str(plan["data"].get("about", "")) + preset)}</p>\n'
        f'<p class="state {kind}"><span>{state}</span>'
        f'<progress aria-label="Steps made" max="{total}" value="{min(told.step, total)}"></progress></p>\n'
        f'<dl class="facts">{pairs(facts.items())}</dl>'
    )


def frames(run: RunDirectory, step: int, known: dict[tuple[Path, int], Shown | None]) -> str:
    """The grids drawn so far, of which one shows, and the slider that chooses it."""
    found = {int(path.stem): path for path in run.samples.glob("[0-9]*.png") if path.stem.isdecimal()}
    steps = sorted(s for s in found if s <= step)  # what a resume has yet to draw again counts not
    if not steps:
        return '<p class="none">Nothing is drawn yet.</p>'
    room = FRAMES_BYTES // FRAMES
    sizes = [len(ready.source) * 3 // 4 for s in (steps[0], steps[-1]) if (ready := picture(found[s], room, known))]
    chosen = spread(steps, min(FRAMES, max(2, FRAMES_BYTES // max(sizes, default=room))))
    ready = [(s, got) for s in chosen if (got := picture(found[s], room, known))]
    if not ready:
        return '<p class="none">What was drawn cannot be read.</p>'
    images = [image(got, f"Samples at step {s:,}", hidden=s != ready[-1][0], step=s) for s, got in ready]
    last = len(ready) - 1
    slider = (
        '<div class="player"><button type="button" id="play" aria-pressed="false">Play</button>'
        f'<input type="range" id="slider" min="0" max="{last}" value="{last}" aria-label="Step of the samples shown" '
        f'aria-valuetext="step {ready[-1][0]:,}">'
        f'<output for="slider">step <b id="shown">{ready[-1][0]:,}</b></output></div>'
    )
    return f'<div class="frames">{"".join(images)}</div>{slider if last else ""}'


def curves(told: History) -> str:
    """A place for each panel of curves; the script draws them."""
    places = []
    for name, (title, about) in PANELS.items():
        drawn: list[Curve] = getattr(told, name)
        if drawn:
            missing = sum(c.missing for c in drawn)
            note = f" {missing:,} values were not finite and are left out." if missing else ""
            places.append(
                f'<section class="panel" data-panel="{name}"><header><h3>{title}</h3>'
                f'<button type="button" class="log" aria-pressed="false">log scale</button></header>'
                f'<p class="hint">{about}{note}</p><div class="plot"></div><div class="legend"></div></section>'
            )
    if told.undone:
        steps = "step has" if told.undone == 1 else "steps have"
        places.append(
            f'<p class="note">{told.undone:,} logged {steps} moves that were not finite; they were undone.</p>'
        )
    return "".join(places) or '<p class="none">No step is logged yet.</p>'


def scores(run: RunDirectory) -> str:
    """What the run was scored, if it was: a table for each count of samples and reference, of the latest of each."""
    tables: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for line in scored(run):
        p = line["protocol"]
        alike = tables.setdefault((p["count"], p["reference"], p.get("fingerprint"), p.get("reference_count")), {})
        alike[line["label"]] = line
    parts = []
    for (count, reference, *_), lines in tables.items():
        head = "".join(f"<th scope='col'>{name}</th>" for name in ("score", "value", "floor", "baseline"))
        body = "".join(score_row(label, line) for label, line in lines.items())
        at = ", ".join(
            sorted({f"step {line['step']:,}" for line in lines.values() if isinstance(line.get("step"), int)})
        )
        parts.append(
            f"<table><caption>{escape(f'{count:,} samples against {reference}' + (f', {at}' if at else ''))}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )
    about = "With 95 % intervals; floor: real samples; baseline: a mixture of Gaussians. All of it is in scores.jsonl."
    shown = f'<p class="hint">{about}</p><div class="scores">{"".join(parts)}</div>'
    return f"<section><h2>Scores</h2>{shown}</section>" if parts else ""


def score_row(label: str, line: Mapping[str, Any]) -> str:
    low, high = line.get("low"), line.get("high")
    ends = f"<small>{number(low)} to {number(high)}</small>" if low is not None and high is not None else ""
    cells = f"{number(line['value'])}{ends}", number(line.get("floor")), number(line.get("baseline"))
    return f"<tr><th scope='row'>{escape(label)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def scored(run: RunDirectory) -> Iterator[Mapping[str, Any]]:
    """The lines of scores.jsonl that hold a score with a value."""
    path = run.path / SCORES
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else ():
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):  # torn, or foreign
            line = json.loads(text)
            numbers = [line[name] for name in ("value", "low", "high", "floor", "baseline") if line[name] is not None]
            known = isinstance(line["protocol"]["reference"], str) and type(line["protocol"]["count"]) is int
            if line["value"] is not None and known and all(math.isfinite(number) for number in numbers):
                yield {**line, "label": str(line["label"])}


def pictures(run: RunDirectory, known: dict[tuple[Path, int], Shown | None]) -> str:
    """What was drawn at the end, if anything was."""
    found = [(caption, picture(run.path / "pictures" / f"{name}.png", PICTURE_BYTES, known), name)
             for name, caption in PICTURES.items()]  # fmt: skip
    figures = [
        f'<figure class="{name}">{image(got, caption)}<figcaption>{caption}</figcaption></figure>'
        for caption, got, name in found
        if got
    ]
    return f"<section><h2>Pictures</h2>{''.join(figures)}</section>" if figures else ""


def options(plan: Mapping[str, Any], told: History) -> str:
    """Everything the run was made with; what differs from a default is marked and says the default."""
    file, data = game_file(plan["game"]), plan["data"]
    defaults = {name: as_json(value) for name, value in file.defaults().items()} if file else {}
    helps = {option.name: f"{option.help} ({type_name(option.type)})" for option in file.options} if file else {}
    usual = {**PLAIN, **(file.recipe if file else {})}
    where = {"name": data["name"], **({"path": data["path"]} if data["path"] else {})}
    parts = {
        f"The game, {plan['game']}": table(plan["options"], defaults, helps),
        "Training": table(plan["training"], usual),
        "Data": table({**where, "count": data["count"], **data["form"], **fields(plan["spec"]),
                       "fingerprint": data["fingerprint"]}),
        "Computed with": table(plan["compute"]),
        "Versions": table({"elegan": plan.get("elegan"), **plan.get("versions", {}), "begun": plan.get("created")}),
    }  # fmt: skip
    if told.changes:
        changes: dict[int, dict[str, Any]] = {}
        for step, change in told.changes:
            changes[step] = changes.get(step, {}) | change
        parts["Changed during the run"] = table({f"at step {step:,}": words(made) for step, made in changes.items()})
    if told.alarms:
        parts["Alarms"] = table({f"at step {step:,}, {name}": said for step, name, said in told.alarms})
    return "".join(f"<section><h3>{escape(title)}</h3>{body}</section>" for title, body in parts.items())


def commands(run: RunDirectory, plan: Mapping[str, Any], told: History) -> str:
    """Lines to copy: the same run again, the same run further, samples from it."""
    lines = {
        "The same run again": repeat(plan),
        "Go on with it": resume(run.path, plan, told.step),
        "Use it": use(run.path, plan),
    }
    shown = "".join(
        f'<h3>{title}</h3><div class="command"><pre tabindex="0"><code>{unbroken(line)}</code></pre>'
        f'<button type="button" class="copy">Copy</button></div>'
        for title, line in lines.items()
        if line
    )
    note = "The same machine, versions and data give the same weights, to the bit."
    if told.changes:
        note += " What was changed during the run is not in the command."
    return f'{shown}<p class="hint">{note}</p>'


# ---- parts of sections


def picture(path: Path, room: int, known: dict[tuple[Path, int], Shown | None]) -> Shown | None:
    """A picture for the page, packed once as long as its file does not change."""
    try:
        key = (path, path.stat().st_mtime_ns)
    except OSError:
        return None
    known[key] = known.pop(key) if key in known else shown(path, room)  # the last are those of this build
    return known[key]


def image(got: Shown, says: str, *, hidden: bool = False, step: int | None = None) -> str:
    marks = f"{f' data-step={step}' if step is not None else ''}{' class=pixels' * got.pixels}{' hidden' * hidden}"
    return f'<img src="{got.source}" width="{got.width}" height="{got.height}" alt="{says}"{marks}>'


def pairs(facts: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts if value)


def table(
    values: Mapping[str, Any], usual: Mapping[str, Any] | None = None, helps: Mapping[str, str] | None = None
) -> str:
    """Names and values; those that are not `usual` are marked, with what is."""
    helps, rows = helps or {}, []
    other = unusual({n: v for n, v in values.items() if usual and n in usual}, usual or {})
    for name, value in values.items():
        was = f" <small>default {escape(spelled(usual[name]))}</small>" if usual and name in other else ""
        text = f"<small>{escape(helps[name])}</small>" if name in helps else ""
        mark = ' class="other"' if name in other else ""
        label = escape(name.replace("_", " "))
        rows.append(f"<tr{mark}><th scope='row'>{label}</th><td>{escape(spelled(value))}{was}{text}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


def fields(spec: Mapping[str, Any]) -> dict[str, str]:
    """The fields of the data in a few words each."""
    return {
        f"field {name}": " × ".join(str(n) for n in field.get("shape", [])) + f" {field.get('kind')}"
        + (f", {field['classes']} classes" if field.get("classes") else "")
        for name, field in spec.items()
    }  # fmt: skip


def unbroken(line: str) -> str:
    """A command line in which only whole words go to the next line: a flag is not broken at its hyphens."""
    return " ".join(f"<span>{escape(word)}</span>" for word in line.split(" "))


def words(change: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {spelled(value)}" for name, value in change.items())
