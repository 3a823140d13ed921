"""What makes a score one to trust: its protocol, the tables it may stand in, its floor, what is kept of it."""

import itertools
import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

import elegan
from elegan.data.sources import open_data
from elegan.embedders import open_embedder
from elegan.embedders.contract import Embedded
from elegan.errors import DataError, OptionError
from elegan.metrics import features as room
from elegan.metrics.catalogue import METRICS, Measured, chosen
from elegan.metrics.estimate import Estimate
from elegan.metrics.evaluation import measure, scored
from elegan.metrics.features import (
    PORTION,
    Features,
    cache_folder,
    features_of,
    of_arrays,
    of_source,
    read_statistics,
    save_statistics,
    some,
)
from elegan.metrics.protocol import COMPARED, Protocol, Score, apart, lines, tables
from elegan.scoring.compare import arranged
from elegan.scoring.evaluate import Evaluation, read, written
from elegan.training.distributed import World
from elegan.view import compare as pages
from elegan.view import scores as text_room

RNG = np.random.default_rng(29)
PLAIN = Protocol("net", "a" * 64, "8x8", "data (test)", "f" * 64, 100, 50, form="N − 1")
OTHERS = {"embedder": "web", "weights": "b" * 64, "input": "9x9", "fingerprint": "e" * 64, "reference_count": 99,
          "count": 51, "form": "N"}  # fmt: skip


def a_score(metric: str = "FD", value: float | None = 2.5, subject: str = "run", **changes) -> Score:
    return Score(
        subject, metric, value, replace(PLAIN, **changes), 2.0, 3.0, floor=0.1, baseline=9.0, beside="floor: x"
    )


class Squares:
    """A network of one's own: squares and sums, and two classes."""

    def __init__(self, name: str = "squares", sha256: str = "5" * 64, broken: bool = False):
        self.name, self.sha256, self.features, self.about, self.broken = name, sha256, 3, "as they are", broken
        self.seen: list[int] = []

    def embed(self, images: np.ndarray) -> Embedded:
        self.seen.append(len(images))
        x = images.reshape(len(images), -1).astype(np.float32)
        made = np.stack([x.mean(1), (x**2).mean(1), x[:, 0]], 1)
        sure = 1 / (1 + np.exp(-x[:, 1]))
        return Embedded(made * np.nan if self.broken else made, np.stack([sure, 1 - sure], 1))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "elegan" / "scores"


def points(name: str, count: int, seed: int, shift: float = 0.0, known: bool = True):
    rows = np.random.default_rng(seed).normal(shift, 1, (count, 5)).astype(np.float32)
    return of_arrays(name, rows, fingerprint=f"{name} {count} {seed} {shift}" if known else "")


# ---- what a score is called and how it is kept


@pytest.mark.parametrize(
    ("metric", "embedder", "label"),
    [("FD", "inception", "FID"), ("KID", "inception", "KID"), ("IS", "inception", "IS"), ("FD∞", "inception", "FD∞"),
     ("FD", "digits-cnn", "FD[digits-cnn]"), ("FD", "Inception", "FD[Inception]"),
     ("KID", "inception-v3", "KID[inception-v3]"), ("CAS", "", "CAS"), ("FD", "", "FD")],
)  # fmt: skip
def test_only_the_original_network_gives_plain_names(metric, embedder, label):
    assert a_score(metric, embedder=embedder).label == label


def test_a_fake_network_never_prints_FID(cache):
    found = measure(["fd", "is"], "x", points("a", 40, 0), points("b", 50, 1), Squares("fake"), beside=False)
    assert [score.label for score in found] == ["FD[fake]", "IS[fake]"]
    text = str(Evaluation("x", found))
    assert "FID" not in text
    assert "features fake 555555555555: as they are" in text


