"""Going on: from anywhere, for longer, by other numbers of processes, not with what has changed. FAULTS 10, 11, 20."""

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import elegan
from elegan.cli import resume, train
from elegan.data.sources import open_data
from elegan.errors import OptionError
from elegan.run import events
from elegan.run.recorded import CHECKED, differences, parts_of
from tests.conftest import TINY, everything, state, tensors
from tests.faults.ranks import Ranks, warmed

OPTIONS = dict(preset="tiny", batch=8, threads=1, precision="fp32")
DOCUMENT = Path(__file__).parents[2] / "docs" / "clusters.md"


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    with warmed() as ranks:
        yield ranks


def straight(small: Path, out: Path, steps: int) -> Path:
    """The run that was never disturbed."""
    elegan.train("dcgan", small, out=out, steps=steps, **OPTIONS)
    return out


def same(run: Path, other: Path) -> None:
    assert state(run) == state(other)
    assert tensors(run) == tensors(other)


# ---- for longer


def test_a_run_is_extended_by_steps(tiny_run, tmp_path, small, cli):
    assert cli("resume", tiny_run, "--extend", 2).code == 0
    assert json.loads((tiny_run / "options.json").read_text())["training"]["steps"] == 6
    same(tiny_run, straight(small, tmp_path / "straight", 6))
    assert elegan.resume(tiny_run, extend=1).step == 7
    assert elegan.resume(tiny_run).step == 7, "nothing but the directory: it is finished"


@pytest.mark.parametrize(
    ("flags", "line"),
    [(("--extend", 0), "--extend 0 must be more than 0"), (("--extend", -3), "--extend -3 must be more than 0"),
     (("--extend", "1.5"), "--extend"), (("--extend", 1, "--steps", 9), "--steps and --extend are two ways"),
     (("--steps", 3), "--steps 3 is less than the 4 this run was made for")],
)  # fmt: skip
def test_an_extension_that_is_none_is_exit_2(tiny_run, cli, flags, line):
    before = everything(tiny_run)
    said = cli("resume", tiny_run, *flags)
    assert said.code == 2
    assert line in said.line
    assert everything(tiny_run) == before


@pytest.mark.parametrize(
    "wrong", [dict(extend=True), dict(extend=1.5), dict(extend="3"), dict(steps=9.0), dict(steps="9")]
)
def test_steps_are_whole_numbers_in_python_too(tiny_run, wrong):
    with pytest.raises(OptionError, match="is not a whole number"):
        elegan.resume(tiny_run, **wrong)


# ---- from anywhere


