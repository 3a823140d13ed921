"""The loop's own law, on games just large enough to show it."""

import copy
import math
from dataclasses import replace
from functools import partial
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from elegan.data.batches import Batches
from elegan.errors import DivergenceError, OptionError
from elegan.game import SGD, Adam, Game, Optim, Phase, RMSprop, Turn
from elegan.run import checkpoint
from elegan.run.directory import RunDirectory
from elegan.run.saving import load_into, save
from elegan.spec import Spec
from elegan.tasks.generate import draw
from elegan.training import precision
from elegan.training.average import Average, standing_statistics
from elegan.training.loop import BAD_STEPS, NOT_FINITE, OF_STEPS, Loop, State, train
from elegan.training.optim import Optimisers
from elegan.training.turns import steps_for
from tests.contract.checks import SOURCES, bits, differing, only, snapshot

VECTORS, IMAGES = SOURCES["vectors"], SOURCES["images"]


class Duel(Game):
    """A judge and a generator of points; what its losses read and draw is noted in `seen`."""

    def __init__(
        self,
        spec,
        *,
        z_dim: int = 2,                                        # noise dimensions
        k: int = 1,                                            # judge moves per generator move
        optim: Literal["adam", "rmsprop", "sgd"] = "adam",     # of both players
        both: bool = False,                                    # a third turn moves both players
        clip: float = 1e9,                                     # of the gradient's norm
        lr: float = 1e-2,                                      # learning rate of both players
    ):  # fmt: skip
        super().__init__(spec)
        self.G = nn.Sequential(nn.Linear(z_dim, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
        self.D = nn.Sequential(nn.Linear(2, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1))

    def record(self) -> Optim:
        return {"adam": Adam, "rmsprop": RMSprop, "sgd": partial(SGD, momentum=0.9)}[self.optim](lr=self.lr)

    def turns(self):
        turn = partial(Turn, optim=self.record(), clip=self.clip)
        third = [turn("G D", self.both_loss)] if self.both else []
        return [turn("D", self.d_loss, repeat=self.k), turn("G", self.g_loss), *third]

    def d_loss(self, real):
        return {"adv": self.D(self.sample(self.rows)).mean() - self.D(real).mean() + self.D(real).square().mean()}

    def g_loss(self, real):
        return {"adv": -self.D(self.sample(self.rows)).mean(), "real": real.mean()}

    def both_loss(self, real):
        return {"sum": self.D(self.sample(self.rows)).square().mean()}

    def sample(self, n):
        return self.G(self.noise(n))


class Noting(Duel):
    """Notes what every loss reads and draws, outside of itself, as a test may."""

    seen: list = []

    def d_loss(self, real):
        self.seen.append(("D", self.step, real.clone(), torch.rand(3)))
        return super().d_loss(real)

    def g_loss(self, real):
        self.seen.append(("G", self.step, real.clone(), torch.rand(3)))
        return super().g_loss(real)


def built(game: type[Game], source=VECTORS, seed: int = 0, **options) -> Game:
    torch.manual_seed(seed)
    return game(source.spec, **options)


def batches(source=VECTORS, rows: int = 4, shards: int = 1) -> Batches:
    return Batches(source, rows=rows, shards=shards)


def noted(steps: int = 3, begin: int = 0, *, seed: int = 0, stream: int = 0, shards: int = 1, **options) -> list:
    Noting.seen = []
    game = built(Noting, **options)
    state = State.fresh(game)
    state.step, state.stream = begin, stream
    for _ in train(game, batches(shards=shards), steps, seed=seed, state=state):
        pass
    return Noting.seen


def run(game: Game, steps: int, *, seed: int = 0, state: State | None = None, **named) -> dict[str, Tensor]:
    state = state or State.fresh(game)
    for _ in train(game, batches(**named), steps, seed=seed, state=state):
        pass
    return snapshot(game, state)


# -- batches ----------------------------------------------------------------------------------------------------------


def test_first_judge_move_and_generator_share_a_batch_and_judge_moves_do_not():
    source = batches()
    seen = noted(3, k=3)
    assert [who for who, *_ in seen] == ["D", "D", "D", "G"] * 3
    for step in range(3):
        wanted = [source(0, number, 0, 4)["real"] for number in (3 * step, 3 * step + 1, 3 * step + 2, 3 * step)]
        got = [real for _, at, real, _ in seen if at == step]
        assert [bits(t) for t in got] == [bits(t) for t in wanted]
    assert len({bits(real) for who, _, real, _ in seen if who == "D"}) == 9


def test_a_loss_that_two_turns_run_reads_on():
    class Twice(Noting):
        def turns(self):
            return [Turn("D", self.d_loss), Turn("G", self.g_loss), Turn("D", self.d_loss, optim=Adam(1e-3))]

    Noting.seen = []
    game = built(Twice)
    events = list(train(game, batches(), 2))
    source = batches()
    wanted = [source(0, number, 0, 4)["real"] for number in (0, 0, 1, 2, 2, 3)]
    assert [bits(real) for _, _, real, _ in Noting.seen] == [bits(t) for t in wanted]
    assert [event.images for event in events] == [8, 16]


def test_images_count_what_was_read():
    game = built(Duel, k=3)
    events = list(train(game, batches(rows=2, shards=2), 2))
    assert [event.images for event in events] == [12, 24]
    assert [event.step for event in events] == [1, 2]
    assert (game.step, game.images, game.rows) == (2, 24, 2)


@pytest.mark.parametrize(("images", "steps"), [(1, 1), (12, 1), (13, 2), (36, 3), (37, 4), (44, 5)])
def test_steps_for_images(images, steps):
    class Staged(Duel):
        def phases(self):
            one = [Turn("G", self.g_loss)]
            return [Phase("thrice", super().turns, 3), Phase("once", lambda: one)]

    game = built(Staged, k=3)
    assert steps_for(game, images, 4) == steps
    *_, last = train(game, batches(), steps)
    assert last.images >= images


class Labelled(Game):
    def __init__(self, spec):
        super().__init__(spec)
        self.G = nn.Linear(2, 2)

    def turns(self):
        return [Turn("G", self.loss)]

    def loss(self, real, label=None, nothing=None):
        Labelled.last = (label, nothing)
        return {"adv": self.G(torch.ones(1, 2)).sum()}


def test_fields_come_by_name_and_optional_ones_if_they_are_there():
    list(train(built(Labelled), batches(), 1))
    assert Labelled.last == (None, None)
    list(train(built(Labelled, IMAGES), batches(IMAGES), 1))
    label, nothing = Labelled.last
    assert nothing is None
    assert bits(label) == bits(batches(IMAGES)(0, 0, 0, 4)["label"])

    class Asks(Labelled):
        def loss(self, real, colour):
            return {}

    with pytest.raises(ValueError, match=r"Asks\.loss \(turn 'G'\) reads 'colour'; there is: real"):
        list(train(built(Asks), batches(), 1))


# -- randomness -------------------------------------------------------------------------------------------------------


def draws(seen: list) -> list[bytes]:
    return [bits(drawn) for *_, drawn in seen]


def test_randomness_has_no_history():
    whole = noted(4, k=2)
    assert draws(noted(4, begin=2, k=2)) == draws(whole)[6:]
    game = built(Noting, k=2)
    Noting.seen = []
    for _ in train(game, batches(), 4):
        torch.rand(5)  # a listener that draws
    assert draws(Noting.seen) == draws(whole)


def test_randomness_depends_on_every_part_of_the_place():
    seen = [noted(2, k=2), noted(2, k=2, seed=1), noted(2, k=2, stream=1), noted(2, k=2, shards=2)]
    assert len(seen[3]) == 2 * len(seen[0])
    first, other_seed, other_stream, sharded = map(draws, seen)
    everything = [*first, *other_seed, *other_stream, *sharded]
    assert sharded[::2] == first, "shard 0 draws what a single shard draws"
    assert len(set(everything)) == 4 * len(first), "no two of seed, stream, step, turn, move and shard draw alike"


# -- changes ----------------------------------------------------------------------------------------------------------


def test_a_rate_changed_is_used_from_the_next_step():
    changed, plain = built(Duel), built(Duel)
    running = train(changed, batches(), 3)
    next(running)
    running.send({"D.lr": 0.0})
    still = {n: p.clone() for n, p in changed.D.named_parameters()}
    running.send(None)
    assert differing(still, dict(changed.D.named_parameters())) == []
    run(plain, 3)
    assert differing(dict(plain.D.named_parameters()), dict(changed.D.named_parameters())) != []
    assert differing(dict(plain.G.named_parameters()), dict(changed.G.named_parameters())) != []


def test_changes_are_kept_and_survive_a_resume(tmp_path):
    def steered(game: Game, steps: int, state: State) -> dict[str, Tensor]:
        running, change = train(game, batches(), steps, state=state), None
        while True:
            try:
                event = running.send(change)
            except StopIteration:
                return snapshot(game, state)
            change = {"D.lr": 5e-2, "k": 2} if event.step == 2 else {"lr": 2e-2} if event.step == 3 else None

    game = built(Duel)
    state = State.fresh(game)
    whole = steered(game, 6, state)
    assert state.changes == {"D.lr": 5e-2, "k": 2, "lr": 2e-2}
    assert (game.k, game.lr, state.images) == (2, 2e-2, 4 * 2 + 8 * 4)

    game = built(Duel)
    state = State.fresh(game)
    steered(game, 4, state)
    save(RunDirectory(tmp_path), game, state, {})
    again = built(Duel, seed=9)
    state = State.fresh(again)
    load_into(again, state, checkpoint.newest(RunDirectory(tmp_path).checkpoints))
    assert state.changes == {"D.lr": 5e-2, "k": 2, "lr": 2e-2}
    assert differing(run(again, 6, state=state), whole) == []


def test_stop_stops_and_is_no_change_to_keep():
    game = built(Duel)
    state = State.fresh(game)
    running = train(game, batches(), 10, state=state)
    next(running)
    with pytest.raises(StopIteration):
        running.send({"stop": True})
    assert (state.step, state.changes) == (1, {})


@pytest.mark.parametrize(("name", "hint"), [("D.lrr", "'D.lr'"), ("clipp", "'clip'"), ("E.lr", "'.*lr'")])
def test_unknown_changes_name_the_nearest(name, hint):
    running = train(built(Duel), batches(), 3)
    next(running)
    with pytest.raises(ValueError, match=rf"no change named '{name}'\. Did you mean {hint}\?"):
        running.send({name: 1.0})


@pytest.mark.parametrize(
    "change",
    [{"D.lr": -1.0}, {"D.lr": math.nan}, {"D.lr": "fast"}, {"k": "2"}, {"k": -1}, {"k": 0}, {"lr": math.inf}],
    ids=str,
)
def test_changes_without_sense_are_refused_and_not_kept(change):
    game = built(Duel)
    state = State.fresh(game)
    running = train(game, batches(), 3, state=state)
    next(running)
    with pytest.raises((ValueError, OptionError)):
        running.send(change)
    assert state.changes == {}, "a checkpoint written now could never be resumed"
    assert (game.k, game.lr) == (1, 1e-2)


# -- a move is a transaction ------------------------------------------------------------------------------------------


class Spoiled(Duel):
    """Something not finite at some steps: in a loss, in a gradient alone, or in the statistics of BatchNorm alone."""

    where = "loss"
    when_bad: tuple[int, ...] = (2, 3)

    def d_loss(self, real):
        terms = super().d_loss(real)
        return self.spoil(terms) if "judge" in self.where else terms

    def g_loss(self, real):
        terms = super().g_loss(real)
        return terms if "judge" in self.where else self.spoil(terms)

    def spoil(self, terms):
        if self.step not in self.when_bad:
            return terms
        if "loss" in self.where:
            return {**terms, "adv": terms["adv"] * math.inf}
        if "logged" in self.where:
            return {**terms, "logged": torch.tensor(math.nan)}
        if "gradient" in self.where:
            harmless = terms["adv"] * 1.0
            harmless.register_hook(lambda g: g * math.nan)
            return {**terms, "adv": harmless}
        self.G(torch.full((4, 2), 1e30) * torch.randn(4, 2))  # overflows the variance, and nothing else
        return terms


@pytest.mark.parametrize("optim", ["adam", "rmsprop", "sgd"])
@pytest.mark.parametrize("where", ["loss", "gradient", "logged", "buffer", "judge's loss", "judge's gradient"])
def test_a_move_that_is_not_finite_leaves_everything_to_the_bit(where, optim, monkeypatch):
    monkeypatch.setattr(Spoiled, "where", where)
    game = built(Spoiled, optim=optim)
    state = State.fresh(game, half_life_images=0)
    loop = Loop(game, batches(), state=state)
    for step in range(5):
        judge, generator = loop.begin()
        bad, good = (judge, generator) if "judge" in where else (generator, judge)
        for turn in (judge, generator):
            before = snapshot(game, state)
            loop.advance(turn)
            after = snapshot(game, state)
            if turn is bad and step in Spoiled.when_bad:
                assert differing(before, after) == []
            else:
                players = only(after, f"weights/{turn.players}")
                assert differing(only(before, f"weights/{turn.players}"), players) != []
        event = loop.end()
        assert event.terms.get("bad", 0.0) == (step in Spoiled.when_bad)
    assert good.players != bad.players
    assert all(t.isfinite().all() for t in snapshot(game, state).values())


@pytest.mark.parametrize("optim", ["adam", "rmsprop", "sgd"])
def test_a_first_move_that_is_not_finite_is_as_if_it_had_not_been(optim, monkeypatch):
    """Moments that begin with a masked move begin as they would have."""
    monkeypatch.setattr(Spoiled, "when_bad", (0,))
    game = built(Spoiled, optim=optim)
    loop = Loop(game, batches())
    _, generator = loop.begin()
    before = snapshot(game, loop.state)
    loop.advance(generator)
    assert differing(only(before, "weights"), only(snapshot(game, loop.state), "weights")) == []
    assert all(not t.any() for t in loop.state.optim.tensors().values())
    game.step = 1
    loop.advance(generator)
    clean = built(Duel, optim=optim)
    other = Loop(clean, batches())
    other.begin()
    other._moves[1] = 1  # the same noise
    other._runs[other.turns[1].loss] = 1
    other.advance(other.turns[1])
    assert (
        differing(
            only(snapshot(game, loop.state), "weights", "optim"), only(snapshot(clean, other.state), "weights", "optim")
        )
        == []
    )


@pytest.mark.parametrize("shards", [1, 2])
def test_one_bad_shard_spoils_the_whole_move(shards):
    class Shard(Duel):
        calls = 0

        def d_loss(self, real):
            Shard.calls += 1
            terms = super().d_loss(real)
            return {"adv": terms["adv"] * (math.nan if Shard.calls == shards else 1.0)}

    game = built(Shard)
    loop = Loop(game, batches(rows=2, shards=shards))
    judge, _ = loop.begin()
    before = snapshot(game, loop.state)
    loop.advance(judge)
    assert differing(only(before, "weights"), only(snapshot(game, loop.state), "weights")) == []


def test_an_open_gate_lets_nothing_bad_through():
    class Open(Spoiled):
        def turns(self):
            judge, generator = super().turns()
            return [judge, replace(generator, when=lambda terms: torch.tensor(True))]

    game = built(Open)
    list(train(game, batches(), 5))
    assert all(t.isfinite().all() for t in game.state_dict().values())


def test_every_shard_starts_from_the_same_buffers_and_the_first_keeps_its_own():
    class Counting(Duel):
        def __init__(self, spec, *, z_dim: int = 2, k: int = 1):
            super().__init__(spec)
            self.register_buffer("count", torch.zeros(()))

        optim, both, clip, lr = "adam", False, 1e9, 1e-2
        seen: list = []

        def d_loss(self, real):
            self.seen.append(float(self.count))
            self.count += real.sum()
            return super().d_loss(real)

    game = built(Counting, k=2)
    source = batches(shards=3)
    Counting.seen = []
    list(train(game, source, 1))
    first, second = (source(0, number, 0, 4)["real"].sum() for number in (0, 1))
    assert Counting.seen == [0.0] * 3 + [float(first)] * 3
    assert float(game.count) == float(first + second)


@pytest.mark.parametrize(
    "when", [range(2, 1000), range(0, 1000, 2), [*range(7), *range(40, 1000)]], ids=["in a row", "every other", "twice"]
)
def test_so_many_bad_steps_of_the_last_are_a_divergence(when, monkeypatch):
    monkeypatch.setattr(Spoiled, "when_bad", when)
    game = built(Spoiled)
    steps = []
    says = r"20 of the last 50 steps, up to step (\d+), gave nothing finite \(G\.adv.*--lr"
    with pytest.raises(DivergenceError, match=says) as raised:
        steps.extend(event.step for event in train(game, batches(), 200))
    bad = [step + 1 for step in when]  # steps count from 1 once they are made
    last = next(step for step in bad if sum(step - OF_STEPS < b <= step for b in bad) >= BAD_STEPS)
    assert steps == list(range(1, last + 1)), "flags are read a step late"
    assert f"up to step {last + 1}," in str(raised.value)
    assert all(t.isfinite().all() for t in game.state_dict().values())


@pytest.mark.parametrize("when", [range(10, 10 + BAD_STEPS - 1), range(0, 150, 3)], ids=["in a row", "each third"])
def test_fewer_bad_steps_are_none(when, monkeypatch):
    monkeypatch.setattr(Spoiled, "when_bad", when)
    game = built(Spoiled)
    state = State.fresh(game)
    events = [event.step for event in train(game, batches(), 150, state=state)]
    assert len(events) == 150
    assert state.bad == [step + 1 for step in when if step >= 150 - OF_STEPS]


def test_a_state_ails_while_one_of_the_last_steps_was_bad(monkeypatch):
    monkeypatch.setattr(Spoiled, "when_bad", (4,))
    game = built(Spoiled)
    state = State.fresh(game)
    ailing = [(e.step, bool(state.ailments), bool(state.ails())) for e in train(game, batches(), 80, state=state)]
    assert [step for step, _, ails in ailing if ails] == list(range(5, 5 + OF_STEPS + 1)), "at once"
    assert [step for step, ailment, _ in ailing if ailment] == list(range(6, 6 + OF_STEPS)), "read a step late"
    assert state.ails() == set()


@pytest.mark.parametrize("cut", [12, 19, 20])
def test_a_resume_goes_on_counting_bad_steps(cut, monkeypatch, tmp_path):
    """Also the newest step's, whose flag nobody had read when it was saved."""
    monkeypatch.setattr(Spoiled, "when_bad", range(200))

    def ends(game, state, until=100):
        try:
            for event in train(game, batches(), 100, state=state):
                if event.step == until:
                    return "until"
        except DivergenceError:
            return state.step
        return "never"

    game = built(Spoiled)
    state = State.fresh(game)
    assert ends(game, state) == 21
    game = built(Spoiled)
    state = State.fresh(game)
    assert ends(game, state, until=cut) == "until"
    save(RunDirectory(tmp_path), game, state, {})
    found = checkpoint.newest(RunDirectory(tmp_path).checkpoints)
    assert found.facts["state"]["bad"] == list(range(1, cut + 1))
    assert found.facts["ailments"] == [NOT_FINITE]
    again = built(Spoiled, seed=9)
    state = State.fresh(again)
    load_into(again, state, found)
    assert ends(again, state) == 21


def test_a_mask_may_hold_infinities_and_no_other_buffer():
    class Masked(Duel):
        k, optim, both, clip, lr = 1, "adam", False, 1e9, 1e-2

        def __init__(self, spec, *, z_dim: int = 2):
            super().__init__(spec)
            self.register_buffer("mask", torch.tensor([0.0, -math.inf]))
            self.register_buffer("nothing", torch.zeros(0))

    game = built(Masked)
    state = State.fresh(game)
    assert not any("bad" in event.terms for event in train(game, batches(), 3, state=state))
    assert state.ails() == set()
    assert set(state.sound.buffers) == {"G.1.running_mean", "G.1.running_var"}


class Steep(Game):
    """One number, whose gradient once is finite and its square is not."""

    def __init__(self, spec, *, clip: bool = True, optim: Literal["adam", "rmsprop"] = "adam"):
        super().__init__(spec)
        self.G = nn.Linear(1, 1, bias=False)

    def turns(self):
        record = {"adam": Adam, "rmsprop": RMSprop}[self.optim](1e-2)
        return [Turn("G", self.loss, clip=1e3 if self.clip else math.inf, optim=record)]

    def loss(self, real):
        return {"adv": self.G(torch.ones(1, 1)).sum() * (1e25 if self.step == 1 else 1.0)}


@pytest.mark.parametrize("optim", ["adam", "rmsprop"])
@pytest.mark.parametrize("clip", [False, True])
def test_a_gradient_whose_square_overflows_is_clipped_or_undone(clip, optim):
    game = built(Steep, clip=clip, optim=optim)
    state = State.fresh(game)
    bad = [event.terms.get("bad", 0.0) for event in train(game, batches(), 4, state=state)]
    assert bad == [0.0, float(not clip), 0.0, 0.0]
    assert all(t.isfinite().all() for t in snapshot(game, state).values())


def test_a_parameter_whose_square_overflows_is_not_finite_though_it_stands_alone():
    game = built(Steep)
    state = State.fresh(game)
    with torch.no_grad():
        game.G.weight.fill_(1e25)
    before = snapshot(game, state)
    assert next(train(game, batches(), 1, state=state)).terms["bad"] == 1
    assert differing(only(before, "weights"), only(snapshot(game, state), "weights")) == []
    assert [*state.sound.names()] == ["G.weight"]


def test_a_rollback_asked_for_comes_after_the_changes_beside_it():
    state = State.fresh(game := built(Duel))
    running = train(game, batches(), 9, state=state)
    next(running)
    with pytest.raises(DivergenceError, match=r"^step 1: the samples are alike\.$"):
        running.send({"rollback": "the samples are alike", "D.lr": 1e-4, "rates": 0.5})
    assert state.changes == {"D.lr": 1e-4, "rates": 0.5}
    assert (state.step, state.whole) == (1, True)


def test_rates_are_a_factor_on_whatever_the_turns_say():
    class Falling(Duel):
        def turns(self):
            judge, generator = super().turns()
            return [judge, replace(generator, optim=Adam(lr=1e-2 / (1 + self.step)))]

    running = train(built(Falling), batches(), 5)
    assert next(running).rates == {"D.lr": 1e-2, "G.lr": 1e-2}
    assert running.send({"rates": 0.5}).rates == {"D.lr": 5e-3, "G.lr": 2.5e-3}
    assert running.send({"D.lr": 4e-2}).rates == {"D.lr": 2e-2, "G.lr": pytest.approx(1e-2 / 6)}
    assert running.send({"rates": 1.0}).rates == {"D.lr": 4e-2, "G.lr": 2.5e-3}


# -- gates, clips, what happens after a move --------------------------------------------------------------------------


def test_clip_bounds_the_gradient_of_the_movers():
    game, free = built(Duel, optim="sgd", clip=0.01), built(Duel, optim="sgd")
    loops = [Loop(g, batches()) for g in (game, free)]
    for loop in loops:
        loop.advance(loop.begin()[0])
    clipped, whole = ([p.grad for p in g.D.parameters()] for g in (game, free))
    norm = torch.stack([g.norm() for g in whole]).norm()
    assert norm > 0.1
    torch.testing.assert_close(torch.stack([g.norm() for g in clipped]).norm(), torch.tensor(0.01), rtol=1e-3, atol=0)
    for c, w in zip(clipped, whole, strict=True):
        torch.testing.assert_close(c, w * 0.01 / norm, rtol=1e-3, atol=1e-9)
    assert loops[0].end().terms["D.grad"] == pytest.approx(float(norm)), "what is logged is the norm before"
    gentle = built(Duel, optim="sgd", clip=100.0)
    loop = Loop(gentle, batches())
    loop.advance(loop.begin()[0])
    assert [bits(p.grad) for p in gentle.D.parameters()] == [bits(g) for g in whole]


@pytest.mark.parametrize("optim", ["adam", "rmsprop", "sgd"])
def test_a_shut_gate_masks_the_update_and_then_still_runs(optim):
    class Gated(Duel):
        ran: list = []

        def turns(self):
            return [Turn("D", self.d_loss, optim=self.record(), when=self.open, then=self.after), super().turns()[1]]

        def open(self, terms):
            return torch.tensor(self.step % 2 == 0)

        def after(self, terms):
            self.ran.append(float(terms["adv"]))

    game = built(Gated, optim=optim)
    state = State.fresh(game)
    loop = Loop(game, batches(), state=state)
    Gated.ran = []
    for step in range(4):
        judge, generator = loop.begin()
        before = only(snapshot(game, state), "weights/D", f"optim/{type(game.record()).__name__}/D")
        terms = loop.advance(judge)
        after = only(snapshot(game, state), "weights/D", f"optim/{type(game.record()).__name__}/D")
        assert (differing(before, after) == []) == bool(step % 2)
        assert Gated.ran[-1] == float(terms["adv"])
        loop.advance(generator)
        assert "bad" not in loop.end().terms


# -- moments ----------------------------------------------------------------------------------------------------------

OPTIMISERS = {
    "adam": (lambda p: torch.optim.Adam(p, lr=1e-2, betas=(0.5, 0.999)), "exp_avg"),
    "rmsprop": (lambda p: torch.optim.RMSprop(p, lr=1e-2), "square_avg"),
    "sgd": (lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9), "momentum_buffer"),
}


@pytest.mark.parametrize("optim", OPTIMISERS)
def test_moments_belong_to_the_parameter_whichever_turn_moves_it(optim):
    """As if one plain optimiser of torch's own moved all of a parameter's turns."""
    make, moment = OPTIMISERS[optim]
    game = built(Duel, optim=optim, both=True)
    twin = copy.deepcopy(game)
    plain = {player: make(getattr(twin, player).parameters()) for player in "GD"}
    state = State.fresh(game)
    loop = Loop(game, batches(), state=state)
    for _ in range(3):
        for turn in loop.begin():
            loop.advance(turn)
            for name, p in twin.named_parameters():
                p.grad = dict(game.named_parameters())[name].grad
            for player in turn.players.split():
                plain[player].step()
            for p in twin.parameters():
                p.grad = None
        loop.end()
    for name, p in game.named_parameters():
        torch.testing.assert_close(p, dict(twin.named_parameters())[name])
        kept = plain[name[0]].state[dict(twin.named_parameters())[name]]
        mine = state.optim.tensors()[f"{type(game.record()).__name__}/{name}/{moment}"]
        torch.testing.assert_close(mine, kept[moment])
    named = [n for n in state.optim.tensors() if n.endswith(f"/{moment}")]
    assert len(named) == len(list(game.parameters())), "one moment a parameter"


def test_weight_decay_is_decoupled():
    class Decaying(Duel):
        def record(self):
            return Adam(0.1, decay=0.5)

    game = built(Decaying)
    before = game.D[0].weight.detach().clone()
    plain = built(Duel, lr=0.1)
    for g in (game, plain):
        loop = Loop(g, batches())
        loop.advance(loop.begin()[0])
    torch.testing.assert_close(plain.D[0].weight - game.D[0].weight, 0.1 * 0.5 * before)


def test_moments_come_back_in_the_parameters_strides():
    game = built(Duel)
    game.D = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optim = Optimisers(game)
    weight = game.D.weight
    values = {"Adam/D.weight/exp_avg": torch.randn(4, 3, 3, 3), "Adam/D.weight/step": torch.tensor(3.0)}
    optim.load(values)
    kept = optim.moments[Adam][weight]
    assert kept["exp_avg"].stride() == weight.stride() != (27, 9, 3, 1)
    assert torch.equal(kept["exp_avg"], values["Adam/D.weight/exp_avg"])
    assert differing(optim.tensors(), values) == []


# -- phases -----------------------------------------------------------------------------------------------------------


class Staged(Duel):
    fresh = False

    def phases(self):
        record = self.record()
        return [
            Phase("judge", lambda: [Turn("D", self.d_loss, optim=record)], 2),
            Phase("generator", lambda: [Turn("G", self.g_loss, optim=record)], 3, fresh=self.fresh),
            Phase("both", super().turns),
        ]


def test_phases_follow_each_other_and_only_their_movers_train():
    game = built(Staged)
    state = State.fresh(game)
    seen = [(event.phase, game.D.training, game.G.training, game.training) for event in train(game, batches(), 7)]
    assert (
        seen
        == [("judge", True, False, False)] * 2
        + [("generator", False, True, False)] * 3
        + [("both", True, True, False)] * 2
    )
    assert state.step == 0


def test_a_player_without_a_turn_rests_in_eval_mode_and_keeps_its_moments():
    class Pausing(Duel):
        def turns(self):
            judge, generator = super().turns()
            return [generator] if self.step in (2, 3) else [judge, generator]

        def phases(self):
            return [Phase("train", self.turns, fresh=True)]

    game = built(Pausing)
    state = State.fresh(game)
    seen = []
    for event in train(game, batches(), 6, state=state):
        moments = {name.split("/")[1][0] for name in state.optim.tensors()}
        seen.append((event.phase, game.D.training, game.G.training, moments))
    assert seen == [("train", step not in (2, 3), True, {"D", "G"}) for step in range(6)]
    steps = {n: float(t) for n, t in state.optim.tensors().items() if n.endswith("/step")}
    assert {n.split("/")[1][0]: count for n, count in steps.items()} == {"D": 4, "G": 6}


def test_a_phase_moves_its_players_alone():
    game = built(Staged)
    before = snapshot(game, State.fresh(game))
    after = run(game, 2)
    assert all(n.startswith("weights/D") for n in differing(only(before, "weights"), only(after, "weights")))
    assert "weights/G.1.running_mean" not in differing(before, after), "a resting player is in eval mode"


@pytest.mark.parametrize("optim", ["adam", "rmsprop", "sgd"])
@pytest.mark.parametrize("fresh", [True, False])
def test_fresh_phases_forget_the_moments(fresh, optim, monkeypatch):
    monkeypatch.setattr(Staged, "fresh", fresh)
    game = built(Staged, optim=optim)
    state = State.fresh(game)
    kept = [{n.split("/")[1][0] for n in state.optim.tensors()} for _ in train(game, batches(), 6, state=state)]
    assert kept == [{"D"}] * 2 + [{"G"} if fresh else {"D", "G"}] * 3 + [{"D", "G"}]


def test_a_resume_within_a_fresh_phase_keeps_its_moments(monkeypatch, tmp_path):
    monkeypatch.setattr(Staged, "fresh", True)
    whole = run(built(Staged), 6)
    for cut in (1, 2, 3, 5):
        game = built(Staged)
        state = State.fresh(game)
        run(game, cut, state=state)
        save(RunDirectory(tmp_path / str(cut)), game, state, {})
        again = built(Staged, seed=7)
        state = State.fresh(again)
        load_into(again, state, checkpoint.newest(RunDirectory(tmp_path / str(cut)).checkpoints))
        assert differing(run(again, 6, state=state), whole) == [], cut


def test_every_and_repeat_count():
    class Lazy(Noting):
        def turns(self):
            return [Turn("D", self.d_loss, repeat=2), Turn("G", self.g_loss, every=3, repeat=1)]

    Noting.seen = []
    list(train(built(Lazy), batches(), 5))
    assert [who for who, *_ in Noting.seen] == ["D", "D", "G", *"DD", *"DD", "D", "D", "G", *"DD"]


# -- the average ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("half_life", "ramp"), [(0, 0.05), (30, 1e9), (30, 0.5), (800, 1e9)])
def test_average_has_its_closed_form(half_life, ramp):
    """a ← a + (1 − 2^(−Δ/h)) (p − a), h = min(half-life, ramp · images), once Δ is at least h/20 — here in fp64."""
    game = built(Duel)
    state = State.fresh(game, half_life_images=half_life, ramp=ramp)
    wanted = {n: p.detach().double() for n, p in game.named_parameters()}
    last, moved = 0, 0
    for event in train(game, batches(), 30, state=state):
        h = min(half_life, ramp * event.images)
        passed = event.images - last
        if passed >= h / 20:
            weight = 1 - 2 ** (-passed / h) if h else 1.0
            for n, p in game.named_parameters():
                wanted[n] += weight * (p.detach().double() - wanted[n])
            last, moved = event.images, moved + 1
        for n, p in state.average.game.named_parameters():
            torch.testing.assert_close(p.double(), wanted[n], rtol=0, atol=2e-6)
        assert state.average.images == last
        assert (state.average.game.step, state.average.game.images) == (event.step, event.images)
    assert 0 < moved <= 30
    assert moved < 30 or half_life < 800, "so long a half-life leaves steps out"
    if not half_life:
        assert differing(dict(game.named_parameters()), dict(state.average.game.named_parameters())) == []
    else:
        assert differing(dict(game.named_parameters()), dict(state.average.game.named_parameters())) != []


def test_average_is_in_eval_mode_with_copied_buffers():
    game = built(Duel)
    state = State.fresh(game, half_life_images=400, ramp=1e9)
    steps_moved = 0
    for event in train(game, batches(), 12, state=state):
        mirror = state.average.game
        assert not any(m.training for m in mirror.modules())
        assert not any(p.requires_grad for p in mirror.parameters())
        if state.average.images == event.images:
            assert differing(dict(game.named_buffers()), dict(mirror.named_buffers())) == []
            steps_moved += 1
    assert 0 < steps_moved < 12
    assert int(mirror.G[1].num_batches_tracked) > 0


def test_average_calls_before():
    class Gate(Duel):
        def __init__(self, spec):
            super().__init__(spec)
            self.register_buffer("gate", torch.zeros(()))

        z_dim, k, optim, both, clip, lr = 2, 1, "adam", False, 1e9, 1e-2

        def noise(self, n):
            return torch.randn(n, 2)

        def before(self):
            self.gate.fill_(self.images)

    game = built(Gate)
    state = State.fresh(game, half_life_images=10_000, ramp=1e9)
    for event in train(game, batches(), 3, state=state):
        assert float(state.average.game.gate) == event.images, "also where the average itself waits"


def test_standing_statistics_are_fresh_inside_and_gone_after():
    game = built(Duel)
    list(train(game, batches(), 3))
    game.eval()
    norm = game.G[1]
    norm.running_mean.fill_(5.0)
    before = {n: b.clone() for n, b in game.named_buffers()}
    momentum = norm.momentum
    with torch.no_grad():
        many = game.G[0](torch.randn(20_000, 2))
    with standing_statistics(game, batches=64) as standing:
        assert standing is game
        assert not norm.training
        torch.testing.assert_close(norm.running_mean, many.mean(0), rtol=0, atol=0.05)
        torch.testing.assert_close(norm.running_var, many.var(0), rtol=0.1, atol=0)
        first = norm.running_mean.clone()
    assert differing(before, dict(game.named_buffers())) == []
    assert norm.momentum == momentum
    with standing_statistics(game, batches=64):
        assert bits(norm.running_mean) == bits(first), "of their own seed, not of the caller's"
    with pytest.raises(KeyError), standing_statistics(game):
        raise KeyError
    assert differing(before, dict(game.named_buffers())) == []


def test_standing_statistics_leave_a_training_game_in_training():
    game = built(Duel)
    list(train(game, batches(), 2))
    assert game.G[1].training
    with standing_statistics(game):
        pass
    assert game.G[1].training
    assert not game.training


# -- drawing ----------------------------------------------------------------------------------------------------------


def test_sample_k_of_a_seed_is_the_same_however_many_are_drawn():
    game = built(Duel).eval()
    many = draw(game, 70, seed=3)
    for n in (1, 2, 31, 32, 33, 64, 70):
        assert bits(draw(game, n, seed=3)) == bits(many[:n])
    assert len({bits(row) for row in many}) == 70
    assert bits(draw(game, 4, seed=4)) != bits(many[:4])


def test_drawing_leaves_the_random_state_and_the_game_as_they_were():
    game = built(Duel).eval()
    before = {n: t.clone() for n, t in game.state_dict().items()}
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    drawn = draw(game, 5, seed=0)
    assert bits(torch.rand(3)) == bits(wanted)
    assert not drawn.requires_grad
    assert differing(before, game.state_dict()) == []
    torch.rand(9)
    assert bits(draw(game, 5, seed=0)) == bits(drawn)


# -- events -----------------------------------------------------------------------------------------------------------


def test_terms_are_named_by_player_and_term():
    game = built(Duel, both=True)
    event = next(iter(train(game, batches(), 1)))
    assert set(event.terms) == {"D.adv", "D.grad", "G.adv", "G.real", "G.grad", "G+D.sum", "G+D.grad"}
    assert event.terms["G.real"] == pytest.approx(float(batches()(0, 0, 0, 4)["real"].mean()))
    assert all(isinstance(v, float) for v in event.terms.values())
    assert (event.step, event.images, event.phase, event.game) == (1, 4, "train", game)


def test_terms_of_shards_are_their_mean():
    seen = noted(1, shards=2)
    game = built(Noting)
    event = next(iter(train(game, batches(shards=2), 1)))
    reals = [real for who, _, real, _ in seen if who == "G"]
    assert event.terms["G.real"] == pytest.approx(float(torch.stack(reals).mean()))


def test_a_loss_without_a_gradient_is_an_error_that_names_it():
    class Idle(Duel):
        def d_loss(self, real):
            return {"adv": real.mean()}

    with pytest.raises(ValueError, match=r"Idle\.d_loss \(turn 'D'\): no term carries a gradient to D"):
        list(train(built(Idle), batches(), 1))


# -- precision --------------------------------------------------------------------------------------------------------


class Parts(Game):
    """Players that note in which precision their weights compute; one of several in a list, with nested outputs."""

    computed: list = []

    def __init__(self, spec):
        super().__init__(spec)
        self.G = Inner(2, 2)
        self.D = nn.ModuleList([Inner(2, 1), Nested(2, 1)])

    def turns(self):
        return [Turn("G", self.loss)]

    def loss(self, real):
        x = self.G(real)
        assert x.dtype == torch.float32
        assert not torch.is_autocast_enabled("cpu")
        logits, (features, more) = self.D[1](x)
        assert {t.dtype for t in (self.D[0](x), logits, features, *more)} == {torch.float32}
        return {"adv": logits.square().mean()}


class Inner(nn.Linear):
    def forward(self, x):
        out = super().forward(x)
        Parts.computed.append(out.dtype)
        if x.isnan().any():
            raise KeyError("a fault within a player")
        return out


class Nested(Inner):
    def forward(self, x):
        y = super().forward(x)
        return y, [y, (y, y)]


@pytest.mark.parametrize(("kind", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_players_compute_in_the_precision_and_return_fp32(kind, dtype):
    game = built(Parts)
    precision.install(game, kind)
    Parts.computed = []
    list(train(game, batches(), 2))
    assert Parts.computed == [dtype] * 6
    assert {p.dtype for p in game.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in game.G.parameters()} == {torch.float32}


def test_copies_of_a_game_keep_its_precision():
    game = built(Parts)
    precision.install(game, "bf16")
    for twin in (copy.deepcopy(game), Average(game).game):
        Parts.computed = []
        assert twin.G(torch.ones(1, 2)).dtype == torch.float32
        assert Parts.computed == [torch.bfloat16]


def test_a_fault_within_a_player_leaves_no_autocast_open():
    game = built(Parts)
    precision.install(game, "bf16")
    with pytest.raises(KeyError):
        game.G(torch.full((1, 2), math.nan))
    assert not torch.is_autocast_enabled("cpu")
    assert precision._open == []
    Parts.computed = []
    assert game.G(torch.ones(1, 2)).dtype == torch.float32
    assert Parts.computed == [torch.bfloat16]
    assert not torch.is_autocast_enabled("cpu")


# -- building ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kk": 1}, r"no option 'kk'\. Did you mean 'k'"),
        ({"k": "5"}, "-k '5' is not a value of type int"),
        ({"k": True}, "-k True is not"),
        ({"lr": math.nan}, "--lr nan is not"),
        ({"lr": -1.0}, "negative"),
        ({"optim": "adamw"}, "Did you mean 'adam'"),
        ({"k": 0}, r"cannot be built with k=0 .*repeat and every must be 1 or more"),
    ],
)
def test_options_are_checked_strictly(options, says):
    with pytest.raises(OptionError, match=says):
        built(Duel, **options)


def test_options_are_attributes_before_the_constructor_runs():
    class Early(Duel):
        def __init__(self, spec, *, k: int = 7, lr: float = 1e-3):
            self.__dict__["found"] = (self.k, self.lr, dict(self.options))
            super().__init__(spec)

        z_dim, optim, both, clip = 2, "adam", False, 1e9

    game = built(Early, lr=0.5)
    assert game.found == (7, 0.5, {"k": 7, "lr": 0.5})
    assert game.options == {"k": 7, "lr": 0.5}
    assert isinstance(game.spec, Spec)
