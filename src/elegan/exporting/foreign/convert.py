"""Foreign model files into a file of safetensors, or into a run that one can draw samples from."""

import os
import platform
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

import elegan
from elegan import zoo
from elegan.data.codec import ImageCodec
from elegan.disk import create_synced, make_folder, sync_folder
from elegan.errors import CheckpointError, OptionError, ResourceError
from elegan.exporting.foreign.layouts import Named, check_layout, named
from elegan.exporting.foreign.reading import Foreign, read_foreign
from elegan.game import Game
from elegan.run import checkpoint
from elegan.run.directory import Plan, RunDirectory
from elegan.run.saving import arrays, named_state
from elegan.spec import Field, Spec
from elegan.training.precision import Choice, describe
from elegan.training.seeds import seed_at

MODES = {1: "L", 3: "RGB"}  # of images, by channels


@dataclass(frozen=True)
class Conversion:
    """What became of it. players: those with weights of the sources; fresh: those of a run that have first weights."""

    path: Path
    layout: str
    count: int
    players: tuple[str, ...]
    fresh: tuple[str, ...] = ()

    def __str__(self) -> str:
        of = f" of {', '.join(self.players)}" if self.players else ""
        return f"{self.path}: {self.count:,} tensors{of} ({self.layout})"


def convert(
    *sources: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, layout: str = "auto"
) -> Conversion:
    """Take the weights out of model files of other programs, without running anything that they hold.

    sources: .pt, .pth, .pkl or .safetensors; several are the two players of one DCGAN.
    out: a new .safetensors file, by default beside the first source; or a new directory, which becomes a run, for a
    layout that is a game of elegan: dcgan-tutorial. layout: see `layouts.LAYOUTS`; auto tells it from the names.

    Raises `CheckpointError` if a file is missing, damaged or no model, `OptionError` if `out` exists, `ResourceError`
    if it cannot be written.
    """
    paths = [Path(source).expanduser() for source in sources]
    if not paths or not all(path.name for path in paths):
        raise OptionError("convert: name a model file.")
    check_layout(layout)
    to = Path(out).expanduser() if out is not None else paths[0].with_suffix(".safetensors")
    into_run = to.suffix != ".safetensors"
    if os.path.lexists(to) and not (into_run and to.is_dir()):
        raise OptionError(f"{to} exists: choose another --out.")
    try:
        make_folder(to.parent)
        read = [read_foreign(path, to.parent) for path in paths]
    except OSError as error:
        raise ResourceError(f"{to} cannot be written ({error.strerror or error}): choose another --out.") from error
    try:
        found = named([source.tensors for source in read], layout)
    except CheckpointError as error:
        raise CheckpointError(f"{paths[0]}: {error}") from error
    return _write_run(to, found, read) if into_run else _write_file(to, found, read)


def _origin(read: Sequence[Foreign]) -> list[dict[str, str]]:
    return [{"name": source.path.name, "sha256": source.sha256} for source in read]


def _write_file(to: Path, found: Named, read: Sequence[Foreign]) -> Conversion:
    about = {
        "format": "pt",
        "elegan": elegan.__version__,
        "layout": found.layout,
        "players": " ".join(found.players),
        **{name: str(value) for name, value in found.facts.items()},
        **{f"source{k or ''}": f"{each['name']} sha256:{each['sha256']}" for k, each in enumerate(_origin(read))},
    }
    part = to.with_name(f".{to.name}.{uuid.uuid4().hex[:8]}")
    try:
        create_synced(part, safetensors.torch.save({n: t.contiguous() for n, t in found.tensors.items()}, about))
        part.rename(to)
        sync_folder(to.parent)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise ResourceError(f"{to} cannot be written ({error.strerror}): choose another --out.") from error
    return Conversion(to, found.layout, len(found.tensors), found.players)


def _write_run(to: Path, found: Named, read: Sequence[Foreign]) -> Conversion:
    """A run with one checkpoint, from which samples can be drawn; there are no moments to go on from, and no data."""
    if found.layout != "dcgan-tutorial":
        raise OptionError(f"--out {to} would be a run, and {found.layout} is no game of elegan: name a .safetensors.")
    if "G" not in found.players:
        raise OptionError(f"--out {to} would be a run, which needs G: give its file too, or name a .safetensors.")
    game = _dcgan(found)
    fresh = () if "D" in found.players else ("D",)
    converted = {"sources": _origin(read), "layout": found.layout, "players": found.players, "fresh": fresh}
    plan = _plan(game, converted)
    weights = arrays(named_state(game))
    place = dict(images=0, stream=0, changes={}, average_images=0, rollbacks=0, trouble=0)
    facts = {"plan": plan, "state": place, "ailments": []}
    run = RunDirectory.create(to)
    run.write_options(plan)
    checkpoint.write(run.checkpoints, 0, {"weights": weights, "average": weights, "optim": {}}, facts)
    return Conversion(to, found.layout, len(found.tensors), found.players, fresh)


def _dcgan(found: Named) -> Game:
    """elegan's DCGAN with the weights found, each of its own shape; a player without keeps its first weights.

    Raises `CheckpointError` if elegan's has other widths.
    """
    sizes = found.facts
    codec = ImageCodec(mode=MODES.get(sizes["channels"], ""))
    spec = Spec(real=Field("image", (sizes["channels"], sizes["size"], sizes["size"]), about=codec.to_json()))
    options = {"z_dim": sizes["z_dim"], "width": sizes["width"]}
    with torch.device("meta"):  # shapes cost nothing there
        ours = {name: tuple(t.shape) for name, t in named_state(zoo.build("dcgan", spec, **options)).items()}
    for name in [name for name in ours if name.partition(".")[0] in found.players]:
        theirs = tuple(found.tensors[name].shape) if name in found.tensors else None
        if theirs != ours[name]:
            shapes = f"is {ours[name]} in elegan's dcgan, and {theirs} here"
            raise CheckpointError(f"{name} {shapes}: there is no such game, so name a .safetensors as --out.")
    seed_at(torch.device("cpu"), 0, "init")
    game = zoo.build("dcgan", spec, **options)
    with torch.no_grad():
        for name, tensor in named_state(game).items():
            if name in found.tensors:
                tensor.copy_(found.tensors[name])
    return game


def _plan(game: Game, converted: dict[str, Any]) -> Plan:
    """What `options.json` says of a run that was not trained here."""
    training = dict(game.recipe, steps=0, images=None, shards=1, seed=0, until_still=None, score=0)
    about = f"unknown: converted from {', '.join(each['name'] for each in converted['sources'])}"
    data = dict(name="unknown", path="", split="train", form={}, count=0, about=about, fingerprint="")
    return {
        "elegan": elegan.__version__,
        "game": game.name,
        "preset": "none",
        "options": game.options,
        "data": data,
        "spec": game.spec.to_json(),
        "training": training,
        "compute": describe(Choice("cpu", "fp32", 1, "converted")),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "converted": converted,
    }
