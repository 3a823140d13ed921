"""A lab spelled out: as the commands and the Python that train its games without it, and as JSON. Imports no torch."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from elegan import zoo
from elegan.view.repeat import game_file, repeat, spelled, unusual

POINTS = "points.npy"  # the data of a lab that has no name of its own
CPU = {"device": "cpu", "precision": "fp32", "threads": 1}  # as a lab trains
SHOWN = 5  # changes that a note tells

Change = tuple[int, Mapping[str, Any]]  # the step after which it was asked for, and the command


def spell(opened: Mapping[str, Any], step: int, changes: Sequence[Change] = (), *, by_hand: bool = False) -> dict:
    """`Spelled` of the contract. opened: what the lab said when it opened, its setup and options complete. step: how
    far it is; at 0, as long as the game's recipe says. by_hand: whether single players were moved."""
    setup = opened["setup"]
    data, lines = _data(setup["data"])
    plans = [_plan(bench, asked, setup, data, step) for bench, asked in _benches(opened)]
    notes = (
        [f"{POINTS} is the data of the lab, which Save keeps beside its runs."] if data == POINTS and not lines else []
    )
    if lines:
        notes.append(f"The Python writes {POINTS}, which the commands read.")
    if setup["trained"]:
        notes.append("The lab began with trained weights; these begin with none.")
    if changes or by_hand:
        notes.append(f"What was changed on the way is not repeated: {_told(changes, by_hand)}.")
    return {
        "commands": [repeat(plan) for plan in plans],
        "python": "\n".join(["import elegan", *lines, "", *(_call(plan, k) for k, plan in enumerate(plans, 1)), ""]),
        "json": json.dumps(setup, indent=1, ensure_ascii=False),
        "note": " ".join(notes),
    }


def _benches(opened: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return list(zip(opened["benches"], opened["setup"]["benches"], strict=True))


def _data(data: Mapping[str, Any]) -> tuple[str, list[str]]:
    """What `elegan train` is to be given, and the lines of Python that make it."""
    if data["kind"] != "preset":
        return POINTS, []
    if data["samples"] >= 50_000:
        return data["name"], []
    rows = f'elegan.open_data({data["name"]!r}).arrays["real"][:{data["samples"]}]'
    return POINTS, ["import numpy as np", "", f"np.save({POINTS!r}, {rows})"]


def _plan(bench: Mapping[str, Any], asked: Mapping[str, Any], setup: Mapping[str, Any], data: str, step: int) -> dict:
    """What `view.repeat` spells: the plan of a run, as far as it is asked for."""
    name = setup["data"].get("name", "")
    recipe = zoo.settings(asked["game"], asked["preset"], {}, name, "vector").training
    training = {"steps": step or recipe.get("steps"), "shards": 1, "until_still": None}
    training |= {name: setup[name] for name in ("batch", "seed", "half_life_images")}
    return {
        "game": bench["game"], "options": bench["options"], "training": training, "compute": CPU,
        "data": {"name": data, "path": "", "form": {}},
    }  # fmt: skip


def _call(plan: Mapping[str, Any], number: int) -> str:
    """A call of `elegan.train`, an argument a line."""
    file = game_file(plan["game"])
    given = {"preset": "none", **plan["training"], **plan["compute"]}
    given |= unusual(plan["options"], file.defaults() if file else {})
    arguments = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    rows = [f"    {plan['game']!r},", f"    {plan['data']['name']!r},"]
    rows += [
        f"    {name}={value!r}," for name, value in arguments.items() if name in plan["options"] or value is not None
    ]
    return "\n".join([f"{'model' if number == 1 else f'model_{number}'} = elegan.train(", *rows, ")"])


def _told(changes: Sequence[Change], by_hand: bool) -> str:
    told = []
    for step, command in changes:
        told += [
            f"{n} = {spelled(v)} of game {command['bench'] + 1} after {step:,}" for n, v in command["change"].items()
        ]
    more = [f"and {len(told) - SHOWN} more"] if len(told) > SHOWN else []
    return ", ".join([*told[:SHOWN], *more, *(["single moves"] if by_hand else [])])
