"""The studio beside training: what it spells parses to what was trained, runs have ids, files say what they are."""

import io
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.exceptions import HTTPException

import elegan
from elegan import zoo
from elegan.cli import train as train_verb
from elegan.studio import wire
from elegan.studio.server import app, exports
from elegan.studio.server.runs import Runs
from elegan.studio.spelled import spell

WEB = Path(app.__file__).parents[1] / "web" / "src" / "lib" / "contract.ts"


def opened(*benches: dict, data: dict | None = None, **setup) -> dict:
    """What a lab says when it opens, its options complete."""
    asked = [{"preset": None, "options": {}, **bench} for bench in benches]
    data = data or {"kind": "preset", "name": "ring", "samples": 50_000}
    told = []
    for bench in asked:
        chosen = zoo.settings(bench["game"], bench["preset"], dict(bench["options"]), data.get("name", ""), "vector")
        listed = {n: list(v) if isinstance(v, tuple) else v for n, v in chosen.options.items()}
        told.append({"game": bench["game"], "options": listed})
    completed = {"batch": 16, "half_life_images": 500, "seed": 3, "trained": False, **setup}
    return {"setup": {"version": 1, "data": data, "benches": asked, **completed}, "benches": told, "about": "points",
            "window": {"left": -2.0, "low": -2.0, "side": 4.0}}  # fmt: skip


GAMES = [
    {"game": "gan", "preset": "stable"},
    {"game": "gan", "preset": "vector", "options": {"widths": (8, 4), "loss": "hinge", "judge_lr": 0.003}},
    {"game": "r3gan", "preset": None},
    {"game": "wgan-gp", "preset": "none"},
]


@pytest.mark.parametrize("bench", GAMES, ids=lambda bench: f"{bench['game']}-{bench['preset']}")
def test_the_command_parses_to_exactly_what_the_lab_trains(bench):
    lab = opened(bench)
    program, verb, *tokens = shlex.split(spell(lab, 120)["commands"][0])
    assert (program, verb) == ("elegan", "train")
    typed = train_verb.verb(tokens).parse(tokens)
    assert (typed.pop("game"), typed.pop("data"), typed.pop("preset")) == (bench["game"], "ring", "none")
    named = {"steps": 120, "batch": 16, "seed": 3, "half_life_images": 500, "shards": 1, "device": "cpu", "threads": 1,
             "precision": "fp32"}  # fmt: skip
    assert {name: typed.pop(name) for name in named} == named
    got = {
        n: list(v) if isinstance(v, tuple) else v
        for n, v in {**zoo.describe(bench["game"]).defaults(), **typed}.items()
    }
    assert got == lab["benches"][0]["options"]


def test_the_python_runs_and_gives_what_the_command_gives(tmp_path, monkeypatch, probed, cli):
    del probed
    lab = opened(GAMES[1], data={"kind": "preset", "name": "ring", "samples": 100})
    spelled = spell(lab, 5)
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(spelled["python"], scope)
    assert np.load("points.npy").shape == (100, 2)
    assert scope["model"].step == 5
    said = cli(
        *shlex.split(spelled["commands"][0].replace("points.npy", str(tmp_path / "points.npy")))[1:],
        "--out",
        tmp_path / "b",
    )
    assert said.code == 0, said.err
    other = elegan.load(tmp_path / "b")
    assert np.array_equal(scope["model"].sample(8).values, other.sample(8).values)


def test_what_cannot_be_repeated_is_said():
    assert spell(opened(GAMES[0]), 9)["note"] == ""
    drawn = opened(GAMES[0], data={"kind": "drawn", "points": [[0, 0]], "spread": 0.1, "samples": 100}, trained=True)
    changes = [(k, {"bench": 0, "change": {"D.lr": k / 10}}) for k in range(8)]
    told = spell(drawn, 0, changes, by_hand=True)
    assert "points.npy" in told["commands"][0]
    for part in ("Save keeps", "trained weights", "D.lr = 0.4 of game 1 after 4", "and 3 more", "single moves"):
        assert part in told["note"]
    assert "D.lr = 0.5" not in told["note"]


