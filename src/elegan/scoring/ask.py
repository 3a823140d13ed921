"""People judge a run: a page where they tell real samples from drawn ones, and the score their answers make."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from elegan.data.form import Form
from elegan.errors import DataError, OptionError
from elegan.metrics.catalogue import Measured
from elegan.metrics.estimate import Estimate
from elegan.metrics.evaluation import scored
from elegan.metrics.features import Features
from elegan.metrics.human import Judged, judged_by, summary
from elegan.metrics.protocol import Protocol, Score, versions
from elegan.scoring.evaluate import Evaluation, resolve, written
from elegan.view.people import People, serve
from elegan.view.sheet import seen

FOLDER = "people"
STYLES = {"one": "one", "two": "pair"}


def ask(
    what: Any,
    *,
    against: Any = None,
    split: str | None = None,
    seed: int = 0,
    checkpoint: str = "newest",
    style: str = "one",
    questions: int = 50,
    out: str | os.PathLike[str] | None = None,
    port: int = 0,
    ready: Callable[[str], object],
    **reading: Any,
) -> Evaluation:
    """Serve a page where people judge samples of a run, or of data, until Ctrl-C; then score all answers so far.

    what, against, split, seed, checkpoint, reading: as in `evaluate`. style: "one" picture at a time, real or not, the
    error rate of which is HYPE∞; or "two" side by side, one of which is real. questions: for each person.
    out: where answers.jsonl and scores.jsonl are kept; by default RUN/people and RUN. ready: told the page's address.
    Raises `DataError` for what is no pictures, or too few of them.
    """
    if style not in STYLES:
        raise OptionError(f"--style {style!r} is neither one nor two.")
    if type(questions) is not int or not 1 <= questions <= 1_000:
        raise OptionError(f"--questions {questions} is not between 1 and 1000.")
    found = resolve(what, against, split, Form.of(reading) if reading else None, questions, seed, checkpoint)
    drawn, reference = found.drawn, found.reference
    real = reference.compared if reference else None
    if real is None or isinstance(real, Features) or isinstance(drawn, Features) or len(real.shape) != 3:
        raise DataError("people judge pictures: give a run or data of images, and a reference that has some.")
    home = Path(out) if out is not None else found.home
    if home is None:
        raise OptionError("say where to keep the answers by --out.")
    shown, guessed = (seen(one.all(), one.mode) for one in (real, drawn))
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    try:
        page = People(shown, guessed, out=folder, style=STYLES[style], questions=questions, seed=seed)  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        raise DataError(f"{drawn.name} against {real.name}: {error}.") from error
    serve(page, summary, port=port, ready=ready)
    answers = page.answers()
    if not answers:
        return Evaluation(drawn.name, [])
    protocol = Protocol(
        "", "", "", real.name, real.fingerprint, real.count, drawn.count, seed=seed, versions=versions()
    )
    scores = told(drawn.name, judged_by(answers), style, len(answers), protocol)
    evaluation = Evaluation(drawn.name, scores)
    evaluation.files = [page.file, *written(home, evaluation, found.model.step if found.model else None)]
    return evaluation


def told(subject: str, judged: Judged, style: str, answers: int, protocol: Protocol) -> list[Score]:
    """What people's answers score: wrong ones, over all and by what was shown. Half is indistinguishable."""
    who = f"{answers:,} answers of {len(judged.people):,} {'person' if len(judged.people) == 1 else 'people'}"
    form = {"one": "a picture at a time, untimed", "two": "which of two is real, untimed"}[style]
    names: dict[str, Estimate | None] = {"HYPE∞" if style == "one" else "fooled in pairs": judged.error}
    names |= {"drawn taken for real": judged.on_drawn, "real taken for drawn": judged.on_real}
    found = []
    for name, estimate in names.items():
        if estimate is None:
            continue
        note = f"{who}, p = {judged.p_value:.2g} that all were guesses" if estimate is judged.error else ""
        one = scored(subject, name, Measured(estimate, "higher", form, note, of="people"), protocol)
        if len(judged.people) == 1 and estimate is judged.error:  # that person's own interval
            (own,) = judged.people.values()
            interval = "95 %, Wilson's, of one person's answers"
            one = replace(one, low=own.low, high=own.high, protocol=replace(one.protocol, interval=interval))
        found.append(one)
    return found