def test_a_score_survives_strict_json():
    score = replace(a_score(seed=3, interval="95 %", versions={"torch": "2"}), step=7, note="ä", time="now")
    (line,) = lines([score]).splitlines()
    assert Score.from_json(json.loads(line)) == score
    assert json.loads(line)["label"] == "FD[net]"
    odd = replace(score, value=float("nan"), low=float("-inf"), high=float("inf"), floor=float("nan"))
    told = json.loads(lines([odd]), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert [told[name] for name in ("value", "low", "high", "floor")] == [None] * 4
    assert told["baseline"] == 9.0


def test_everything_of_the_protocol_is_kept_and_printed(cache, tmp_path):
    drawn, real = points("mine", 40, 0), points("its", 50, 1)
    net = Squares()
    found = measure(["fd", "kid"], "who", drawn, real, net, seed=5)
    for one in found:
        p = one.protocol
        assert (p.embedder, p.weights, p.input) == ("squares", "5" * 64, "as they are")
        assert (p.reference, p.fingerprint, p.reference_count, p.count, p.seed) == ("its", real.fingerprint, 50, 40, 5)
        assert p.interval.startswith("95 %, bootstrap of 1,000, ")
        assert p.form
        assert set(p.versions) == {"elegan", "torch", "numpy", "python"}
    (file,) = written(tmp_path, Evaluation("who", found), 12)
    kept = read(tmp_path)
    assert [replace(one, step=None, time="") for one in kept] == found
    assert {one.step for one in kept} == {12}
    assert len(file.read_text().splitlines()) == 2
    text = str(Evaluation("who", found))
    for word in (
        "who: 40 samples", "against its: 50 samples, fingerprint its 50 1 0.0", "features squares 555555555555: ",
        "floor: one half of its against the other", "baseline: PCA", "95 % interval", "FD[squares] ↓",
    ):  # fmt: skip
        assert word in text


def test_an_interval_says_what_was_resampled_and_is_none_where_all_weigh_alike():
    both, one, none = ((RNG.normal(size=9), RNG.normal(size=8)), (RNG.normal(size=9),), (np.zeros(9),))
    told = [scored("x", "FD", Measured(Estimate(1.0, i), "lower"), PLAIN) for i in (both, one, none)]
    assert [t.protocol.interval for t in told] == [
        "95 %, bootstrap of 1,000, both sides resampled",
        "95 %, bootstrap of 1,000, samples resampled, reference held",
        "none",
    ]
    assert [t.low is None for t in told] == [False, False, True]
    assert (told[1].low, told[1].high) == Estimate(1.0, one).interval(seed=PLAIN.seed)
    people = scored("x", "HYPE", Measured(Estimate(1.0, one), "lower", of="people"), PLAIN)
    assert people.protocol.interval.endswith(", people resampled")
    assert scored("x", "FD", Measured(1.0, "lower"), PLAIN).protocol.interval == "none"


# ---- tables


@pytest.mark.parametrize(("name", "other"), OTHERS.items())
def test_scores_of_two_protocols_stand_in_two_tables_that_say_why(name, other):
    one, two = a_score(subject="a"), a_score(subject="b", **{name: other})
    assert one.label.startswith("FD[")
    first, second = arranged({"a": [one], "b": [two]})
    assert (first.runs, second.runs) == (["a"], ["b"])
    assert first.why == ()
    (why,) = second.why
    assert why.startswith(f"{name.replace('_', ' ')}: ")
    shown = other[:12] if isinstance(other, str) else str(other)
    assert why.endswith(f"{shown} here") or f"{shown}… here" in why
    text = pages.text([first, second], [])
    assert f"not in the first table: {why}" in text
    assert pages.escape(why) in pages.scores([first, second], [])


def test_what_makes_no_difference_keeps_no_score_out():
    """Seed, versions, how an interval was made, and the name of data that is the same to the bit."""
    two = a_score(subject="b", seed=9, interval="none", versions={"torch": "9"}, reference="/elsewhere/data (test)")
    (table,) = arranged({"a": [a_score(subject="a")], "b": [two]})
    assert table.runs == ["a", "b"]
    assert apart(a_score(), two) == []
    assert two.protocol.comparable() == PLAIN.comparable(), "and the later replaces the earlier of a run"
    unknown = (a_score(fingerprint="", reference="x"), a_score(fingerprint="", reference="y"))
    assert apart(*unknown) == ["reference: y there, x here"], "data without a fingerprint is known by its name"


def test_another_split_is_another_table():
    """As its rows are others; the reason names the split and not what follows from it."""
    train = a_score(reference="data (train)", fingerprint="d" * 64, reference_count=60)
    assert apart(train, a_score()) == ["reference: data (test) there, data (train) here"]
    assert len(tables([a_score(), train])) == 2


def test_metrics_of_one_comparison_stand_together_and_of_two_embedders_apart():
    together = [a_score("FD"), a_score("KID", form="U"), a_score("CAS", embedder="", weights="", input="", form="acc")]
    (table,) = tables(together)
    assert list(table) == ["FD[net]", "KID[net]", "CAS"]
    first, second = arranged({"a": together, "b": [a_score("FD", embedder="web", weights="c" * 64)]})
    assert list(first.rows) == ["FD[net]", "KID[net]", "CAS"]
    assert second.why == ["embedder: net there, web here"], "also when the first labels are of two metrics"
    swapped = arranged({"a": together[::-1], "b": [a_score("FD", embedder="web", weights="c" * 64)]})
    assert swapped[1].why == ["embedder: net there, web here"]


def test_every_set_of_scores_falls_into_tables_without_a_conflict():
    every = [a_score(metric, **{name: other}) for metric in ("FD", "KID") for name, other in OTHERS.items()]
    for table in tables(every):
        scores = [score for rows in table.values() for score in rows]
        assert all(apart(one, two) == [] for one, two in itertools.combinations(scores, 2))
    assert sum(len(rows) for table in tables(every) for rows in table.values()) == len(every)
    assert set(COMPARED) - {"reference"} == set(OTHERS)


def test_the_table_of_most_runs_comes_first_and_each_has_floor_and_baseline():
    known = {"a": [a_score(count=1), a_score()], "b": [a_score(value=1.5)]}
    first, second = arranged(known)
    assert (first.runs, second.runs) == (["a", "b"], ["a"])
    for table in (first, second):
        head, *rows = table.cells()
        assert head[-2:] == ["floor", "baseline"]
        assert all(row[-2:] == ["0.1", "9"] for row in rows)
    assert first.best("FD[net]") == "b"
    assert replace(first, rows={"FD[net]": {"a": a_score(), "b": a_score()}}).best("FD[net]") == ""
    near = {"a": replace(a_score(), better="near"), "b": replace(a_score(value=1.0), better="near")}
    assert replace(first, rows={"FD[net]": near}).best("FD[net]") == ""
    high = {"a": replace(a_score(), better="higher"), "b": replace(a_score(value=1.0), better="higher")}
    assert replace(first, rows={"FD[net]": high}).best("FD[net]") == "a"


def test_names_are_text_and_no_markup():
    odd = a_score("<s>", embedder="<u>", input="<p>", reference="<i>", form="<q>")
    page = pages.scores(
        arranged({"<b>": [odd], "x": [replace(odd, protocol=replace(odd.protocol, form="<a>"))]}), ["<h1>"]
    )
    for name in ("s", "u", "i", "b", "a", "h1"):
        assert f"<{name}>" not in page, name
        assert f"&lt;{name}&gt;" in page, name


def test_a_floor_stands_in_the_row_whichever_run_has_it():
    bare = replace(a_score(), floor=None, baseline=None)
    (table,) = arranged({"a": [bare], "b": [a_score()]})
    assert table.cells()[1] == ["FD[net] ↓", "2.5", "2.5", "0.1", "9"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (-0.0, "0"), (12.0, "12"), (1234.0, "1,234"), (163.5558, "163.56"),
     (0.5808123, "0.5808"), (-0.0003337, "-3.3e-04"), (0.001792, "0.001792"), (1598.9123, "1,598.91"),
     (2.5e12, "2.5e+12"), (-12.39, "-12.39")],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert text_room.number(value) == text


def test_a_missing_score_is_a_note_and_no_row():
    missing = Score("run", "gap", None, PLAIN, note="there is none")
    text = text_room.table([[a_score(), missing]])
    assert "no gap[net]: there is none" in text
    assert sum(line.startswith(("FD[net]", "gap")) for line in text.splitlines()) == 1
    assert text_room.table([[missing]]).endswith("\n\nno gap[net]: there is none")
    assert text_room.table([]) == ""


# ---- floors and what is remembered


def test_the_floor_is_what_real_samples_score_in_their_place(cache):
    """As many rows of the training data, drawn by the seed, against the same reference."""
    drawn, real, train = points("drawn", 30, 0, 1.0), points("real", 50, 1), points("train", 70, 2)
    (found,) = measure(["fd"], "x", drawn, real, Squares(), train=train, seed=4)
    rows = np.sort(np.random.default_rng(4).permutation(70)[:30])
    held = of_arrays("held", train.all()[rows])
    (by_hand,) = measure(["fd"], "x", held, real, Squares(), beside=False)
    assert found.floor == pytest.approx(by_hand.value, rel=1e-12)
    assert found.value > found.floor
    assert found.baseline is not None
    assert found.baseline != found.floor
    assert "as many samples of train" in found.beside
    (few,) = measure(["fd"], "x", points("drawn", 90, 0), real, Squares(), train=train)
    assert few.floor is None
    assert "floor: none, train has too few samples" in few.beside


def test_without_training_data_halves_of_the_reference_are_the_floor(cache):
    drawn, real = points("drawn", 30, 0, 1.0), points("real", 51, 1)
    (found,) = measure(["fd"], "x", drawn, real, Squares(), seed=4)
    order = np.random.default_rng(4).permutation(51)
    halves = [of_arrays("h", real.all()[np.sort(order[k : k + 25])]) for k in (0, 25)]
    (by_hand,) = measure(["fd"], "x", *halves, Squares(), beside=False)
    assert found.floor == pytest.approx(by_hand.value, rel=1e-12)
    assert found.beside.startswith("floor: one half of real against the other; ")


def test_the_floor_of_memorisation_is_held_out_data(cache):
    """A game that hands out its training data is found out beside data that was held out."""
    real, train = points("real", 200, 1), points("train", 300, 2)
    copies = of_arrays("copies", train.all()[:100] + np.float32(1e-4))
    found = {s.metric: s for s in measure(["fd", "memorisation"], "x", copies, real, Squares(), train=train)}
    assert found["AuthPct"].value < 10 < 30 < found["AuthPct"].floor
    assert found["C_T"].value < -5
    assert abs(found["C_T"].floor) < 3
    assert found["memorisation distance"].value < 0.2 * found["memorisation distance"].floor
    assert found["FD, copies punished"].floor > 0, "not of the reference to itself"
    assert "of memorisation one half of real against the other" in found["FD"].beside


def test_a_second_time_nothing_is_embedded_that_was_before(cache):
    drawn, real, train = points("drawn", 30, 0), points("real", 50, 1), points("train", 70, 2)
    first, second = Squares(), Squares()
    one = measure(["fd", "kid"], "x", drawn, real, first, train=train)
    assert sum(first.seen) == 30 + 50 + 30 + 30, "drawn, real, floor, baseline"
    two = measure(["fd", "kid"], "x", drawn, real, second, train=train)
    assert second.seen == [30], "what is scored is always looked at"
    assert one == two
    assert len(list(cache.glob("*.safetensors"))) == 1
    assert len(list(cache.glob("*.json"))) == 2


@pytest.mark.parametrize("change", ["sha256", "name", "about", "data", "count", "seed", "metrics"])
def test_whatever_differs_is_remembered_apart(cache, change):
    drawn, real, train = points("drawn", 30, 0), points("real", 50, 1), points("train", 70, 2)
    measure(["fd"], "x", drawn, real, Squares(), train=train)
    before = {path.name for path in cache.glob("*.json")}
    net, names, seed = Squares(), ["fd"], 0
    match change:
        case "sha256" | "name" | "about":
            setattr(net, change, "6" * 64)
        case "data":
            real = points("real", 50, 8)
        case "count":
            drawn = points("drawn", 31, 0)
        case "seed":
            seed = 1
        case "metrics":
            names = ["fd", "kid"]
    measure(names, "x", drawn, real, net, train=train, seed=seed)
    assert len({path.name for path in cache.glob("*.json")} - before) == 2, "a floor and a baseline of their own"
    assert len(list(cache.glob("*.safetensors"))) == 1 + (change in ("sha256", "name", "about", "data"))


def test_data_without_a_fingerprint_is_never_remembered(cache):
    """Two sets of one size would be taken for each other."""
    for seed in (1, 2):
        drawn, real = points("drawn", 30, 0, known=False), points("real", 50, seed, shift=3.0 * seed, known=False)
        (found,) = measure(["fd"], "x", drawn, real, Squares())
        (fresh,) = measure(["fd"], "x", of_arrays("drawn", drawn.all()), of_arrays("real", real.all()), Squares())
        assert found.floor == fresh.floor
        assert found.baseline == fresh.baseline
    assert not cache.exists() or not list(cache.iterdir())


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 500, None])
def test_a_damaged_memory_is_made_again(cache, damage):
    drawn, real, train = points("drawn", 30, 0), points("real", 50, 1), points("train", 70, 2)
    whole = measure(["fd"], "x", drawn, real, Squares(), train=train)
    for path in cache.iterdir():
        content = path.read_bytes()
        one_bit = b'{"FD": "7"}' if path.suffix == ".json" else content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        path.write_bytes(one_bit if damage is None else damage)
    net = Squares()
    assert measure(["fd"], "x", drawn, real, net, train=train) == whole
    assert sum(net.seen) == 30 + 50 + 30 + 30, "all of it"
    again = Squares()
    assert measure(["fd"], "x", drawn, real, again, train=train) == whole
    assert again.seen == [30]


