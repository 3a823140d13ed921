"""`elegan sample RUN`: the verb's flags, and those of the run's game."""

from collections.abc import Sequence
from pathlib import Path

from elegan import zoo
from elegan.cli.parser import REQUIRED, Verb
from elegan.options import Option
from elegan.run.directory import RunDirectory, free_name
from elegan.run.place import writable

ARGUMENTS = (Option("run", str, REQUIRED, "directory of the run; nothing else is needed"),)
FLAGS = (
    Option("n", int, 64, "how many"),
    Option("seed", int, 0, "sample k of a seed is the same however many are drawn"),
    Option("checkpoint", str, "newest", "newest, or best: that of the best score while it trained"),
    Option("out", str | None, None, "new directory for grid.png and one file per sample; by default RUN/drawn-001"),
)  # fmt: skip


def main(tokens: Sequence[str]) -> int:
    typed = verb(tokens).parse(tokens)
    if typed is None:
        return 0
    from elegan import api

    run, out = Path(typed.pop("run")), typed.pop("out", None)
    model = api.load(run, checkpoint=typed.pop("checkpoint", "newest"))
    writable(run if out is None else Path(out), empty=out is not None)
    samples = model.sample(typed.pop("n", 64), **typed)
    written = samples.save(out if out is not None else free_name(run, "drawn"))
    print(f"{len(samples)} samples in {written[0].parent}; look at {written[0]}")
    return 0


def verb(tokens: Sequence[str]) -> Verb:
    """The verb with the flags of the game of the run that the tokens name, if they name one."""
    groups: dict[str, Sequence[Option]] = {"Options": FLAGS}
    about = "Draw samples from a run."
    run = next((RunDirectory(token) for token in tokens if RunDirectory(token).exists()), None)
    if run is not None:
        game = zoo.describe(run.read_options()["game"])
        groups[f"Options of {game.name}"] = game.sample_options
    else:
        about += " 'elegan sample RUN --help' shows what the run's game takes besides (a label, truncation)."
    return Verb("sample", about, ARGUMENTS, groups)
