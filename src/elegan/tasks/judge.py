"""Asking a game's judge: how real it takes each place of the plane for, and where its opponent is drawn by it."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from elegan.game import Game, Turn
from elegan.tasks.passing import passing
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


@torch.no_grad()
def verdict(game: Game, places: Tensor, batch: Mapping[str, Tensor], drawn: Tensor) -> Tensor | None:
    """How real the judge takes each place for: σ of its score, centred and scaled so that 0.5 is undecided.  (n,)

    places: encoded, (n, *shape). batch: real samples by field; drawn: samples of the game, encoded.
    None if the game has no player `D` with a turn without `G`, if it asks for a label, or if it says nothing finite.

    What a score means is read off the loss that `D` is trained with. The score of the best judge that says the same of
    everything is undecided, and the unit is such that this judge's loss doubles as far away as by cross entropy, whose
    logits are thus taken as they are. Where all such judges are equally good, scores are known up to a constant, and
    the middle between real and drawn is undecided; of a critic, whose loss is then 0, the spread of scores is the unit.
    """
    losses = None if game.labelled else _losses(game, batch)
    if losses is None:
        return None
    if (losses - losses[1]).abs().max() > 1e-4:
        middle, width = _middle_and_width(losses)
        unit = width / _middle_and_width(LOGISTIC)[1]
    else:
        real, fake = _score(game.D(batch["real"])), _score(game.D(drawn))
        middle = (real.mean() + fake.mean()) / 2
        unit = torch.ones(()) if losses[1].abs() > 1e-4 else torch.cat([real, fake]).std()
    scores = _score(game.D(places))
    shown = torch.sigmoid((scores - middle.to(scores)) / unit.to(scores).clamp(min=1e-12))
    return shown if shown.isfinite().all() else None


def pull(game: Game, batch: Mapping[str, Tensor], rows: int, *, seed: int = 0) -> tuple[Tensor, Tensor] | None:
    """Some drawn samples, and where the generator's loss would move them: minus its gradient.  (rows, *shape) both

    None if no turn moves `G` without `D`, or if its loss draws other than once.
    """
    seen: list[Tensor] = []

    def watched(made: Tensor) -> Tensor:
        seen.append(made.detach().requires_grad_())
        return seen[-1]

    with _aside(game, rows, seed) as other, passing(other, "sample", watched):
        terms = _terms(other, "generator", batch)
        trained = [term for term in (terms or {}).values() if term.requires_grad]
        if not trained or len(seen) != 1:
            return None
        (gradient,) = torch.autograd.grad(sum(trained[1:], start=trained[0]), seen[0])
    return seen[0].detach(), -gradient


def _losses(game: Game, batch: Mapping[str, Tensor]) -> Tensor | None:
    """What the judge's loss would be if its score were the same everywhere, for each of `PROBES`.  (3,)

    Its term `adv`, or the sum of all where none is called so.
    """
    found = []
    for score in PROBES:
        with _aside(game, ROWS, 0) as other:
            terms = _terms(other, "judge", batch, lambda out, s=score: _with_score(out, s))
        if terms is None:
            return None
        found.append(terms["adv"] if "adv" in terms else torch.stack(list(terms.values())).sum())
    return torch.stack(found).detach().float().cpu()


@contextmanager
def _aside(game: Game, rows: int, seed: int) -> Iterator[Game]:
    """A frozen copy of a game to try a loss on, seeded; the game, its buffers and the random state stay as they are."""
    devices = [game.device] if game.device.type == "cuda" else []
    with torch.enable_grad(), torch.random.fork_rng(devices=devices):
        other = copy.deepcopy(game).eval().requires_grad_(False)
        other.rows = rows
        seed_at(game.device, seed, "judge")
        yield other


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
    if judged is not None:
        game.D.register_forward_hook(lambda module, inputs, out: judged(out))
    given = {name: batch[name][: game.rows] for name in fields if name in batch}
    return {name: value for name, value in turn.loss(**given).items() if not value.ndim}


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
