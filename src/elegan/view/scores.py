"""Scores as text: a table for people, with what was compared above it and what to mind below."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elegan.metrics.protocol import Protocol, Score

ARROWS = {"lower": "↓", "higher": "↑", "near": "≈"}


def table(groups: Sequence[Sequence["Score"]]) -> str:
    """Each group of scores, of one subject against one reference, as a table; "" if there are none."""
    return "\n\n".join(one(scores) for scores in groups if scores)


def one(scores: Sequence["Score"]) -> str:
    """A table of the scores of one subject."""
    first = scores[0]
    head = [f"{first.subject}: {count(first.protocol.count)}", *against(scores)]
    rows = [
        (f"{s.label} {ARROWS[s.better]}", number(s.value), interval(s), number(s.floor), number(s.baseline))
        for s in scores if s.value is not None
    ]  # fmt: skip
    parts = [head, columns([("score", "value", "95 % interval", "floor", "baseline"), *rows]) if rows else []]
    return "\n\n".join("\n".join(part) for part in [*parts, notes(scores)] if part)


def against(scores: Sequence["Score"]) -> list[str]:
    """What the scores were measured by, a line each: the reference, the features, what stands beside them."""
    p = scores[0].protocol
    lines = [f"against {p.reference}: {count(p.reference_count)}, fingerprint {p.fingerprint[:12] or 'unknown'}"]
    lines += [features(s.protocol) for s in scores if s.protocol.embedder]
    lines += [s.beside for s in scores if s.beside]
    return list(dict.fromkeys(lines))


def features(p: "Protocol") -> str:
    """The embedder, with the beginning of its hash, and what it was fed."""
    return f"features {p.embedder}{f' {p.weights[:12]}' if p.weights else ''}: {p.input}"


def notes(scores: Sequence["Score"]) -> list[str]:
    """What to mind, a line each, and why there is no value; the same of several scores once."""
    found: dict[str, list[str]] = {}
    for score in scores:
        if score.note:
            found.setdefault(score.note, []).append(score.label if score.value is not None else f"no {score.label}")
    return [f"{', '.join(labels)}: {note}" for note, labels in found.items()]


def count(samples: int) -> str:
    return f"{samples:,} sample{'s' * (samples > 1)}" if samples else "an unknown number of samples"


def number(value: float | None) -> str:
    """To four digits, small ones to two; a dash for what there is none of."""
    if value is None:
        return "–"
    if abs(value) < 1e6 and value == int(value):
        return f"{int(value):,}"
    if abs(value) >= 100:
        return f"{value:,.2f}" if abs(value) < 1e9 else f"{value:.4g}"
    return f"{value:.4g}" if abs(value) >= 1e-3 else f"{value:.1e}"


def interval(score: "Score") -> str:
    return "–" if score.low is None or score.high is None else f"{number(score.low)} to {number(score.high)}"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells under each other: the first flush left, the others right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
