"""What every game must honour, as functions of a `Case`: shared by the tests of the zoo and of its hardest customers.

A case is a way to build a game and some data that fits. `watch` trains it under observation and returns every breach of
manners it saw; `journey` trains it with checkpoints on disk at several cuts, `resumed` goes on from one of them.
"""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from elegan.data.batches import Batches
from elegan.data.codec import LabelCodec, VectorCodec
from elegan.data.source import Source, image_field, label_field, vector_field
from elegan.game import Game, Turn
from elegan.model import from_json
from elegan.run import checkpoint
from elegan.run.directory import RunDirectory
from elegan.run.saving import copy_named, load_into, named_state, save
from elegan.spec import Field, Spec
from elegan.tasks.generate import draw
from elegan.tasks.translate import translate
from elegan.training import precision
from elegan.training.loop import Loop, State, train
from elegan.training.seeds import seed_at

CPU = torch.device("cpu")
Snapshot = dict[str, Tensor]

# ---------------------------------------------------------------------------------------------------------------------
# Data, small enough to train on in milliseconds


def _pixels(draw: np.random.Generator, n: int, *shape: int) -> np.ndarray:
    return draw.integers(0, 256, (n, *shape), dtype=np.uint8)


def _images() -> Source:
    draw = np.random.default_rng(1)
    pixels, labels = _pixels(draw, 40, 1, 12, 12), np.arange(40) % 3
    spec = Spec(real=image_field(pixels, classes=3), label=label_field(labels, ("a", "b", "c")))
    return Source("images", spec, {"real": pixels, "label": labels}, "labelled noise")


def _vectors() -> Source:
    rows = np.random.default_rng(2).normal(size=(40, 2)).astype(np.float32)
    return Source("vectors", Spec(real=vector_field(rows)), {"real": rows}, "points in the plane")


def _unpaired() -> Source:
    draw = np.random.default_rng(3)
    a, b = _pixels(draw, 36, 3, 16, 16), _pixels(draw, 40, 3, 16, 16)
    spec = Spec(a=image_field(a, stream="a"), b=image_field(b, stream="b"))
    return Source("unpaired", spec, {"a": a, "b": b}, "two sets of images")


def _series() -> Source:
    rows = np.random.default_rng(4).uniform(size=(40, 6, 3)).astype(np.float32)
    codec = VectorCodec((0.5,) * 3, (0.5,) * 3)
    return Source("series", Spec(real=Field("series", (6, 3), about=codec.to_json())), {"real": rows}, "short series")


def _tokens() -> Source:
    rows = np.random.default_rng(5).integers(0, 7, (40, 5))
    about = LabelCodec().to_json()
    return Source("tokens", Spec(real=Field("token", (5,), classes=7, about=about)), {"real": rows}, "short sentences")


def _audio() -> Source:
    rows = np.random.default_rng(6).normal(size=(40, 1, 64)).astype(np.float32)
    codec = VectorCodec((0.0,), (1.0,))
    return Source("audio", Spec(real=Field("audio", (1, 64), about=codec.to_json())), {"real": rows}, "noise to hear")


MAKERS = (_images, _vectors, _unpaired, _series, _tokens, _audio)
SOURCES = {source.name: source for source in (make() for make in MAKERS)}

# ---------------------------------------------------------------------------------------------------------------------
# Cases


