"""What a user does, from end to end: the command line, and the Python of it."""

import io
import json
import re
import resource
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import elegan
from elegan import zoo
from elegan.cli import train as train_verb
from elegan.run import events
from elegan.training import precision, still
from tests.conftest import ELEGAN, TINY, everything, state, tensors


def real(*tokens: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [*ELEGAN, *map(str, tokens)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


# ---- help


@pytest.mark.process
def test_a_real_process_says_what_it_is():
    said = real("--help")
    assert (said.returncode, said.stderr) == (0, "")
    for verb in ("train", "resume", "sample", "apply", "zoo", "doctor"):
        assert re.search(rf"^  {verb} ", said.stdout, re.M)
    said = real("--version")
    assert (said.returncode, said.stdout, said.stderr) == (0, f"elegan {elegan.__version__}\n", "")
    said = subprocess.run([Path(sys.executable).parent / "elegan", "zoo", "list"], capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")
    assert [line.split()[0] for line in said.stdout.splitlines()] == zoo.names()
    said = real("trian")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == "elegan: no verb 'trian'. Did you mean 'train'?\n"


@pytest.mark.process
@pytest.mark.parametrize(
    "tokens",
    ["", "--help", "--version", "zoo list", "zoo show dcgan", "train --help", "train dcgan --help", "resume --help",
     "sample --help", "trian"],
)  # fmt: skip
def test_help_never_imports_torch(tokens):
    """Nor numpy, nor anything else that is slow to come."""
    program = (
        "import sys\nfrom elegan.cli import main\nmain(sys.argv[1:])\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'PIL', 'matplotlib', 'safetensors'} & sys.modules.keys()\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, *tokens.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.process
@pytest.mark.parametrize("tokens", ["--help", "zoo list"])
def test_help_comes_at_once(tokens):
    """At most 0.15 s over the bare interpreter; measured .01 to .02 s. Of the processor: others may use it too."""

    def seconds(command: list[str]) -> float:
        start = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - start

    bare, asked = [sys.executable, "-c", "pass"], [*ELEGAN, *tokens.split()]
    over = []
    for _ in range(3):
        over.append(statistics.median(seconds(asked) for _ in range(7)) - statistics.median(map(seconds, [bare] * 7)))
        if over[-1] <= 0.15:
            return
    pytest.fail(f"{over} s over the bare interpreter")


def flat(text: str) -> str:
    """Help as one line: boxes and line breaks gone."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


@pytest.mark.parametrize("name", zoo.names())
def test_help_shows_every_option_with_default_and_comment(cli, name):
    said = cli("train", name, "--help")
    assert (said.code, said.err) == (0, "")
    text = flat(said.out)
    game = zoo.describe(name)
    assert game.title.split(":")[0].split(",")[0] in text
    for option in game.options:
        assert re.search(rf"{option.flag}[ ,]", text), option.flag
        assert flat(option.help) in text, option.flag
        if option.default not in (None, ""):
            shown = ",".join(map(str, option.default)) if isinstance(option.default, tuple) else str(option.default)
            shown = {"True": "yes", "False": "no"}.get(shown, shown)
            assert re.search(rf"{re.escape(flat(option.help))}.*?\[default: {re.escape(shown)}\]", text), option.flag
    for option in (*train_verb.FLAGS, *train_verb.MACHINE):
        assert f"{option.flag} " in text
        assert flat(option.help) in text
    for preset in game.presets:
        assert preset in text


def test_help_of_the_other_verbs(cli, tiny_run):
    for verb, words in {"resume": ["RUN", "--steps"], "sample": ["RUN", "-n", "--seed", "--out"],
                        "apply": ["RUN", "INPUT", "--direction"], "doctor": [], "zoo": ["list"]}.items():  # fmt: skip
        said = cli(verb, "--help")
        assert (said.code, said.err) == (0, "")
        for word in words:
            assert word in said.out
    assert "--truncation" not in cli("sample", "--help").out
    said = cli("sample", tiny_run, "--help")
    assert "--truncation" in said.out, "the flags of the run's own game"
    for name in zoo.names():
        assert name in cli("train", "--help").out


def test_the_zoo_is_listed_and_shown(cli):
    said = cli("zoo", "list")
    assert [line.split()[0] for line in said.out.splitlines()] == zoo.names()
    for name in zoo.names():
        said = cli("zoo", "show", name)
        game = zoo.describe(name)
        assert said.code == 0
        assert game.doc in said.out
        for option in (*game.options, *game.sample_options):
            (line,) = re.findall(rf"^  {option.flag} .*$", said.out, re.M)
            assert option.help in line
        for preset in game.presets:
            assert re.search(rf"^  {preset} ", said.out, re.M)


# ---- a run, from its birth to its samples


@pytest.mark.process
def test_a_run_in_real_processes(tmp_path, small):
    said = real("train", "cgan", small, *TINY, "--steps", 3, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    lines = said.stdout.splitlines()
    assert "\x1b" not in said.stdout, "plain lines off a terminal"
    assert lines[0].startswith(f"cgan on {small}: 64 images of 8x8")
    assert lines[1].startswith("cpu, fp32, 1 thread")
    assert lines[2] == "run: runs/cgan-small-001"
    assert lines[3] == "page: runs/cgan-small-001/index.html"
    assert lines[4].startswith("step 1/3 ")
    assert "D.adv" in lines[4]
    assert lines[-3].startswith("step 3/3 ")
    assert lines[-2] == "done after step 3. Look at runs/cgan-small-001/index.html"
    assert lines[-1] == "Draw more with: elegan sample runs/cgan-small-001 -n 100 --seed 1"
    run = tmp_path / "runs" / "cgan-small-001"
    assert {path.name for path in run.iterdir()} >= {"options.json", "events.jsonl", "samples", "checkpoints"}

    said = real("resume", "runs/cgan-small-001", "--steps", 5, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert state(run)["step"] == 5
    assert json.loads((run / "options.json").read_text())["training"]["steps"] == 5

    said = real("sample", "runs/cgan-small-001", "-n", 5, "--label", 2, "--truncation", 0.7, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    drawn = run / "drawn-001"
    assert said.stdout == "5 samples in runs/cgan-small-001/drawn-001; look at runs/cgan-small-001/drawn-001/grid.png\n"
    assert sorted(path.name for path in drawn.iterdir()) == [*(f"{k:05d}.png" for k in range(5)), "grid.png"]
    with Image.open(drawn / "00003.png") as opened:
        assert opened.size == (8, 8)
        marks = {
            name: opened.text[f"elegan:{name}"] for name in ("game", "step", "seed", "label", "truncation", "sample")
        }
    assert marks == {"game": "cgan", "step": "5", "seed": "0", "label": "2", "truncation": "0.7", "sample": "3"}


def decoded(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(folder.glob("[0-9]*.png")):
        with Image.open(path) as opened:
            found[path.name] = opened.tobytes()
    return found


def test_sample_k_of_a_seed_does_not_depend_on_how_many_are_drawn(cli, tiny_run, tmp_path):
    for n in (1, 3, 40, 33):
        assert cli("sample", tiny_run, "-n", n, "--seed", 7, "--out", tmp_path / str(n)).code == 0
    all_of_them = decoded(tmp_path / "40")
    assert len(all_of_them) == 40
    assert len(set(all_of_them.values())) == 40, "no two are the same"
    for n in (1, 3, 33):
        few = decoded(tmp_path / str(n))
        assert len(few) == n
        assert few == {name: all_of_them[name] for name in few}
    assert cli("sample", tiny_run, "-n", 3, "--seed", 8, "--out", tmp_path / "other").code == 0
    assert not set(decoded(tmp_path / "other").values()) & set(all_of_them.values())


def test_runs_are_numbered_and_so_are_drawings(cli, small):
    for _ in range(2):
        assert cli("train", "dcgan", small, *TINY, "--steps", 1).code == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["dcgan-small-001", "dcgan-small-002"]
    one, two = (Path("runs") / f"dcgan-small-00{k}" for k in (1, 2))
    assert tensors(one) == tensors(two), "the same seed, the same run"
    for _ in range(2):
        assert cli("sample", one, "-n", 1).code == 0
    assert decoded(one / "drawn-001") == decoded(one / "drawn-002") != {}
    assert cli("train", "dcgan", small, *TINY, "--steps", 1, "--seed", 1, "--out", "three").code == 0
    assert tensors(Path("three")) != tensors(one)


def test_flags_of_verb_and_game_arrive(cli, small):
    flags = [
        "--seed",
        3,
        "--shards",
        2,
        "--half-life-images",
        5,
        "--lr",
        "1e-3",
        "--stem",
        "--no-judge-norm",
        "--loss",
        "hinge",
        "--keep",
        3,
        "--rescue",
    ]
    assert cli("train", "dcgan", small, *TINY, "--steps", 2, *flags, "--out", "run").code == 0
    plan = json.loads(Path("run/options.json").read_text())
    assert plan["training"] == {"batch": 8, "steps": 2, "half_life_images": 5, "images": None, "shards": 2, "seed": 3,
                                "until_still": None, "score": 0, "keep": 3, "rescue": True}  # fmt: skip
    tiny = zoo.describe("dcgan").presets["tiny"]
    given = {"lr": 1e-3, "stem": True, "judge_norm": False, "loss": "hinge"}
    assert plan["options"] == {**zoo.describe("dcgan").defaults(), **tiny, **given}
    assert plan["preset"] == "tiny"
    assert (plan["compute"]["precision"], plan["compute"]["threads"]) == ("fp32", 1)
    # flags before the arguments, and = between flag and value
    assert cli("train", "--lr=1e-3", "--steps=1", "dcgan", small, *TINY, "--out=other").code == 0
    assert json.loads(Path("other/options.json").read_text())["options"]["lr"] == 1e-3


@pytest.mark.parametrize(("game", "critic", "steps"), [("dcgan", 1, 4), ("wgan-gp", 2, 2)])
def test_images_are_counted_as_they_are_read(cli, small, game, critic, steps):
    """30 images in batches of 8: four steps; two where each step reads two batches."""
    assert cli("train", game, small, *TINY, "--images", 30, "--out", "run").code == 0
    assert state(Path("run"))["step"] == steps
    assert state(Path("run"))["images"] == steps * critic * 8 >= 30
    assert json.loads(Path("run/options.json").read_text())["training"]["steps"] == steps


def test_a_training_may_stop_when_it_is_still(cli, small, monkeypatch):
    monkeypatch.setattr(still, "WINDOW", 3)
    said = cli("train", "dcgan", small, *TINY, "--steps", 50, "--until-still", 5, "--out", "run")
    assert said.code == 0
    assert "done after step 6." in said.out
    assert state(Path("run"))["step"] == 6


def test_the_log_has_every_step_to_100_and_then_every_tenth(cli):
    said = cli("train", "gan", "ring", *TINY, "--steps", 125, "--out", "run")
    assert said.code == 0
    logged = list(events.read(Path("run/events.jsonl")))
    assert [line["step"] for line in logged if line["kind"] == "step"] == [*range(1, 101), 110, 120]
    assert [line["kind"] for line in logged if line["kind"] != "step"] == [
        "started",
        "checkpoint",
        "checkpoint",
        "stopped",
    ]
    assert all(line["v"] == 1 for line in logged)
    first = next(line for line in logged if line["kind"] == "step")
    assert first["terms"].keys() == {"D.adv", "D.real", "D.fake", "D.right", "D.grad", "G.adv", "G.grad"}
    assert first["images"] == 8
    steps = (0, 1, 2, 5, 10, 20, 50, 100, 125)
    assert [path.name for path in sorted(Path("run/samples").iterdir())] == [f"{step:08d}.png" for step in steps]


def test_points_are_sampled_as_numbers(cli):
    assert cli("train", "gan", "ring", *TINY, "--steps", 1, "--out", "run").code == 0
    said = cli("sample", "run", "-n", 9, "--out", "out")
    assert said.code == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["grid.png", "samples.csv"]
    assert np.loadtxt("out/samples.csv", delimiter=",").shape == (9, 2)


def test_a_translation_is_applied_to_files(cli, tmp_path):
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "pair.npz", **{side: draw.integers(0, 255, (9, 8, 8), dtype=np.uint8) for side in "ab"})
    assert cli("train", "cyclegan", tmp_path / "pair.npz", *TINY, "--steps", 2, "--out", "run").code == 0
    (tmp_path / "mine").mkdir()
    for k in range(11):
        Image.fromarray(draw.integers(0, 255, (8, 8), dtype=np.uint8)).save(tmp_path / "mine" / f"{k:02d}.png")
    said = cli("apply", "run", tmp_path / "mine")
    assert said.code == 0
    assert "11 results in run/applied-001" in said.out
    there = decoded(Path("run/applied-001"))
    assert len(there) == 11
    assert cli("apply", "run", tmp_path / "mine", "--direction", "ba", "--out", "back").code == 0
    back = decoded(Path("back"))
    assert len(back) == 11
    assert all(back[name] != there[name] for name in back)


def test_doctor_says_what_a_run_would_use(cli, monkeypatch):
    monkeypatch.setattr(precision, "probe", lambda: {("fp32", 1): 0.02, ("bf16", 1): 0.01})
    said = cli("doctor")
    assert (said.code, said.err) == (0, "")
    for word in (
        elegan.__version__,
        sys.executable,
        "torch",
        "bf16  1 thread   10.00 ms  fastest",
        "a run would use cpu",
    ):
        assert word in said.out


@pytest.mark.process
def test_a_closed_pipe_is_no_error(small, tmp_path):
    """As `elegan zoo list | head -1`."""
    command = f"set -o pipefail; {shlex.join(ELEGAN)} zoo show dcgan | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.startswith("dcgan: ")


# ---- Python


def test_every_public_name_is_there():
    assert elegan.__all__ == sorted(elegan.__all__)
    for name in elegan.__all__:
        assert getattr(elegan, name) is not None
        assert name in dir(elegan)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = elegan.nonsense


@pytest.mark.process
def test_importing_the_package_costs_nothing():
    program = "import sys, elegan; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_the_python_of_it(tmp_path, small, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    seen = []

    def see(event):
        seen.append((event.step, event.images, sorted(event.terms)))

    tiny = dict(preset="tiny", batch=8, threads=1, precision="fp32")
    model = elegan.train("cgan", small, steps=3, listeners=[see], **tiny)
    terms = ["D.adv", "D.fake", "D.grad", "D.r1", "D.r2", "D.real", "D.right", "G.adv", "G.grad"]
    assert seen == [(1, 8, terms), (2, 16, terms), (3, 24, terms)]
    assert repr(model) == f"Model(cgan on {small}, 3 steps, runs/cgan-small-001)"
    drawn = model.sample(5, seed=2, label=3, truncation=0.5)
    assert drawn.values.shape == (5, 1, 8, 8)
    assert drawn.values.dtype == np.uint8
    loaded = elegan.load("runs/cgan-small-001")
    assert loaded.step == 3
    assert (loaded.sample(5, seed=2, label=3, truncation=0.5).values == drawn.values).all()
    assert (elegan.sample("runs/cgan-small-001", 5, seed=2, label=3, truncation=0.5).values == drawn.values).all()
    assert (loaded.sample(7, seed=2, label=[3] * 7, truncation=0.5).values[:5] == drawn.values).all()
    resumed = elegan.resume(Path("runs/cgan-small-001"), steps=4)
    assert resumed.step == 4
    with Image.open(io.BytesIO(resumed.sample(4)._repr_png_())) as opened:
        assert opened.format == "PNG"
    assert capsys.readouterr() == ("", ""), "below the command line nothing prints"


def test_a_listener_steers_and_stops_and_a_resume_remembers(tmp_path, small):
    heard = []

    def steer(event):
        heard.append(event.terms["D.adv"])
        return {3: {"D.lr": 0.0, "G.lr": 0.0}, 6: {"stop": True}}.get(event.step)

    options = dict(preset="tiny", batch=8, threads=1, precision="fp32", half_life_images=0)
    model = elegan.train("dcgan", small, out=tmp_path / "run", steps=50, listeners=[steer], **options)
    assert model.step == len(heard) == 6
    assert state(tmp_path / "run")["changes"] == {"D.lr": 0.0, "G.lr": 0.0}
    logged = [(line["step"], line["change"]) for line in events.read(tmp_path / "run/events.jsonl") if "change" in line]
    assert logged == [(3, {"D.lr": 0.0, "G.lr": 0.0}), (6, {"stop": True})]
    three = elegan.train("dcgan", small, out=tmp_path / "three", steps=3, **options)
    further = elegan.resume(tmp_path / "run", listeners=[lambda event: {"stop": event.step == 8}])
    for game in (model.game, further.game):
        for mine, its in zip(game.parameters(), three.game.parameters(), strict=True):
            assert mine.equal(its), "at rate zero nothing moved after the third step"


def test_the_loop_itself():
    from elegan.training.loop import train

    data = elegan.open_data("ring")
    game = zoo.build("gan", data.spec, z_dim=2, widths=(8,), judge_widths=(8,))
    running = train(game, elegan.Batches(data, rows=16), steps=4, seed=1)
    first = next(running)
    assert (first.step, first.images, first.phase) == (1, 16, "train")
    assert running.send({"D.lr": 1e-3}).step == 2
    assert [event.step for event in running] == [3, 4]
    assert first.state.changes == {"D.lr": 1e-3}


def test_nothing_outside_the_run_is_written(cli, small, tmp_path):
    before = everything(small.parent)
    assert cli("train", "dcgan", small, *TINY, "--steps", 1, "--out", "run").code == 0
    assert everything(small.parent) == before
    assert [path.name for path in Path().iterdir()] == ["run"]
