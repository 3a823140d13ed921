"""What a frame shows of a bench: points, the judge's surface, the generator's manifold, arrows of its gradient.

Looking changes nothing: modes, buffers and the random state are as before, and gradients are those of drawn points.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from elegan.data.codec import Codec, codec_of
from elegan.game import Game
from elegan.studio.lab.bench import Bench
from elegan.tasks.judge import Meaning, meaning, pull, verdict
from elegan.tasks.passing import passing
from elegan.training.probe import untouched
from elegan.training.seeds import seed_at
from elegan.view.plane import PLACES, Window

MOST = 1_024  # real points that are shown
ACROSS, ALONG = 21, 201  # noises to a side of a manifold of two dimensions, and of one
ODD = (TypeError, ValueError, RuntimeError, AttributeError)  # what games raise that are asked something unusual

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shown:
    """What frames hold. average: draw from the averaged players. points: drawn ones."""

    average: bool = True
    points: int = 512
    arrows: bool = True
    surface: bool = True
    manifold: bool = True

    def but(self, changes: Mapping[str, Any]) -> "Shown":
        return replace(self, **{name: value for name, value in changes.items() if value is not None})


class View:
    """Looks at one bench through a window."""

    def __init__(self, bench: Bench, window: Window):
        self.bench, self.window = bench, window
        self.codec: Codec = codec_of(bench.game.spec["real"])
        self.scale = self.raw(torch.ones(1, 2)) - self.raw(torch.zeros(1, 2))  # (1, 2), of encoded to raw
        self.places = self.codec.encode(torch.from_numpy(window.places()))
        self.real = self._batch(min(MOST, len(bench.loop.batches.source)))["real"]
        self.batch: dict[str, Tensor] = {}
        self.meaning: Meaning | None = None
        self.learn()

    def learn(self) -> None:
        """Ask the game anew what its judge's scores mean, and whether its noise alone says what it draws."""
        try:  # a judge that stands still means by its scores what it meant
            self.meaning = meaning(self.bench.game, self._batch(64)) or self.meaning
            self._known(self.bench.game, self.places[:8], self.real[:8])
        except ODD:
            self.meaning = None
        self.grid = grid_of(self.bench.game)
        self.grid = self.grid if self.grid is not None and self._steady() else None

    @property
    def judged(self) -> bool:
        return self.meaning is not None

    def arrays(self, game: Game, shown: Shown) -> Arrays:
        """What is seen of a game, the bench's or a like one, in the units of the data."""
        found: Arrays = {}
        with torch.no_grad(), torch.random.fork_rng(devices=[]), untouched(game):
            game.eval()
            fake, noise = self.draw(game, shown.points, "lab")
            found["fake"] = self.raw(fake)
            if noise is not None:
                found["noise"] = noise[:, :2].numpy()
            if shown.manifold and self.grid is not None:
                found["manifold"] = self.raw(self._along(game)).reshape(*self.grid.shape[:-1], 2)
            if self.judged:
                asked = {
                    "judged": fake,
                    "judged_real": self.real,
                    **({"surface": self.places} if shown.surface else {}),
                }
                said = self._known(game, torch.cat([*asked.values()]), fake)
                if said is not None:
                    parts = bytes_of(said).split([*map(len, asked.values())])
                    found |= {name: part.numpy() for name, part in zip(asked, parts, strict=True)}
                if "surface" in found:
                    found["surface"] = found["surface"].reshape(PLACES, PLACES)
        if shown.arrows:
            arrows = self.arrows(game, fake)
            found |= {} if arrows is None else {"arrows": arrows}
        return found

    def points(self, game: Game, n: int, *place: str | int) -> np.ndarray:
        """So many samples of a game, in the units of the data.  (n, 2)"""
        with torch.no_grad(), torch.random.fork_rng(devices=[]), untouched(game):
            game.eval()
            return self.raw(self.draw(game, n, *place)[0])

    def draw(self, game: Game, n: int, *place: str | int) -> tuple[Tensor, Tensor | None]:
        """So many samples of a game, encoded, of noise that is fixed by a place, and that noise.  (n, 2), (n, z_dim)"""
        seen: list[Tensor] = []
        seed_at(game.device, self.bench.loop.seed, *place)
        with passing(game, "noise", lambda z: seen.append(z) or z):
            drawn = game.sample(n)
        return drawn, seen[0] if seen else None

    def arrows(self, game: Game, fake: Tensor) -> np.ndarray | None:
        """Where the generator's loss would move drawn points: minus its gradient, in the units of the data.  (n, 2)"""
        if len(self.batch.get("real", ())) != len(fake):
            self.batch = self._batch(len(fake))
        try:
            found = pull(game, self.batch, len(fake), drawn=fake)
        except ODD:
            return None
        return None if found is None else self.ways(found[1])

    def ways(self, encoded: Tensor) -> np.ndarray:
        """Ways from encoded points, in the units of the data."""
        return encoded.numpy() * self.scale

    def judge(self, game: Game, points: Tensor, drawn: Tensor) -> np.ndarray | None:
        """How real a game's judge takes encoded points for, uint8 (n,)."""
        with torch.no_grad(), torch.random.fork_rng(devices=[]), untouched(game):
            game.eval()
            said = self._known(game, points, drawn) if self.judged else None
        return None if said is None else bytes_of(said).numpy()

    def _known(self, game: Game, places: Tensor, drawn: Tensor) -> Tensor | None:
        return verdict(game, places, {"real": self.real}, drawn, self.meaning)

    def _along(self, game: Game) -> Tensor:
        """What a game draws of the grid of noises.  (n, 2)"""
        assert self.grid is not None
        noises = self.grid.reshape(-1, self.grid.shape[-1])
        with passing(game, "noise", lambda z: noises):
            return game.sample(len(noises))

    def _steady(self) -> bool:
        """Whether the same noise always gives the same samples."""
        game = self.bench.game
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]), untouched(game):
                game.eval()
                return torch.equal(self._along(game), self._along(game))
        except ODD:
            return False

    def _batch(self, rows: int) -> dict[str, Tensor]:
        return self.bench.loop.batches(self.bench.loop.seed, 0, 0, rows)

    def raw(self, encoded: Tensor) -> np.ndarray:
        """Encoded points in the units of the data."""
        return self.codec.decode(encoded)


def grid_of(game: Game) -> Tensor | None:
    """Noises of equal mass, in order: (21, 21, 2) of two dimensions, (201, 1) of one; None of more or none."""
    z_dim = game.options.get("z_dim", 0)
    if z_dim not in (1, 2):
        return None
    n = ACROSS if z_dim == 2 else ALONG
    if game.options.get("prior", "normal") == "uniform":
        line = torch.linspace(-1, 1, n)
    else:
        line = torch.special.ndtri((torch.arange(n) + 0.5) / n)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1) if z_dim == 2 else line[:, None]


def bytes_of(shares: Tensor) -> Tensor:
    """Numbers in [0, 1] as uint8."""
    return (shares * 255).round().to(torch.uint8)
