"""The shipped classifier of digits: the file it says it is, as good as its recipe says, whatever the batch."""

import numpy as np
import pytest
import torch
from torch import nn

from elegan.data.sources import open_data
from elegan.embedders import digits_cnn
from elegan.errors import CheckpointError, DataError
from elegan.metrics.frechet import Moments, frechet_distance


@pytest.fixture(scope="module")
def net() -> digits_cnn.DigitsCNN:
    return digits_cnn.load()


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    test = open_data("digits", split="test")
    return test.arrays["real"][:1_000], test.arrays["label"][:1_000]


def test_the_shipped_weights_are_small_and_whole(tmp_path):
    assert digits_cnn.WEIGHTS.stat().st_size <= 2_000_000
    content = bytearray(digits_cnn.WEIGHTS.read_bytes())
    content[-1] ^= 1
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged.safetensors is damaged"):
        digits_cnn.load(damaged)
    with pytest.raises(CheckpointError, match="cannot be read"):
        digits_cnn.load(tmp_path / "none")


def test_it_knows_digits(net, digits):
    """The recipe measured 99.5 % on all 10,000."""
    images, labels = digits
    probabilities = net.embed(images)[1]
    assert (probabilities.argmax(1) == labels).mean() > 0.985
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


def test_features_are_what_the_last_layer_reads(net, digits):
    features, probabilities = net.embed(digits[0][:7])
    assert features.shape == (7, 128)
    assert features.min() >= 0
    last = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        logits = torch.from_numpy(features) @ last.weight.T + last.bias
    np.testing.assert_allclose(logits.softmax(1).numpy(), probabilities, atol=1e-6)


def test_features_do_not_depend_on_the_batch(net, digits):
    images = digits[0][:300]
    alone = np.concatenate([net.embed(images[k : k + 1])[0] for k in range(290, 300)])
    np.testing.assert_allclose(net.train().embed(images)[0][290:], alone, rtol=1e-4, atol=1e-4)


def test_it_measures_digits_only(net):
    with pytest.raises(DataError, match=r"uint8 images of shape \(1, 28, 28\), not uint8 of \(3, 28, 28\)"):
        net.embed(np.zeros((2, 3, 28, 28), np.uint8))
    with pytest.raises(DataError, match="not float32"):
        net.embed(np.zeros((2, 1, 28, 28), np.float32))


def test_real_digits_are_near_and_worse_ones_farther(net, digits):
    """Further real digits, digits with noise, and noise, in this order."""
    images = digits[0]
    train = open_data("digits").arrays["real"][:1_000]
    rng = np.random.default_rng(0)
    noisy = np.clip(train + rng.normal(0, 40, train.shape), 0, 255).astype(np.uint8)
    noise = rng.integers(0, 256, train.shape, dtype=np.uint8)
    real = Moments.of(net.embed(images)[0])
    near, far, farthest = (frechet_distance(Moments.of(net.embed(x)[0]), real) for x in (train, noisy, noise))
    assert near < far / 3 < farthest / 9
