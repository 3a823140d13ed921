"""Adversarial losses as pure functions of logits: what a judge minimises, and what a generator minimises against it.

Logits are what a judge returns before any sigmoid: a tensor of any shape, `(B,)` for a score a sample, `(B, 1, h, w)`
for a score a patch, or a list of such tensors from several judges or scales, whose losses are summed. Expectations are
means over all entries of a tensor. Every loss is a scalar to minimise, computed in float32 at least.

    d_loss = non_saturating_judge(D(x), D(G(z).detach()))
    g_loss = LOSSES["relativistic-pairing"].generator(D(x), D(G(z)))
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

Logits: TypeAlias = Tensor | Sequence[Tensor]
Features: TypeAlias = Tensor | Sequence["Features"]


class Loss(NamedTuple):
    """An adversarial objective: a pair of functions (real logits, fake logits) -> scalar.

    `generator` takes None for the real logits unless `relativistic` is true.
    """

    judge: Callable[[Logits, Logits], Tensor]
    generator: Callable[[Logits | None, Logits], Tensor]
    relativistic: bool = False


# ---------------------------------------------------------------------------------------------------------------------
# Cross entropy: Goodfellow et al. 2014, "Generative adversarial nets" (arXiv 1406.2661)
# With D = σ(logit): −log D = softplus(−logit) and −log(1 − D) = softplus(logit).


# Equation 1, the inner maximum; label smoothing: Salimans et al. 2016 (1606.03498), section 3.4
def minimax_judge(real: Logits, fake: Logits, smooth: float = 0.0) -> Tensor:
    """−E log D(x) − E log(1 − D(G(z))). `smooth` moves the target of real samples, and only theirs, to 1 − smooth."""
    return _summed(lambda r, f: (softplus(-r) + smooth * r).mean() + softplus(f).mean(), real, fake)


# Equation 1, the outer minimum
def minimax_generator(fake: Logits) -> Tensor:
    """E log(1 − D(G(z))): the game as it is stated. Its gradient fades where the judge is sure."""
    return _summed(lambda f: -softplus(f).mean(), fake)


non_saturating_judge = minimax_judge


# Section 3, "rather than training G to minimize log(1 − D(G(z))) …"
def non_saturating_generator(fake: Logits) -> Tensor:
    """−E log D(G(z)): the same fixed point as minimax, with gradients that last."""
    return _summed(lambda f: softplus(-f).mean(), fake)


# ---------------------------------------------------------------------------------------------------------------------
# Least squares: Mao et al. 2016 (arXiv 1611.04076), with a = 0, b = c = 1


# Equation 9, upper line
def least_squares_judge(real: Logits, fake: Logits) -> Tensor:
    """½ E (D(x) − 1)² + ½ E D(G(z))²."""
    return _summed(lambda r, f: (r - 1).square().mean() / 2 + f.square().mean() / 2, real, fake)


# Equation 9, lower line
def least_squares_generator(fake: Logits) -> Tensor:
    """½ E (D(G(z)) − 1)²."""
    return _summed(lambda f: (f - 1).square().mean() / 2, fake)


# ---------------------------------------------------------------------------------------------------------------------
# Wasserstein: Arjovsky et al. 2017 (arXiv 1701.07875); the judge must be kept Lipschitz, see `elegan.penalties`


# Equation 3
def wasserstein_judge(real: Logits, fake: Logits) -> Tensor:
    """E D(G(z)) − E D(x): minus the estimated distance."""
    return _summed(lambda r, f: f.mean() - r.mean(), real, fake)


# Algorithm 1, line 10
def wasserstein_generator(fake: Logits) -> Tensor:
    """−E D(G(z))."""
    return _summed(lambda f: -f.mean(), fake)


# ---------------------------------------------------------------------------------------------------------------------
# Hinge: Lim and Ye 2017 (arXiv 1705.02894), Miyato et al. 2018 (1802.05957)


# Miyato et al., Equation 16
def hinge_judge(real: Logits, fake: Logits) -> Tensor:
    """E max(0, 1 − D(x)) + E max(0, 1 + D(G(z)))."""
    return _summed(lambda r, f: relu(1 - r).mean() + relu(1 + f).mean(), real, fake)


# Miyato et al., Equation 17: the Wasserstein generator
hinge_generator = wasserstein_generator


# ---------------------------------------------------------------------------------------------------------------------
# Relativistic: Jolicoeur-Martineau 2018 (arXiv 1807.00734); pairing revived by Huang et al. 2024 (R3GAN, 2501.05441)


# Huang et al., Equation 2, with the logistic f
def relativistic_pairing_judge(real: Logits, fake: Logits) -> Tensor:
    """−E log σ(D(x) − D(G(z))): each real sample against the fake one in the same row.

    Raises ValueError if real and fake differ in shape.
    """
    return _summed(lambda r, f: softplus(-_difference(r, f)).mean(), real, fake)


def relativistic_pairing_generator(real: Logits, fake: Logits) -> Tensor:
    """−E log σ(D(G(z)) − D(x)): the judge's loss with the roles swapped."""
    return relativistic_pairing_judge(fake, real)


