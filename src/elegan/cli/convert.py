"""`elegan convert FOREIGN …`."""

from collections.abc import Sequence

from elegan.cli.parser import REQUIRED, Verb
from elegan.options import Option

VERB = Verb(
    "convert",
    "Take the weights out of model files of other programs, without running anything that they hold.",
    (Option("foreign", tuple[str, ...], REQUIRED, ".pt, .pth, .pkl or .safetensors; two for the players of a DCGAN"),),
    {
        "Options": (
            Option("out", str | None, None, "new .safetensors file, or directory of a run; by default beside the file"),
            Option("layout", str, "auto", "whose names they are: dcgan-tutorial, stylegan2-ada, plain, or auto"),
        )
    },
)


def main(tokens: Sequence[str]) -> int:
    typed = VERB.parse(tokens)
    if typed is None:
        return 0
    from elegan import api

    made = api.convert(*typed.pop("foreign", ()), **typed)
    print(made)
    if made.path.is_dir():
        first = f"{made.fresh[0]} was not given, and has first weights; " if made.fresh else ""
        print(f"{first}draw from it: elegan sample {made.path}")
    return 0
