"""`elegan edit interpolate RUN`: moving through what a run has learned."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from elegan.cli.parser import REQUIRED, Verb
from elegan.options import Option
from elegan.run.directory import free_name
from elegan.run.place import writable

VERB = Verb(
    "edit",
    "Move through what a run has learned. interpolate: rows of samples, each from one noise to another.",
    (
        Option("what", Literal["interpolate"], REQUIRED, "what to do"),
        Option("run", str, REQUIRED, "directory of the run; nothing else is needed"),
    ),
    {
        "Options": (
            Option("rows", int, 8, "how many ways through the noise"),
            Option("steps", int, 10, "samples of a row, with both ends"),
            Option("seed", int, 0, "row k goes from sample k of this seed to sample k of the next"),
            Option("label", int | None, None, "the class of all rows; by default one after the other"),
            Option("out", str | None, None, "new directory for grid.png and one file per sample; "
                                            "by default RUN/interpolated-001"),
        )
    },
)  # fmt: skip


def main(tokens: Sequence[str]) -> int:
    typed = VERB.parse(tokens)
    if typed is None:
        return 0
    from elegan import api

    run, out = Path(typed.pop("run")), typed.pop("out", None)
    typed.pop("what")
    model = api.load(run)
    writable(run if out is None else Path(out), empty=out is not None)
    samples = model.interpolate(**typed)
    written = samples.save(out if out is not None else free_name(run, "interpolated"))
    print(f"{len(samples)} samples in {written[0].parent}; look at {written[0]}")
    return 0
