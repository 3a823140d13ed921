"""What a lab can be opened with: games that take points in the plane, data, and the lab's own default."""

import re
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import numpy as np
from torch import nn

import elegan
from elegan import zoo
from elegan.data.readers import toys
from elegan.data.source import vector_field
from elegan.options import Option, type_name
from elegan.spec import Spec
from elegan.studio.setup import Setup
from elegan.tasks.judge import side_of

PLANE = Spec(real=vector_field(np.array([[-1.0, -1.0], [1.0, 1.0]])))
TRAINED = Path(__file__).parent / "trained"


def catalogue() -> dict[str, Any]:
    """All of it as JSON, `Catalogue` of the page's contract but for `exports`, which the server knows."""
    return {
        "kind": "catalogue",
        "version": elegan.__version__,
        "games": [described(name) for name in playable()],
        "data": [{"name": name, "about": about} for name, about in toys.ABOUT.items()],
        "trained": sorted(path.stem for path in TRAINED.glob("*.safetensors")),
        "setup": Setup().model_dump(),
    }


@cache
def playable() -> list[str]:
    """The games that can be trained on points in the plane and drawn from, by name."""
    return [name for name in zoo.names() if _plays(zoo.game_class(name))]


def _plays(game: Any) -> bool:
    return "generation" in game.tasks and not game.accepts(PLANE)


@cache
def described(name: str) -> dict[str, Any]:
    """A game as the page shows it."""
    file = zoo.describe(name)
    chosen = zoo.settings(name, None, {}, kind="vector")
    game = zoo.build(name, PLANE, **chosen.options)
    sides = {side_of(turn) for phase in game.phases() for turn in phase.turns()}
    return {
        "name": name,
        "title": file.title,
        "paper": paper(file.doc),
        "options": [option(one) for one in file.options],
        "presets": {preset: plain(values) for preset, values in file.presets.items()},
        "players": ["D", "G"] if "judge" in sides else ["G"],
    }


def option(one: Option) -> dict[str, Any]:
    """An option as the page shows it. The choices are those of its `Literal`, as text."""
    kinds = get_args(one.type) if NoneType in get_args(one.type) else (one.type,)
    literal = next((kind for kind in kinds if get_origin(kind) is Literal), None)
    return {
        "name": one.name,
        "type": type_name(one.type),
        "choices": None if literal is None else [str(value) for value in get_args(literal)],
        "optional": NoneType in kinds,
        "default": plain(one.default),
        "help": one.help,
    }


def paper(doc: str) -> str:
    """The first arXiv number of a docstring, or nothing."""
    found = re.search(r"\b\d{4}\.\d{4,5}\b", doc)
    return found[0] if found else ""


def plain(value: Any) -> Any:
    """Options as JSON has them."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return list(value) if isinstance(value, tuple) else value


def layers(player: nn.Module) -> list[dict[str, Any]]:
    """The layers of a player that hold weights, from its input on, with their units."""
    found: list[dict[str, Any]] = []
    for module in player.modules():
        sizes = vars(module)
        if isinstance(module, nn.Linear):
            found += [] if found else [{"kind": "input", "size": module.in_features}]
            found.append({"kind": "linear", "size": module.out_features})
        elif "num_features" in sizes and next(module.parameters(recurse=False), None) is not None:
            found.append({"kind": type(module).__name__.lower(), "size": sizes["num_features"]})
    return found
