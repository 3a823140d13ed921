"""Labs kept as run directories, which `elegan resume` goes on with, and runs opened in the lab."""

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from elegan.data.form import Form
from elegan.data.source import Source
from elegan.data.sources import open_data
from elegan.errors import CheckpointError, ElegantError, OptionError
from elegan.fit import Course
from elegan.run import checkpoint
from elegan.run.directory import Plan, RunDirectory, free_name
from elegan.run.events import EventLog, decided
from elegan.run.place import refusing
from elegan.run.recorded import recorded_data, unchanged, unchanged_data
from elegan.run.saving import save as save_state
from elegan.studio.lab.bench import CHOICE, Bench
from elegan.studio.lab.catalogue import plain, playable
from elegan.studio.lab.data import Points, plane, read
from elegan.studio.lab.lab import Lab
from elegan.studio.lab.views import Shown
from elegan.studio.setup import Bench as Asked
from elegan.studio.setup import Csv, Data, Preset, Setup
from elegan.training.precision import Choice

FILE = "points.npy"
_DATA: TypeAdapter[Data] = TypeAdapter(Data)


def save(lab: Lab, root: Path) -> list[str]:
    """Keep every bench of a lab as a run `root/lab-001` and so on, and return the names.

    A round that was begun is finished first. Raises `ResourceError` if the disk refuses.
    """
    if not all(bench.state.whole for bench in lab.benches):
        lab.round()
    return [_save(lab, bench, root).name for bench in lab.benches]


def _save(lab: Lab, bench: Bench, root: Path) -> Path:
    run = RunDirectory.create(free_name(root, "lab"))
    training, step = bench.plan["training"], bench.state.step
    plan = {
        **bench.plan,
        "data": _recorded(bench, lab.points, run),
        "training": {**training, "steps": max(training["steps"], step)},
        "lab": lab.setup.data.model_dump(),
    }
    with run.held():
        run.write_options(plan)
        log = EventLog(run.events_file)
        log.write("started", step=0, game=plan["game"], compute=plan["compute"])
        for at, kind, facts in history(bench):
            log.write(kind, step=at, **facts)
        save_state(run, bench.game, bench.state, {"plan": plan}, [bench.alarms])
        log.write("checkpoint", step=step)
        log.write("stopped", step=step, by="save")
    return run.path


def history(bench: Bench) -> list[tuple[int, str, dict[str, Any]]]:
    """What the log of a run would hold of a bench: step, kind, facts, in order."""
    lines: list[tuple[int, str, dict[str, Any]]] = []
    for at, change in bench.changed:
        lines.append((at, "change", {"change": change}))
    for at, images, phase, terms in bench.kept:
        finite = {name: value for name, value in terms.items() if math.isfinite(value)}
        lines.append((at, "step", {"images": images, "phase": phase, "terms": finite}))
    return sorted(lines, key=lambda line: line[0])


def _recorded(bench: Bench, points: Points, run: RunDirectory) -> dict[str, Any]:
    """What a run records of its data. Points of the lab's own are put into a file beside it."""
    source = points.source
    if points.bundled:
        return recorded_data(source.name, source, Form())
    rows, path = source.arrays["real"], run.path / FILE
    if plane(rows, str(path), "").spec != source.spec:  # read another way, from where it still lies
        return bench.plan["data"]
    with refusing(path), path.open("wb") as file:
        np.save(file, rows)
    return recorded_data(path.resolve(), source, Form())


def load(path: str | os.PathLike[str], shown: Shown) -> Lab:
    """The lab that goes on with a run where its newest whole checkpoint stands, to the bit as `elegan resume` does.

    Raises an `ElegantError` in one sentence for what is no whole run of points in the plane.
    """
    run = RunDirectory.open(path)
    plan = run.read_options()
    if "converted" in plan:
        raise CheckpointError(f"{run.path.name} was converted from a model file: it has no data to go on with.")
    if plan["game"] not in playable() or _shape(plan) != [2]:
        what = f"a run of {plan['game']} on {plan['data']['name']}"
        raise OptionError(f"{run.path.name} is {what}; the lab opens games on points in the plane.")
    found = checkpoint.newest(run.checkpoints)
    unchanged(run, plan, found)
    source = open_data(plan["data"]["path"] or plan["data"]["name"], form=Form.of(plan["data"]["form"]))
    unchanged_data(run, plan, source)
    points = points_of(plan, source)
    setup = _setup(plan, points[0])
    compute = (plan["compute"][name] for name in ("device", "precision", "threads", "why"))
    bench = Bench.of(plan, points[1], replace(Choice(*compute), device=CHOICE.device), found)
    course = Course(run, plan, bench.game, bench.loop.batches, bench.state, [bench.alarms])
    course.take_up(decided(run.events_file, bench.state.step))
    bench.loop.steer(course.change)
    return Lab(setup, points[1], [bench], shown)


def _shape(plan: Plan) -> list[Any]:
    """The shape of a plan's samples, if they are vectors and all that there is."""
    fields = plan["spec"]
    real = fields.get("real", {}) if list(fields) == ["real"] else {}
    return list(real.get("shape", ())) if real.get("kind") == "vector" else []


def points_of(plan: Plan, source: Source) -> tuple[Data, Points]:
    """A setup's data that gives the points of a run, and these: as it was said when the run was saved, if that still
    gives the same; a distribution of the house by its name; or all rows as text."""
    rows = source.arrays["real"]
    for said in (plan.get("lab"), {"kind": "preset", "name": source.name}):
        try:
            data = _DATA.validate_python(said)
            found = read(data)
        except (ValidationError, ElegantError):
            continue
        if np.array_equal(found.source.arrays["real"], rows):
            return data, replace(found, source=source, bundled=found.bundled and isinstance(data, Preset))
    try:
        text = "\n".join(map(",".join, rows.astype(str)))  # the shortest text of each float32
        return Csv(kind="csv", text=text), Points(source)
    except ValidationError:
        raise OptionError(f"{source.name} holds {len(rows):,} points, too many to open in the lab.") from None


def _setup(plan: Plan, data: Data) -> Setup:
    training = plan["training"]
    try:
        bench = Asked(game=plan["game"], preset=plan.get("preset"), options=plain(plan["options"]))
        kept = {name: training[name] for name in ("seed", "batch", "half_life_images")}
        return Setup(data=data, benches=[bench], **kept)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise OptionError(f"the run is not for the lab: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