def test_every_route_of_the_contract_is_there():
    """And no other."""
    told = set(re.findall(r"(?:GET|POST|DELETE) (/api/[\w/.|]+)", WEB.read_text()))
    told |= {"/api/labs/ID/stream"}
    wanted = set()
    for path in told:
        *_, kinds = path.rpartition("export.")
        wanted |= {path.replace(kinds, kind) for kind in kinds.split("|")} if "export." in path else {path}
    routes = [route for mount in app.app(Path("runs")).routes if mount.path == "/api" for route in mount.routes]
    names = {"id": "ID", "seq": "SEQ", "step": "STEP"}
    assert {"/api" + re.sub(r"{([\w:]+)}", lambda m: names[m[1]], route.path) for route in routes} == wanted


# runs ---


@pytest.fixture
def runs(tmp_path, tiny_run):
    """Runs, one of them whole; links that lead out, and in circles."""
    root, outside = tmp_path / "runs", tmp_path / "outside"
    root.mkdir()
    tiny_run.rename(root / "whole")
    shutil.copytree(root / "whole", outside)
    (root / "link").symlink_to(outside)
    (root / "circle").symlink_to(root / "circle")
    (root / "inner").symlink_to(root / "whole")
    for name in ("broken", "deep", "foreign", "stolen", "no-spec"):
        (root / name).mkdir()
    (root / "broken" / "options.json").write_text("{")
    (root / "deep" / "options.json").write_text("[" * 100_000)
    (root / "foreign" / "options.json").write_text('{"schema": 99}')
    (root / "stolen" / "options.json").symlink_to(outside / "options.json")
    (root / "no-spec" / "options.json").write_text((outside / "options.json").read_text().replace('"steps"', '"stops"'))
    (root / "whole" / "samples" / "00000077.png").symlink_to(outside / "options.json")
    return Runs(root)


def test_runs_are_listed_with_what_is_wrong_with_them(runs):
    found = {info["name"]: info for info in runs.list()}
    assert found.keys() == {"whole", "inner", "broken", "deep", "foreign", "stolen", "no-spec"}
    whole = found["whole"]
    assert (whole["game"], whole["data"], whole["step"], whole["steps"], whole["plane"]) == (
        "dcgan",
        "small.npz",
        4,
        4,
        False,
    )
    assert whole["error"] == ""
    for name, word in {
        "broken": "damaged",
        "deep": "damaged",
        "foreign": "layout",
        "stolen": "another folder",
        "no-spec": "damaged",
    }.items():
        assert word in found[name]["error"], name
        assert "\n" not in found[name]["error"]
    assert {info["name"]: info["id"] for info in runs.list()} == {name: info["id"] for name, info in found.items()}


def test_ids_are_opaque_and_made_anew(runs):
    ids = {info["id"] for info in runs.list()}
    assert len(ids) == 7
    assert all(len(one) >= 12 and "whole" not in one for one in ids)
    again = Runs(runs.root)
    assert not ids & {info["id"] for info in again.list()}
    for name in ("whole", "../outside", "", str(runs.root / "whole"), *ids):
        with pytest.raises(HTTPException) as refused:
            again.path(name)
        assert refused.value.status_code == 404


def test_a_run_that_is_replaced_by_a_link_is_not_followed(runs, tmp_path):
    whole = next(info["id"] for info in runs.list() if info["name"] == "whole")
    assert runs.path(whole) == runs.root / "whole"
    (runs.root / "whole").rename(tmp_path / "away")
    (runs.root / "whole").symlink_to(tmp_path / "outside")
    with pytest.raises(HTTPException):
        runs.path(whole)


