"""The page of a run, as text: what the log says, what of it is drawn, what is escaped, and the commands it prints."""

import base64
import hashlib
import io
import json
import math
import re
import shlex
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args, get_origin

import numpy as np
import pytest
from PIL import Image

import elegan
from elegan import zoo
from elegan.cli import train as train_verb
from elegan.options import Option
from elegan.run import events
from elegan.run.directory import RunDirectory
from elegan.view import page as page_room
from elegan.view.frames import shown, spread
from elegan.view.history import POINTS, curve, history
from elegan.view.repeat import flag, repeat, resume, unusual, use

PNG = "data:image/png;base64,"
WEBP = "data:image/webp;base64,"


class Parsed(HTMLParser):
    """A page as a browser reads it: elements with their attributes, and the text inside those that hold only text."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append((self.elements[-1][0] if self.elements else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self) -> str:
        return " ".join(" ".join(text for tag, text in self.texts if tag not in ("script", "style")).split())

    def data(self) -> dict:
        (found,) = [text for tag, text in self.texts if tag == "script" and text.startswith('{"step"')]
        return json.loads(found)


def step(n: int, seconds: float, terms: dict, **facts) -> dict:
    line = {"v": 1, "kind": "step", "time": 1e9 + seconds, "seconds": seconds, "step": n, "images": 8 * n}
    return {**line, "terms": terms, **facts}


def rewrite(run: Path, lines: list[dict | str]) -> None:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (run / "events.jsonl").write_text("\n".join(texts) + "\n")


# ---- what a log says


def test_a_curve_keeps_its_extremes_however_long_it_is():
    rng = np.random.default_rng(0)
    values = rng.normal(size=10_090)
    values[[17, 4_321, 9_000]] = 50, -60, math.nan
    steps = list(range(1, 10_091))
    thin = curve("D.adv", [(s, float(v)) for s, v in zip(steps, values, strict=True)])
    assert 0.9 * POINTS < len(thin.steps) <= POINTS
    assert (thin.steps[0], thin.steps[-1]) == (1, 10_090)
    assert thin.steps == sorted(set(thin.steps))
    assert all(v == values[s - 1] for s, v in zip(thin.steps, thin.values, strict=True)), "points of the curve itself"
    assert dict(zip(thin.steps, thin.values, strict=True)).items() >= {18: 50.0, 4_322: -60.0}.items()
    assert thin.missing == 1
    kept = set(thin.steps)
    for start in range(1, 10_000, 500):  # in any stretch longer than two of those that are thinned
        part = values[start : start + 500]
        assert {int(np.nanargmin(part)) + start + 1, int(np.nanargmax(part)) + start + 1} <= kept
    few = curve("D.adv", [(s, 1.0) for s in range(POINTS)])
    assert len(few.steps) == POINTS, "a short curve is whole"


def test_what_is_not_finite_is_a_gap_and_counted():
    lines = [step(1, 0.1, {"D.adv": 1.0}), step(2, 0.2, {"D.adv": "nan"}), step(3, 0.3, {"D.adv": "-inf", "bad": 1.0})]
    told = history(lines, 3)
    (only,) = told.terms
    assert (only.name, only.steps, only.values, only.missing) == ("D.adv", [1, 2, 3], [1.0, None, None], 2)
    assert told.undone == 1


def test_terms_gradients_and_rates_are_told_apart():
    lines = [
        step(1, 0.1, {"D.adv": 1.0, "D.grad": 2.0, "G+F.adv": 3.0}, rates={"D.lr": 0.1, "G+F.lr": 0.2}),
        step(2, 0.2, {"D.adv": 1.0}),
        step(3, 0.3, {"D.adv": 1.0}, rates={"D.lr": 0.05, "G+F.lr": 0.2}),
    ]
    told = history(lines, 3)
    assert [c.name for c in told.terms] == ["D.adv", "G+F.adv"]
    assert [c.name for c in told.gradients] == ["D.grad"]
    assert [(c.name, c.steps, c.values) for c in told.rates] == [
        ("D.lr", [1, 2, 3], [0.1, 0.1, 0.05]),
        ("G+F.lr", [1, 2, 3], [0.2, 0.2, 0.2]),
    ]
    assert history([step(1, 0.1, {"D.adv": 1.0})], 3).rates == [], "an old log knows no rates"


def test_speeds_start_anew_with_each_process():
    """80 images a second in the first process, 40 in the second; the hour between them counts not."""
    first = [{"kind": "started", "step": 0, "seconds": 0.0}, *(step(n, 0.1 * n, {}) for n in range(1, 41))]
    second = [{"kind": "resumed", "step": 40, "seconds": 0.0}, *(step(n, 0.2 * (n - 40), {}) for n in range(41, 81))]
    told = history([*first, *second, {"kind": "stopped", "step": 80, "seconds": 9.0, "by": "end"}], 80)
    (speeds,) = told.speeds
    by_step = dict(zip(speeds.steps, speeds.values, strict=True))
    assert all(v == pytest.approx(80, rel=0.01) for s, v in by_step.items() if s <= 40)
    assert all(v == pytest.approx(40, rel=0.01) for s, v in by_step.items() if s > 40)
    assert min(by_step) <= 3
    assert max(by_step) == 80
    assert told.seconds == pytest.approx(4.0 + 9.0)
    assert told.rate == pytest.approx((39 + 39) * 8 / (3.9 + 7.8), rel=1e-6)
    assert (told.step, told.images) == (80, 640)


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ([], "not started"),
        ([("started", 0, "")], "training"),
        ([("started", 0, ""), ("stopped", 9, "end")], "finished"),
        ([("started", 0, ""), ("stopped", 5, "end")], "stopped before its end"),
        ([("started", 0, ""), ("stopped", 5, "SIGTERM")], "stopped by SIGTERM"),
        ([("started", 0, ""), ("stopped", 5, "DivergenceError"), ("checkpoint", 5, "")], "stopped by DivergenceError"),
        ([("started", 0, ""), ("stopped", 5, "SIGINT"), ("resumed", 5, "")], "training"),
    ],
)
def test_the_state_is_what_the_last_line_on_it_says(lines, state):
    assert history([{"kind": kind, "step": n, "by": by} for kind, n, by in lines], 9).state == state


# ---- rates in the log


def test_the_log_has_a_rate_when_it_changes(tmp_path, small):
    def slower(event):
        assert event.rates.keys() == {"D.lr", "G.lr"}
        return {"D.lr": 1e-4} if event.step == 3 else None

    elegan.train("dcgan", small, out=tmp_path / "run", preset="tiny", steps=6, batch=8, threads=1, precision="fp32",
                 lr=5e-4, listeners=[slower])  # fmt: skip
    elegan.resume(tmp_path / "run", steps=7)
    lines = [line for line in events.read(tmp_path / "run" / "events.jsonl") if line["kind"] == "step"]
    assert {line["step"]: line["rates"] for line in lines if "rates" in line} == {
        1: {"D.lr": 5e-4, "G.lr": 5e-4},
        4: {"D.lr": 1e-4, "G.lr": 5e-4},
        7: {"D.lr": 1e-4, "G.lr": 5e-4},  # a process says them once
    }
    text = Parsed(tmp_path / "run" / "index.html").text()
    assert "Changed during the run at step 3 D.lr = 0.0001" in text
    assert "What was changed during the run is not in the command" in text


def test_alarms_are_told_with_their_remedy_and_their_end(tiny_run, tmp_path):
    run = RunDirectory(shutil.copytree(tiny_run, tmp_path / "run"))
    log = events.EventLog(run.events_file, [])
    figures = {"figures": {}, "change": {}}
    log.write("alarm", step=7, name="collapse", why="1 < 2 modes", remedy="raise --gamma", **figures)
    log.write("change", step=8, change={"D.lr": 1e-4})
    log.write("change", step=8, change={"gamma": 0.5})
    log.write("alarm", step=9, name="collapse", why="", remedy="", **figures)
    page_room.Page(run).write()
    text = Parsed(run.path / "index.html").text()
    assert "Alarms at step 7, collapse 1 < 2 modes; raise --gamma at step 9, collapse over" in text
    assert "at step 8 D.lr = 0.0001, gamma = 0.5" in text, "two changes at a step are one row"


def test_a_schedule_is_logged_as_it_moves():
    seen = []
    log = events.EventLog(Path("/dev/null"), [seen.append])

    class Moving:
        images, phase, terms = 0, "train", {"D.adv": 1.0}

        def __init__(self, step):
            self.step, self.rates = step, {"D.lr": 1 / (1 + step // 3)}

    for n in range(1, 8):
        log(Moving(n))
    assert [line["step"] for line in seen if "rates" in line] == [1, 3, 6]
    log(Moving(107))
    assert len(seen) == 7, "followers hear what is logged and nothing else"


# ---- the page


def test_a_page_is_one_file_that_asks_for_nothing(tiny_run):
    path = elegan.page(tiny_run)
    assert path == tiny_run / "index.html"
    parsed, text = Parsed(path), path.read_text(encoding="utf-8")
    for _, attributes in parsed.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert str(attributes.get(name) or "data:").startswith("data:")
        assert "style" not in attributes, "the policy forbids it"
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp|import\(", text)
    (policy,) = [m["content"] for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for kind, tag in (("style", "style"), ("script", "script")):
        (inner,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy, "only what the page came with runs"
    assert "unsafe" not in policy


def test_a_page_says_what_the_run_was(tiny_run):
    parsed = Parsed(elegan.page(tiny_run))
    plan = json.loads((tiny_run / "options.json").read_text())
    text = parsed.text()
    assert "dcgan on small.npz" in text
    for words in ("finished", "4 of 4", "32", "cpu, fp32, 1 thread", plan["data"]["fingerprint"], "64 images of 8x8",
                  "preset tiny", plan["versions"]["torch"], "field real 1 × 8 × 8 image, 4 classes"):  # fmt: skip
        assert words in text, words
    for option in zoo.describe("dcgan").options:
        assert option.help in text
    data = parsed.data()
    assert data["step"] == 4
    terms = {c["name"]: c for c in data["panels"]["terms"]}
    logged = [line for line in events.read(tiny_run / "events.jsonl") if line["kind"] == "step"]
    assert terms["D.adv"]["steps"] == [1, 2, 3, 4]
    assert terms["D.adv"]["values"] == [line["terms"]["D.adv"] for line in logged]
    assert {c["name"] for c in data["panels"]["gradients"]} == {"D.grad", "G.grad"}
    assert [c["name"] for c in data["panels"]["rates"]] == ["D.lr", "G.lr"]


def test_what_differs_from_a_default_is_marked(tiny_run):
    text = elegan.page(tiny_run).read_text()
    marked = set(re.findall(r"<tr class=\"other\"><th scope='row'>([^<]*)</th>", text))
    plan = json.loads((tiny_run / "options.json").read_text())
    defaults = zoo.describe("dcgan").defaults()
    others = {n.replace("_", " ") for n, v in plan["options"].items() if v != defaults[n]}
    recipe = zoo.describe("dcgan").recipe
    others |= {n for n in ("batch", "steps") if n in recipe and recipe[n] != plan["training"][n]}
    assert marked == others > {"width"}
    assert f"default {defaults['width']}" in text


def test_everything_of_a_run_is_escaped(tmp_path, small, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = Path("<script>alert(1)<") / "script>\"'&<img src=x onerror=alert(2)>.npz"
    evil.parent.mkdir()
    evil.write_bytes(small.read_bytes())
    run = tmp_path / "</title><b>"
    elegan.train("dcgan", evil, out=run, preset="tiny", steps=1, batch=8, threads=1, precision="fp32")
    lines = list(events.read(run / "events.jsonl"))
    name = "</script><script>alert(3)</script>"
    rewrite(run, [*lines, step(2, 9.0, {name: 1.0}), {"kind": "change", "step": 2, "change": {name: "<i>"}},
                  {"kind": "stopped", "step": 1, "by": "<u>"}])  # fmt: skip
    clean = Parsed(elegan.page(run))
    ours = [tag for tag, _ in clean.elements if tag in ("b", "i", "u")]
    assert ours == ["b", "b"], "that of the theme and that of the slider"
    assert len(clean.all("script")) == 2
    assert not [a for a in clean.all("img") if a["src"] == "x"]
    assert "alert(1)" in clean.text()
    assert name in [c["name"] for c in clean.data()["panels"]["terms"]]


def test_frames_that_a_resume_has_yet_to_draw_are_left_out(tiny_run):
    (tiny_run / "samples" / "00000009.png").write_bytes((tiny_run / "samples" / "00000004.png").read_bytes())
    parsed = Parsed(elegan.page(tiny_run))
    steps = [int(a["data-step"]) for a in parsed.all("img") if "data-step" in a]
    assert steps == sorted(int(p.stem) for p in (tiny_run / "samples").iterdir() if p.stem != "00000009")
    assert [int(a["data-step"]) for a in parsed.all("img") if "data-step" in a and "hidden" not in a] == [4]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_frames(tiny_run, count):
    grid = (tiny_run / "samples" / "00000004.png").read_bytes()
    for path in (tiny_run / "samples").iterdir():
        path.unlink()
    for n in range(count):
        (tiny_run / "samples" / f"{n:08d}.png").write_bytes(grid)
    parsed = Parsed(elegan.page(tiny_run))
    assert len([a for a in parsed.all("img") if "data-step" in a]) == count
    sliders = [a for a in parsed.all("input") if a["type"] == "range"]
    assert len(sliders) == (count == 2), "one frame needs no slider"
    assert ("Nothing is drawn yet" in parsed.text()) == (count == 0)
    if sliders:
        assert (sliders[0]["max"], sliders[0]["value"], sliders[0]["aria-valuetext"]) == ("1", "1", "step 1")
        assert sliders[0]["aria-label"]


def test_many_frames_are_thinned_to_what_a_page_holds(tiny_run, monkeypatch):
    steps = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, *range(1_000, 100_001, 1_000)]
    few = spread(steps, 60)
    assert 40 <= len(few) <= 60
    assert set(few) <= set(steps)
    assert few[:8] == steps[:8], "the beginning is whole"
    assert few[-1] == 100_000
    assert max(b - a for a, b in pairwise(few)) <= 5_000
    assert spread(steps[:60], 60) == steps[:60]
    assert spread(steps, 2) == [0, 100_000]


def test_pictures_of_the_end_are_shown(tiny_run):
    (tiny_run / "pictures").mkdir(exist_ok=True)
    for path in (tiny_run / "pictures").iterdir():
        path.unlink()
    Image.new("L", (20, 10)).save(tiny_run / "pictures" / "classes.png")
    parsed = Parsed(elegan.page(tiny_run))
    assert [a["class"] for a in parsed.all("figure")] == ["classes"]
    assert [(a["width"], a["height"]) for a in parsed.all("img") if "data-step" not in a] == [("20", "10")]
    assert page_room.PICTURES["classes"] in parsed.text()


def test_a_picture_keeps_its_bytes_or_is_packed(tmp_path):
    rng = np.random.default_rng(0)
    small = np.tile(np.linspace(0, 255, 80).astype(np.uint8)[None, :, None], (60, 1, 3))
    small[:, ::8] //= 2
    path = tmp_path / "x.png"
    Image.fromarray(small.repeat(2, 0).repeat(2, 1)).save(path)
    whole = shown(path, room=path.stat().st_size)
    assert base64.b64decode(whole.source.removeprefix(PNG)) == path.read_bytes()
    assert (whole.width, whole.height, whole.pixels) == (160, 120, False)
    packed = shown(path, room=path.stat().st_size - 1)
    with Image.open(io.BytesIO(base64.b64decode(packed.source.removeprefix(WEBP)))) as opened:
        assert opened.size == (80, 60)
        close = np.asarray(opened.convert("RGB")).astype(int) - small
    assert (packed.width, packed.height, packed.pixels) == (160, 120, True), "halved without loss, shown as large"
    assert abs(close).mean() < 8
    Image.fromarray(rng.integers(0, 255, (1_500, 3_000), dtype=np.uint8)).save(path)
    large = shown(path, room=1_000)
    assert (large.width, large.height, large.pixels) == (1_000, 500, False)
    path.write_bytes(path.read_bytes()[:2_000])
    assert shown(path, room=1_000) is None


def test_marks_of_origin_stay_in_a_packed_picture(tiny_run):
    path = tiny_run / "samples" / "00000004.png"
    packed = shown(path, room=10)
    with Image.open(io.BytesIO(base64.b64decode(packed.source.removeprefix(WEBP)))) as opened:
        assert b"trainedAlgorithmicMedia" in opened.info["xmp"]


# ---- commands


def test_flags_are_spelled_as_one_types_them():
    assert flag(Option("widths", tuple[int, ...], ()), [64, 32]) == ["--widths", "64,32"]
    assert flag(Option("stem", bool, False), True) == ["--stem"]
    assert flag(Option("judge_norm", bool, True), False) == ["--no-judge-norm"]
    assert flag(Option("slope", float, 0.2), -0.5) == ["--slope=-0.5"]
    assert flag(Option("augment", str, "flip"), "") == ["--augment="]
    assert flag(Option("lr", float, 1.0), 5e-5) == ["--lr", "5e-05"]
    assert flag(Option("n", int | None, 1), None) == ["-n", "none"]


@pytest.mark.parametrize("name", zoo.names())
def test_every_option_of_every_game_comes_back_from_its_command(name):
    """Options moved off their defaults, spelled, and read by the verb as a user's."""

    def other(option):
        value = option.default
        if get_origin(option.type) is Literal:
            return next(c for c in get_args(option.type) if c != value)
        if isinstance(value, bool):
            return not value
        if isinstance(value, (int, float)):
            return value * 2 + 1
        return (*value, *value[:1]) if isinstance(value, tuple) else value

    file = zoo.describe(name)
    moved = {option.name: other(option) for option in file.options}
    plan = {
        "game": name, "options": json.loads(json.dumps(moved)),
        "data": {"name": "a b's", "path": "/x/a b's", "form": {"size": "32", "sides": True}},
        "training": {"steps": 7, "batch": 6, "shards": 3, "seed": -4, "half_life_images": 9, "until_still": 0.5,
                     "images": None, "score": 50, "rescue": True, "keep": 4},
        "compute": {"device": "cpu", "precision": "bf16", "threads": 2, "why": ""},
    }  # fmt: skip
    tokens = shlex.split(repeat(plan))
    assert tokens[:2] == ["elegan", "train"]
    typed = train_verb.verb(tokens[2:]).parse(tokens[2:])
    assert typed is not None
    spelled = {n for n in moved if moved[n] != file.defaults()[n]}
    assert typed.keys() & moved.keys() == spelled, "nothing in vain"
    options = {n: typed.pop(n, file.defaults()[n]) for n in moved}
    assert options == moved
    training = {n: v for n, v in plan["training"].items() if n != "images"}
    machine = {"device": "cpu", "precision": "bf16", "threads": 2}
    data = {"data": "/x/a b's", "size": "32", "sides": True}
    assert typed == {"game": name, "preset": "none", **data, **training, **machine}


