"""`elegan train [GAME] [DATA]`: verb flags, and the flags of the game."""

from collections.abc import Collection, Sequence
from os.path import exists

from elegan import zoo
from elegan.cli.parser import Verb
from elegan.data.form import form_options
from elegan.errors import ElegantError, OptionError
from elegan.options import GameFile, Option

GAME, DATA = "cgan", "digits"

ARGUMENTS = (
    Option("game", str, GAME, "a game of the zoo; 'elegan zoo list' has them all"),
    Option("data", str, DATA, "bundled data by name, or a path"),
)
FLAGS = (
    Option("out", str | None, None, "directory of the run; by default runs/GAME-DATA-001 and so on"),
    Option("steps", int | None, None, "training steps"),
    Option("images", int | None, None, "real images to show, instead of --steps"),
    Option("batch", int | None, None, "samples of a step"),
    Option("shards", int, 1, "equal parts of a batch, worked off one by one or dealt to processes"),
    Option("seed", int, 0, "of all randomness"),
    Option("preset", str | None, None, "named settings of the game, or none; by default those called like the data"),
    Option("half_life_images", int | None, None, "half-life of the moving average, in images"),
    Option(
        "until_still", float | None, None, "stop once 1,000 steps change the parameters by less than this, relatively"
    ),
    Option("track", str | None, None, "tell the run to other tools as it goes, into RUN/track: tensorboard"),
    Option("rescue", bool, False, "let an alarm (collapse, a judge too strong …) apply its remedy, and log it"),
    Option("keep", int, 2, "newest checkpoints that stay on the disk, beside the best and the last healthy one"),
    Option("score", int, 0, "score so many samples now and then and keep the best checkpoint; 0 scores none"),
)
MACHINE = (
    Option("device", str, "auto", "auto, cpu, or cuda"),
    Option("threads", int | None, None, "threads; by default as a short probe advises"),
    Option("precision", str, "auto", "auto, fp32, or bf16; auto as a short probe advises"),
)  # fmt: skip


def main(tokens: Sequence[str]) -> int:
    """Parse, train with a progress display, and say where everything is."""
    typed = verb(tokens).parse(tokens)
    if typed is None:
        return 0
    from elegan import api
    from elegan.cli.progress import Progress, Steps, finish

    with Steps() as steps:
        game, data = typed.pop("game", GAME), typed.pop("data", DATA)
        model = api.train(game, data, progress=steps.then(Progress), reading=steps, **typed)
    return finish(model)


def verb(tokens: Sequence[str]) -> Verb:
    """The verb with the flags of the game that the tokens name; with those of none if they name none."""
    groups: dict[str, Sequence[Option]] = {"Training": FLAGS, "Data": form_options(), "Machine": MACHINE}
    game = named(tokens)
    if game is None:
        games = "".join(f"\n  {name:10} {zoo.describe(name).title.split(':')[0]}" for name in zoo.names())
        about = f"Train a game on data.\n\nGames (elegan train GAME --help shows the options of one):\n{games}"
        groups[f"Options of {GAME}, the default game"] = zoo.describe(GAME).options
    else:
        about = f"{game.title}.\n\n{presets(game)}"
        groups[f"Options of {game.name}"] = game.options
        misplaced(tokens, game, {option.flag for options in groups.values() for option in options})
    return Verb("train", about, ARGUMENTS, groups)


def misplaced(tokens: Sequence[str], game: GameFile, known: Collection[str]) -> None:
    """Raise `OptionError` for a flag that only other games have, and say which."""
    flags = {token.partition("=")[0] for token in tokens if token.startswith("--")}
    for flag in sorted(flags - {*known}):
        if owners := [name for name in zoo.names() if flag in {o.flag for o in zoo.describe(name).options}]:
            raise OptionError(f"{game.name} has no option {flag}; it is for {', '.join(owners)}.")


def presets(game: GameFile) -> str:
    return f"Presets: {', '.join(game.presets)}." if game.presets else ""


def named(tokens: Sequence[str]) -> GameFile | None:
    """The game the tokens name. Raises `OptionError` for a first argument that is no game."""
    if found := next((token for token in tokens if token in zoo.names()), None):
        return zoo.describe(found)
    if tokens and not tokens[0].startswith("-"):
        try:
            zoo.describe(tokens[0])
        except ElegantError as error:
            from elegan.data.sources import known_data

            if tokens[0] in known_data() or exists(tokens[0]):
                remedy = f"write 'elegan train GAME {tokens[0]}', with a game such as r3gan"
                raise OptionError(f"{tokens[0]!r} is data, not a game: {remedy}.") from None
            raise error from None
    return None
