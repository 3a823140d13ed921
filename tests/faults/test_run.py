"""Runs on disk: damaged, stopped, locked, changed, full. FAULTS 4 to 7, 9, 10, 12, 18, 20."""

import errno
import hashlib
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import elegan
from elegan.errors import CheckpointError, ResourceError
from elegan.run import checkpoint, events, saving
from elegan.run.directory import RunDirectory
from elegan.zoo.dcgan import DCGAN
from tests.conftest import ELEGAN, TINY, everything, state, tensors

FILES = ("weights.safetensors", "average.safetensors", "optim.safetensors", "manifest.json")
PATIENCE = 60


def newest(run: Path) -> Path:
    return max((run / "checkpoints").glob("step-????????"))


def flip(path: Path, place: float = 0.5, bit: int = 3) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1 << bit
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


DAMAGE = {
    "flip": flip,
    "flip-first": lambda path: flip(path, 0.0),
    "flip-last": lambda path: flip(path, 0.99999),
    "cut": cut,
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "missing": Path.unlink,
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


def sealed(manifest: dict) -> str:
    """A manifest with its own checksum, as whoever forges one would write it."""
    manifest = {name: value for name, value in manifest.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    return json.dumps({**manifest, "sha256": digest})


def forge(run: Path, **changes) -> None:
    """Change the newest manifest so that it still proves itself."""
    path = newest(run) / "manifest.json"
    path.write_text(sealed({**json.loads(path.read_text()), **changes}))


def straight(small: Path, out: Path, steps: int) -> Path:
    """The run that was never disturbed."""
    elegan.train("dcgan", small, out=out, preset="tiny", steps=steps, batch=8, threads=1, precision="fp32")
    return out


def same(run: Path, other: Path) -> None:
    assert state(run) == state(other)
    assert tensors(run) == tensors(other)


# ---- 5, 6: damaged checkpoints


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_passed_over(tiny_run, damage, file):
    path = newest(tiny_run) / file
    DAMAGE[damage](path)
    before = everything(tiny_run)
    with pytest.warns(UserWarning, match=re.escape(str(path))) as caught:
        found = checkpoint.newest(tiny_run / "checkpoints")
    assert found.step == 3
    assert len(caught) == 1
    assert "Using step-00000003 instead" in str(caught[0].message)
    assert everything(tiny_run) == before


def test_no_single_bit_of_a_manifest_goes_unnoticed(tiny_run):
    path = newest(tiny_run) / "manifest.json"
    content = path.read_bytes()
    draw = random.Random(0)
    for place in draw.sample(range(len(content)), 150):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :])
        assert checkpoint.fault(newest(tiny_run)), content[max(0, place - 20) : place + 20]
    path.write_bytes(content)
    assert checkpoint.fault(newest(tiny_run)) == ""


def test_a_resume_from_the_older_ends_where_the_undamaged_run_ends(tiny_run, tmp_path, small, cli):
    flip(newest(tiny_run) / "weights.safetensors")
    said = cli("resume", tiny_run, "--steps", 6)
    assert said.code == 0
    assert len(said.warned) == 1
    assert "step-00000004/weights.safetensors is damaged: its checksum does not match" in said.warned[0]
    same(tiny_run, straight(small, tmp_path / "straight", 6))
    steps = [line["step"] for line in events.read(tiny_run / "events.jsonl") if line["kind"] == "step"]
    assert steps == [1, 2, 3, 4, 5, 6]


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("keep", [1, 3])
def test_so_many_of_the_newest_stay(tmp_path, small, cli, keep):
    run = tmp_path / "run"
    assert cli("train", "dcgan", small, *TINY, "--steps", 5, "--keep", keep, "--out", run).code == 0
    assert [path.name[-1] for path in checkpoint.steps(run / "checkpoints")] == [*"543"][:keep]
    assert cli("resume", run, "--extend", 2).code == 0
    assert [path.name[-1] for path in checkpoint.steps(run / "checkpoints")] == [*"765"][:keep]


def test_a_damaged_checkpoint_is_set_aside_when_its_step_comes_again(tiny_run, tmp_path, small, cli):
    damaged = newest(tiny_run)
    flip(damaged / "optim.safetensors")
    content = everything(damaged)
    assert cli("resume", tiny_run).code == 0
    same(tiny_run, straight(small, tmp_path / "straight", 4))
    (aside,) = (tiny_run / "checkpoints").glob("step-00000004.damaged-*")
    assert everything(aside) == content
    assert checkpoint.fault(damaged) == ""


