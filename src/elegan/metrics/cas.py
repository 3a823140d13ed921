"""Classification accuracy score: how well a classifier knows real data if it was shown only drawn data.

Ravuri and Vinyals, 2019, arXiv:1905.10887. Drawn samples that leave something out, or carry wrong labels, teach it
less. The ceiling is the same classifier taught by as many real samples: the same call, with these.

    score = cas(drawn, asked_for, test_images, test_labels, classes=10)
    ceiling = cas(some_real, their_labels, test_images, test_labels, classes=10)
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from elegan.metrics import logistic
from elegan.metrics.estimate import Estimate
from elegan.nn.conv import ConvJudge

WIDTH = 32  # channels at half resolution
BATCH, RATE = 128, 3e-3
PASSES = 8  # through the training samples
LEAST_STEPS = 150
BLOCK = 500  # images classified at a time


def cas(
    train_rows: np.ndarray,
    train_labels: np.ndarray,
    test_rows: np.ndarray,
    test_labels: np.ndarray,
    *,
    classes: int,
    seed: int = 0,
) -> Estimate:
    """The share of real test rows that a classifier, trained on drawn rows and their labels, names rightly.

    Rows are uint8 images (N, C, H, W), for a small convolutional network, or features (N, d), for one logistic
    regression a class; labels are whole numbers (N,) from 0. The estimate's influence is 1 for each test row named
    rightly and 0 for the others, so its mean over the test rows of a class is the class's recall.
    The caller's random state and threads stay as they are.
    Raises ValueError if rows and labels do not fit, or a label is no class.
    """
    for rows, labels in ((train_rows, train_labels), (test_rows, test_labels)):
        if len(rows) != len(labels) or not len(rows) or rows.shape[1:] != train_rows.shape[1:]:
            raise ValueError(f"rows {rows.shape} and labels {labels.shape} do not fit each other, or the other set")
        if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
            raise ValueError(f"labels are whole numbers, one a row, not {labels.dtype} {labels.shape}")
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"labels from {labels.min()} to {labels.max()} are not all among {classes} classes")
    if train_rows.ndim == 4 and train_rows.dtype == test_rows.dtype == np.uint8:
        named = _by_network(train_rows, train_labels, test_rows, classes, seed)
    elif train_rows.ndim == 2:
        named = _by_regression(train_rows, train_labels, test_rows, classes)
    else:
        have = f"{train_rows.dtype} {train_rows.shape}"
        raise ValueError(f"rows are uint8 images (N, C, H, W) or features (N, d), not {have}")
    right = (named == test_labels).astype(np.float64)
    return Estimate(float(right.mean()), (right,))


def _by_regression(rows: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int) -> np.ndarray:
    """The class whose regression, of it against the others, scores highest; never one that is not in training."""
    scores = np.full((len(test), classes), -np.inf)
    known = np.unique(labels)
    for c in known:
        scores[:, c] = logistic.fit(rows, labels == c).scores(test) if len(known) > 1 else 0.0
    return scores.argmax(1)


def _by_network(rows: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """What a network says that was trained by Adam, whose rate falls to nothing by a cosine."""
    images, truth = torch.from_numpy(np.ascontiguousarray(rows)), torch.from_numpy(labels.astype(np.int64))
    steps = max(LEAST_STEPS, PASSES * math.ceil(len(images) / BATCH))
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        torch.default_generator.manual_seed(seed)
        body = ConvJudge(rows.shape[1:], WIDTH, norm=True)
        net = nn.Sequential(body.body, nn.Linear(body.head.in_features, classes))
        adam = torch.optim.Adam(net.parameters(), RATE, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        order = torch.empty(0, dtype=torch.long)
        for _ in range(steps):
            while len(order) < BATCH:
                order = torch.cat([order, torch.randperm(len(images))])
            now, order = order[:BATCH], order[BATCH:]
            adam.zero_grad()
            cross_entropy(net(_encoded(images[now])), truth[now]).backward()
            adam.step()
            schedule.step()
    with torch.no_grad():
        blocks = torch.from_numpy(np.ascontiguousarray(test)).split(BLOCK)
        return torch.cat([net.eval()(_encoded(block)).argmax(1) for block in blocks]).numpy()


def _encoded(images: Tensor) -> Tensor:
    """uint8 (B, C, H, W) -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1