def test_defaults_are_not_spelled(tiny_run):
    spelled = repeat(json.loads((tiny_run / "options.json").read_text()))
    assert not {"--rescue", "--no-rescue", "--keep", "--score"} & set(shlex.split(spelled))
    assert unusual({"widths": [64, 32], "lr": 0.1, "own": 1}, {"widths": (64, 32), "lr": 0.2}) == {"lr": 0.1, "own": 1}


def test_the_other_commands(tmp_path):
    plan = {"game": "dcgan", "training": {"steps": 100}}
    run = tmp_path / "a b"
    assert shlex.split(resume(run, plan, 60)) == ["elegan", "resume", str(run)]
    assert shlex.split(resume(run, plan, 100)) == ["elegan", "resume", str(run), "--steps", "150"]
    assert shlex.split(use(run, plan)) == ["elegan", "sample", str(run), "-n", "100", "--seed", "1"]
    assert shlex.split(use(run, {"game": "cyclegan"})) == ["elegan", "apply", str(run), "INPUT"]
    assert use(run, {"game": "no-such-game"}) == ""


# ---- when it is written


def test_a_page_is_built_for_a_hundredth_of_the_time(tiny_run, monkeypatch):
    now, built = [0.0], []

    def slow(run, known):
        built.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr(page_room.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(page_room, "write", slow)
    listener = page_room.Page(RunDirectory(tiny_run))
    for _ in range(1_000):
        assert listener(None) is None
        now[0] += 1.0
    assert len(built) == 5
    assert all(b - a >= 2 + page_room.BUILDS_COST * 2 for a, b in pairwise(built))
    with page_room.Page(RunDirectory(tiny_run)):
        pass
    assert len(built) == 6, "the last page is written on leaving"


def test_pictures_are_packed_once(tiny_run, monkeypatch):
    packed = []
    monkeypatch.setattr(page_room, "shown", lambda path, room: packed.append(path.name) or shown(path, room))
    listener = page_room.Page(RunDirectory(tiny_run))
    listener.write()
    first = len(packed)
    assert first >= 1
    listener.write()
    assert len(packed) == first
