"""The page of an inspection, and that of a quarantine list: one file that needs no network and nothing beside it."""

import io
import json
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from elegan.data.curation.clean import Quarantine
from elegan.data.curation.inspect import Finding, Inspection
from elegan.data.curation.parts import Part
from elegan.disk import write_whole
from elegan.view.frames import uri
from elegan.view.page import digest
from elegan.view.sheet import image

REPORT, PAGE = "report.json", "index.html"
HERE = Path(__file__).parent
SIDE = 112  # pixels that a picture is shown in, at most
SMALL = 48  # smaller pictures are shown twice as large
QUALITY = 75  # of WebP, of 100
RANDOM, PER_CLASS, CLASSES = 48, 8, 24
SHOWN = 24  # pictures or groups of a finding
LISTED = 200  # names without pictures
TOGETHER = 4  # pictures of a group
BARS = 32
HISTOGRAMS = {
    "brightness": "Brightness: mean of grey",
    "contrast": "Contrast: standard deviation of grey",
    "sharpness": "Sharpness: log10 of the variance of the Laplacian, over that of grey",
    "entropy": "Entropy of the levels of grey, in bits",
    "width": "Width, in pixels",
    "height": "Height, in pixels",
}
SEVERITIES = {0: "note", 1: "look", 3: "refused"}


def write(found: Inspection, out: Path) -> Path:
    """Write report.json and index.html into a directory; the path of the page. Errors: `OSError`."""
    report = json.dumps(found.to_json(), indent=1, allow_nan=False)
    for name, text in ((REPORT, report), (PAGE, page(found))):
        write_whole(out / name, text.encode())
    return out / PAGE


def page(found: Inspection, *, seed: int = 0) -> str:
    """The page of an inspection as text; the seed chooses the contact sheet."""
    words = {0: "Nothing to say against it.", 1: "There is something to look at.", 3: "train would refuse it."}
    parts = "".join(_part(part, found.facts[f"{part.split}/{part.field}"], seed) for part in found.parts)
    about = "".join(f"<p class='about'>{_said(split)}: {_said(line)}</p>" for split, line in found.about.items())
    return _page(
        f"Inspection of {found.name}",
        f"{about}<p class='state {SEVERITIES[found.severity]}'><span>{words[found.severity]}</span></p>",
        f"<section><h2>Findings</h2>{_findings(found)}</section>{parts}",
    )


def quarantine_page(found: Quarantine) -> str:
    """The page of a quarantine list as text: each sample with its reason, beside the one it doubles."""
    sections = []
    for rule in dict.fromkeys(suspect.rule for suspect in found.suspects):
        those = [suspect for suspect in found.suspects if suspect.rule == rule]
        figures = []
        for suspect in those[:LISTED]:
            names = [suspect.name, *([suspect.like] if suspect.like else [])]
            pictures = [_picture(lambda name=name: found.picture(name), name) for name in names]
            score = f"; score {suspect.score:g}, threshold {suspect.threshold:g}"
            words = suspect.reason + score * (suspect.score != suspect.threshold)
            marks = [f"said to be {suspect.class_name!r}"] * bool(suspect.class_name and suspect.suggested)
            figures.append(_figure(pictures, " · ".join([suspect.name, *marks, words])))
        more = _more(len(those) - LISTED, "on the list")
        title = f"<h2>{_said(rule)} <small>{len(those):,}</small></h2>"
        sections.append(f"<section>{title}<div class='sheet wide'>{''.join(figures)}</div>{more}</section>")
    lines = str(found).split("\n")
    head = f"<p class='about'>{_said(lines[0])}</p>" + "".join(
        f"<p class='about'>{_said(rule)} was skipped: {_said(why)}</p>" for rule, why in found.skipped.items()
    )
    return _page(f"Quarantine of {found.name}", head, "".join(sections) or "<p class='none'>Nobody is on the list.</p>")