def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder() == tmp_path / "file" / "elegan" / "scores"
    (found,) = measure(["fd"], "x", points("a", 30, 0), points("b", 50, 1), Squares())
    assert found.floor is not None


def test_features_come_in_portions_and_in_order(cache):
    rows = np.arange(2 * (PORTION + 3), dtype=np.float32).reshape(-1, 2)
    net = Squares()
    found = features_of(of_arrays("x", rows), net)
    assert net.seen == [PORTION, 3]
    np.testing.assert_array_equal(
        found.values, np.concatenate([net.embed(rows[k : k + 1]).features for k in range(len(rows))])
    )
    assert found.probabilities.shape == (PORTION + 3, 2)


class Rank(World):
    """One of two in threads of this process, who meet where they gather."""

    def __init__(self, rank: int, meeting: threading.Barrier, words: list):
        super().__init__(rank, 2)
        object.__setattr__(self, "meeting", meeting)
        object.__setattr__(self, "words", words)

    def gather(self, value):
        self.words[self.rank] = value
        self.meeting.wait(timeout=20)
        every = list(self.words)
        self.meeting.wait(timeout=20)
        return every


@pytest.mark.parametrize("who_remembers", [(), (0,), (1,), (0, 1)])
def test_each_rank_embeds_its_own_portions_and_all_get_all(cache, monkeypatch, who_remembers):
    """All take what is remembered, or none does: one who took it would leave the other waiting."""
    rows = RNG.normal(size=(3 * PORTION + 5, 2)).astype(np.float32)
    whole, nets = Squares().embed(rows), [Squares(), Squares()]
    known = {f"rank {k}" for k in who_remembers}
    monkeypatch.setattr(
        room, "_remembered", lambda _: tuple(whole) if threading.current_thread().name in known else None
    )
    meeting, words, found = threading.Barrier(2), [None, None], {}

    def embeds(k: int) -> None:
        found[k] = features_of(of_arrays("x", rows, fingerprint="f"), nets[k], keep=True, peers=Rank(k, meeting, words))

    threads = [threading.Thread(target=embeds, args=(k,), name=f"rank {k}") for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = len(who_remembers) == 2
    assert [net.seen for net in nets] == ([[], []] if alone else [[PORTION, PORTION], [PORTION, 5]])
    for k in range(2):
        np.testing.assert_array_equal(found[k].values, whole.features)
        np.testing.assert_array_equal(found[k].probabilities, whole.probabilities)


def test_some_of_a_set_are_chosen_by_the_seed_with_their_labels():
    source = open_data("ring", split="test")
    whole = of_source(source, "test")
    few, again, others = (some(whole, 50, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(few.all(), again.all())
    assert few.fingerprint == again.fingerprint != whole.fingerprint
    assert (few.all() != others.all()).any()
    assert others.fingerprint != few.fingerprint
    assert some(whole, whole.count, 1) is whole
    labelled = of_arrays("x", np.arange(20.0)[:, None], np.arange(20), "f")
    part = some(labelled, 7, 0)
    np.testing.assert_array_equal(part.all()[:, 0], part.labels)
    assert len(set(part.labels.tolist())) == 7
    assert of_source(source, "test", 50, seed=1).fingerprint == few.fingerprint


# ---- statistics in files


def test_statistics_score_as_the_samples_they_are_of(cache, tmp_path):
    drawn, real = points("drawn", 90, 0, 0.5), points("real", 120, 1)
    (exact,) = measure(["fd"], "x", drawn, real, Squares(), beside=False)
    paths = []
    for one in (drawn, real):
        paths.append(tmp_path / f"{one.name}.safetensors")
        save_statistics(paths[-1], features_of(one, Squares()))
    ours, theirs = map(read_statistics, paths)
    assert (ours.count, ours.embedder, ours.weights, ours.name) == (90, "squares", "5" * 64, "drawn")
    assert theirs.fingerprint == real.fingerprint
    for pair in ((ours, theirs), (ours, real), (drawn, theirs)):
        (found,) = measure(["fd"], "x", *pair, Squares(), beside=False)
        assert found.value == pytest.approx(exact.value, rel=1e-9)
        assert apart(found, exact) == []
    features = Squares().embed(drawn.all()).features.astype(np.float64)
    saved = load_file(paths[0])
    np.testing.assert_allclose(saved["covariance"], np.cov(features.T), rtol=1e-9)
    np.testing.assert_allclose(saved["mean"], features.mean(0), rtol=1e-12)


def test_what_needs_samples_is_null_with_a_note_of_statistics(cache, tmp_path):
    path = tmp_path / "s.safetensors"
    save_statistics(path, features_of(points("drawn", 90, 0), Squares()))
    found = {s.metric: s for s in measure(list(METRICS), "x", read_statistics(path), points("r", 99, 1), Squares())}
    assert found["FD"].value is not None
    assert found["FD"].floor is not None
    for name, score in found.items():
        assert name == "FD" or score.value is None, name
        assert name == "FD" or score.note, name
    assert "saved statistics have none" in found["kid"].note


def test_statistics_of_another_network_are_refused(cache, tmp_path):
    path = tmp_path / "s.safetensors"
    save_statistics(path, features_of(points("drawn", 90, 0), Squares()))
    for net, what in ((Squares("other"), "embedder"), (Squares(sha256="7" * 64), "weights")):
        with pytest.raises(DataError, match=rf"embedded differently \({what}: ") as caught:
            measure(["fd"], "x", read_statistics(path), points("r", 99, 1), net)
        assert "\n" not in str(caught.value)
    wide = Features("wide", 9, "squares", "5" * 64, "as they are", "", np.zeros((9, 4), np.float32))
    with pytest.raises(DataError, match="has 3 features a sample, wide 4"):
        measure(["fd"], "x", read_statistics(path), wide, Squares())


def test_statistics_as_other_tools_keep_them_are_of_the_network_the_user_names(cache, tmp_path):
    pictures = RNG.integers(0, 255, (80, 1, 8, 8), dtype=np.uint8)
    x = open_embedder("pixels", shape=(1, 8, 8)).embed(pictures).features.astype(np.float64)
    np.savez(tmp_path / "theirs.npz", mu=x.mean(0), sigma=np.cov(x.T))
    other = RNG.integers(0, 200, (90, 8, 8), dtype=np.uint8)
    with pytest.raises(OptionError, match=r"theirs.npz does not say which network it is of: name it by --embedder"):
        elegan.evaluate(other, against=tmp_path / "theirs.npz")
    found = elegan.evaluate(other, against=tmp_path / "theirs.npz", embedder="pixels")["FD"]
    exact = elegan.evaluate(other, against=pictures, embedder="pixels", metrics="fd")["FD"]
    assert found.value == pytest.approx(exact.value, rel=1e-9)
    assert found.protocol.reference_count == 0
    assert "an unknown number of samples" in str(Evaluation("x", [found]))
    turned = elegan.evaluate(tmp_path / "theirs.npz", against=other, embedder="pixels")["FD"]
    assert turned.value == pytest.approx(exact.value, rel=1e-9)
    assert turned.floor is not None


def test_statistics_need_no_network_and_no_samples(cache, tmp_path, monkeypatch):
    digits = open_data("digits", split="test").arrays["real"]
    paths = [tmp_path / f"{k}.safetensors" for k in range(2)]
    for k, path in enumerate(paths):
        said = elegan.evaluate(digits[300 * k : 300 * (k + 1), 0], save=path, embedder="digits-cnn")
        assert said.files == [path]
        assert said.scores == []
    exact = elegan.evaluate(digits[:300, 0], against=digits[300:600, 0], embedder="digits-cnn", metrics="fd")["FD"]
    monkeypatch.setattr("elegan.scoring.evaluate.open_embedder", lambda *_, **__: pytest.fail("a network was opened"))
    (found,) = elegan.evaluate(paths[0], against=paths[1]).scores
    assert found.label == "FD[digits-cnn]"
    assert found.value == pytest.approx(exact.value, rel=1e-9)
    assert (found.protocol.count, found.protocol.reference_count) == (300, 300)
    assert apart(found, exact) == []


# ---- names


def test_metrics_by_name():
    assert chosen("kid, fd,kid", ()) == ["kid", "fd"]
    assert set(chosen("all", ())) >= set(METRICS) - {"restoration"}
    assert chosen(None, ["image"])[0] == "fd"
    assert {"modes", "mmd"} <= set(chosen(None, ["vector", "modes"]))
    assert chosen(None, ["statistics"]) == ["fd"]
    for wrong, words_ in (("fdd", "Did you mean 'fd'"), (" , ", "names none"), ("", "names none")):
        with pytest.raises(OptionError, match=words_):
            chosen(wrong, ())