@pytest.mark.parametrize("verb", ["resume", "sample"])
def test_all_checkpoints_bad_is_exit_4_and_deletes_nothing(tiny_run, cli, verb):
    for folder in (tiny_run / "checkpoints").glob("step-*"):
        cut(folder / "average.safetensors")
    before = everything(tiny_run)
    said = cli(verb, tiny_run)
    assert said.code == 4
    assert "step-00000004/average.safetensors is damaged" in said.line
    assert "Nothing was deleted" in said.line
    assert everything(tiny_run) == before


def test_an_unfinished_checkpoint_does_not_count_and_is_cleared_away(tiny_run, cli):
    part = tiny_run / "checkpoints" / "step-00000009.tmp-0123abcd"
    part.mkdir()
    for file in FILES:
        (part / file).write_bytes((newest(tiny_run) / file).read_bytes())
    assert checkpoint.newest(tiny_run / "checkpoints").step == 4
    assert cli("resume", tiny_run, "--steps", 5).code == 0
    assert not part.exists()


def test_a_run_without_a_checkpoint_says_so(tiny_run, cli):
    for folder in list((tiny_run / "checkpoints").glob("step-*")):
        folder.rename(tiny_run / folder.name)
    said = cli("sample", tiny_run)
    assert (said.code, "has no checkpoint" in said.line) == (4, True)


# ---- 18: foreign and malicious


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_a_foreign_layout_is_named(tiny_run, schema):
    forge(tiny_run, schema=schema)
    assert f"has layout {schema!r}, this elegan reads 1" in checkpoint.fault(newest(tiny_run))


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "ABSOLUTE", "a/b.safetensors", "..", "",
                                  "weights.pt", "../step-00000003/weights.safetensors"])  # fmt: skip
def test_a_manifest_reaches_no_other_file(tiny_run, name):
    for secret in (tiny_run / "checkpoints" / "secret.safetensors", tiny_run / "abs.safetensors"):
        secret.write_bytes((newest(tiny_run) / "weights.safetensors").read_bytes())
    name = str(tiny_run / "abs.safetensors") if name == "ABSOLUTE" else name
    files = json.loads((newest(tiny_run) / "manifest.json").read_text())["files"]
    forge(tiny_run, files={**files, name: files["weights.safetensors"]})
    assert f"is damaged: it names a file {name!r}" in checkpoint.fault(newest(tiny_run))


@pytest.mark.parametrize(
    "changes",
    [dict(files=[]), dict(files=3), dict(files={"weights.safetensors": None}), dict(facts=3), dict(files=None),
     dict(files={"weights.safetensors": {"bytes": 3}}), dict(step=None), dict(step="4"), dict(step=5)],
)  # fmt: skip
def test_a_manifest_of_another_form_is_damaged(tiny_run, changes):
    forge(tiny_run, **changes)
    assert "is damaged" in checkpoint.fault(newest(tiny_run))


def header(text: bytes, body: bytes = b"", size: int | None = None) -> bytes:
    return (len(text) if size is None else size).to_bytes(8, "little") + text + body