def test_a_run_goes_on_wherever_it_is_and_wherever_one_stands(tmp_path, small, cli, monkeypatch):
    """Begun with data at a relative path; moved, copied, resumed by a relative path and from inside."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    shutil.copy(small, "mine.npz")
    assert cli("train", "dcgan", "mine.npz", *TINY, "--steps", 2, "--out", "run").code == 0
    (tmp_path / "else where").mkdir()
    moved = Path(shutil.move("run", tmp_path / "else where" / "it"))
    monkeypatch.chdir(moved.parent)
    assert cli("resume", "it", "--steps", 3).code == 0
    monkeypatch.chdir(moved)
    assert cli("resume", ".", "--steps", 4).code == 0
    copied = shutil.copytree(moved, tmp_path / "copied")
    monkeypatch.chdir("/")
    assert cli("resume", copied, "--steps", 5).code == 0
    same(copied, straight(small, tmp_path / "straight", 5))
    assert state(moved)["step"] == 4, "the copy is a run of its own"


def test_a_run_on_bundled_data_needs_nothing_but_its_directory(tmp_path, cli):
    command = ("train", "gan", "ring", "--batch", 8, "--threads", 1, "--precision", "fp32")
    assert cli(*command, "--steps", 2, "--out", tmp_path / "run").code == 0
    moved = shutil.move(tmp_path / "run", tmp_path / "moved")
    assert cli("resume", moved, "--extend", 2).code == 0
    assert cli(*command, "--steps", 4, "--out", tmp_path / "straight").code == 0
    same(moved, tmp_path / "straight")


def test_data_that_has_moved_is_found_where_the_options_say(tmp_path, small, cli):
    """The path is no part of what a run is: the fingerprint says whether it is the same data."""
    mine = Path(shutil.copy(small, tmp_path / "mine.npz"))
    run = tmp_path / "run"
    assert cli("train", "dcgan", mine, *TINY, "--steps", 2, "--out", run).code == 0
    moved = mine.rename(tmp_path / "moved.npz")
    assert cli("resume", run, "--extend", 1).code == 3
    plan = json.loads((run / "options.json").read_text())
    plan["data"]["path"] = str(moved)
    (run / "options.json").write_text(json.dumps(plan))
    assert cli("resume", run, "--extend", 1).code == 0
    same(run, straight(small, tmp_path / "straight", 3))


def test_a_clock_that_jumps_back_changes_nothing(tmp_path, small, cli, monkeypatch):
    clock = iter(range(2_000_000_000, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    run = tmp_path / "run"
    assert cli("train", "dcgan", small, *TINY, "--steps", 3, "--score", 32, "--out", run).code == 0
    assert cli("resume", run, "--extend", 3).code == 0
    times = [line["time"] for line in events.read(run / "events.jsonl")]
    assert times == sorted(times, reverse=True), "it did jump"
    assert [line["step"] for line in events.read(run / "events.jsonl") if line["kind"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert cli("sample", run, "-n", 2).code == 0
    monkeypatch.undo()
    same(run, straight(small, tmp_path / "straight", 6))


# ---- never with what has changed


def edited(run: Path, **parts: dict) -> None:
    """Change a run's options.json; None removes a name."""
    path = run / "options.json"
    plan = json.loads(path.read_text())
    for part, values in parts.items():
        if not isinstance(values, dict):
            plan[part] = values
            continue
        plan[part].update(values)
        for name in [name for name, value in values.items() if value is None]:
            del plan[part][name]
    path.write_text(json.dumps(plan))


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (dict(compute=dict(threads=2)), "compute.threads: 1 → 2;"),
        (dict(compute=dict(precision="bf16")), "compute.precision: 'fp32' → 'bf16';"),
        (dict(options=dict(lr=0.5), training=dict(seed=3)), "options.lr: 0.0002 → 0.5, training.seed: 0 → 3;"),
        (dict(training=dict(shards=2, batch=4)), "training.batch: 8 → 4, training.shards: 1 → 2;"),
        (dict(training=dict(until_still=0.1)), "training.until_still: None → 0.1;"),
        (dict(data=dict(fingerprint="0" * 64)), "data.fingerprint: '"),
        (dict(data=dict(form=dict(size=16))), "data.form"),
        (dict(options=dict(lr=None)), "options.lr: 0.0002 → missing;"),
        (dict(options=dict(new=1)), "options.new: missing → 1;"),
        (dict(game="gan"), "game: 'dcgan' → 'gan';"),
        (dict(spec=dict(real=dict(kind="vector"))), "spec.real.kind: 'image' → 'vector'"),
    ],
)
def test_all_that_was_edited_is_told_in_one_line(tiny_run, cli, parts, told):
    edited(tiny_run, **parts)
    before = everything(tiny_run)
    said = cli("resume", tiny_run, "--steps", 6)
    assert said.code == 4
    assert said.line.startswith(f"{tiny_run / 'options.json'} was edited after step-00000004 was written: ")
    assert told in said.line
    assert everything(tiny_run) == before


def test_of_many_differences_a_handful_and_how_many_more(tiny_run, cli):
    plan = json.loads((tiny_run / "options.json").read_text())
    edited(tiny_run, options=dict.fromkeys(plan["options"], 77))
    line = cli("resume", tiny_run).line
    assert line.count("→ 77") == 5
    assert f", and {len(plan['options']) - 5} more; put it back" in line


