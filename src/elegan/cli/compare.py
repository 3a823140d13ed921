"""`elegan compare RUN RUN …`: scores, curves and samples of several runs side by side."""

from collections.abc import Sequence

from elegan.cli.parser import REQUIRED, Verb
from elegan.options import Option

VERB = Verb(
    "compare",
    "Put runs side by side: their scores, in one table only where protocols agree, their samples and their curves.",
    (Option("runs", tuple[str, ...], REQUIRED, "directories of runs, two or more"),),
    {"Options": (Option("out", str, "compare.html", "the page to write"),)},
)


def main(tokens: Sequence[str]) -> int:
    typed = VERB.parse(tokens)
    if typed is None:
        return 0
    from elegan import api

    found = api.compare(*typed.pop("runs", ()), **typed)
    print(found)
    print(f"\nlook at {found.page}")
    return 0
