"""The training loop: a generator of events. Below it `Loop.advance` makes one move of one turn.

    for event in train(game, batches, steps=1000):
        print(event.step, event.terms)

A move is a transaction: gradients of all shards are summed, and if anything is not finite, in them, in the terms, the
parameters, the moments, the buffers or the average, then all of these stay as they were, by a flag on the device that
is read a step later. Nothing here waits for the device.
"""

import math
from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm

from elegan.data.batches import Batches
from elegan.errors import DivergenceError, OptionError, nearest
from elegan.game import Game, Phase, Turn, player
from elegan.options import Option, check, of_callable
from elegan.training.average import Average
from elegan.training.distributed import as_numbers, from_numbers, world
from elegan.training.optim import Optimisers
from elegan.training.seeds import seed_at
from elegan.training.soundness import Sound, not_finite
from elegan.training.turns import batches_per_step, fields_of, phase_at, turn_name

BAD_STEPS, OF_STEPS = 20, 50  # so many steps with a move that was not finite, of the last so many, are a divergence
AVERAGE_EVERY = 10  # steps between looks at the average, which no move reads
NAMED = 4  # of what was not finite then, in words
NOT_FINITE = "not finite"  # the ailment of a training some of whose last steps were bad

Change = Mapping[str, Any]


@dataclass
class State:
    """Everything besides the weights that a checkpoint needs.

    changes: what listeners have changed. stream: of the noise; each rollback goes on with another.
    rollbacks: so many since the last trouble was over. trouble: the step at which the last one was met.
    bad: of the last steps, those with a move that was not finite. report: of the newest step, not in `bad` yet.
    ailments: what is wrong now, by name; only a state without any is worth going back to.
    whole: False inside a step: some players have moved, others not yet.
    """

    average: Average
    optim: Optimisers
    changes: dict[str, Any]
    sound: Sound
    step: int = 0
    images: int = 0
    stream: int = 0
    rollbacks: int = 0
    trouble: int = 0
    bad: list[int] = field(default_factory=list)
    report: "Report | None" = None
    ailments: set[str] = field(default_factory=set)
    whole: bool = True

    @classmethod
    def fresh(cls, game: Game, *, half_life_images: float = 20_000, ramp: float = 0.05) -> "State":
        average, optim = Average(game, half_life_images=half_life_images, ramp=ramp), Optimisers(game)
        return cls(average, optim, {}, Sound(game, average, optim))

    def bad_until_now(self) -> list[int]:
        """`bad`, and the newest step if it is. Waits for the device."""
        return [*self.bad, *([self.step] if self.report is not None and self.report.numbers["bad"] else [])]

    def ails(self) -> set[str]:
        """`ailments`, and what the newest step and the numbers themselves add to them. Waits for the device."""
        return self.ailments | ({NOT_FINITE} if self.bad_until_now() or not self.sound.holds() else set())


@dataclass
class Event:
    """What the loop yields after each step. `terms` are read from the device when first asked for."""

    step: int
    images: int
    phase: str
    game: Game
    state: State
    report: "Report"
    turns: list[Turn]

    @property
    def rates(self) -> dict[str, float]:
        """The learning rate of each turn of the step, by the name of the change that sets it: `D.lr`."""
        return {f"{turn_name(turn)}.lr": turn.optim.lr for turn in self.turns}

    @property
    def terms(self) -> dict[str, float]:
        """The step's terms by `player.term`, its gradient norms as `player.grad`, `bad` moves if there were any."""
        return self.report.terms


class Report:
    """The numbers of a step on their way from the device; reading them waits for that step only."""

    def __init__(self, numbers: Mapping[str, Tensor]):
        self.names = list(numbers)
        packed = torch.stack([n.detach().float() for n in numbers.values()])
        self.arrival = None
        if packed.is_cuda:
            self.packed = torch.empty(packed.shape, pin_memory=True)
            self.packed.copy_(packed, non_blocking=True)
            self.arrival = torch.cuda.Event()
            self.arrival.record()
        else:
            self.packed = packed

    @cached_property
    def numbers(self) -> dict[str, float]:
        if self.arrival is not None:
            self.arrival.synchronize()
        return dict(zip(self.names, self.packed.tolist(), strict=True))

    @property
    def terms(self) -> dict[str, float]:
        return {n: v for n, v in self.numbers.items() if n != "wishes" and (n != "bad" or v)}


