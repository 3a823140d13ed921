"""What a user does with scores: evaluates, trains with an eye on them, compares runs, asks people."""

import http.client
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import elegan
from elegan.cli import train as train_verb
from elegan.metrics.human import judged_by
from elegan.run import checkpoint, events, saving
from elegan.run.directory import RunDirectory
from elegan.scoring import best as best_room
from elegan.scoring.ask import ask
from elegan.scoring.evaluate import Evaluation, read
from elegan.view.page import digest
from elegan.view.repeat import repeat
from tests.browser import dump
from tests.conftest import TINY, tensors
from tests.oracle.test_page import Parsed

SETTINGS = dict(preset="tiny", batch=8, threads=1, precision="fp32")


@pytest.fixture(autouse=True, scope="module")
def only_what_is_always_there():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("elegan.embedders.weights.packaged", lambda *_: None)
        yield


def every_step_scored(patch: pytest.MonkeyPatch) -> None:
    """Step 2 is given out as the best, by far."""
    measure = best_room.measure

    def favouring(names, subject, *rest, **given):
        (score,) = measure(names, subject, *rest, **given)
        return [replace(score, value=0.5) if subject.endswith("step 2") else score]

    patch.setattr(best_room, "FIRST_SECONDS", -1.0)
    patch.setattr(best_room, "SHARE", 1e9)
    patch.setattr(best_room, "measure", favouring)


@pytest.fixture(scope="module")
def scored(tmp_path_factory, small) -> Path:
    """A run of five steps, each of them scored and saved."""
    out = tmp_path_factory.mktemp("runs") / "scored"
    with pytest.MonkeyPatch.context() as patch:
        every_step_scored(patch)
        patch.setattr(saving, "LEAST_SECONDS", 0.0)
        patch.setattr(saving, "SAVES_COST", 0)
        elegan.train("dcgan", small, out=out, steps=5, score=40, track=track(), **SETTINGS)
    return out


def track() -> str | None:
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        return None
    return "tensorboard"


# ---- evaluate


def test_evaluate_says_what_was_compared_with_what(cli, tiny_run, small):
    said = cli("evaluate", tiny_run, "-n", 50, "--metrics", "fd,kid,precision-recall,gap")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == f"{tiny_run}, step 4: 50 samples"
    assert re.fullmatch(rf"against {re.escape(str(small))} \(train\): 64 samples, fingerprint [0-9a-f]{{12}}", lines[1])
    assert lines[2] == "features pixels: pixels in [0, 1], 8x8"
    assert lines[3].startswith("floor: one half of ")
    assert "baseline: PCA and a mixture of Gaussians" in lines[3]
    assert lines[4] == ""
    assert lines[5].split() == ["score", "value", "95", "%", "interval", "floor", "baseline"]
    assert [line.split()[0] for line in lines[6:12]] == [
        "FD[pixels]", "KID[pixels]", "precision[pixels]", "recall[pixels]", "density[pixels]", "coverage[pixels]",
    ]  # fmt: skip
    assert lines[-1] == f"wrote {tiny_run / 'scores.jsonl'}"
    assert "FID" not in said.out
    assert "\x1b" not in said.out
    assert max(map(len, lines)) < 400
    scores = read(tiny_run)
    shown = dict(re.findall(r"^(.+?) [↓↑≈] +(\S+)", said.out, re.M))
    for score in scores:
        assert score.step == 4
        assert float(shown[score.label].replace(",", "")) == pytest.approx(score.value, rel=2e-3, abs=1e-4)


def test_evaluate_of_data_saved_statistics_and_python(cli, small, tmp_path):
    rows = np.load(small)["real"]
    np.savez("mine.npz", real=rows[::2])
    said = cli("evaluate", "mine.npz", "--against", small, "--metrics", "fd", "--save", "mine.safetensors")
    assert said.code == 0
    assert said.out.splitlines()[-1] == "wrote mine.safetensors"
    assert not Path("scores.jsonl").exists(), "nothing is kept where nobody said where"
    value = shown(said.out)
    assert shown(cli("evaluate", "mine.safetensors", "--against", small).out) == value
    assert cli("evaluate", small, "--save", "its.safetensors").out == "wrote its.safetensors\n"
    said = cli("evaluate", "mine.safetensors", "--against", "its.safetensors", "--out", "kept")
    assert shown(said.out) == value
    assert said.out.splitlines()[-1] == "wrote kept/scores.jsonl"
    found = elegan.evaluate(rows[::2], against=rows, metrics="fd")
    assert shown(str(found)) == value
    assert found["FD"] is found["FD[pixels]"] is found.scores[0]
    with pytest.raises(KeyError):
        found["FID"]


def shown(text: str) -> str:
    return re.search(r"^FD\[pixels\] ↓ +(\S+)", text, re.M)[1]


