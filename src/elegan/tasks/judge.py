"""Asking a game's judge: how real it takes each place of the plane for, and where its opponent is drawn by it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from elegan.game import Game, Turn
from elegan.tasks.passing import passing
from elegan.training.probe import untouched
from elegan.training.seeds import seed_at
from elegan.training.turns import fields_of, phase_at

PROBES = (-2.0, 0.0, 2.0)  # the scores of three judges that say the same of everything
ROWS = 8
LOGISTIC = softplus(torch.tensor(PROBES)) + softplus(-torch.tensor(PROBES))  # their losses by cross entropy


def side_of(turn: Turn) -> str:
    """Whose turn it is: the judge's, the generator's, each with its helpers such as Q of InfoGAN, or "" for neither."""
    movers = set(turn.players.split())
    if "E" in movers or {"D", "G"} <= movers:
        return ""
    return "judge" if "D" in movers else "generator" if "G" in movers else ""


class Meaning(NamedTuple):
    """What a judge's scores mean: which of them is undecided, and what their unit is; the same as long as options are.

    None: what only scores of real and drawn samples tell, the middle between them, or their spread.
    """

    middle: Tensor | None
    unit: Tensor | None


@torch.no_grad()
def meaning(game: Game, batch: Mapping[str, Tensor]) -> Meaning | None:
    """What the scores of a game's judge mean, as the loss says that `D` is trained with.

    The score of the best judge that says the same of everything is undecided, and the unit is such that this judge's
    loss doubles as far away as by cross entropy, whose logits are thus taken as they are. Where all such judges are
    equally good, scores are known up to a constant, and the middle between real and drawn is undecided; of a critic,
    whose loss is then 0, the spread of scores is the unit.
    None if the game has no player `D` with a turn without `G`, or if it asks for a label.
    """
    losses = None if game.labelled else _losses(game, batch)
    if losses is None:
        return None
    if (losses - losses[1]).abs().max() > 1e-4:
        middle, width = _middle_and_width(losses)
        return Meaning(middle, width / _middle_and_width(LOGISTIC)[1])
    return Meaning(None, torch.ones(()) if losses[1].abs() > 1e-4 else None)


@torch.no_grad()
def verdict(
    game: Game, places: Tensor, batch: Mapping[str, Tensor], drawn: Tensor, known: Meaning | None = None
) -> Tensor | None:
    """How real the judge takes each place for: σ of its score, centred and scaled so that 0.5 is undecided.  (n,)

    places: encoded, (n, *shape). batch: real samples by field; drawn: samples of the game, encoded. known: the
    `meaning` of scores, where it was asked for before.
    None if scores have no meaning, or if the judge says nothing finite.
    """
    known = meaning(game, batch) if known is None else known
    if known is None:
        return None
    middle, unit = known
    if middle is None:
        real, fake = _score(game.D(batch["real"])), _score(game.D(drawn))
        middle = (real.mean() + fake.mean()) / 2
        unit = torch.cat([real, fake]).std() if unit is None else unit
    assert unit is not None
    scores = _score(game.D(places))
    shown = torch.sigmoid((scores - middle.to(scores)) / unit.to(scores).clamp(min=1e-12))
    return shown if shown.isfinite().all() else None


def pull(
    game: Game, batch: Mapping[str, Tensor], rows: int, *, seed: int = 0, drawn: Tensor | None = None
) -> tuple[Tensor, Tensor] | None:
    """Some drawn samples, and where the generator's loss would move them: minus its gradient.  (rows, *shape) both

    drawn: samples to take for those that the loss draws, (rows, *shape), encoded.
    None if no turn moves `G` without `D`, or if its loss draws other than once.
    """
    seen: list[Tensor] = []

    def watched(made: Tensor) -> Tensor:
        seen.append(made.detach().requires_grad_())
        return seen[-1]

    with _tried(game, rows, seed), passing(game, "sample", watched):
        if drawn is not None:
            game.sample = lambda *_, **__: watched(drawn)  # which `passing` takes away again
        terms = _terms(game, "generator", batch)
        trained = [term for term in (terms or {}).values() if term.requires_grad]
        if not trained or len(seen) != 1:
            return None
        (gradient,) = torch.autograd.grad(sum(trained[1:], start=trained[0]), seen[0], allow_unused=True)
    return None if gradient is None else (seen[0].detach(), -gradient)


def _losses(game: Game, batch: Mapping[str, Tensor]) -> Tensor | None:
    """What the judge's loss would be if its score were the same everywhere, for each of `PROBES`.  (3,)

    Its term `adv`, or the sum of all where none is called so.
    """
    found = []
    for score in PROBES:
        with _tried(game, ROWS, 0):
            terms = _terms(game, "judge", batch, lambda out, s=score: _with_score(out, s))
        if terms is None:
            return None
        found.append(terms["adv"] if "adv" in terms else torch.stack(list(terms.values())).sum())
    return torch.stack(found).detach().float().cpu()


@contextmanager
def _tried(game: Game, rows: int, seed: int) -> Iterator[None]:
    """Inside, a loss of a game may be tried: it is in eval mode and seeded. Nothing of it is touched, nor the random
    state; parameters hold no gradients of it."""
    devices = [game.device] if game.device.type == "cuda" else []
    with torch.enable_grad(), torch.random.fork_rng(devices=devices), untouched(game):
        game.eval().rows = rows
        seed_at(game.device, seed, "judge")
        yield


def _terms(
    game: Game,
    side: str,
    batch: Mapping[str, Tensor],
    judged: Callable[[Any], Any] | None = None,
) -> dict[str, Tensor] | None:
    """The terms of the first turn of a side; `judged` changes what `D` says. None if there is none."""
    turn = next((t for t in phase_at(game, game.step)[0].turns() if side_of(t) == side), None)
    if turn is None:
        return None
    fields = fields_of(turn.loss)
    if any(name not in batch and not optional for name, optional in fields.items()):
        return None
    given = {name: batch[name][: game.rows] for name in fields if name in batch}
    hook = None if judged is None else game.D.register_forward_hook(lambda module, inputs, out: judged(out))
    try:
        return {name: value for name, value in turn.loss(**given).items() if not value.ndim}
    finally:
        if hook is not None:
            hook.remove()


def _middle_and_width(losses: Tensor) -> tuple[Tensor, Tensor]:
    """Of the parabola through the losses at `PROBES`: where it is least, and how far from there it has doubled."""
    low, middle, high = losses
    bend, tilt = (low + high) / 2 - middle, (high - low) / 2
    least = middle - tilt.square() / (4 * bend)
    return -tilt / (2 * bend) * PROBES[2], (least / bend).sqrt() * PROBES[2]


def _score(out: Any) -> Tensor:
    """A judge's score of each sample: what it returns, or the first of several things.  (n,)"""
    return _score(out[0]) if isinstance(out, (tuple, list)) else out.float().flatten()


def _with_score(out: Any, score: float) -> Any:
    """What a judge returned, with another score."""
    if isinstance(out, (tuple, list)):
        return type(out)([_with_score(out[0], score), *out[1:]])
    return out * 0 + score
