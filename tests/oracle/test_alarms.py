"""Alarms: measures against closed forms and other libraries, rules on made-up readings, remedies of every game."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.cluster import KMeans

from elegan import zoo
from elegan.data.batches import Batches
from elegan.data.form import Form
from elegan.data.source import Source, image_field, label_field, vector_field
from elegan.data.sources import open_data
from elegan.game import SGD, Game, Turn
from elegan.spec import Spec
from elegan.training import alarms as alarms_room
from elegan.training import probe as probe_room
from elegan.training.alarms import Alarm, Alarms
from elegan.training.loop import Loop, State, train
from elegan.training.probe import Probe, Reading, centres, features, held_out, inhomogeneity, shares
from elegan.training.remedies import REMEDIES, Place, in_words, remedies
from elegan.training.rules import RULES, Rule, Series, Standing
from elegan.training.seeds import seed_at

# ---- measures


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_the_distance_is_the_energy_distance_over_its_greatest_value(shift):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=40), rng.normal(shift, 2, size=50)
    across, one, other = (torch.tensor(np.abs(a[:, None] - b).mean()) for a, b in ((x, y), (x, x), (y, y)))
    truth = stats.energy_distance(x, y) ** 2 / (2 * float(across))
    assert float(inhomogeneity(across, one, other)) == pytest.approx(truth, rel=1e-9)


def test_cells_are_those_of_k_means():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(c, 0.05, (40, 2)) for c in rng.uniform(-9, 9, (16, 2))])
    ours = centres(torch.from_numpy(x).float())
    theirs = KMeans(16, n_init=20, random_state=0).fit(x)
    away = np.linalg.norm(ours.numpy()[:, None] - theirs.cluster_centers_, axis=2)
    assert away.min(1).max() < 1e-4
    assert len(set(away.argmin(1))) == 16
    assert shares(torch.from_numpy(x).float(), ours).tolist() == [1 / 16] * 16


def test_a_thumbnail_is_the_mean_of_its_blocks_and_small_images_stay():
    x = torch.randn(3, 2, 32, 16)
    blocks = x.view(3, 2, 8, 4, 8, 2).mean((3, 5))
    assert torch.allclose(features(x), blocks.flatten(1), atol=1e-6)
    assert torch.equal(features(x[..., :5, :7]), x[..., :5, :7].flatten(1))
    assert torch.equal(features(x[:, 0, 0]), x[:, 0, 0])


class Places(Game):
    """Draws real rows of its own, moved by `shift`; its judge says of a sample its first number."""

    def __init__(self, spec):
        super().__init__(spec)
        self.G, self.D = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        self.register_buffer("rows_drawn", torch.zeros(4, 2))
        self.register_buffer("calls", torch.zeros(()))

    def turns(self):
        return [Turn("D", self.d_loss, optim=SGD(0.0)), Turn("G", self.g_loss, optim=SGD(0.0))]

    def d_loss(self, real):
        self.calls += 1
        scores = {"real": real[:, 0].mean(), "fake": self.rows_drawn[:, 0].mean()}
        right = {"right": torch.tensor(0.75)}
        return {"adv": self.D.weight.sum(), **{n: t.detach() for n, t in {**scores, **right}.items()}}

    def g_loss(self):
        return {"adv": 3 * self.G.weight.sum()}

    def sample(self, n):
        assert not self.training
        self.calls += 1
        return self.rows_drawn.repeat(-(-n // len(self.rows_drawn)), 1)[:n]


CORNERS = np.float32([[0, 0], [0, 1], [1, 0], [1, 1]])


def corners(repeat: int = 64, values: np.ndarray = CORNERS) -> Source:
    rows = np.tile(values, (repeat, 1))
    field = vector_field(rows)
    return Source("corners", Spec(real=field), {"real": rows}, "")


def encoded(values) -> torch.Tensor:
    """Corners in the units that games see: of mean 0 and deviation 1, so at ±1."""
    return 2 * torch.tensor(values, dtype=torch.float32) - 1


def place(game, step=100, terms=None, turns=None):
    given = {"D.right": 0.75, "D.grad": 2.0, "G.grad": 5.0} if terms is None else terms
    return SimpleNamespace(game=game, step=step, terms=given, turns=turns or game.turns())


def test_measures_of_known_samples():
    """All on one corner of four: a quarter is covered, nothing is spread, and the distance has a closed form."""
    source = corners()
    game = Places(source.spec)
    probe = Probe(game, Batches(source, rows=64))
    game.rows_drawn.copy_(encoded(CORNERS))
    whole = probe.read(place(game))
    assert whole.coverage == pytest.approx(1)
    assert abs(whole.distance) < 0.01
    assert whole.spread == pytest.approx(1, abs=0.02)
    assert math.isnan(whole.moved), "there was nothing before"
    game.rows_drawn.copy_(encoded(CORNERS[[0, 0, 0, 0]]))
    one = probe.read(place(game))
    across = (0 + 2 + 2 + 2 * math.sqrt(2)) / 4  # corners are 2 apart
    width = across * 256 / 255  # over distinct pairs
    assert one.coverage == pytest.approx(0.25)
    assert one.spread == 0
    assert one.distance == pytest.approx(1 - width / (2 * across), rel=1e-4)
    assert one.moved == pytest.approx(across / width, rel=1e-4)
    assert probe.read(place(game)).moved == 0


@pytest.mark.parametrize(("count", "covered"), [(15, 0.75), (16, 1.0)])
def test_a_cell_is_covered_by_a_quarter_of_what_it_should_hold(count, covered):
    source = corners()
    game = Places(source.spec)
    game.rows_drawn = torch.cat(
        [encoded(CORNERS[:3]).repeat(80, 1)[: 256 - count], encoded(CORNERS[3:]).repeat(count, 1)]
    )
    assert Probe(game, Batches(source, rows=256)).read(place(game)).coverage == pytest.approx(covered)


def test_what_is_heard_is_the_mean_share_and_the_median_of_the_gradients():
    source = corners()
    game = Places(source.spec)
    probe = Probe(game, Batches(source, rows=64))
    for right, judge, other in ((0.5, 1.0, 9.0), (0.6, 2.0, 1.0), (1.0, 50.0, 3.0)):
        probe.listen(place(game, terms={"D.right": right, "D.grad": judge, "G.grad": other, "D.adv": 7.0}))
    reading = probe.read(place(game))
    assert (reading.right, reading.judge_grad, reading.grad) == (pytest.approx(0.7), 2.0, 3.0)
    assert math.isnan(probe.read(place(game)).right), "nothing was heard since"


def test_overfitting_is_equation_1_and_silent_without_held_out_data():
    source = corners()
    game = Places(source.spec)
    game.rows_drawn.fill_(-3.0)  # what the judge says of drawn samples
    right = Source("right", source.spec, {"real": np.tile(CORNERS[2:], (64, 1))}, "")  # it says 1 of each
    left = Source("left", source.spec, {"real": np.tile(CORNERS[:2], (64, 1))}, "")  # and −1
    of = [Probe(game, Batches(right, rows=64), other and Batches(other, rows=64)) for other in (left, right, None)]
    found = [probe.read(place(game, step=200)).overfit for probe in of]
    assert found[:2] == [pytest.approx((1 - -1) / (1 - -3)), pytest.approx(0)]
    assert math.isnan(found[2])
    assert math.isnan(of[0].read(place(game, step=100)).overfit), "each second probe asks the judge"
    no_judge = of[0].read(place(game, step=200, terms={"E+G.grad": 1.0}))
    assert math.isnan(no_judge.overfit)
    assert math.isnan(no_judge.right)
    assert game.calls == 0, "its buffers are as they were"
    assert game.training


def test_held_out_data_is_seen_by_the_codecs_of_the_training():
    train_source = open_data("ring")
    held = held_out("ring", Form(), Batches(train_source, rows=32))
    assert held is not None
    assert held.spec == train_source.spec
    assert not np.array_equal(held.source.arrays["real"][:100], train_source.arrays["real"][:100])
    images = Source(
        "i", Spec(real=image_field(np.zeros((9, 1, 4, 4), np.uint8))), {"real": np.zeros((9, 1, 4, 4), np.uint8)}, ""
    )
    assert held_out("ring", Form(), Batches(images, rows=4)) is None, "points are no images"


def test_a_folder_without_a_test_split_has_none(small):
    assert held_out(str(small), Form(), Batches(open_data(small), rows=4)) is None
    assert held_out(str(small), Form(holdout=0.25), Batches(open_data(small, holdout=0.25), rows=8)) is not None


# ---- nothing is touched


def tiny(name: str) -> tuple[Game, Batches]:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 255, (64, 1, 8, 8), dtype=np.uint8)
    label = np.arange(64) % 4
    if name == "cyclegan":
        spec, rows = Spec(**{n: image_field(real, stream=n) for n in "ab"}), {"a": real, "b": real[::-1].copy()}
    else:
        field = image_field(real, classes=4)
        spec, rows = Spec(real=field, label=label_field(label, tuple("abcd"))), {"real": real, "label": label}
    source = Source("tiny", spec, rows, "")
    chosen = zoo.settings(name, "tiny", {})
    seed_at(torch.device("cpu"), 0, "init")
    return zoo.build(name, spec, **chosen.options), Batches(source, rows=8)


def everything(game: Game, state: State) -> dict[str, bytes]:
    kept = {**game.state_dict(), **{f"m/{n}": t for n, t in state.optim.tensors().items()}}
    return {name: tensor.numpy().tobytes() for name, tensor in kept.items()}


@pytest.mark.parametrize("name", zoo.names())
def test_every_game_is_the_same_with_alarms_as_without(name, monkeypatch):
    """Weights, moments, buffers, modes and gradients, with a probe each second step and a judge asked each fourth."""
    for room in (alarms_room, probe_room):
        monkeypatch.setattr(room, "EVERY", 2)
        monkeypatch.setattr(room, "LISTENED", 1)
    ends = []
    for watched in (False, True):
        game, batches = tiny(name)
        state, told = State.fresh(game), []
        alarms = Alarms(game, batches, held_out=batches, tell=told.append)
        for event in train(game, batches, 6, state=state):
            if watched:
                before = [(m.training, p) for m in game.modules() for p in (game.rows, game.step, game.images)]
                gradients = [(p.requires_grad, p.grad) for p in game.parameters()]
                assert alarms(event) is None
                assert before == [(m.training, p) for m in game.modules() for p in (game.rows, game.step, game.images)]
                assert all(
                    p.requires_grad == r and p.grad is g for p, (r, g) in zip(game.parameters(), gradients, strict=True)
                )
        ends.append(everything(game, state))
        assert not told
        if watched:
            last = alarms.series.readings[-1]
            again = alarms.probe.read(event)
            assert again.moved == 0 or "generation" not in game.tasks, "the noise is always the same"
            assert len(alarms.series) == 4
            assert math.isfinite(last.distance) == ("generation" in game.tasks)
            assert math.isfinite(last.right) == any(n.startswith("D") for n, _ in game.named_children())
            assert math.isfinite(alarms.series.readings[2].overfit) == (name not in ("ae", "vae", "cyclegan"))
    assert ends[0] == ends[1]


# ---- rules


def readings(n: int = 25, **columns) -> Series:
    """Readings of a training that is well, but for some columns: numbers, or functions of how far it is, in [0, 1]."""
    well = dict(right=0.6, judge_grad=0.3, grad=0.3, distance=0.01, coverage=0.95, spread=1.0, moved=0.1, overfit=0.0)
    series = Series()
    for k in range(n):
        values = {m: v(k / (n - 1)) if callable(v) else v for m, v in {**well, **columns}.items()}
        series.add(Reading(step=100 * k or 1, **values))
    return series


def late(before: float, after: float, share: float = 0.6):
    return lambda done: before if done < share else after


FAILING = {
    "collapse": dict(coverage=late(0.9, 0.4)),
    "overpowering": dict(right=0.98, distance=0.2),
    "vanishing": dict(right=0.95, distance=late(0.9, 0.3, 0.3), grad=late(1.0, 0.005)),
    "overfitting": dict(overfit=0.5, right=0.8),
    "oscillation": dict(moved=0.5, distance=0.1),
    "stall": dict(distance=0.3),
}
NOT_QUITE = {
    "collapse": [dict(coverage=late(0.9, 0.5)), dict(coverage=late(0.7, 0.42)), dict(coverage=0.2),
                 dict(coverage=late(0.35, 0.1))],
    "overpowering": [dict(right=0.95, distance=0.2), dict(right=0.99),
                     dict(right=0.99, distance=lambda d: 0.4**(3 * d))],
    "vanishing": [dict(right=0.8, distance=0.3, grad=late(1.0, 0.001)), dict(right=0.99, grad=late(1.0, 0.001)),
                  dict(right=0.95, distance=late(0.9, 0.3, 0.3), grad=late(1.0, 0.05))],
    "overfitting": [dict(overfit=0.5, right=0.6), dict(overfit=0.3, right=0.9), dict(overfit=math.nan, right=0.9)],
    "oscillation": [dict(moved=0.2, distance=0.1), dict(moved=0.9), dict(moved=0.9, distance=lambda d: 0.4**(3 * d))],
    "stall": [dict(distance=late(0.4, 0.15, 0.2)), dict(distance=lambda d: 0.8 * 0.4 ** (2 * d)), dict(distance=0.03)],
}  # fmt: skip
BY_NAME = {rule.name: rule for rule in RULES}


@pytest.mark.parametrize("name", FAILING)
def test_a_rule_holds_for_its_failure_alone(name):
    series = readings(**FAILING[name])
    assert BY_NAME[name].why(series)
    others = [other for other in BY_NAME if other != name and BY_NAME[other].why(series)]
    assert others == []
    for spared in NOT_QUITE[name]:
        assert not BY_NAME[name].why(readings(**spared)), spared


def test_samples_that_leap_by_more_than_the_data_is_wide_get_nowhere():
    assert BY_NAME["oscillation"].why(readings(moved=1.5, distance=lambda done: 0.4**done))
    assert not BY_NAME["oscillation"].why(readings(14, moved=1.5, distance=lambda done: 0.4**done)), "give it time"


@pytest.mark.parametrize("name", FAILING)
def test_no_rule_holds_while_well_at_first_or_where_nothing_is_known(name):
    rule = BY_NAME[name]
    assert not rule.why(readings())
    nothing = dict.fromkeys(Reading._fields[1:], math.nan)
    assert not any(rule.why(readings(n, **nothing)) for n in range(2, 30))
    if name not in ("overfitting", "vanishing", "collapse"):
        assert not any(rule.why(readings(n, **FAILING[name])) for n in range(2, 15)), "give it time"
    untrained = dict(distance=0.7, coverage=0.1, spread=0.1, right=0.99, moved=0.4)
    assert not any(rule.why(readings(n, **untrained)) for n in range(2, 15))


def test_a_diagnosis_has_its_figures():
    assert BY_NAME["collapse"].why(readings(**FAILING["collapse"])) == (
        "the samples have become alike: they cover 40% of the data, 90% at step 1,400"
    )
    assert "98% of all pairs" in BY_NAME["overpowering"].why(readings(**FAILING["overpowering"]))
    assert "0.3 of 0.3" in BY_NAME["stall"].why(readings(**FAILING["stall"]))


def test_a_series_keeps_the_first_and_the_newest(monkeypatch):
    monkeypatch.setattr("elegan.training.rules.KEPT", 5)
    series = readings(20)
    assert [reading.step for reading in series.readings] == [1, 1500, 1600, 1700, 1800, 1900]
    assert series.median("right", 3) == 0.6
    odd = readings(10, grad=lambda done: 9 * done)
    assert odd.median("grad", 3) == pytest.approx(8)
    assert odd.median("grad", 3, 2) == pytest.approx(6)
    assert odd.best("grad", 3) == (pytest.approx(8), 800)


def test_an_alarm_is_raised_after_some_readings_and_over_after_some():
    rule, standing = Rule("x", lambda s: "", raised=3, over=2), Standing()
    holds = [1, 1, 0, 1, 1, 1, 1, 0, 1, 0, 0, 0, 1]
    said = [(standing.take(rule, bool(h)), standing.on) for h in holds]
    assert [k for k, (turned, _) in enumerate(said) if turned] == [5, 10]
    assert [on for _, on in said] == [False] * 5 + [True] * 5 + [False] * 3


# ---- the listener


@pytest.fixture
def quick(monkeypatch):
    """A probe each second step, and a rule that holds from step 6 to step 9."""
    for room in (alarms_room, probe_room):
        monkeypatch.setattr(room, "EVERY", 2)
        monkeypatch.setattr(room, "LISTENED", 1)
    rule = Rule("stall", lambda s: f"slow at {s.step}" if 6 <= s.step < 10 else "", raised=1, over=1)
    monkeypatch.setattr(alarms_room, "RULES", (rule,))
    monkeypatch.setattr(alarms_room, "PAUSE", 1)


def followed(game, batches, alarms, steps=14):
    running, change, ailing = train(game, batches, steps, state=State.fresh(game)), None, []
    while True:
        try:
            event = running.send(change)
        except StopIteration:
            return ailing
        change = alarms(event)
        ailing.append("stall" in event.state.ailments)


def test_an_alarm_is_told_and_an_ailment_while_it_is_on(quick):
    game, batches = tiny("dcgan")
    told: list[Alarm] = []
    ailing = followed(game, batches, Alarms(game, batches, tell=told.append))
    assert [(a.step, a.why, a.change) for a in told] == [(6, "slow at 6", {}), (10, "", {})]
    assert ailing == [False] * 5 + [True] * 4 + [False] * 5
    assert str(told[0]).startswith("step 6, stall: slow at 6; try --lr ")
    assert str(told[1]) == "step 10: stall is over."
    assert told[0].figures["step"] == 6
    assert {"distance", "coverage", "right"} <= set(told[0].figures)


def test_a_rescue_applies_one_remedy_after_the_other_with_a_pause(quick):
    game, batches = tiny("dcgan")
    told: list[Alarm] = []
    alarms = Alarms(game, batches, rescue=True, tell=told.append)
    followed(game, batches, alarms)
    assert [(a.step, a.change) for a in told] == [
        (6, {"rates": pytest.approx(5.0)}),  # 2e-4 -> 1e-3
        (8, {}),  # nothing is left that can be changed
        (10, {}),
    ]
    assert alarms.standings["stall"].times == 2


@pytest.mark.parametrize("times", [1, 2])
def test_a_rescue_is_given_up_after_some_times(quick, monkeypatch, times):
    monkeypatch.setattr(alarms_room, "TIMES", times)
    game, batches = tiny("gan")
    told: list[Alarm] = []
    followed(game, batches, Alarms(game, batches, rescue=True, tell=told.append))
    assert [a.step for a in told] == [6, 8, 10][:times] + [10] * (times < 3)


def test_what_a_checkpoint_keeps_brings_alarms_back(quick):
    game, batches = tiny("dcgan")
    alarms, other = (Alarms(game, batches, rescue=True) for _ in range(2))
    followed(game, batches, alarms, 7)
    kept = {name: tensor.clone() for name, tensor in alarms.tensors().items()}
    other.recall(kept)
    again = other.tensors()
    assert again.keys() == kept.keys()
    assert all(torch.equal(again[name].nan_to_num(-9), kept[name].nan_to_num(-9)) for name in kept)
    assert other.standings == alarms.standings
    assert other.standings["stall"].on
    other.recall({})
    assert len(other.series) == 0
    assert not other.standings["stall"].on


# ---- remedies


def at(name: str, **options) -> Place:
    game, _ = tiny(name)
    for option, value in options.items():
        game.options[option] = value
        if option != "augment":  # there the attribute is what it made of the option
            setattr(game, option, value)
    rates = {turn.players.replace(" ", "+"): turn.optim.lr for turn in game.turns()}
    return Place(game, rates, 1.0, next((n for n in rates if n.startswith("D")), None))


@pytest.mark.parametrize("name", zoo.names())
@pytest.mark.parametrize("alarm", REMEDIES)
def test_every_remedy_of_every_game_is_one_it_can_take(name, alarm):
    where = at(name)
    known = {option.flag for option in zoo.describe(name).options}
    _, batches = tiny(name)
    for remedy in remedies(alarm, where):
        flag = next(word for word in remedy.words.split() if word.startswith("-"))
        assert flag in known
        loop = Loop(where.game, batches)
        loop.steer(remedy.change)
        assert all(loop.state.changes[key] == value for key, value in remedy.change.items())
    assert in_words(remedies(alarm, where), where.game).startswith("try ")


def test_remedies_go_further_each_time():
    assert remedies("vanishing", at("gan", loss="minimax"))[0].change == {"loss": "non-saturating"}
    assert remedies("collapse", at("gan", gamma=0.0))[0] == ("--gamma 0.1", {"gamma": 0.1})
    assert remedies("collapse", at("gan", gamma=0.1))[0].change == {"gamma": pytest.approx(0.3)}
    assert remedies("collapse", at("gan", gamma=10.0))[0].change != {"gamma": 10.0}
    assert {"gamma": 3.0, "gamma_end": 3.0} in [r.change for r in remedies("collapse", at("r3gan", gamma=1.0))]
    assert {"judge_lr": 5e-5} in [r.change for r in remedies("overpowering", at("gan", lr=2e-4, judge_lr=None))]
    assert {"D.lr": 5e-5} in [r.change for r in remedies("overpowering", at("lsgan", lr=2e-4))]
    assert {"n_critic": 1} in [r.change for r in remedies("overpowering", at("wgan-gp", n_critic=5))]
    assert remedies("overfitting", at("dcgan", augment=""))[0] == ("--augment ada", {})
    slow = at("lsgan", lr=1e-3)._replace(factor=0.5)
    assert remedies("oscillation", slow)[-1].change == {"rates": 0.25}
    assert {"D.lr": 5e-4} in [r.change for r in remedies("overpowering", slow)], "before the factor, which stays"
    assert "--preset stable" in in_words([], at("gan").game)
