"""Games that infer something besides drawing learn to: the class asked for, a code that means something, a latent.

Each threshold keeps a margin to what was measured over seeds 0 to 2 on one thread; the figures stand beside it.
"""

import numpy as np
import pytest
import torch

from elegan.data.codec import codec_of
from elegan.data.source import Source
from elegan.data.sources import open_data
from elegan.game import Game
from tests.learn.test_learn import apart, drawn, fresh, learn


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_data("digits")


@pytest.fixture(scope="module")
def unseen(digits) -> torch.Tensor:
    """Digits of the test set, as a game is given them."""
    return codec_of(digits.spec["real"]).encode(
        torch.from_numpy(open_data("digits", split="test").arrays["real"][:500])
    )


def nearest(images: np.ndarray, digits: Source) -> np.ndarray:
    """The class whose mean is nearest to each image, which is right for .82 of the real digits."""
    label = digits.arrays["label"]
    means = np.stack([digits.arrays["real"][label == k].mean(0).ravel() for k in range(10)])
    return ((images.reshape(len(images), 1, -1) - means) ** 2).sum(2).argmin(1)


def test_acgan_draws_the_digit_asked_for(digits):
    """Measured: 1.00, .98, 1.00 of the drawings lie nearest to the mean of the class asked for: the judge wants them
    typical. Untrained .09, .10, .10, which is chance.
    """
    options = dict(z_dim=16, width=12, dropout=0.1, lr=2e-3)
    asked = np.arange(500) % 10

    def agree(game: Game) -> float:
        return float((nearest(drawn(game, 500, label=asked.tolist()), digits) == asked).mean())

    assert agree(fresh("acgan", digits, **options)) < 0.3
    assert agree(learn("acgan", digits, 300, 32, **options)) > 0.8


def information(one: np.ndarray, other: np.ndarray) -> float:
    """The mutual information of two series of classes, in nats."""
    joint = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(joint, (one, other), 1 / len(one))
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return float((joint[joint > 0] * np.log(joint[joint > 0] / apart[joint > 0])).sum())


def test_infogan_finds_categories_that_mean_something(digits):
    """Measured: .83, .60, .72 nats between the category given and the class whose mean is nearest to the drawing, of
    2.3 there could be; untrained .01. No label is ever shown.
    """
    options = dict(z_dim=16, width=12, codes=1, lr=4e-4, g_lr=2e-3)

    def told(game: Game) -> float:
        classes = [nearest(drawn(game, 50, category=k), digits) for k in range(10)]
        return information(np.arange(10).repeat(50), np.concatenate(classes))

    assert told(fresh("infogan", digits, **options)) < 0.1
    assert told(learn("infogan", digits, 300, 32, **options)) > 0.35


def blurred(images: torch.Tensor, side: int) -> torch.Tensor:
    """Images as their means over squares of `side` pixels."""
    return torch.nn.functional.avg_pool2d(images, side).repeat_interleave(side, 2).repeat_interleave(side, 3)


def error(images: torch.Tensor, truth: torch.Tensor) -> float:
    return float((images - truth).square().mean())


def same_class(images: torch.Tensor, truth: torch.Tensor, digits: Source) -> float:
    """The share of images whose nearest class is that of what they are to show."""
    decode = codec_of(digits.spec["real"]).decode
    return float((nearest(decode(images), digits) == nearest(decode(truth), digits)).mean())


def test_vaegan_reconstructs_and_draws_digits(digits, unseen):
    """Measured: squared error .19, .16, .17 on digits of the test set, from 8 numbers, where their mean has .25 and 16
    means over squares of 7 pixels .24; .78, .79, .73 stay in their class; moments of the drawings are 2.1, 1.7, 1.8 off
    those of digits against 63, 23, 36 untrained.
    """
    options = dict(z_dim=8, width=8, lr=2e-3, gamma=1.0)
    game = learn("vaegan", digits, 300, 32, **options)
    with torch.no_grad():
        back = game.reconstruct(unseen)
    real = digits.arrays["real"][:1_000]
    assert error(back, unseen) < 0.9 * error(blurred(unseen, 7), unseen) < 0.9 * error(unseen.mean(0), unseen)
    assert same_class(back, unseen, digits) > 0.55
    assert apart(drawn(game), real) < apart(drawn(fresh("vaegan", digits, **options)), real) / 5


def test_ae_reconstructs_and_draws_digits(digits, unseen):
    """Measured: squared error .08, .09, .07 on digits of the test set, from 16 numbers, where 49 means over squares of
    4 pixels have .16; .90, .91, .93 stay in their class; moments of the drawings are 1.1, 1.1, 1.0 off those of digits
    against 34, 52, 25 untrained.
    """
    options = dict(z_dim=16, width=8, lr=2e-3)
    game = learn("ae", digits, 400, 64, **options)
    with torch.no_grad():
        back = game.reconstruct(unseen)
    real = digits.arrays["real"][:1_000]
    assert error(back, unseen) < 0.8 * error(blurred(unseen, 4), unseen)
    assert same_class(back, unseen, digits) > 0.75
    assert apart(drawn(game), real) < apart(drawn(fresh("ae", digits, **options)), real) / 8