# Jolicoeur-Martineau, RaSGAN: a plain sum of the two terms, no halves
def relativistic_average_judge(real: Logits, fake: Logits) -> Tensor:
    """−E log σ(D(x) − E D(G(z))) − E log σ(−(D(G(z)) − E D(x))); inner means are over all entries of a tensor."""
    return _summed(lambda r, f: softplus(f.mean() - r).mean() + softplus(f - r.mean()).mean(), real, fake)


def relativistic_average_generator(real: Logits, fake: Logits) -> Tensor:
    """The judge's loss with the roles swapped; gradients reach the fake logits through both terms."""
    return relativistic_average_judge(fake, real)


def _alone(generator: Callable[[Logits], Tensor]) -> Callable[[Logits | None, Logits], Tensor]:
    return lambda real, fake: generator(fake)


def _beside(generator: Callable[[Logits, Logits], Tensor]) -> Callable[[Logits | None, Logits], Tensor]:
    def loss(real: Logits | None, fake: Logits) -> Tensor:
        if real is None:
            raise ValueError("a relativistic generator loss compares with real logits: pass them, not None")
        return generator(real, fake)

    return loss


LOSSES: dict[str, Loss] = {
    "minimax": Loss(minimax_judge, _alone(minimax_generator)),
    "non-saturating": Loss(non_saturating_judge, _alone(non_saturating_generator)),
    "least-squares": Loss(least_squares_judge, _alone(least_squares_generator)),
    "wasserstein": Loss(wasserstein_judge, _alone(wasserstein_generator)),
    "hinge": Loss(hinge_judge, _alone(hinge_generator)),
    "relativistic-pairing": Loss(relativistic_pairing_judge, _beside(relativistic_pairing_generator), True),
    "relativistic-average": Loss(relativistic_average_judge, _beside(relativistic_average_generator), True),
}

# ---------------------------------------------------------------------------------------------------------------------
# Distances between samples, and between what a judge sees in them


def l1(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute difference of two tensors of one shape. Raises ValueError if the shapes differ."""
    return _difference(_upcast(x), _upcast(y)).abs().mean()


def l2(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference of two tensors of one shape. Raises ValueError if the shapes differ."""
    return _difference(_upcast(x), _upcast(y)).square().mean()


# Wang et al. 2017 (pix2pixHD, arXiv 1711.11585), Equation 4; Kong et al. 2020 (HiFi-GAN, 2010.05646), Equation 4
def feature_matching(real: Features, fake: Features) -> Tensor:
    """The mean absolute difference of each layer's features, summed over layers and judges.

    Features are tensors in lists nested to any depth, alike on both sides; gradients reach the fake side only.
    Raises ValueError if the sides differ in number of layers or in shape.
    """
    return _summed(lambda r, f: _difference(f, r.detach()).abs().mean(), real, fake)


# Salimans et al. 2016 (arXiv 1606.03498), section 3.1
def mean_feature_matching(real: Features, fake: Features) -> Tensor:
    """‖E f(x) − E f(G(z))‖² over the batch, summed over layers and judges: for samples that are no pairs.

    Features are tensors (B, …) in lists nested to any depth, alike on both sides; gradients reach the fake side only.
    Raises ValueError if the sides differ in number of layers or in shape.
    """
    return _summed(lambda r, f: _difference(f.mean(0), r.detach().mean(0)).square().sum(), real, fake)


# ---------------------------------------------------------------------------------------------------------------------


def _summed(term: Callable[..., Tensor], *sides: Features) -> Tensor:
    """`term` of the corresponding tensors of each side, summed over judges."""
    first, *others = (term(*entry) for entry in zip(*map(_tensors, sides), strict=True))
    return sum(others, start=first)


def _tensors(nested: Any) -> Iterator[Tensor]:
    if isinstance(nested, Tensor):
        yield _upcast(nested)
    else:
        for part in nested:
            yield from _tensors(part)


def _upcast(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _difference(x: Tensor, y: Tensor) -> Tensor:
    if x.shape != y.shape:  # broadcasting (B,) with (B, 1) would compare everything with everything
        raise ValueError(f"cannot compare {tuple(x.shape)} with {tuple(y.shape)}: the shapes must be the same")
    return x - y