def test_help_lists_what_there_is(cli):
    from elegan.embedders import names
    from elegan.metrics.catalogue import METRICS

    said = cli("evaluate", "--help")
    assert (said.code, said.err) == (0, "")
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", said.out).split())
    for name in (*METRICS, *names(), "--against", "--people", "--questions", "--checkpoint", "--save"):
        assert name in text
    assert "RUNS" in cli("compare", "--help").out
    assert "--score" in cli("train", "dcgan", "--help").out
    assert any(option.name == "score" for option in train_verb.FLAGS)


# ---- while it trains


def test_the_best_checkpoint_outlives_newer_ones(scored, cli, tmp_path):
    kept = [int(path.name.removeprefix("step-")) for path in checkpoint.steps(scored / "checkpoints")]
    assert kept == [5, 4, 2]
    record = json.loads((scored / "best.json").read_text())
    assert (record["step"], record["value"], record["count"], record["label"]) == (2, 0.5, 40, "FD[pixels]")
    best, newest = elegan.load(scored, checkpoint="best"), elegan.load(scored)
    assert (best.step, newest.step) == (2, 5)
    whole = checkpoint.at(scored / "checkpoints", 2)
    assert all(np.array_equal(t.numpy(), whole.tensors["average"][n]) for n, t in best.game.state_dict().items())
    assert (best.sample(4).values != newest.sample(4).values).any()
    assert cli("sample", scored, "-n", 3, "--checkpoint", "best", "--out", "out").code == 0
    np.testing.assert_array_equal(
        elegan.load(scored, checkpoint="best").sample(3).values[0, 0], np.asarray(elegan_image("out/00000.png"))
    )
    said = cli("evaluate", scored, "--checkpoint", "best", "-n", 40, "--metrics", "fd", "--out", "o")
    assert f"{scored}, step 2: 40 samples" in said.out


def test_the_best_is_saved_though_no_checkpoint_is_due(small, tmp_path, monkeypatch):
    every_step_scored(monkeypatch)
    seen = {}

    def listen(event) -> None:
        seen[event.step] = {name: t.clone() for name, t in event.state.average.game.state_dict().items()}

    elegan.train("dcgan", small, out=tmp_path / "r", steps=4, score=40, listeners=[listen], **SETTINGS)
    best = elegan.load(tmp_path / "r", checkpoint="best")
    assert best.step == 2
    assert all(t.equal(seen[2][name]) for name, t in best.game.state_dict().items())
    assert [path.name for path in checkpoint.steps(tmp_path / "r" / "checkpoints")] == [
        "step-00000004",
        "step-00000002",
    ]


def elegan_image(path: str):
    from PIL import Image

    with Image.open(path) as opened:
        return opened.copy()


def test_a_training_scores_what_it_will_be_drawn_from(scored, tmp_path):
    """The average, as it stands: evaluated again later, it has the same score."""
    (told,) = read(scored)
    again = elegan.evaluate(scored, n=40, metrics="fd", out=tmp_path)["FD"]
    assert (again.value, again.low, again.high) == (told.value, told.low, told.high)
    assert again.protocol == told.protocol


def test_scores_of_a_training_are_logged_shown_and_repeatable(scored):
    lines = [line for line in events.read(scored / "events.jsonl") if line["kind"] == "score"]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert all(list(line["scores"]) == ["FD[pixels]"] for line in lines)
    assert [score.value for score in read(scored)] == [pytest.approx(lines[-1]["scores"]["FD[pixels]"], rel=1e-5)]
    page = (scored / "index.html").read_text()
    assert 'data-panel="scores"' in page
    (curve,) = Parsed(scored / "index.html").data()["panels"]["scores"]
    assert (curve["name"], curve["steps"]) == ("FD[pixels]", [1, 2, 3, 4, 5])
    again = shlex.split(repeat(RunDirectory.open(scored).read_options()))
    assert again[again.index("--score") + 1] == "40"
    assert json.loads((scored / "options.json").read_text())["training"]["score"] == 40


@pytest.mark.skipif(track() is None, reason="no tensorboard here")
def test_scores_are_told_to_trackers(scored):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = EventAccumulator(str(next((scored / "track").rglob("events.out*")).parent)).Reload()
    points = [(one.step, one.value) for one in told.Scalars("scores/FD[pixels]")]
    assert [step for step, _ in points] == [1, 2, 3, 4, 5]
    assert points[1][1] == 0.5