def _page(title: str, head: str, body: str) -> str:
    names = ("inspection.html", "page.css", "inspection.css", "page.js")
    html, basis, style, script = ((HERE / name).read_text(encoding="utf-8") for name in names)
    style = basis + style
    return Template(html).substitute(
        title=_said(title),
        policy=f"default-src 'none'; img-src data:; style-src '{digest(style)}'; script-src '{digest(script)}'; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        head=head,
        body=body,
    )


def _findings(found: Inspection) -> str:
    if not found.findings:
        return "<p class='none'>There are none.</p>"
    known = {(part.split, name): (part, k) for part in reversed(found.parts) for k, name in enumerate(part.names)}
    return "".join(_finding(one, known) for one in found.findings)


def _finding(one: Finding, known: dict[tuple[str, str], tuple[Part, int]]) -> str:
    def picture(split: str, name: str) -> str:
        part, k = known.get((split, name), (None, 0))
        return _picture(lambda: part.picture(k), name) if part is not None and part.kind == "image" else ""

    figures, lines = [], []
    for line in one.names[:LISTED]:
        names = line.get("group", [line.get("name", "")])
        splits = line.get("splits", [line.get("split", "")] * len(names))
        score = f"score {line['score']:g}" if "score" in line else ""
        note = [line.get("reason", ""), score, f"alike {line['alike']:g}" if "alike" in line else ""]
        marks = [f"{name} ({split})" if split else name for name, split in zip(names, splits, strict=True)]
        words = " · ".join(filter(None, [*marks[:TOGETHER], _rest(len(marks) - TOGETHER), *note]))
        shown = [picture(s, n) for s, n in zip(splits[:TOGETHER], names[:TOGETHER], strict=True)]
        if any(shown) and len(figures) < SHOWN:
            figures.append(_figure(shown, words))
        else:
            lines.append(f"<li>{_said(words)}</li>")
    sheet = f"<div class='sheet wide'>{''.join(figures)}</div>" if figures else ""
    rest = f"<ul>{''.join(lines)}</ul>{_more(len(one.names) - LISTED, 'in report.json')}" if lines else ""
    head = f"<span class='mark {SEVERITIES[one.severity]}'>{SEVERITIES[one.severity]}</span> {_said(one.text)}"
    if not sheet + rest:
        return f"<p class='finding'>{head}</p>"
    listed = f"<details><summary>All names</summary>{rest}</details>" if sheet and rest else rest
    return f"<details class='finding'{' open' * bool(figures)}><summary>{head}</summary>{sheet}{listed}</details>"


def _part(part: Part, facts: dict[str, Any], seed: int) -> str:
    title = f"<h2>{_said(part.split)}, field {_said(part.field)} <small>{len(part):,} samples</small></h2>"
    body = [_table(facts)]
    if part.classes and "classes" in facts:
        counts = facts["classes"]
        body.append(_bars("Samples of each class", list(counts.values()), list(counts)[:LISTED]))
    if part.kind == "image" and len(part):
        draws = [(name, part.glances[name], about) for name, about in HISTOGRAMS.items()]
        draws.append(("aspect", part.glances["width"] / np.maximum(part.glances["height"], 1), "Width over height"))
        body += [_histogram(np.asarray(values, np.float64), about) for _, values, about in draws]
        body = [body[0], f"<div class='panels'>{''.join(body[1:])}</div>", *_sheets(part, seed)]
    return f"<section>{title}{''.join(body)}</section>"


def _sheets(part: Part, seed: int) -> Iterable[str]:
    """A contact sheet of some samples by chance, and of each class."""
    rng = np.random.default_rng(seed)

    def some(places: np.ndarray, count: int) -> str:
        named = [(k, part.names[k]) for k in map(int, np.sort(rng.permutation(places)[:count]))]
        return "".join(_figure([_picture(lambda k=k: part.picture(k), name)], name) for k, name in named)

    yield f"<h3>Some by chance</h3><div class='sheet'>{some(np.arange(len(part)), RANDOM)}</div>"
    for number, name in enumerate(part.classes[:CLASSES]):
        places = np.flatnonzero(part.labels == number)
        yield f"<h3>Class {_said(name)}</h3><div class='sheet'>{some(places, PER_CLASS)}</div>"


