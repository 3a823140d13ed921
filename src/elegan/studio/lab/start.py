"""A start with weights that were trained before, which come with the package: `trained/NAME.safetensors` for data NAME.

A file holds the game's tensors as `game/NAME`, the average's as `average/NAME`, and in its metadata, as JSON under
`about`, what they were trained with: options, seed, steps, and the fingerprint of the data.
"""

import json
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from elegan.errors import CheckpointError, OptionError
from elegan.run.checkpoint import Checkpoint
from elegan.run.directory import Plan
from elegan.run.recorded import differences
from elegan.studio.lab import catalogue
from elegan.studio.lab.data import Points


def trained(plan: Plan, points: Points) -> Checkpoint:
    """The trained start for a plan's data, as a checkpoint without moments.

    Raises `OptionError` if there is none for this data or these options, `CheckpointError` if it is damaged.
    """
    path = catalogue.TRAINED / f"{points.toy}.safetensors"
    if not points.bundled or not path.is_file():
        there = ", ".join(sorted(found.stem for found in catalogue.TRAINED.glob("*.safetensors"))) or "none"
        raise OptionError(f"this data has no trained start; data that has: {there}. Begin untrained.")
    try:
        with safe_open(path, "numpy") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})["about"])
            tensors: dict[str, np.ndarray] = {name: file.get_tensor(name) for name in sorted(file.keys())}
        steps, options, fingerprint = int(about["steps"]), dict(about["options"]), about["data"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the trained start {path.name} is damaged ({type(error).__name__}): {error}") from error
    now = catalogue.plain(plan["options"])
    if told := differences(options, now):
        remedy = "keep the options of the lab's default, or begin untrained"
        raise OptionError(f"the trained start for {points.toy} is of other options ({told}): {remedy}.")
    if fingerprint != points.source.fingerprint:
        raise CheckpointError(f"the trained start {path.name} is of other data than {points.toy} is now.")
    images = steps * plan["training"]["batch"]
    state = {"images": images, "stream": 0, "changes": {}, "average_images": images}
    parts = {part: _part(tensors, prefix) for part, prefix in (("weights", "game/"), ("average", "average/"))}
    return Checkpoint(path, steps, {**parts, "optim": {}}, {"state": state})


def _part(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