def test_a_resumed_run_keeps_its_best_and_goes_on_scoring(scored, cli, tmp_path):
    run = shutil.copytree(scored, tmp_path / "again")
    assert cli("resume", run, "--steps", 7).code == 0
    assert RunDirectory.open(run).best_step() == 2
    assert [line["step"] for line in events.read(run / "events.jsonl") if line["kind"] == "score"][-1] == 7
    assert elegan.load(run, checkpoint="best").step == 2
    assert cli("resume", run, "--steps", 8, "--score", 0).code == 0
    assert [line["step"] for line in events.read(run / "events.jsonl") if line["kind"] == "score"][-1] == 7
    assert elegan.load(run, checkpoint="best").step == 2, "also when nothing is scored any more"


def test_scoring_takes_its_share_of_the_time_and_no_more(small, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(best_room.time, "monotonic", lambda: now[0])
    scored_at: list[float] = []

    class Timed(best_room.Best):
        def __init__(self):
            self.begun, self.spent, self.cost, self.step, self._failed = 0.0, 0.0, 0.0, -1, False
            self.reference = (None, None)

        def _score(self, game, state):
            scored_at.append(now[0])
            now[0] += 3.0

    listener = Timed()
    for step in range(1, 4_000):
        now[0] += 0.25
        state = type("State", (), {"step": step})
        listener(type("Event", (), {"game": None, "state": state}))
    assert scored_at[0] > best_room.FIRST_SECONDS
    assert 3.0 * len(scored_at) <= best_room.SHARE * now[0] + 3.0
    assert len(scored_at) >= 0.5 * best_room.SHARE * now[0] / 3.0


@pytest.mark.process
def test_two_processes_train_as_one_while_the_first_scores(tmp_path, small, cli):
    command = ("train", "dcgan", small, *TINY, "--shards", 2, "--steps", 4, "--out")
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "elegan")
    tokens = map(str, (*launcher, *command, tmp_path / "two", "--score", 40))
    said = subprocess.run([*tokens], capture_output=True, text=True, timeout=100)
    assert said.returncode == 0, said.stderr
    assert cli(*command, tmp_path / "one").code == 0
    assert tensors(tmp_path / "one") == tensors(tmp_path / "two")
    assert read(tmp_path / "two")[0].step == 4


# ---- compare


@pytest.fixture
def pair(tiny_run, scored, cli) -> tuple[Path, Path]:
    """Two runs whose names are markup: one without scores and grids, and one with both."""
    bare = tiny_run.rename(tiny_run.parent / "<b onload=x>&'\"")
    shutil.rmtree(bare / "samples")
    return bare, shutil.copytree(scored, tiny_run.parent / "<i>&amp;")


def test_compare_puts_runs_side_by_side(cli, pair):
    bare, scored = pair
    said = cli("compare", bare, scored)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("40 samples against ")
    assert f"{bare} has no scores: make them with: elegan evaluate {shlex.quote(str(bare))}" in said.out
    assert said.out.endswith("\nlook at compare.html\n")
    text = Path("compare.html").read_text()
    assert "<b onload" not in text
    assert "<i>" not in text
    assert text.count("&lt;i&gt;&amp;amp;, step 5") == 2, "under the picture, and for who does not see it"
    assert "&lt;b onload=x&gt;&amp;&#x27;&quot;" in text
    assert "nothing is drawn yet" in text
    parsed = Parsed(Path("compare.html"))
    data = parsed.data()
    curves = {c["name"] for c in data["panels"]["D.adv"]}
    assert curves == {str(bare), str(scored)}
    assert [c["name"] for c in data["panels"]["FD[pixels]"]] == [str(scored)]
    assert next(iter(data["panels"])) == "FD[pixels]", "scores before losses"


