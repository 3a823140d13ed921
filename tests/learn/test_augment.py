"""A strength that adapts holds a judge where it does not know its images by heart, and games learn on images of any
aspect. Small, seeded; each threshold keeps a margin to what was measured over seeds 0 to 2, which stands beside it.
"""

import numpy as np
import pytest
import torch

from elegan import zoo
from elegan.data.batches import Batches
from elegan.data.codec import codec_of
from elegan.data.source import Source, image_field
from elegan.data.sources import open_data
from elegan.game import Game
from elegan.spec import Spec
from elegan.tasks.generate import draw
from elegan.training.loop import Loop, State, train
from elegan.training.seeds import seed_at


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return np.asarray(open_data("digits").arrays["real"])


def source(images: np.ndarray) -> Source:
    return Source("some", Spec(real=image_field(images)), {"real": images}, "")


def game_on(data: Source, name: str, **options) -> Game:
    seed_at(torch.device("cpu"), 0, "init")
    return zoo.build(name, data.spec, **options)


def judged(images: np.ndarray, others: np.ndarray, policy: str, moves: int = 300) -> tuple[float, float]:
    """A judge alone, told that some digits are real and that others like them are drawn: all it can learn is which.

    How sure it is of those it calls real, over its last 150 moves, and the strength of augmentation at the end.
    """
    data = source(images)
    game = game_on(data, "dcgan", augment=policy, z_dim=4, width=8, judge_norm=False, lr=2e-3, beta1=0.0)
    drawn = codec_of(data.spec["real"]).encode(torch.from_numpy(others))
    game.sample = lambda n: drawn[torch.randint(len(drawn), (n,))]
    game.augment.over_images = 10_000
    loop, signs = Loop(game, Batches(data, rows=32)), []
    for _ in range(moves):
        signs.append(loop.advance(loop.begin()[0])["overfitting"])
        loop.end()
    return float(torch.stack(signs[-150:]).mean()), float(game.augment.strength)


def test_strength_rises_for_a_judge_that_memorises_and_stays_for_one_that_guesses(digits, monkeypatch):
    """Measured: of 50 digits a judge is sure to .61, .62, .60, at strengths of .16, .14, .16, and without augmentation
    to 1.00, .99, 1.00; of 5,000 it is sure to .21, .15, .25, at strength 0.
    """
    others = digits[5_000:9_000].copy()
    sure, strength = judged(digits[:50].copy(), others, "ada")
    assert sure == pytest.approx(0.6, abs=0.06)
    assert 0.08 < strength < 0.3
    guessing, idle = judged(digits[:5_000].copy(), others, "ada")
    assert guessing < 0.4
    assert idle < 0.02
    monkeypatch.setattr("elegan.augment.MOST", 0.0)  # it measures, and may not act
    known, none = judged(digits[:50].copy(), others, "ada")
    assert none == 0
    assert known > 0.9


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of images halved each way, in [0, 1]."""
    n, _, height, width = images.shape
    small = images.reshape(n, height // 2, 2, width // 2, 2).mean((2, 4)).reshape(n, -1) / 255
    return small.mean(0), np.cov(small.T)


def apart(x: np.ndarray, y: np.ndarray) -> float:
    """‖mean − mean‖² + ‖covariance − covariance‖ of two sets of images."""
    (mean, covariance), (other, its) = moments(x), moments(y)
    return float(((mean - other) ** 2).sum() + np.linalg.norm(covariance - its))


@pytest.mark.parametrize("policy", ["", "diffaugment"])
def test_dcgan_learns_tall_images(digits, policy):
    """Digits of 28 × 16. Measured: 2.2, 2.3, 2.3 without augmentation, 2.2, 2.2, 2.3 with it, against 13.5, 13.8, 13.6
    untrained: what only the judge is shown does not come back in samples, though four of five images are cut.
    """
    tall = np.ascontiguousarray(digits[..., 6:22])
    data = source(tall)
    options = dict(z_dim=16, width=12, judge_norm=False, loss="relativistic-pairing", gamma=0.5, lr=2e-3)
    game = game_on(data, "dcgan", augment=policy, **options)

    def distance(one: Game) -> float:
        return apart(codec_of(data.spec["real"]).decode(draw(one.eval(), 1_000, seed=9)), tall[:1_000])

    before = distance(game)
    state = State.fresh(game, half_life_images=2_000)
    for _ in train(game.train(), Batches(data, rows=32), 250, state=state):
        pass
    after = distance(state.average.game)
    assert apart(tall[1_000:2_000], tall[:1_000]) < 1
    assert after < before / 4
