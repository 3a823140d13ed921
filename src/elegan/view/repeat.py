"""The command lines that repeat a run and go on with it, spelled out."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elegan import zoo
from elegan.errors import OptionError
from elegan.options import GameFile, Option


def game_file(name: str) -> GameFile | None:
    """What the zoo says of a game; None for a game that is not there any more."""
    try:
        return zoo.describe(name)
    except OptionError:
        return None


def repeat(plan: Mapping[str, Any]) -> str:
    """The command that makes the same run anew: no preset, and every option that is not the game's own default."""
    file = game_file(plan["game"])
    defaults = file.defaults() if file else {}
    known = {option.name: option for option in file.options} if file else {}
    training, compute, data = plan["training"], plan["compute"], plan["data"]
    flags = [flag(known.get(n, Option(n, str, None)), v) for n, v in unusual(plan["options"], defaults).items()]
    asked = {
        "preset": "none",
        **data["form"],
        **{n: training[n] for n in ("steps", "batch", "shards", "seed", "half_life_images", "until_still")},
        "score": training.get("score") or None,
        "rescue": training.get("rescue") or None,
        "keep": None if training.get("keep", 2) == 2 else training["keep"],
        **{n: compute[n] for n in ("device", "precision", "threads")},
    }
    flags += [flag(Option(name, str, None), value) for name, value in asked.items() if value is not None]
    words = [word for words in flags for word in words]
    return shlex.join(["elegan", "train", plan["game"], data["path"] or data["name"], *words])


def unusual(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options, as JSON gives them back, that are not the defaults: lists are the tuples they were."""
    return {n: v for n, v in options.items() if n not in defaults or v != as_json(defaults[n])}


def as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def flag(option: Option, value: Any) -> list[str]:
    """An option on a command line: `--widths 64,32`, `--no-stem`; joined by = where a value looks like a flag."""
    if isinstance(value, bool):
        return [option.flag if value else f"--no-{option.flag.lstrip('-')}"]
    text = spelled(value)
    return [f"{option.flag}={text}"] if text.startswith("-") or not text else [option.flag, text]


def spelled(value: Any) -> str:
    """A value as one types it: `64,32`, `none`, `0.0002`."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(spelled, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def resume(path: Path, plan: Mapping[str, Any], step: int) -> str:
    """The command that goes on with a run in a directory; one that is done is taken half as far again."""
    total = plan["training"]["steps"]
    further = ["--steps", str(total + (total + 1) // 2)] if step >= total else []
    return shlex.join(["elegan", "resume", str(path.resolve()), *further])


def use(path: Path, plan: Mapping[str, Any]) -> str:
    """The command that asks a run in a directory for its task; empty for a task that no command asks for."""
    file = game_file(plan["game"])
    if file and "generation" in file.tasks:
        return shlex.join(["elegan", "sample", str(path.resolve()), "-n", "100", "--seed", "1"])
    if file and "translation" in file.tasks:
        return f"{shlex.join(['elegan', 'apply', str(path.resolve())])} INPUT"
    return ""