MALFORMED = {
    "nothing": b"",
    "short": b"\x10",
    "a header of 2^63 bytes": header(b"{}", size=2**63 - 1),
    "a header beyond the end": header(b"{}", size=1_000_000),
    "no JSON": header(b"not json"),
    "a list": header(b"[]"),
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00c__builtin__\nexec\n.",
    "offsets beyond the end": header(b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', b"\0" * 4),
    "offsets that overlap": header(
        b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"y":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b"\0" * 4,
    ),
    "a shape that is not so large": header(b'{"x":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}', b"\0" * 4),
    "a shape that overflows": header(
        b'{"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}',
    ),
    "an unknown type": header(b'{"x":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}', b"\0" * 4),
    "a type numpy lacks": header(b'{"x":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}', b"\0" * 4),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_file_is_refused_though_its_checksum_fits(tiny_run, cli, kind):
    content = MALFORMED[kind]
    (newest(tiny_run) / "average.safetensors").write_bytes(content)
    files = json.loads((newest(tiny_run) / "manifest.json").read_text())["files"]
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    forge(tiny_run, files={**files, "average.safetensors": entry})
    assert "average.safetensors is no safetensors file" in checkpoint.fault(newest(tiny_run))


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("average", lambda t: t.pop("G.first.0.weight")),
        ("average", lambda t: t.update(extra=np.zeros(3, np.float32))),
        ("weights", lambda t: t.update({"G.first.0.weight": np.zeros((3, 3), np.float32)})),
        ("optim", lambda t: t.update({"Adam/none.such/exp_avg": np.zeros(3, np.float32)})),
        ("optim", lambda t: t.update({"Adam/G.first.0.weight/exp_avg": np.zeros((1, 2, 3), np.float32)})),
        ("optim", lambda t: t.update({"Magic/G.first.0.weight/exp_avg": np.zeros(3, np.float32)})),
        ("optim", lambda t: t.update({"Adam": np.zeros(3, np.float32)})),
    ],
)
def test_tensors_of_another_game_are_refused(tiny_run, cli, file, change):
    path = newest(tiny_run) / f"{file}.safetensors"
    values = dict(safetensors.numpy.load(path.read_bytes()))
    change(values)
    content = safetensors.numpy.save(values)
    path.write_bytes(content)
    files = json.loads((newest(tiny_run) / "manifest.json").read_text())["files"]
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    forge(tiny_run, files={**files, path.name: entry})
    said = cli("resume", tiny_run, "--steps", 9)
    assert said.code == 4
    assert "step-00000004" in said.line
    assert "fit" in said.line


OPTIONS = {
    "empty": b"",
    "cut": b'{"schema": 1, "game": "dcg',
    "binary": b"\xff\xfe\x00\x80",
    "a list": b"[1]",
    "nothing in it": b"{}",
    "bare": b'{"schema": 1}',
    "foreign": b'{"schema": 2}',
    "null": b"null",
    "deep": b"[" * 100_000,
}


def lose(path: Path, kind: str) -> None:
    """Damage options.json in a way of `OPTIONS`, or another."""
    if kind in OPTIONS:
        path.write_bytes(OPTIONS[kind])
    elif kind == "missing":
        path.unlink()
    else:
        DAMAGE[kind](path)


LOST = [*(kind for kind in OPTIONS if kind != "foreign"), "zeros", "folder", "missing"]


@pytest.mark.parametrize("kind", LOST)
def test_damaged_options_lose_no_run(tiny_run, tmp_path, cli, kind):
    """Each checkpoint has recorded them; which one is proved by its manifest, though its tensors be damaged."""
    plan = json.loads((tiny_run / "options.json").read_text())
    lose(tiny_run / "options.json", kind)
    flip(newest(tiny_run) / "weights.safetensors")
    before = everything(tiny_run)
    run = RunDirectory.open(tiny_run)
    assert run.options_fault().startswith(f"{tiny_run}/options.json is damaged (")
    with pytest.warns(UserWarning, match="options.json is damaged .*; using what step-00000004 recorded"):
        assert run.read_options() == plan
    assert everything(tiny_run) == before
    said = cli("sample", tiny_run, "-n", 2, "--out", tmp_path / "out")
    assert said.code == 0
    assert {line.partition(" is damaged")[0].rpartition("/")[2] for line in said.warned} == {
        "options.json", "weights.safetensors",
    }  # fmt: skip
    assert everything(tiny_run) == before


@pytest.mark.parametrize("kind", ["cut", "missing"])
def test_a_resume_writes_damaged_options_anew(tiny_run, tmp_path, small, cli, kind):
    lose(tiny_run / "options.json", kind)
    said = cli("resume", tiny_run, "--steps", 6)
    assert said.code == 0
    assert len({*said.warned}) == 1
    assert RunDirectory(tiny_run).options_fault() == ""
    assert cli("resume", tiny_run).err == ""
    same(tiny_run, straight(small, tmp_path / "straight", 6))