@dataclass(frozen=True, eq=False)  # hashed by identity, so that what was computed for it can be kept
class Case:
    """A game to be tried: its class and options, data that fits, how many steps, and where a run of it is cut."""

    name: str
    game: type[Game]
    source: Source
    options: Mapping[str, Any] = field(default_factory=dict)
    derived: Mapping[str, Callable[[dict[str, Tensor]], Tensor]] = field(default_factory=dict)
    rows: int = 4
    steps: int = 6
    cuts: tuple[int, ...] = (1, 3, 5)

    def __repr__(self) -> str:
        return self.name

    def build(self, seed: int = 0, kind: precision.Precision = "fp32", placed: bool = False) -> Game:
        """The game with the first weights of a seed, in a precision; placed, as a run does it, channels-last."""
        seed_at(CPU, seed, "init")
        game = self.game(self.source.spec, **self.options)
        if placed:
            precision.place(game, precision.Choice("cpu", kind, 1, "as asked"))
        else:
            precision.install(game, kind)
        return game

    def batches(self, shards: int = 1) -> Batches:
        return Batches(self.source, rows=self.rows // shards, shards=shards, derived=self.derived)


# ---------------------------------------------------------------------------------------------------------------------
# Comparing to the bit


def bits(tensor: Tensor) -> tuple[Any, ...]:
    """A tensor as something that compares equal only to the same bits; NaN equals itself, 0 is not -0."""
    dense = tensor.detach().cpu().contiguous()
    return dense.dtype, tuple(dense.shape), dense.view(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b""


def snapshot(game: Game, state: State) -> Snapshot:
    """Copies of everything a run consists of: weights and buffers, their average, and all moments."""
    parts = {
        "weights": {**dict(game.named_parameters()), **dict(game.named_buffers())},
        "average": {**dict(state.average.game.named_parameters()), **dict(state.average.game.named_buffers())},
        "optim": state.optim.tensors(),
    }
    return {f"{part}/{name}": t.detach().clone() for part, named in parts.items() for name, t in named.items()}


def differing(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """The names under which two sets of tensors differ by a bit or more."""
    return [n for n in sorted({*one, *other}) if n not in one or n not in other or bits(one[n]) != bits(other[n])]


def only(named: Snapshot, *beginnings: str) -> Snapshot:
    """The part of a snapshot whose names begin so."""
    return {name: tensor for name, tensor in named.items() if name.startswith(beginnings)}


# ---------------------------------------------------------------------------------------------------------------------
# Training under observation


@dataclass
class Breaches:
    """What a game did that it must not do; every list is empty for a game of good manners."""

    moved: list[str] = field(default_factory=list)  # parameters that changed though their player was not to move
    unfrozen: list[str] = field(default_factory=list)  # parameters that asked for gradients likewise
    still: list[str] = field(default_factory=list)  # turns that left every mover as it was
    terms: list[str] = field(default_factory=list)  # terms that were not finite, or no fp32
    batches: list[str] = field(default_factory=list)  # fields a loss wrote into
    replaced: list[str] = field(default_factory=list)  # parameters and buffers that became other tensors
    hidden: list[str] = field(default_factory=list)  # state kept elsewhere than in parameters and buffers


class Watching(Loop):
    """A loop that looks closely at every move."""

    def __init__(self, *args: Any, **named: Any):
        super().__init__(*args, **named)
        self.breaches = Breaches()

    def advance(self, turn: Turn) -> dict[str, Tensor]:
        movers = {id(p) for p in self.state.optim.movers(turn.players)}
        before = {name: p.detach().clone() for name, p in self.game.named_parameters()}
        terms = super().advance(turn)
        moved = [n for n, p in self.game.named_parameters() if bits(p) != bits(before[n])]
        own = {n for n, p in self.game.named_parameters() if id(p) in movers}
        self.breaches.moved += [f"{n} in {turn.players}" for n in moved if n not in own]
        if not own & set(moved) and turn.when is None:
            self.breaches.still.append(f"{turn.players} by {turn.loss.__name__}")
        return terms

    def _loss(self, turn: Turn, number: int, shard: int) -> dict[str, Tensor]:
        movers = {id(p) for p in self.state.optim.movers(turn.players)}
        asking = {n: p for n, p in self.game.named_parameters() if p.requires_grad}
        self.breaches.unfrozen += [f"{n} in {turn.players}" for n, p in asking.items() if id(p) not in movers]

        @functools.wraps(turn.loss)  # the loop reads the wrapped signature
        def watched(**batch: Tensor) -> Mapping[str, Tensor]:
            copies = {name: bits(t) for name, t in batch.items()}
            terms = turn.loss(**batch)
            self.breaches.batches += [f"{n} in {turn.loss.__name__}" for n, t in batch.items() if bits(t) != copies[n]]
            for name, term in terms.items():
                if not term.ndim and (term.dtype != torch.float32 or not term.isfinite()):
                    self.breaches.terms.append(f"{turn.players}.{name}: {term}, {term.dtype}")
            return terms

        return super()._loss(replace(turn, loss=watched), number, shard)


@functools.cache
def watch(case: Case, kind: precision.Precision = "fp32") -> Breaches:
    """Train a case for its steps and return every breach of manners that was seen."""
    game = case.build(kind=kind)
    loop = Watching(game, case.batches())
    owned, attributes = dict(tensors_of(game)), dict(attributes_of(game))
    for _ in range(case.steps):
        loop.step()
    now, seen = dict(tensors_of(game)), loop.breaches
    seen.replaced += [n for n in sorted({*owned, *now}) if owned.get(n) is not now.get(n)]
    later = dict(attributes_of(game))
    seen.hidden += [n for n in sorted({*attributes, *later}) if attributes.get(n) != later.get(n)]
    return seen


def tensors_of(game: Game) -> Iterator[tuple[str, Tensor]]:
    yield from game.named_parameters()
    yield from game.named_buffers()


SET_BY_THE_LOOP = {"rows", "step", "images", "training"}
TORCH_OWN = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", *(n for n in vars(nn.Module()))}


def attributes_of(game: Game) -> Iterator[tuple[str, Any]]:
    """Every plain attribute of a game and its modules, and every buffer no checkpoint keeps, as values to compare."""
    saved = {id(t) for t in game.state_dict(keep_vars=True).values()}
    for path, module in game.named_modules():
        for name, value in vars(module).items():
            if name not in TORCH_OWN and not (module is game and name in SET_BY_THE_LOOP):
                yield f"{path}.{name}", frozen(value, saved)
        for name, buffer in module.named_buffers(recurse=False):
            yield f"{path}.{name}", frozen(buffer, saved)


def frozen(value: Any, saved: Collection[int]) -> Any:
    """A value that later changes of the original cannot reach; of tensors a checkpoint keeps, only which they are."""
    if isinstance(value, Tensor):
        return id(value) if id(value) in saved else bits(value)
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, Spec | str):
        return str(value)
    if isinstance(value, Mapping):
        return {key: frozen(part, saved) for key, part in value.items()}
    if isinstance(value, Collection):
        return [frozen(part, saved) for part in value]
    if hasattr(value, "__dict__") and not isinstance(value, nn.Module | type) and not callable(value):
        return {key: frozen(part, saved) for key, part in vars(value).items()}
    return value if isinstance(value, int | float | complex | None) else id(value)


# ---------------------------------------------------------------------------------------------------------------------
# Runs, cut and resumed


@functools.cache
def finished(case: Case, seed: int = 0) -> Snapshot:
    """A run that nothing disturbed, at its end."""
    game = case.build(seed)
    state = fresh(game)
    for _ in train(game, case.batches(), case.steps, seed=seed, state=state):
        pass
    return snapshot(game, state)


def journey(case: Case, folder: Path, cuts: Collection[int], **build: Any) -> Snapshot:
    """Train to the end, writing a checkpoint into `folder/CUT` at every cut."""
    game = case.build(**build)
    state = fresh(game)
    for event in train(game, case.batches(), case.steps, state=state):
        if event.step in cuts:
            save(RunDirectory(folder / str(event.step)), game, state, {})
    return snapshot(game, state)


def resumed(case: Case, folder: Path, cut: int, **build: Any) -> Snapshot:
    """Go on from the checkpoint of a cut, in a game built from another seed, so that every bit must come from disk."""
    game = case.build(seed=99, **build)
    state = fresh(game)
    load_into(game, state, checkpoint.newest(RunDirectory(folder / str(cut)).checkpoints))
    assert state.step == cut
    torch.rand(cut + 1)  # the generator's state is no part of a run
    for _ in train(game, case.batches(), case.steps, state=state):
        pass
    assert state.step == case.steps
    return snapshot(game, state)


def fresh(game: Game) -> State:
    return State.fresh(game, half_life_images=40, ramp=0.5)  # an average that has a memory within so few steps


# ---------------------------------------------------------------------------------------------------------------------
# The contract: each rule is a test of one case


def only_movers_move(case: Case, tmp_path: Path) -> None:
    """A move changes its movers and no other parameter; no other parameter asks for a gradient meanwhile."""
    seen = watch(case)
    assert seen.moved == []
    assert seen.unfrozen == []
    assert seen.still == []


def terms_are_finite_fp32_scalars(case: Case, tmp_path: Path) -> None:
    """Under bf16 too, since losses run outside of autocast."""
    assert watch(case).terms == []
    assert watch(case, "bf16").terms == []


def batches_are_not_altered(case: Case, tmp_path: Path) -> None:
    """A loss reads its batch and never writes into it."""
    assert watch(case).batches == []


def state_is_parameters_and_buffers(case: Case, tmp_path: Path) -> None:
    """Tensors keep their identity, and nothing else of a game changes while it trains."""
    assert watch(case).replaced == []
    assert watch(case).hidden == []


def same_seed_same_run(case: Case, tmp_path: Path) -> None:
    """To the bit, whatever the generator's state was; another seed is another run from the same first weights."""
    torch.rand(7)
    again = Case(**vars(case))
    assert differing(finished(case), finished(again)) == []
    game = case.build()
    state = fresh(game)
    for _ in train(game, case.batches(), case.steps, seed=1, state=state):
        pass
    assert differing(finished(case), snapshot(game, state)) != []


def resume_is_bitwise(case: Case, tmp_path: Path) -> None:
    """A run cut at any of three places and resumed from disk ends as the run that never stopped."""
    assert differing(finished(case), journey(case, tmp_path, case.cuts)) == []
    for cut in case.cuts:
        assert differing(finished(case), resumed(case, tmp_path, cut)) == [], f"cut at {cut}"


def resume_is_bitwise_in_bf16_and_channels_last(case: Case, tmp_path: Path) -> None:
    how: dict[str, Any] = dict(kind="bf16", placed=True)
    whole = journey(case, tmp_path, case.cuts[1:2], **how)
    assert differing(whole, resumed(case, tmp_path, case.cuts[1], **how)) == []
    assert differing(whole, finished(case)) != [], "bf16 changed nothing: were the players wrapped?"


def shards_add_up(case: Case, tmp_path: Path) -> None:
    """The gradient of a move in two shards is the mean of the gradients its shards have alone."""
    loop = Loop(case.build(), case.batches(shards=2), seed=3)
    turn = loop.begin()[0]
    alone = [_gradient_alone(case, shard) for shard in range(2)]
    loop.advance(turn)
    for name, p in loop.game.named_parameters():
        if p.grad is None:
            assert alone[0][name] is None
        else:
            torch.testing.assert_close(p.grad, turn.every * (alone[0][name] + alone[1][name]) / 2, msg=name)


def _gradient_alone(case: Case, shard: int) -> dict[str, Any]:
    """The gradient of the first move on one of two shards, by the shortest way to it."""
    game, batches = case.build(), case.batches(shards=2)
    loop = Loop(game, batches, seed=3)
    turn = loop.begin()[0]
    loop._freeze_all_but(turn)
    seed_at(CPU, 3, 0, 0, 0, 0, shard)
    terms = [t for t in loop._loss(turn, 0, shard).values() if t.requires_grad]
    sum(terms[1:], start=terms[0]).backward()
    return {name: p.grad for name, p in game.named_parameters()}


METHODS = {  # task -> the method that does it, and the field it is given
    "translation": ("translate", "a"), "reconstruction": ("reconstruct", "real"), "restoration": ("restore", "real"),
    "detection": ("score", "real"), "attack": ("attacked", "real"), "vocoding": ("vocode", "mel"),
}  # fmt: skip


def tasks_are_kept(case: Case, tmp_path: Path) -> None:
    """What a game says it is for, it can do: with the right shape, finite, and differentiably inside of a loss."""
    game = case.build()
    for _ in train(game, case.batches(), 2):
        pass
    game.eval()
    batch = case.batches()(0, 0, 0, 4)
    for use in uses(case, game):
        assert use(game).isfinite().all()
    if "generation" in game.tasks:
        _samples_are_samples(game)
    if "translation" in game.tasks:
        for direction, (before, after) in {"ab": ("a", "b"), "ba": ("b", "a")}.items():
            there = translate(game, batch[before], direction=direction)
            assert (there.shape, there.dtype) == (batch[after].shape, torch.float32)
            _differentiable(game, lambda d=direction, b=before: game.translate(batch[b], direction=d))
    if "reconstruction" in game.tasks:
        again = game.reconstruct(batch["real"])
        assert (again.shape, again.dtype) == (batch["real"].shape, torch.float32)


def _samples_are_samples(game: Game) -> None:
    real = game.spec["real"]
    drawn = draw(game, 5)
    assert drawn.shape == (5, *real.shape)
    if real.kind in ("token", "label"):
        assert drawn.dtype == torch.int64
        assert ((drawn >= 0) & (drawn < real.classes)).all()
    else:
        assert drawn.dtype == torch.float32
        assert drawn.isfinite().all()
        assert (drawn[0] != drawn[1]).any(), "two samples are the same"
        _differentiable(game, lambda: game.sample(4))
    if real.kind == "image":
        assert drawn.abs().max() < 10, "images live in [-1, 1] or near it"
    if game.labelled:
        assert draw(game, 5, label=1).shape == drawn.shape
        assert differing({"": draw(game, 6, label=[0, 1, 2] * 2)}, {"": draw(game, 6, label=[1, 2, 0] * 2)})


def _differentiable(game: Game, make: Callable[[], Tensor]) -> None:
    game.requires_grad_(True)
    made = make()
    assert made.requires_grad, "no gradient flows through what the game makes"
    made.square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in game.parameters())
    game.zero_grad()


def rebuild_from_options_and_weights_alone(case: Case, tmp_path: Path) -> None:
    """A game built anew from JSON and a checkpoint's average draws the same samples to the bit."""
    game = case.build()
    state = fresh(game)
    for _ in train(game, case.batches(), case.steps, state=state):
        pass
    run = RunDirectory(tmp_path)
    save(run, game, state, {"options": game.options, "spec": game.spec.to_json()})
    found = checkpoint.newest(run.checkpoints)
    seed_at(CPU, 99, "init")
    again = case.game(Spec.from_json(found.facts["spec"]), **from_json(found.facts["options"]))
    copy_named(named_state(again), found.tensors["average"], found)
    again.eval().requires_grad_(False)
    again.step, again.images = found.step, found.facts["state"]["images"]
    again.before()
    assert again.options == game.options
    for use in uses(case, again):
        assert bits(use(state.average.game)) == bits(use(again))


def uses(case: Case, game: Game) -> Iterator[Callable[[Game], Tensor]]:
    """What a game is for, each use as a function of the game."""
    batch = case.batches()(0, 0, 0, 4, (*case.source.spec, *case.derived))
    for task in game.tasks:
        if task == "generation":
            yield lambda g: draw(g, 5, seed=1)
        else:
            method, name = METHODS[task]  # a new task has one method, which is named there
            yield torch.no_grad()(lambda g, m=method, n=name: getattr(g, m)(batch[n]))


CONTRACT = (
    only_movers_move,
    terms_are_finite_fp32_scalars,
    batches_are_not_altered,
    state_is_parameters_and_buffers,
    same_seed_same_run,
    resume_is_bitwise,
    resume_is_bitwise_in_bf16_and_channels_last,
    shards_add_up,
    tasks_are_kept,
    rebuild_from_options_and_weights_alone,
)