def test_what_may_be_edited_may_not_be_nonsense(tiny_run, cli):
    """What a checkpoint has recorded takes its place, or it is named."""
    for part, values in (("training", {"steps": "9"}), ("training", {"steps": None}), ("data", {"path": 3}),
                         ("data", {"name": None}), ("compute", {"device": None})):  # fmt: skip
        kept = (tiny_run / "options.json").read_bytes()
        edited(tiny_run, **{part: values})
        said = cli("resume", tiny_run)
        assert said.code in (0, 4), said
        told = said.warned[0] if said.code == 0 else said.line
        assert "options.json is damaged" in told
        assert next(iter(values)) in told
        (tiny_run / "options.json").write_bytes(kept)


def older(run: Path) -> None:
    """Take the plan out of a run's manifests, as versions wrote them that recorded less."""
    import hashlib

    for path in run.glob("checkpoints/*/manifest.json"):
        manifest = json.loads(path.read_text())
        plan = manifest["facts"].pop("plan")
        lasting = ("batch", "shards", "seed", "half_life_images")
        manifest["facts"] |= {"game": plan["game"], "options": plan["options"]}
        manifest["facts"]["training"] = {name: plan["training"][name] for name in lasting}
        del manifest["sha256"]
        digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        path.write_text(json.dumps({**manifest, "sha256": digest}))


def test_an_older_run_goes_on_and_is_compared_by_what_it_recorded(tiny_run, tmp_path, small, cli):
    older(tiny_run)
    kept = (tiny_run / "options.json").read_bytes()
    edited(tiny_run, options=dict(lr=0.5), training=dict(seed=3))
    assert "options.lr: 0.0002 → 0.5, training.seed: 0 → 3;" in cli("resume", tiny_run).line
    (tiny_run / "options.json").write_bytes(kept)
    assert cli("resume", tiny_run, "--extend", 2).code == 0
    same(tiny_run, straight(small, tmp_path / "straight", 6))


def test_differences_are_those_of_either_side():
    then, now = {"a": 1, "b": [1, 2], "c": None}, {"a": 1, "b": [1, 3], "d": "x" * 99}
    assert differences(then, then) == ""
    assert differences(then, now) == f"b: [1, 2] → [1, 3], c: None → missing, d: missing → '{'x' * 58}…"


@pytest.fixture
def mine(tmp_path, small, cli) -> tuple[Path, Path]:
    """A run of two steps, and its data, which a test may change."""
    data = Path(shutil.copy(small, tmp_path / "mine.npz"))
    assert cli("train", "dcgan", data, *TINY, "--steps", 2, "--out", tmp_path / "run").code == 0
    return tmp_path / "run", data


