"""`elegan apply RUN INPUT`: the task of the run's game, on files."""

from collections.abc import Sequence
from pathlib import Path

from elegan.cli.parser import REQUIRED, Verb
from elegan.options import Option
from elegan.run.directory import RunDirectory, free_name
from elegan.run.place import writable

VERB = Verb(
    "apply",
    "Translate images by a trained run.",
    (
        Option("run", str, REQUIRED, "directory of the run"),
        Option("input", str, REQUIRED, "an image, a folder of images, or an array file"),
    ),
    {
        "Options": (
            Option("direction", str, "ab", "ab or ba"),
            Option("out", str | None, None, "new directory for the results; by default RUN/applied-001"),
        )
    },
)


def main(tokens: Sequence[str]) -> int:
    typed = VERB.parse(tokens)
    if typed is None:
        return 0
    from elegan import api

    run, out = Path(typed["run"]), typed.get("out")
    RunDirectory.open(run)
    writable(run if out is None else Path(out), empty=out is not None)
    results = api.apply(run, typed["input"], direction=typed.get("direction", "ab"))
    written = results.save(out if out is not None else free_name(run, "applied"))
    print(f"{len(results)} results in {written[0].parent}; look at {written[0]}")
    return 0