def train(
    game: Game,
    batches: Batches,
    steps: int,
    *,
    seed: int = 0,
    state: State | None = None,
    change: Change | None = None,
) -> Generator[Event, Change | None, State]:
    """Train `game` until it has made `steps` steps in all, yielding an event after each.

    Send back a change to steer: `{"D.lr": 1e-4}` sets a turn's rate, `{"rates": 0.5}` multiplies those of all turns,
    `{"gp": 5.0}` sets an option, `{"stop": True}` stops, `{"rollback": "why"}` ends in a `DivergenceError`, as does
    training that gives nothing finite. Changes are kept in the state and survive a resume. Under `torchrun` they reach
    all ranks at the same step. change: one to begin with.
    """
    loop = Loop(game, batches, seed=seed, state=state)
    loop.steer(change)
    while loop.state.step < steps:
        event = loop.step()
        loop.steer((yield event))
        if loop.stopped:
            break
    loop.examine_last()
    return loop.state


class Loop:
    """Where a training stands, and how it moves on by a step or by a single move."""

    def __init__(self, game: Game, batches: Batches, *, seed: int = 0, state: State | None = None):
        self.game, self.batches, self.seed = game, batches, seed
        self.state = state or State.fresh(game)
        self.world = world()
        self.shards = self.world.shards(batches.shards)
        self.stopped = False
        self.device = game.device
        self._buffers = list(game.buffers())
        self._fields = (*batches.spec, *batches.derived)
        self._none = torch.zeros((), device=self.device)
        self._frozen_for = ""
        self._phase_name: str | None = None
        self._moving: tuple[str, ...] = ()
        self._ill_average: Tensor | None = None
        self._wish: dict[str, Any] = {}
        self._apply(self.state.changes)

    # -- a step ---------------------------------------------------------------------------------------------------

    def step(self) -> Event:
        """All turns of one step."""
        for turn in self.begin():
            if self.state.step % turn.every == 0:
                for _ in range(turn.repeat):
                    self.advance(turn)
        return self.end()

    def begin(self) -> list[Turn]:
        """Start a step: tell the game where it is, and return the turns of its phase."""
        game, state = self.game, self.state
        state.whole = False
        game.rows, game.step, game.images = self.batches.rows, state.step, state.images
        with torch.no_grad():
            game.before()
        phase, started = phase_at(game, state.step)
        turns = phase.turns()
        self._batches_per_step = batches_per_step(turns)
        self._runs: Counter[Any] = Counter()
        moving = tuple(turn.players for turn in turns)
        if (phase.name, moving) != (self._phase_name, self._moving):
            self._enter(phase, moving, fresh=phase.fresh and started == state.step)
        self.turns = [self._steered(turn) for turn in turns]
        self._moves: Counter[int] = Counter()
        self._numbers: dict[str, Tensor] = {}
        self._ill, self._bad, self._wishes = self._broken(), self._none, self._none
        self._batch: dict[tuple[int, int], dict[str, Tensor]] = {}  # (number, shard) -> fields read so far
        self._published: dict[int, dict[str, Tensor]] = {shard: {} for shard in self.shards}
        return self.turns

    def end(self) -> Event:
        """Finish a step: count it, move the average, look at the flags of the step before."""
        game, state = self.game, self.state
        state.step += 1
        state.images += self.batches.batch * self._batches_per_step
        game.step, game.images = state.step, state.images
        ill = self._ill if self._ill.is_cuda or self._ill else None  # reading it costs nothing on a processor
        state.average.update(unless=ill)
        state.whole = True
        previous, report = state.report, Report({**self._numbers, "bad": self._bad, "wishes": self._wishes})
        state.report = report
        self._examine(previous, state.step - 1)
        return Event(state.step, state.images, self._phase_name or "", game, state, report, self.turns)

    @torch.no_grad()
    def _broken(self) -> Tensor:
        """Whether something is not finite before a step: a flag on the device."""
        sound = self.state.sound
        if self._ill_average is None or self.state.step % AVERAGE_EVERY == 0:
            self._ill_average = sound.broken_average()
        return torch.maximum(sound.broken(), self._ill_average)

    def examine_last(self) -> None:
        """Look at the flags of the newest step too; reads are a step late until here."""
        last, self.state.report = self.state.report, None
        self._examine(last, self.state.step)

    def steer(self, change: Change | None) -> None:
        """Take a change from a listener; with several ranks it waits until all have heard of it."""
        self._wish.update(change or {})
        if self.world.size == 1:
            wish, self._wish = self._wish, {}  # also of one that is refused, or it would be with the next again
            self._grant(wish)

    # -- a move ---------------------------------------------------------------------------------------------------

    def advance(self, turn: Turn) -> dict[str, Tensor]:
        """Make one move of a turn and return its terms, averaged over the shards."""
        index = self.turns.index(turn)
        place = (self.seed, self.state.stream, self.state.step, index, self._moves[index])
        number = self.state.step * self._batches_per_step + self._runs[turn.loss]
        self._moves[index] += 1
        self._runs[turn.loss] += 1
        movers = self._freeze_all_but(turn)
        before = [b.clone() for b in self._buffers]
        kept: list[Tensor] = before
        sums: dict[str, Tensor] = {}
        weight = turn.every / self.batches.shards
        for shard in self.shards:
            if shard != self.shards[0]:
                _copy(self._buffers, before)
            seed_at(self.device, *place, shard)
            terms = self._loss(turn, number, shard)
            trained = [t for t in terms.values() if t.requires_grad]
            if not trained:
                raise ValueError(f"{_where(turn)}: no term carries a gradient to {turn.players}")
            total = sum(trained[1:], start=trained[0])
            (total if weight == 1 else total * weight).backward()
            for name, term in terms.items():
                share = term.detach() if self.batches.shards == 1 else term.detach() / self.batches.shards
                sums[name] = sums[name] + share if name in sums else share
            if shard == 0 and len(self.shards) > 1:
                kept = [b.clone() for b in self._buffers]
        if len(self.shards) > 1 and self.shards[0] == 0:
            _copy(self._buffers, kept)
        with torch.no_grad():
            return self._update(turn, movers, sums, before)

    def _update(
        self, turn: Turn, movers: list[Tensor], terms: dict[str, Tensor], before: list[Tensor]
    ) -> dict[str, Tensor]:
        if self.world.size > 1:
            terms = self._reduce(movers, terms)
        gradients = [p.grad for p in movers if p.grad is not None]
        norm = vector_norm(torch.stack(torch._foreach_norm(gradients)))
        if turn.clip < math.inf:
            torch._foreach_mul_(gradients, (turn.clip / (norm + 1e-6)).clamp(max=1.0))
        steepest = norm if turn.clip == math.inf else norm.clamp(max=turn.clip)
        square = steepest.square()  # moments hold squares, and these overflow first
        buffers = self.state.sound.buffers.values()
        bad = torch.maximum(not_finite([norm, square, *terms.values(), *buffers]), self._ill)
        skip = bad if turn.when is None else torch.maximum(bad, 1 - turn.when(terms).float())
        self.state.optim.step(turn.players, turn.optim, skip)
        if turn.then is not None:
            turn.then(terms)
        for now, was in zip(self._buffers, before, strict=True):
            torch.where(bad > 0, was, now, out=now)
        label = turn_name(turn)
        self._numbers.update({f"{label}.{name}": term for name, term in terms.items()})
        self._numbers[f"{label}.grad"] = norm
        self._bad = torch.maximum(self._bad, bad)
        return terms

    def _loss(self, turn: Turn, number: int, shard: int) -> dict[str, Tensor]:
        """Run a turn's loss on one shard. Its terms, in float32; tensors with dimensions join the shard's batch."""
        published = self._published[shard]
        read = self._batch.setdefault((number, shard), {})
        wanted = fields_of(turn.loss)
        missing = [name for name in wanted if name in self._fields and name not in read]
        if missing:
            read.update(self.batches(self.seed, number, shard, self.batches.rows, missing))
        given = {}
        for name, optional in wanted.items():
            if name in self._fields or name in published:
                given[name] = read[name] if name in self._fields else published[name]
            elif not optional:
                have = ", ".join((*self._fields, *published))
                raise ValueError(f"{_where(turn)} reads {name!r}; there is: {have}")
        terms = {}
        for name, value in turn.loss(**given).items():
            if not isinstance(value, Tensor):
                raise ValueError(f"{_where(turn)}: the term {name!r} is no tensor but {value!r}")
            if value.ndim and name in self._fields:
                raise ValueError(f"{_where(turn)} returns {name!r}, which is the name of a field of the data")
            if value.ndim:
                published[name] = value.detach()
            else:
                terms[name] = value.float()
        return terms

    def _reduce(self, movers: list[Tensor], terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sum gradients, terms and wishes over the ranks, and take shard 0's buffers, in one all-reduce."""
        first = self.world.rank == 0
        exists = torch.tensor([p.grad is not None for p in movers], dtype=torch.float32, device=self.device)
        all_here = all(p.grad is not None for p in movers)
        for p in movers:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        gradients = [p.grad for p in movers if p.grad is not None]
        values = torch.stack(list(terms.values()))
        wishes = torch.full((1,), float(bool(self._wish)), device=self.device)
        ill = self._ill.reshape(1)
        numbers = [as_numbers(b) if first else torch.zeros_like(as_numbers(b)) for b in self._buffers]
        self.world.sum_([*gradients, exists, values, wishes, ill, *numbers])
        if not all_here:  # some parameter had no gradient on this rank: did it on any?
            for p, found in zip(movers, exists.tolist(), strict=True):
                if not found:
                    p.grad = None
        if not first:
            for buffer, number in zip(self._buffers, numbers, strict=True):
                buffer.copy_(from_numbers(number, buffer))
        self._wishes = torch.maximum(self._wishes, wishes[0])
        self._ill = ill[0].clamp(max=1)
        return dict(zip(terms, values.unbind(), strict=True))

    # -- who moves ------------------------------------------------------------------------------------------------

    def _freeze_all_but(self, turn: Turn) -> list[Tensor]:
        movers = self.state.optim.movers(turn.players)
        if self._frozen_for != turn.players:
            moving = {id(p) for p in movers}
            for p in self.state.sound.parameters:
                p.requires_grad_(id(p) in moving)
            self._frozen_for = turn.players
        for p in movers:
            p.grad = None
        return movers

    def _enter(self, phase: Phase, moving: tuple[str, ...], *, fresh: bool) -> None:
        """Enter a phase, or go on in it with other movers: these train, every other player is in eval mode."""
        self._phase_name, self._moving = phase.name, moving
        self.game.eval()
        for players in moving:
            for name in players.split():
                player(self.game, name).train()
        if fresh:
            self.state.optim.forget()

    def _examine(self, report: Report | None, step: int) -> None:
        """Look at the flags of a step; None where a checkpoint that was resumed knows them already."""
        state, numbers = self.state, report.numbers if report is not None else {}
        state.bad = [s for s in state.bad if s > step - OF_STEPS] + ([step] if numbers.get("bad") else [])
        (state.ailments.add if state.bad else state.ailments.discard)(NOT_FINITE)
        if len(state.bad) >= BAD_STEPS:
            wrong = [*state.sound.names(), *(n for n, v in numbers.items() if not math.isfinite(v))]
            more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
            raise DivergenceError(
                f"{len(state.bad)} of the last {OF_STEPS} steps, up to step {state.step:,}, gave nothing finite "
                f"({', '.join(wrong[:NAMED]) or 'gradients'}{more}); none of them moved the weights. Try a lower --lr."
            )
        if self.world.size > 1 and numbers.get("wishes"):
            wishes, self._wish = self.world.gather(self._wish), {}
            stop = any(wish.get("stop") for wish in wishes)
            self._grant({name: value for wish in wishes for name, value in wish.items()} | {"stop": stop})

    # -- changes --------------------------------------------------------------------------------------------------

    def _grant(self, change: Change) -> None:
        kept = {name: value for name, value in change.items() if name not in ("stop", "rollback")}
        if kept:
            self._apply(kept)
            self.state.changes.update(kept)
        self.stopped = self.stopped or bool(change.get("stop"))
        if "rollback" in change:  # with the other changes, which stay
            raise DivergenceError(f"step {self.state.step:,}: {change['rollback']}.")

    def _apply(self, changes: Change) -> None:
        """Check changes and set those that name options, all or none; rates are put into the turns of each step."""
        game = self.game
        known = self._changeable()
        chosen = {}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"no change named {name!r}.{nearest(name, known)}")
            value = tuple(value) if isinstance(value, list) else value
            value = check([known[name]], {name: value}, game.name)[name]
            if name in game.options:
                if isinstance(getattr(game, name), torch.nn.Module):
                    raise OptionError(f"{game.name} made a part of itself of {name}: no change can set it any more.")
                chosen[name] = value
        before = {name: getattr(game, name) for name in chosen}
        try:
            vars(game).update(chosen)
            for phase in game.phases():
                phase.turns()
        except (ValueError, ZeroDivisionError) as error:
            vars(game).update(before)
            asked = ", ".join(f"{name}={value!r}" for name, value in chosen.items())
            raise OptionError(f"{game.name} cannot go on with {asked}: {error}") from error
        vars(self.state.average.game).update(chosen)

    def _changeable(self) -> dict[str, Option]:
        """What a change may name: options, and the rates of turns and of players, also of those that stand still."""
        game = self.game
        turns = {turn_name(turn) for phase in game.phases() for turn in phase.turns()}
        players = {name for name, part in game.named_children() if next(part.parameters(), None) is not None}
        rates = {name: Option(name, float, 0.0) for name in (*(f"{who}.lr" for who in turns | players), "rates")}
        return rates | {option.name: option for option in of_callable(type(game).__init__)}

    def _steered(self, turn: Turn) -> Turn:
        changes = self.state.changes
        rate = float(changes.get(f"{turn_name(turn)}.lr", turn.optim.lr)) * changes.get("rates", 1.0)
        return turn if rate == turn.optim.lr else replace(turn, optim=replace(turn.optim, lr=rate))


def _where(turn: Turn) -> str:
    return f"{getattr(turn.loss, '__qualname__', turn.loss)} (turn {turn.players!r})"


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    with torch.no_grad():
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)
