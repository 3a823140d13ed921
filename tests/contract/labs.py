"""Labs for tests: small games on small data, their weights byte by byte, and their frames."""

import numpy as np

from elegan.run.saving import named_state
from elegan.studio import wire
from elegan.studio.lab.bench import Bench
from elegan.studio.lab.lab import Lab
from elegan.studio.lab.views import Shown
from elegan.studio.setup import Setup

SMALL = {"widths": [8, 8], "judge_widths": [8, 8]}
GAN = {"game": "gan", "preset": "vector", "options": SMALL}
R3GAN = {"game": "r3gan", "options": {"widths": [8]}}
BN = {"game": "gan", "preset": "tiny", "options": {"k": 2}}  # with BatchNorm and dropout
WGAN = {"game": "wgan", "options": {"n_critic": 3}}
CUSTOM = {"kind": "equation", "x": "cos(2*pi*t)", "y": "sin(4*pi*t)", "samples": 600}
ALL = Shown(points=16)


def lab(*benches: dict, shown: Shown = ALL, **setup) -> Lab:
    given = {"data": {"kind": "preset", "name": "ring"}, "batch": 16, "half_life_images": 400, **setup}
    return Lab.of(Setup.model_validate({**given, "benches": [*benches] or [GAN]}), shown)


def weights(bench: Bench) -> dict[str, bytes]:
    """Every tensor of a game and of its average, byte by byte, and where it stands."""
    games = {"game": bench.game, "average": bench.average}
    found = {f"{n}/{k}": t.numpy().tobytes() for n, game in games.items() for k, t in named_state(game).items()}
    moments = {name: t.numpy().tobytes() for name, t in bench.state.optim.tensors().items()}
    return found | moments | {"place": repr((bench.state.step, bench.state.images)).encode()}


def played(made: Lab, rounds: int) -> list[dict[str, bytes]]:
    for _ in range(rounds):
        made.round()
    return [weights(bench) for bench in made.benches]


def frame(made: Lab) -> tuple[dict, dict[str, np.ndarray]]:
    return wire.unpack(made.frame(1, False, 0.0))
