"""`elegan zoo list` and `elegan zoo show GAME`. Reads files as text; never imports torch."""

from collections.abc import Mapping, Sequence
from typing import Literal

from elegan import zoo
from elegan.errors import OptionError
from elegan.options import GameFile, Option


def main(tokens: Sequence[str]) -> int:
    if list(tokens) == ["list"]:  # the common case, without a parser to load
        return list_games()
    from elegan.cli.parser import REQUIRED, Verb

    about = "List the games, or show one: its paper, tasks, options and presets."
    what = Option("what", Literal["list", "show"], REQUIRED, "list, or show GAME")
    typed = Verb("zoo", about, (what, Option("game", str | None, None, "a game, to show"))).parse(tokens)
    if typed is None:
        return 0
    if typed["what"] == "list" and "game" not in typed:
        return list_games()
    if typed["what"] == "list":
        raise OptionError(f"zoo list takes no game; see 'elegan zoo show {typed['game']}'.")
    if not typed.get("game"):
        raise OptionError(f"zoo show needs a game: {', '.join(zoo.names())}.")
    return show(zoo.describe(typed["game"]))


def list_games() -> int:
    for name in zoo.names():
        game = zoo.describe(name)
        print(f"{name:12} {'+'.join(game.tasks):28} {game.title}")
    return 0


def show(game: GameFile) -> int:
    print(f"{game.name}: {game.doc}\n")
    print(f"tasks: {', '.join(game.tasks)}")
    print(f"recipe: {_pairs(game.recipe)}")
    for title, options in (("options", game.options), ("options of a sample", game.sample_options)):
        if options:
            print(f"\n{title}:")
        for option in options:
            print(f"  {option.flag:20} {option.type_name:12} {_value(option.default):16} {option.help}")
    if game.presets:
        print("\npresets:")
    for name, preset in game.presets.items():
        print(f"  {name:12} {_pairs(preset)}")
    return 0


def _pairs(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{n}={_value(v)}" for n, v in settings.items()) or "as the defaults"


def _value(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