def test_the_page_of_a_comparison_asks_nobody(cli, pair):
    assert cli("compare", *pair, "--out", "sub/page.html").code == 0
    text = Path("sub/page.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)|@import|url\(|https?://(?!www\.w3\.org)""", text)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (part,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        assert f"'{digest(part)}'" in policy


def test_runs_of_one_protocol_share_a_table_and_others_say_why(cli, tiny_run, tmp_path):
    other = shutil.copytree(tiny_run, tmp_path / "other")
    for run, n in ((tiny_run, 40), (other, 40), (other, 44)):
        assert cli("evaluate", run, "-n", n, "--metrics", "fd", "--seed", len(run.name)).code == 0
    said = cli("compare", tiny_run, other)
    first, *_ = said.out.split("\n\nscore")
    assert "not in the first table" not in first
    assert "not in the first table: count: 40 there, 44 here" in said.out
    head = re.findall(r"^score .*$", said.out, re.M)
    assert head[0].split() == ["score", str(tiny_run), str(other), "floor", "baseline"]
    assert head[1].split() == ["score", str(other), "floor", "baseline"]
    text = Path("compare.html").read_text()
    assert "Not in the first table: count: 40 there, 44 here." in text
    assert text.count("<table") == 2
    assert "<small>" in text, "intervals"
    found = elegan.compare(tiny_run, other, out="again.html")
    assert str(found) == said.out.removesuffix("\n\nlook at compare.html\n")
    assert found.page == Path("again.html")


@pytest.mark.process
def test_a_browser_draws_the_curves(cli, pair, tmp_path):
    assert cli("compare", *pair).code == 0
    dom = dump(Path("compare.html").resolve().as_uri(), tmp_path, "--virtual-time-budget=2000").stdout
    assert dom.count("<svg") >= 3
    assert 'class="curve"' in dom


# ---- people


class Visitor:
    """Answers a study through its address, as the page would."""

    def __init__(self, url: str):
        self.host, self.path = re.fullmatch(r"http://([^/]+)(/.+/)", url).groups()

    def tell(self, where: str, **told: str) -> dict:
        connection = http.client.HTTPConnection(self.host, timeout=10)
        body = json.dumps(told)
        connection.request("POST", self.path + where, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found = json.loads(answer.read())
        connection.close()
        assert answer.status == 200, found
        return found

    def play(self, person: str, said: str) -> dict:
        told = self.tell("question", person=person)
        while "result" not in told:
            told = self.tell("answer", person=person, question=told["question"], answer=said)
        return told


def asked(monkeypatch, visit, *given, **options) -> Evaluation:
    """Ask people who come by `visit(url)`; then the owner presses Ctrl-C."""
    from elegan.view import people

    serve_forever = people.Server.serve_forever

    def until_visited(server, poll_interval=0.01):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server, "service_actions", lambda: interrupt(done))
            serve_forever(server, 0.01)

    done = threading.Event()

    def interrupt(event: threading.Event) -> None:
        if event.is_set():
            raise KeyboardInterrupt

    monkeypatch.setattr(people.Server, "serve_forever", until_visited)
    failed: list[BaseException] = []

    def come(url: str) -> None:
        try:
            visit(Visitor(url))
        except BaseException as error:
            failed.append(error)
        finally:
            done.set()

    found = ask(*given, ready=lambda url: threading.Thread(target=come, args=(url,)).start(), **options)
    assert not failed, failed
    return found


def test_people_score_a_run(tiny_run, monkeypatch):
    def visit(visitor):
        visitor.play("Ada", "real")
        visitor.play("Bo", "drawn")

    found = asked(monkeypatch, visit, tiny_run, questions=8)
    hype = found["HYPE∞"]
    answers = [json.loads(line) for line in (tiny_run / "people" / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 16
    assert hype.value == judged_by(answers).error.value == 0.5
    assert hype.label == "HYPE∞", "people are no embedder"
    assert hype.low is None, "two who err alike tell nothing of a third"
    assert found["drawn taken for real"].value == 0.5
    assert "16 answers of 2 people" in hype.note
    assert hype.protocol.form == "a picture at a time, untimed"
    assert [score.label for score in read(tiny_run)] == [score.label for score in found.scores]
    assert found.files == [tiny_run / "people" / "answers.jsonl", tiny_run / "scores.jsonl"]


def test_one_person_has_an_interval_of_that_persons_own(tiny_run, monkeypatch):
    found = asked(monkeypatch, lambda visitor: visitor.play("Ada", "real"), tiny_run, questions=8)
    hype = found["HYPE∞"]
    assert hype.value == 0.5
    assert (hype.low, hype.high) == pytest.approx((0.2152, 0.7848), abs=1e-3)  # Wilson, 4 of 8
    assert "Wilson" in hype.protocol.interval
    assert "8 answers of 1 person" in hype.note


def test_pairs_are_another_score(tiny_run, monkeypatch):
    found = asked(monkeypatch, lambda visitor: visitor.play("Ada", "left"), tiny_run, questions=6, style="two")
    (score,) = found.scores
    assert score.metric == "fooled in pairs"
    assert score.protocol.form == "which of two is real, untimed"


def test_nobody_came(tiny_run, monkeypatch, cli):
    from elegan.view import people

    found = asked(monkeypatch, lambda visitor: None, tiny_run, questions=4)
    assert found.scores == []
    assert not (tiny_run / "scores.jsonl").exists()
    monkeypatch.setattr(people.Server, "serve_forever", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    said = cli("evaluate", tiny_run, "--people", "--questions", 4)
    assert said.code == 0
    lines = said.out.splitlines()
    assert re.fullmatch(
        r"open http://127.0.0.1:\d+/\S+ in a browser; stop with Ctrl-C, and the answers are scored", lines[0]
    )
    assert lines[1] == "nobody answered, so nothing is scored."


def test_people_need_pictures_enough_of_them_and_a_place(cli, small, tiny_run):
    said = cli("evaluate", small, "--against", small, "--people", "--questions", 500, "--out", "o")
    assert said.code == 3
    assert str(small) in said.line
    assert said.out == ""