def _table(facts: dict[str, Any]) -> str:
    rows = []
    for name, value in facts.items():
        if isinstance(value, dict):
            text = ", ".join(f"{key} ({count:,})" for key, count in list(value.items())[:CLASSES])
            text += _rest(len(value) - CLASSES)
        else:
            text = " · ".join(f"{x:g}" for x in value) if isinstance(value, list) else f"{value}"
        hint = " <small>least, 5 %, 25 %, median, 75 %, 95 %, most</small>" if name in HISTOGRAMS else ""
        rows.append(f"<tr><th scope='row'>{_said(name)}</th><td>{_said(text)}{hint}</td></tr>")
    return f"<table>{''.join(rows)}</table>"


def _histogram(values: np.ndarray, about: str) -> str:
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    counts, edges = np.histogram(values, bins=BARS)
    names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    return _bars(about, counts.tolist(), names, ends=(f"{edges[0]:.3g}", f"{edges[-1]:.3g}"))


def _bars(about: str, counts: Sequence[int], names: Sequence[str], ends: tuple[str, str] | None = None) -> str:
    """Bars in SVG, each with its name and number; for who does not see them, the largest is told."""
    width, height, most = 320, 96, max(counts, default=1) or 1
    step = width / max(len(names), 1)
    bars = "".join(
        f'<rect x="{k * step:.1f}" y="{height - count / most * height:.1f}" width="{max(step - 1, 0.5):.1f}" '
        f'height="{count / most * height:.1f}"><title>{_said(name)}: {count:,}</title></rect>'
        for k, (name, count) in enumerate(zip(names, counts, strict=False))
    )
    top = max(range(len(names)), key=lambda k: counts[k], default=0)
    label = f"{about}; most are {names[top]}: {counts[top]:,}" if names else about
    first, last = ends or (names[0], names[-1]) if names else ("", "")
    marks = (
        f'<text x="0" y="{height + 14}">{_said(first)}</text>'
        f'<text x="{width}" y="{height + 14}" text-anchor="end">{_said(last)}</text>'
    )
    drawn = f'<svg viewBox="0 0 {width} {height + 20}" role="img" aria-label="{_said(label)}">{bars}{marks}</svg>'
    return f'<figure class="bars">{drawn}<figcaption>{_said(about)}</figcaption></figure>'


def _figure(pictures: Sequence[str], words: str) -> str:
    shown = "".join(filter(None, pictures)) or "<span class='none'>no picture</span>"
    return f"<figure><div class='side-by-side'>{shown}</div><figcaption>{_said(words)}</figcaption></figure>"


def _picture(show: Callable[[], np.ndarray | None], name: str) -> str:
    """A picture as part of the page; nothing if it cannot be read any more."""
    try:
        pixels = show()
        if pixels is None:
            return ""
        picture = image(pixels)
    except Exception:  # decoders fed damaged bytes raise what they like, and files go
        return ""
    if picture.mode not in ("L", "RGB"):
        picture = picture.convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    scale = 2 if max(picture.size) < SMALL else 1
    content = io.BytesIO()
    picture.save(content, "PNG" if scale == 2 else "WEBP", quality=QUALITY)
    kind = "png" if scale == 2 else "webp"
    size = f'width="{picture.width * scale}" height="{picture.height * scale}"'
    mark = ' class="pixels"' * (scale == 2)
    return f'<img src="{uri(kind, content.getvalue())}" {size} alt="{_said(name)}"{mark} loading="lazy">'


def _rest(count: int) -> str:
    return f" and {count:,} more" if count > 0 else ""


def _more(count: int, where: str) -> str:
    return f"<p class='hint'>and {count:,} more {where}</p>" if count > 0 else ""


def _said(text: str) -> str:
    """Escaped, also where a name is no UTF-8."""
    return escape(text.encode("utf-8", "backslashreplace").decode())
