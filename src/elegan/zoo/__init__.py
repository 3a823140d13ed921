"""The zoo: one file, one public game; the file's name is the game's name, and dropping a file in registers it.

Listing and describing games reads their files as text; only `build` imports one, and torch with it.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elegan.errors import OptionError, nearest
from elegan.options import GameFile, check, read_game
from elegan.spec import Spec

if TYPE_CHECKING:
    from elegan.game import Game

HERE = Path(__file__).parent


def names() -> list[str]:
    """The names of all games, sorted: `cgan`, `cyclegan`, `dcgan` …"""
    return sorted(path.stem.replace("_", "-") for path in HERE.glob("[!_]*.py"))


def describe(name: str) -> GameFile:
    """What a game's file says of it. Raises `OptionError` for a name that is none, with the nearest that is."""
    path = HERE / f"{name.replace('-', '_')}.py"
    if name not in names():
        raise OptionError(f"no game named {name!r}.{nearest(name, names())}")
    try:
        return read_game(path)
    except (ValueError, SyntaxError) as error:
        raise OptionError(f"the game {name!r} cannot be read: {error}") from error


def game_class(name: str) -> "type[Game]":
    """The class of a game."""
    file = describe(name)
    return getattr(importlib.import_module(f"elegan.zoo.{file.path.stem}"), file.class_name)


def build(name: str, spec: Spec, **options: Any) -> "Game":
    """Build a game for some data. Raises `OptionError` or `DataError` in one line if that makes no sense."""
    return game_class(name)(spec, **options)


@dataclass(frozen=True)
class Settings:
    """What a training of a game is to use, resolved: `options` for its constructor, `training` for the verb."""

    game: str
    preset: str
    options: dict[str, Any]
    training: dict[str, Any]


def settings(name: str, preset: str | None, values: dict[str, Any], data: str = "", kind: str = "") -> Settings:
    """A game's options and training settings: its defaults, under its preset, under the values given.

    preset: a name, `"none"`, or None for the preset called like the data, or else like its kind, if there is one.
    """
    file = describe(name)
    if preset is None:
        preset = next((p for p in (data, kind) if p in file.presets), "none")
    elif preset != "none" and preset not in file.presets:
        raise OptionError(f"{name} has no preset {preset!r}.{nearest(preset, ['none', *file.presets])}")
    chosen = {} if preset == "none" else dict(file.presets[preset])
    known = {option.name for option in file.options}
    training = {**file.recipe, **{n: v for n, v in chosen.items() if n not in known}}
    options = check(file.options, {**{n: v for n, v in chosen.items() if n in known}, **values}, name)
    return Settings(name, preset, options, training)