CHANGES = {
    "fewer": (lambda real, label: (real[:60], label[:60]), "samples: 64 → 60"),
    "larger": (lambda real, label: (np.repeat(real, 2, 1), label), "real.shape: [1, 8, 8] → [1, 16, 8]"),
    "more classes": (lambda real, label: (real, np.arange(64) % 5), "real.classes: 4 → 5"),
    "other labels": (
        lambda real, label: (real, label[::-1]),
        "64 of 64 parts of its 'label' differ, the first in sample 0.",
    ),
    "a pixel": (
        lambda real, label: (np.where(np.arange(64)[:, None, None] == 41, real ^ 1, real), label),
        "1 of 64 parts of its 'real' differ, the first in sample 41.",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_told_what_of_the_data_has_changed(mine, small, cli, change):
    run, data = mine
    make, told = CHANGES[change]
    with np.load(small) as old:
        real, label = make(old["real"], old["label"])
    np.savez(data, real=real, label=label)
    before = everything(run)
    said = cli("resume", run, "--extend", 1)
    assert said.code == 3
    assert "mine.npz' has changed since" in said.line
    assert told in said.line
    assert everything(run) == before


def test_without_a_record_of_parts_only_the_fingerprint_tells(mine, small, cli):
    run, data = mine
    edited(run, data=dict(parts=None))
    with np.load(small) as old:
        np.savez(data, real=old["real"] ^ 1, label=old["label"])
    assert "has changed since" in (line := cli("resume", run).line)
    assert "its contents differ" in line


def test_the_record_of_parts_is_small_and_covers_every_row(small, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "many.npz", real=rng.integers(0, 9, (3001, 2, 2), dtype=np.uint8), label=np.arange(3001) % 2)
    source = open_data(tmp_path / "many.npz")
    parts = parts_of(source)
    assert len(json.dumps(parts)) < 4096
    assert {name: len(text) // 8 for name, text in parts.items()} == {"real": CHECKED // 2, "label": CHECKED // 2}
    for row in (0, 17, 1500, 3000):
        changed = {name: rows.copy() for name, rows in source.arrays.items()}
        changed["real"][row] ^= 1
        other = parts_of(type(source)(source.name, source.spec, changed, source.about))
        assert other["label"] == parts["label"]
        odd = [k for k in range(CHECKED // 2) if other["real"][8 * k :][:8] != parts["real"][8 * k :][:8]]
        assert len(odd) == 1
        assert row * (CHECKED // 2) // 3001 - 1 <= odd[0] <= row * (CHECKED // 2) // 3001 + 1


# ---- by another number of processes


CHAINS = {
    "dcgan 1 2 4 1": (("dcgan", "small", "--preset", "tiny"), (1, 2, 4, 1)),
    "dcgan 4 1 2": (("dcgan", "small", "--preset", "tiny"), (4, 1, 2)),
    "gan 4 1 2": (("gan", "ring"), (4, 1, 2)),
}
TERMS, WEIGHTS = 1e-3, 1e-4  # tolerances over 24 steps; measured 1e-5 and 3e-7, see docs/promises.md
FOUR = ("--batch", 8, "--shards", 4, "--threads", 1, "--precision", "fp32")


def weights(run: Path) -> dict[str, np.ndarray]:
    newest = max((run / "checkpoints").glob("step-????????"))
    return {
        f"{file.stem}/{name}": value.astype(np.float64)
        for file in newest.glob("*.safetensors")
        for name, value in safetensors.numpy.load_file(file).items()
    }


def apart(one: dict, other: dict) -> float:
    """The largest relative difference of two sets of numbers or arrays."""
    assert one.keys() == other.keys()
    return max(np.linalg.norm(one[n] - other[n]) / max(np.linalg.norm(other[n]), 1e-30) for n in one)


def recorded(folder: Path, name: str) -> dict[str, set]:
    """What was read and drawn, by all ranks: shards and noise with their place and checksum."""
    found: dict[str, set] = {"read": set(), "noise": set()}
    for path in folder.glob(f"{name}.*"):
        for line in path.read_text().splitlines():
            kind, *facts = json.loads(line)
            found[kind].add(tuple(facts))
    return found


@pytest.mark.process
@pytest.mark.parametrize("chain", CHAINS)
def test_any_number_of_processes_goes_on_with_the_run_of_another(ranks, tmp_path, small, chain):
    """The same samples in the same order and the same noise to the bit; sums of four shards in another order."""
    (game, data, *flags), sizes = CHAINS[chain]
    command = ("train", game, small if data == "small" else data, *flags, *FOUR)
    (alone,) = ranks.run(
        [(*command, "--steps", 24, "--out", tmp_path / "alone")], here=tmp_path, record=tmp_path / "one"
    )
    assert alone.code == 0, alone
    run, share = tmp_path / "run", 24 // len(sizes)
    for k, size in enumerate(sizes):
        tokens = ("resume", run, "--extend", share) if k else (*command, "--steps", share, "--out", run)
        ended = ranks.run([tokens] * size, here=tmp_path, record=tmp_path / "many")
        assert [one.code for one in ended] == [0] * size, ended
    assert recorded(tmp_path, "many") == recorded(tmp_path, "one")
    places = {tuple(place[1:]) for place in recorded(tmp_path, "one")["noise"]}
    assert len(places) == len(recorded(tmp_path, "one")["noise"]), "noise of a place is drawn once, and never again"
    mine, its = ([e["terms"] for e in events.read(r / "events.jsonl") if e["kind"] == "step"] for r in
                 (run, tmp_path / "alone"))  # fmt: skip
    assert len(mine) == len(its) == 24
    assert max(apart(a, b) for a, b in zip(mine, its, strict=True)) < TERMS
    assert apart(weights(run), weights(tmp_path / "alone")) < WEIGHTS
    assert {n: v for n, v in state(run).items() if n != "changes"} == {
        n: v for n, v in state(tmp_path / "alone").items() if n != "changes"
    }


@pytest.mark.process
def test_a_number_of_processes_that_does_not_divide_the_shards_is_exit_2(ranks, tmp_path, small):
    assert (
        ranks.run([("train", "gan", "ring", *FOUR, "--steps", 1, "--out", tmp_path / "run")], here=tmp_path)[0].code
        == 0
    )
    before = everything(tmp_path / "run")
    ended = ranks.run([("resume", tmp_path / "run", "--extend", 1)] * 3, here=tmp_path)
    assert [one.code for one in ended] == [2, 2, 2]
    assert "4 shards cannot be dealt to 3 processes" in ended[0].said[0]
    assert everything(tmp_path / "run") == before


# ---- as the document says


def scripts() -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.M | re.S)


PROGRAMS = {  # of a cluster, as far as the script needs them; and elegan, which notes what it was asked
    "scontrol": 'if [ "$1" = requeue ]; then echo "$2" >> requeued; else echo 127.0.0.1; fi',
    "srun": 'shift; SLURM_PROCID=0 SLURM_LOCALID=0 "$@"',
    "elegan": 'printf "%s\\n" "$RANK" "$@" > asked; exit "$CODE"',
}


@pytest.mark.parametrize("number", range(2))
def test_the_documents_scripts_begin_a_run_and_go_on_with_it(tmp_path, small, cli, monkeypatch, number):
    script = tmp_path / "script"
    script.write_text(scripts()[number] + "\n")
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    run = tmp_path / "runs" / "faces"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SCRATCH": str(tmp_path), "run": str(run),
                   "SLURM_JOB_NODELIST": "n", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "1"}  # fmt: skip

    def asked(code: int) -> list[str]:
        found = subprocess.run(["bash", script], cwd=tmp_path, env={**environment, "CODE": str(code)})
        assert found.returncode == code
        return (tmp_path / "asked").read_text().split("\n")[1:-1]

    verb, game, _, *flags = asked(0)
    assert (verb, game, flags[-2:]) == ("train", "r3gan", ["--out", str(run)])
    assert not (tmp_path / "requeued").exists()
    assert cli("train", "dcgan", small, *TINY, "--steps", 2, *flags[-2:]).code == 0
    tokens = asked(143)
    assert tokens == ["resume", str(run)]
    assert cli(*tokens, "--extend", 1).code == 0
    assert state(run)["step"] == 3
    assert (tmp_path / "requeued").exists() == (number == 0)


def test_every_flag_in_the_document_is_one():
    text = DOCUMENT.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"\belegan ((?:train|resume) [^\n`;]+)", text) + re.findall(
        r"set -- ((?:train|resume) .+)", text
    )
    assert len(lines) > 7
    for line in lines:
        verb, *tokens = shlex.split(line)
        parser = train.verb(tokens) if verb == "train" else resume.VERB
        assert parser.parse(tokens), line


def test_how_many_stay_may_change_but_not_out_of_its_type(tiny_run, cli):
    path = tiny_run / "options.json"
    plan = json.loads(path.read_text())
    path.write_text(json.dumps({**plan, "training": {**plan["training"], "keep": "2"}}))
    said = cli("resume", tiny_run, "--steps", 5)
    assert (said.code, "training.keep is '2'" in said.line) == (4, True)
    del plan["training"]["keep"]  # as of a run begun before it was an option
    path.write_text(json.dumps(plan))
    assert cli("resume", tiny_run, "--steps", 5).code == 0