@pytest.mark.parametrize("verb", ["resume", "sample", "apply"])
@pytest.mark.parametrize("kind", OPTIONS)
def test_damaged_options_that_nothing_recorded_are_exit_4(tiny_run, cli, small, kind, verb):
    """As in runs whose checkpoints know less, and with another layout in any case."""
    (tiny_run / "options.json").write_bytes(OPTIONS[kind])
    if kind != "foreign":
        for path in (tiny_run / "checkpoints").glob("*/manifest.json"):
            manifest = json.loads(path.read_text())
            path.write_text(sealed({**manifest, "facts": {**manifest["facts"], "plan": None}}))
    before = everything(tiny_run)
    said = cli(verb, tiny_run, *([small] if verb == "apply" else []))
    assert said.code == 4
    assert "options.json" in said.line
    assert everything(tiny_run) == before


def test_a_recorded_plan_that_is_none_is_passed_over(tiny_run):
    """One from another layout is not."""
    path = newest(tiny_run) / "manifest.json"
    manifest = json.loads(path.read_text())
    (tiny_run / "options.json").unlink()
    for damaged in (None, [], {**manifest["facts"]["plan"], "spec": 3}):
        path.write_text(sealed({**manifest, "facts": {**manifest["facts"], "plan": damaged}}))
        with pytest.warns(UserWarning, match="using what step-00000003 recorded"):
            RunDirectory(tiny_run).read_options()
    foreign = {**manifest["facts"]["plan"], "schema": 9}
    path.write_text(sealed({**manifest, "facts": {**manifest["facts"], "plan": foreign}}))
    with pytest.raises(CheckpointError, match="step-00000004 has layout 9, this elegan reads 1"):
        RunDirectory(tiny_run).read_options()


@pytest.mark.parametrize("part", ["game", "options", "data", "spec", "training", "compute"])
def test_options_that_lack_a_part_are_damaged(tiny_run, part):
    path = tiny_run / "options.json"
    plan = json.loads(path.read_text())
    for value in (None, 3, [], "x" if part != "game" else {}):
        path.write_text(json.dumps({**plan, part: value}))
        assert RunDirectory(tiny_run).options_fault().endswith(f"{part} is of type {type(value).__name__})")
    del plan[part]
    path.write_text(json.dumps(plan))
    assert RunDirectory(tiny_run).options_fault().endswith(f"(KeyError: {part!r})")


# ---- 10: changed options, changed data


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [("options", "lr", 0.5), ("options", "dropout", 0.9), ("training", "seed", 1), ("training", "batch", 4),
     ("training", "shards", 2), ("training", "half_life_images", 1), ("training", "rescue", True)],
)  # fmt: skip
def test_changed_options_are_refused_with_the_difference(tiny_run, cli, part, name, value):
    path = tiny_run / "options.json"
    plan = json.loads(path.read_text())
    was = plan[part][name]
    plan[part][name] = value
    path.write_text(json.dumps(plan))
    before = everything(tiny_run)
    said = cli("resume", tiny_run, "--steps", 6)
    assert said.code == 4
    for word in (name, repr(value), repr(was), "options.json"):
        assert word in said.line
    assert everything(tiny_run) == before


def rewritten(folder: Path, small: Path) -> Path:
    """A copy of the data that the test may change."""
    path = folder / "mine.npz"
    path.write_bytes(small.read_bytes())
    return path


def test_changed_data_is_refused(tmp_path, small, cli):
    path = rewritten(tmp_path, small)
    run = tmp_path / "run"
    assert cli("train", "dcgan", path, *TINY, "--steps", 2, "--out", run).code == 0
    with np.load(small) as old:
        real, label = old["real"].copy(), old["label"]
    real[5, 3, 3] += 1
    np.savez(path, real=real, label=label)
    before = everything(run)
    said = cli("resume", run, "--steps", 4)
    assert said.code == 3
    assert "mine.npz" in said.line
    assert "changed" in said.line
    assert everything(run) == before
    path.unlink()
    said = cli("resume", run, "--steps", 4)
    assert said.code == 3
    assert "mine.npz" in said.line
    # the very same data again, saved in another way, is the same data
    np.savez_compressed(path, label=label, real=np.load(small)["real"])
    assert cli("resume", run, "--steps", 4).code == 0


def test_a_run_samples_without_its_data(tmp_path, small, cli):
    path = rewritten(tmp_path, small)
    assert cli("train", "dcgan", path, *TINY, "--steps", 2, "--out", tmp_path / "run").code == 0
    path.unlink()
    assert cli("sample", tmp_path / "run", "-n", 2).code == 0


