"""`elegan resume RUN`."""

from collections.abc import Sequence

from elegan.cli.parser import REQUIRED, Verb
from elegan.options import Option

VERB = Verb(
    "resume",
    "Go on with a run where its newest whole checkpoint stands, to the bit as if it had never stopped.",
    (Option("run", str, REQUIRED, "directory of the run"),),
    {
        "Options": (
            Option("steps", int | None, None, "a new total of steps; it can only be raised"),
            Option("extend", int | None, None, "so many steps more than the run was made for, instead of --steps"),
            Option("track", str | None, None, "tell the run to other tools as it goes, into RUN/track: tensorboard"),
            Option("score", int | None, None, "samples to score now and then; by default as the run was begun"),
        )
    },
)


def main(tokens: Sequence[str]) -> int:
    typed = VERB.parse(tokens)
    if typed is None:
        return 0
    from elegan import api
    from elegan.cli.progress import Progress, finish

    return finish(api.resume(typed.pop("run"), progress=Progress, **typed))