def test_pictures_come_from_the_run_alone(runs):
    whole = next(info["id"] for info in runs.list() if info["name"] == "whole")
    steps = runs.history(whole)["pictures"]
    assert {0, 1, 2, 4} <= set(steps)
    assert Image.open(io.BytesIO(runs.picture(whole, 4))).format == "PNG"
    for step in (77, 5):
        with pytest.raises(HTTPException):
            runs.picture(whole, step)


def test_a_history_is_what_the_log_says(runs):
    whole = next(info["id"] for info in runs.list() if info["name"] == "whole")
    log = runs.root / "whole" / "events.jsonl"
    log.write_text(
        '{"v":1,"kind":"started","step":0,"time":1,"seconds":0}\n'
        '{"v":1,"kind":"step","step":1,"images":8,"time":1,"seconds":1,"terms":{"D.adv":0.5,"D.grad":2.0,"G.adv":"nan"}}\n'
        '{"v":1,"kind":"score","step":1,"time":1,"seconds":1,"scores":{"FD[x]":9.0}}\n'
        "torn"
        '\n{"v":1,"kind":"alarm","step":1,"time":1,"seconds":1,"name":"collapse","why":"few modes","remedy":"more"}\n'
    )
    told = runs.history(whole)
    assert told["terms"] == {"D.adv": [(1, 0.5)], "D.grad": [(1, 2.0)], "G.adv": []}
    assert told["scores"] == {"FD[x]": [(1, 9.0)]}
    assert told["alarms"] == [{"step": 1, "name": "collapse", "said": "few modes; more"}]


# files ---


def frame(seq: int, benches: int) -> bytes:
    rng = np.random.default_rng(seq)
    arrays = {f"{k}/fake": rng.normal(size=(50, 2)).astype(np.float32) for k in range(benches)}
    arrays["0/surface"] = np.full((64, 64), 255, np.uint8)
    return wire.pack({"kind": "frame", "seq": seq, "step": 10 * seq}, arrays)


@pytest.mark.parametrize("count", [1, 3])
def test_files_say_what_made_them_and_that_they_are_synthetic(count):
    head = {"kind": "opened", **opened(*GAMES[:count])}
    about = wire.pack(head, {"real": np.zeros((5, 2), np.float32)})
    frames = [frame(seq, count) for seq in (1, 2, 3)]
    png = Image.open(io.BytesIO(exports.export("png", about, frames[-1:])))
    assert png.text["DigitalSourceType"] == "trainedAlgorithmicMedia"
    assert png.text["elegan:game"] == ", ".join(bench["game"] for bench in GAMES[:count])
    assert (png.text["elegan:step"], png.text["elegan:seed"]) == ("30", "3")
    gif = Image.open(io.BytesIO(exports.export("gif", about, frames)))
    assert (gif.n_frames, gif.info["loop"]) == (3, 0)
    assert b"trainedAlgorithmicMedia" in gif.info["comment"]
    assert b"step: 10 to 30" in gif.info["comment"]
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(exports.export("mp4", about, frames))) as film:
        assert "trainedAlgorithmicMedia" in film.metadata["comment"]
        shown = [np.asarray(one.to_image()) for one in film.decode(video=0)]
    assert len(shown) == 3
    assert shown[0].shape[:2] == png.size[::-1]
    assert np.abs(shown[-1].astype(int) - np.asarray(png.convert("RGB"))).mean() < 4


def test_the_word_synthetic_is_written(monkeypatch):
    said = []
    monkeypatch.setattr(exports.ImageDraw.ImageDraw, "text", lambda self, at, text, *_, **__: said.append(text))
    exports.drawn(frame(1, 1), opened(GAMES[0]), np.zeros((1, 2), np.float32))
    assert any("synthetic" in text for text in said)


def test_a_film_without_its_extra_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    about = wire.pack({"kind": "opened", **opened(GAMES[0])}, {"real": np.zeros((5, 2), np.float32)})
    with pytest.raises(elegan.ElegantError, match=r'pip install "elegan\[video\]"'):
        exports.export("mp4", about, [frame(1, 1)])