def test_steps_can_only_be_raised(tiny_run, cli):
    before = everything(tiny_run)
    said = cli("resume", tiny_run, "--steps", 3)
    assert said.code == 2
    assert "--steps 3" in said.line
    assert everything(tiny_run) == before


def test_a_finished_run_resumed_stays_as_it_is(tiny_run, cli):
    before = tensors(tiny_run), state(tiny_run), json.loads((tiny_run / "options.json").read_text())
    assert cli("resume", tiny_run).code == 0
    assert (tensors(tiny_run), state(tiny_run), json.loads((tiny_run / "options.json").read_text())) == before


# ---- 9, 20: directories and locks


def test_a_run_is_never_written_over(tiny_run, small, cli):
    before = everything(tiny_run)
    said = cli("train", "dcgan", small, *TINY, "--steps", 2, "--out", tiny_run)
    assert said.code == 7
    assert "already holds a run" in said.line
    assert f"elegan resume {tiny_run}" in said.line
    assert everything(tiny_run) == before


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, small, cli):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    said = cli("train", "dcgan", small, *TINY, "--steps", 2, "--out", tmp_path / "mine")
    assert said.code == 7
    assert "not an empty directory" in said.line
    said = cli("train", "dcgan", small, *TINY, "--steps", 2, "--out", tmp_path / "mine" / "thesis.tex")
    assert said.code == 7
    assert everything(tmp_path / "mine") == {"thesis.tex": b"years"}


def test_what_a_process_left_that_was_killed_as_it_began_is_taken(tmp_path, small, cli):
    run = RunDirectory.create(tmp_path / "mine")
    (run.path / "options.json.tmp").write_text('{"elegan": ')
    (run.samples / "mine.png").write_text("")
    assert cli("train", "dcgan", small, *TINY, "--steps", 1, "--out", run.path).code == 7
    (run.samples / "mine.png").unlink()
    assert cli("train", "dcgan", small, *TINY, "--steps", 1, "--out", run.path).code == 0


def test_an_empty_folder_is_taken(tmp_path, small, cli):
    (tmp_path / "mine").mkdir()
    assert cli("train", "dcgan", small, *TINY, "--steps", 1, "--out", tmp_path / "mine").code == 0


@pytest.mark.parametrize("where", ["a file/below", "a file/far/below", "x" * 300])
def test_an_out_that_cannot_be_made_is_exit_6(tmp_path, small, cli, where):
    (tmp_path / "a file").write_text("")
    said = cli("train", "dcgan", small, *TINY, "--steps", 2, "--out", tmp_path / where)
    assert said.code == 6
    assert "choose another --out" in said.line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_out_without_permission_is_exit_6(tmp_path, small, cli):
    (tmp_path / "closed").mkdir(mode=0o500)
    said = cli("train", "dcgan", small, *TINY, "--steps", 2, "--out", tmp_path / "closed" / "run")
    assert said.code == 6
    assert "choose another --out" in said.line


HOLDER = "import sys; from elegan.run.directory import RunDirectory\n" \
         "with RunDirectory(sys.argv[1]).held(): print('held', flush=True); sys.stdin.read()"  # fmt: skip


@pytest.mark.process
def test_a_run_in_use_is_exit_7_and_a_stale_lock_is_taken_over(tiny_run, cli):
    command = [sys.executable, "-c", HOLDER, str(tiny_run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        before = everything(tiny_run)
        said = cli("resume", tiny_run, "--steps", 6)
        assert said.code == 7
        assert f"{tiny_run} is in use by another process" in said.line
        assert everything(tiny_run) == before, "nothing is written into a run that another process holds"
        assert cli("sample", tiny_run, "-n", 1).code == 0, "samples may be drawn from a run that trains"
        holder.kill()
    assert (tiny_run / ".lock").exists()
    assert cli("resume", tiny_run, "--steps", 6).code == 0


# ---- 4, 20: the disk


@pytest.fixture
def often(monkeypatch):
    """A checkpoint at every step."""
    monkeypatch.setattr(saving, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(saving, "SAVES_COST", 0)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("what", ["weights.safetensors", "optim.safetensors", "manifest.json", "tmp-", "checkpoints"])
@pytest.mark.usefixtures("often")
def test_a_disk_that_refuses_leaves_older_checkpoints_whole(tiny_run, tmp_path, small, cli, monkeypatch, code, what):
    """At the sync of a file, of the folder, and of the folder above."""
    real = os.fsync

    def fsync(handle):
        name = Path(os.readlink(f"/proc/self/fd/{handle}")).name
        if name == what or (what == "tmp-" and what in name):
            raise OSError(code, os.strerror(code))
        return real(handle)

    before = everything(newest(tiny_run))
    monkeypatch.setattr(os, "fsync", fsync)
    said = cli("resume", tiny_run, "--steps", 6)
    assert said.code == 6
    assert os.strerror(code) in said.line
    assert "older ones are intact" in said.line
    monkeypatch.undo()
    assert everything(tiny_run / "checkpoints" / "step-00000004") == before
    assert not list((tiny_run / "checkpoints").glob("*.tmp-*")), "what could not be finished takes no space"
    assert checkpoint.newest(tiny_run / "checkpoints").step == (5 if what == "checkpoints" else 4)
    assert elegan.resume(tiny_run).step == 6
    same(tiny_run, straight(small, tmp_path / "straight", 6))


@pytest.mark.process
@pytest.mark.parametrize(("limit", "name"), [(4_000, "checkpoint"), (200, "options.json")])
def test_a_process_that_may_write_no_more_ends_with_exit_6(tiny_run, limit, name):
    """RLIMIT_FSIZE: the tensors do not fit, or not even the options."""
    before = everything(tiny_run / "checkpoints")
    plan = (tiny_run / "options.json").read_bytes()

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [*ELEGAN, "resume", str(tiny_run), "--steps", "6"], preexec_fn=limited, capture_output=True, text=True
    )
    errors = [line for line in done.stderr.splitlines() if not line.startswith("elegan: warning: ")]
    assert done.returncode == 6, done.stderr
    assert len(errors) == 1, done.stderr
    assert name in errors[0]
    assert "File too large" in errors[0]
    assert everything(tiny_run / "checkpoints") == before
    if name == "options.json":
        assert (tiny_run / "options.json").read_bytes() == plan


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_log_that_cannot_be_written_is_said_once_and_training_goes_on(tiny_run, tmp_path, small, cli):
    (tiny_run / "events.jsonl").unlink()
    (tiny_run / "events.jsonl").symlink_to("/dev/full")
    said = cli("resume", tiny_run, "--steps", 6)
    assert said.code == 0
    assert len(said.warned) == 1
    assert "events.jsonl cannot be written (No space left on device); training goes on" in said.warned[0]
    same(tiny_run, straight(small, tmp_path / "straight", 6))


def test_a_picture_that_cannot_be_written_costs_no_training(tiny_run, tmp_path, small, cli):
    for path in (tiny_run / "samples").iterdir():
        path.unlink()
    (tiny_run / "samples").rmdir()
    (tiny_run / "samples").write_text("")
    said = cli("resume", tiny_run, "--steps", 6)
    assert said.code == 0
    assert len(said.warned) == 1
    assert "samples/00000005.png cannot be written" in said.warned[0]
    same(tiny_run, straight(small, tmp_path / "straight", 6))


def test_a_write_error_of_the_writer_is_a_resource_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        checkpoint.write(tmp_path / "file" / "below", 1, {"weights": {"x": np.zeros(3)}}, {})


# ---- 12: nothing finite, and errors in the middle of a step


def test_a_training_that_diverges_is_exit_5_and_keeps_finite_weights(tmp_path, cli):
    run = tmp_path / "run"
    said = cli("train", "gan", "ring", *TINY, "--lr", "1e17", "--steps", 200, "--out", run)
    assert said.code == 5
    assert [line.rpartition("noise")[2] for line in said.warned] == [".", ", with rates × 0.5.", ", with rates × 0.25."]
    end = said.err.splitlines()[-1]
    assert re.match(r"elegan: 20 of the last 50 steps, up to step \d+, gave nothing finite \(\S", end)
    assert "Try a lower --lr. 3 rollbacks did not help" in end
    found = checkpoint.newest(run / "checkpoints")
    assert 20 <= found.step < 60
    assert not found.healthy
    for part in ("weights", "average", "optim"):
        assert all(np.isfinite(value).all() for value in found.tensors[part].values())


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory")])
def test_an_error_inside_a_step_saves_no_half_made_step(tmp_path, small, cli, monkeypatch, often, error):
    """The judge has moved, the generator has not: what is saved is the state before the step."""
    honest = DCGAN.g_loss

    def g_loss(self, real):
        if self.step == 5:
            raise error
        return honest(self, real)

    run = tmp_path / "run"
    monkeypatch.setattr(DCGAN, "g_loss", g_loss)
    monkeypatch.setattr(saving, "LEAST_SECONDS", 0.0 if isinstance(error, MemoryError) else 1e9)
    said = cli("train", "dcgan", small, *TINY, "--steps", 8, "--out", run)
    assert said.code == 6
    assert "out of memory" in said.line
    assert "--batch" in said.line
    monkeypatch.undo()
    kept = [path.name for path in checkpoint.steps(run / "checkpoints")]
    assert kept[0] == (
        "step-00000005" if isinstance(error, MemoryError) else "step-00000000"
    )  # no half-made sixth step
    assert cli("resume", run).code == 0
    same(run, straight(small, tmp_path / "straight", 8))


def test_a_run_killed_before_its_first_interval_is_resumed_from_its_first_moment(tmp_path, small, cli, monkeypatch):
    def die(self, real):
        raise KeyboardInterrupt  # as abruptly as a test can: nothing is saved on the way out

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(DCGAN, "g_loss", die)
        assert cli("train", "dcgan", small, *TINY, "--steps", 8, "--out", run).code == 130
    assert cli("resume", run).code == 0
    same(run, straight(small, tmp_path / "straight", 8))


def test_an_error_of_a_listener_saves_the_step_it_heard(tmp_path, small):
    def fail(event):
        if event.step == 5:
            raise ValueError("mine")

    run = tmp_path / "run"
    with pytest.raises(ValueError, match="mine"):
        elegan.train("dcgan", small, out=run, preset="tiny", steps=9, batch=8, threads=1, precision="fp32",
                     listeners=[fail])  # fmt: skip
    same(run, straight(small, tmp_path / "straight", 5))
    (stopped,) = (line for line in events.read(run / "events.jsonl") if line["kind"] == "stopped")
    assert stopped["by"] == "ValueError"
    assert stopped["trace"].startswith("Traceback")
    assert 'raise ValueError("mine")' in stopped["trace"]


# ---- the event log


def test_a_torn_line_is_left_out_and_what_follows_counts(tiny_run, cli):
    log = tiny_run / "events.jsonl"
    with log.open("a") as file:
        file.write('{"v": 1, "kind": "step", "step": 5, "ter')  # as a crash leaves it
    assert [line["step"] for line in events.read(log) if line["kind"] == "step"] == [1, 2, 3, 4]
    flip(newest(tiny_run) / "weights.safetensors")  # go on from step 3, so that a line must be superseded
    assert cli("resume", tiny_run, "--steps", 6).code == 0
    kinds = [(line["kind"], line["step"]) for line in events.read(log)]
    assert [step for kind, step in kinds if kind == "step"] == [1, 2, 3, 4, 5, 6]
    assert ("resumed", 3) in kinds


def test_what_a_resume_supersedes_is_left_out(tmp_path):
    log = tmp_path / "events.jsonl"
    lines = [
        '{"kind": "started", "step": 0}', '{"kind": "step", "step": 1}', '{"kind": "step", "step": 2, "old": 1}',
        "\x00\xff garbage", "[1, 2]", "3", "", '{"kind": "step", "step": 3}', '{"kind": "resumed", "step": 1}',
        '{"kind": "step", "step": 2, "old": 0}', '{"kind": "resumed"}', '{"no": "kind"}', '{"kind": "step", "ste',
    ]  # fmt: skip
    log.write_bytes("\n".join(lines).encode("latin-1"))
    read = list(events.read(log))
    assert [(line.get("kind"), line.get("step"), line.get("old")) for line in read if "step" in line] == [
        ("started", 0, None), ("step", 1, None), ("resumed", 1, None), ("step", 2, 0),
    ]  # fmt: skip
    assert list(events.read(tmp_path / "none.jsonl")) == []


# ---- 7: stopped


@pytest.mark.process
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_stops_a_training_saved(tmp_path, small, name):
    run = tmp_path / "run"
    command = [*ELEGAN, "train", "dcgan", str(small), *TINY, "--steps", "1000000", "--out", str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            while not (log := run / "events.jsonl").exists() or log.read_bytes().count(b'"kind": "step"') < 5:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(getattr(signal, name))
            asked = time.monotonic()
            out, err = process.communicate(timeout=PATIENCE)
            assert time.monotonic() - asked < 20
        finally:
            process.kill()
    assert process.returncode == 143
    assert err == ""
    step = state(run)["step"]
    assert f"stopped by {name} after step {step:,}, saved. Go on with: elegan resume {run}" in out
    assert list(events.read(run / "events.jsonl"))[-1]["by"] == name
    # and it goes on to the bit
    model = elegan.resume(run, listeners=[lambda event: {"stop": True} if event.step == step + 3 else None])
    assert model.step == step + 3
    same(run, straight(small, tmp_path / "straight", step + 3))


def test_a_second_interrupt_during_the_save_leaves_the_previous_intact(tiny_run, cli, monkeypatch, often):
    real, synced = os.fsync, []

    def fsync(handle):
        synced.append(handle)
        if len(synced) == 4:  # after the options and two files of the first checkpoint
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return real(handle)

    before = everything(tiny_run / "checkpoints")
    monkeypatch.setattr(os, "fsync", fsync)
    said = cli("resume", tiny_run, "--steps", 50)
    assert said.code == 130
    assert said.line == "interrupted."
    after = everything(tiny_run / "checkpoints")
    assert {name: after[name] for name in before} == before
    assert checkpoint.newest(tiny_run / "checkpoints").step == 4
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "handlers are put back"


def test_opening_what_is_no_run_names_it(tmp_path):
    with pytest.raises(CheckpointError, match="no run at"):
        RunDirectory.open(tmp_path / "none")
    with pytest.raises(CheckpointError, match="is no run: it has no options"):
        RunDirectory.open(tmp_path)


def test_no_sample_is_drawn_from_the_untrained_first_checkpoint(tmp_path, small, cli):
    run = straight(small, tmp_path / "run", 6)
    assert [path.name for path in checkpoint.steps(run / "checkpoints")] == ["step-00000006", "step-00000000"]
    before = everything(run / "checkpoints" / "step-00000000")
    flip(newest(run) / "weights.safetensors")
    said = cli("sample", run, "-n", 2, "--out", tmp_path / "out")
    assert said.code == 4
    assert "weights.safetensors is damaged" in said.line
    assert not (tmp_path / "out").exists()
    assert everything(run / "checkpoints" / "step-00000000") == before
    again = cli("resume", run)  # training may start again, and says so
    assert again.code == 0
    assert "Starting again from step 0" in again.warned[0]
    same(run, straight(small, tmp_path / "straight", 6))


def test_a_damaged_checkpoint_is_not_one_of_those_kept(tmp_path):
    for step in (1, 2, 3):
        checkpoint.write(tmp_path, step, {"weights": {"x": np.full(9, float(step))}}, {})
    flip(tmp_path / "step-00000003" / "weights.safetensors")
    with pytest.warns(UserWarning, match="An older one is kept instead"):
        checkpoint.prune(tmp_path, 2)
    assert [path.name[-1] for path in checkpoint.steps(tmp_path)] == ["3", "2", "1"], "two whole ones stay"
    checkpoint.write(tmp_path, 4, {"weights": {"x": np.full(9, 4.0)}}, {})
    checkpoint.prune(tmp_path, 2)
    assert [path.name[-1] for path in checkpoint.steps(tmp_path)] == ["4", "3", "2"], "the damaged one is evidence"


def test_each_rank_resumes_on_a_device_of_its_own(tmp_path, small, monkeypatch):
    run = straight(small, tmp_path / "run", 2)
    plan = json.loads((run / "options.json").read_text())
    plan["compute"]["device"] = "cuda:0"
    (run / "options.json").write_text(json.dumps(plan))
    asked = []

    def choose(device, *_):
        asked.append(device)
        raise ResourceError("no such device")

    monkeypatch.setattr("elegan.training.precision.choose", choose)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for rank in (None, "1"):
        if rank:
            monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(ResourceError):
            elegan.resume(run, steps=3)
    assert asked == ["cuda:0", "cuda"]
