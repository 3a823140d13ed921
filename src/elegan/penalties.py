"""Penalties that keep a judge smooth, as pure functions, and the two constraints on weights that serve the same end.

`judge` is any callable from inputs to what a judge returns, so a condition, or an augmentation that the penalty is
to be taken through, goes in by a lambda. Inputs are one tensor `(B, …)` or a tuple of them, one for each argument of
the judge; those that are not floating point, such as labels, ride along and are not penalised. Inputs are
detached: a penalty never reaches the generator. Penalties carry no weight and no ½, and are scalars in float32 at
least; their gradients, which differentiate twice, reach the judge's parameters.

    return {"adv": …, "r1": gamma / 2 * r1(self.D, real)}
    return {"adv": …, "gp": 10 * gradient_penalty(lambda x: self.D(x, label), real, fake)}
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

Inputs: TypeAlias = Tensor | tuple[Tensor, ...]  # (B, …) each
Judge: TypeAlias = Callable[..., Any]
AnyModule = TypeVar("AnyModule", bound=nn.Module)


def logits_of(output: Any) -> Any:
    """The logits in what a judge returned: a tensor, or a list of tensors if there are several judges.

    A *tuple* of two is (logits, features), each a tensor or nested lists; a *list* holds several judges,
    each of which may be such a tuple again. Raises TypeError for anything else.
    """
    match output:
        case Tensor():
            return output
        case tuple((logits, _)):
            return logits_of(logits)
        case list():
            return [logits_of(judge) for judge in output]
    raise TypeError(f"a judge returns logits, (logits, features) or a list of these, not {_describe(output)}")


def features_of(output: Any) -> Any:
    """The features in what a judge returned as (logits, features); a list of them if there are several judges.

    Raises TypeError if a judge returned logits alone.
    """
    match output:
        case tuple((_, features)):
            return features
        case list():
            return [features_of(judge) for judge in output]
    raise TypeError(f"a judge with features returns a tuple (logits, features), not {_describe(output)}")


def squared_gradient_norms(scores: Any, *inputs: Tensor, create_graph: bool = True) -> Tensor:  # -> (B,)
    """‖∇D(x)‖² of each sample, summed over the inputs, by one backward pass.

    scores: what the judge returned for `inputs`. D(x) is the sum of all logits of a sample, over patches and judges.
    inputs: tensors (B, …) that require gradients and that the scores depend on.
    create_graph: keep the graph, so that the norms can be differentiated in turn.
    """
    with _full_precision(inputs[0]):
        total = torch.stack([logits.sum() for logits in _flat(logits_of(scores))]).sum()
        gradients = torch.autograd.grad(total, inputs, create_graph=create_graph)
        return torch.stack([_upcast(g).square().flatten(1).sum(1) for g in gradients]).sum(0)  # (B,)


# Mescheder et al. 2018 (arXiv 1801.04406), Equation 9, without γ/2
def r1(judge: Judge, real: Inputs) -> Tensor:
    """E ‖∇D(x)‖² at real samples."""
    return _norms_at(judge, _tensors_of(real)).mean()


# Mescheder et al. 2018 (arXiv 1801.04406), Equation 10, without γ/2
def r2(judge: Judge, fake: Inputs) -> Tensor:
    """E ‖∇D(x)‖² at fake samples."""
    return r1(judge, fake)


# Huang et al. 2024 (R3GAN, arXiv 2501.05441), section 2.2: both penalties, here by one pass
def r1_r2(judge: Judge, real: Inputs, fake: Inputs, fraction: float = 1.0) -> tuple[Tensor, Tensor]:
    """Both zero-centred penalties, (E ‖∇D(x)‖² at real samples, the same at fake ones), by one pass over both.

    The judge sees the real rows above the fake ones. `fraction` takes the first round(B · fraction) rows of each, at
    least one: an unbiased estimate for less work.
    """
    x, x_fake = _first(_tensors_of(real), fraction), _first(_tensors_of(fake), fraction)
    norms = _norms_at(judge, tuple(torch.cat(pair) for pair in zip(x, x_fake, strict=True)))
    n = len(x[0])
    return norms[:n].mean(), norms[n:].mean()


# Gulrajani et al. 2017 (arXiv 1704.00028), Equation 3, without λ
def gradient_penalty(judge: Judge, real: Inputs, fake: Inputs, *, target: float = 1.0) -> Tensor:
    """E (‖∇D(x̂)‖ − target)² at x̂ = α x + (1 − α) G(z), one uniform α a sample, shared by its inputs.

    real and fake have one shape; inputs that are not floating point are taken from the real side.
    """
    x, x_fake = _tensors_of(real), _tensors_of(fake)
    alpha = torch.rand(len(x[0]), device=x[0].device)  # (B,)
    between = tuple(
        _like(alpha, r) * r + _like(1 - alpha, r) * f if r.is_floating_point() else r
        for r, f in zip(x, x_fake, strict=True)
    )
    return (_root(_norms_at(judge, between)) - target).square().mean()


# Kodali et al. 2017 (arXiv 1705.07215), the DRAGAN penalty with δ ~ N(0, c I) and k = 1, without λ
def dragan(judge: Judge, real: Inputs, *, spread: float = 0.5) -> Tensor:
    """E (‖∇D(x + δ)‖ − 1)² with normal noise δ around real samples.

    spread: the noise's standard deviation over that of the batch, so that it does not depend on the data's unit.
    """
    around = tuple(
        x + spread * x.std(correction=0) * torch.randn_like(x) if x.is_floating_point() else x
        for x in _tensors_of(real)
    )
    return (_root(_norms_at(judge, around)) - 1).square().mean()


# Arjovsky et al. 2017 (arXiv 1701.07875), Algorithm 1, line 7
@torch.no_grad()
def clip_(module: nn.Module, bound: float) -> None:
    """Clamp every parameter of a module to [−bound, bound], in place."""
    for parameter in module.parameters():
        parameter.clamp_(-bound, bound)


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMALISED = (nn.Linear, nn.Embedding, *CONVOLUTIONS)


# Miyato et al. 2018 (arXiv 1802.05957), Algorithm 1
def spectral_norm(module: AnyModule, iterations: int = 1) -> AnyModule:
    """Divide the weight of every linear, convolutional and embedding layer by its largest singular value, and return
    the module. The value is estimated by power iteration, `iterations` of them a forward pass in training mode.

    Layers whose weight has a parametrization already are left alone.
    """
    for layer in list(module.modules()):
        if isinstance(layer, NORMALISED) and not parametrize.is_parametrized(layer, "weight"):
            parametrizations.spectral_norm(layer, n_power_iterations=iterations)
    return module


# ---------------------------------------------------------------------------------------------------------------------


def _norms_at(judge: Judge, inputs: tuple[Tensor, ...]) -> Tensor:  # -> (B,)
    leaves = tuple(x.detach().requires_grad_(x.is_floating_point()) for x in inputs)
    with _full_precision(leaves[0]):
        return squared_gradient_norms(judge(*leaves), *(x for x in leaves if x.requires_grad))


def _tensors_of(inputs: Inputs) -> tuple[Tensor, ...]:
    return tuple(_upcast(x.detach()) for x in ((inputs,) if isinstance(inputs, Tensor) else inputs))


def _first(inputs: tuple[Tensor, ...], fraction: float) -> tuple[Tensor, ...]:
    return tuple(x[: max(1, round(len(x) * fraction))] for x in inputs)


def _flat(nested: Any) -> Iterator[Tensor]:
    if isinstance(nested, Tensor):
        yield _upcast(nested)
    else:
        for part in nested:
            yield from _flat(part)


def _like(alpha: Tensor, x: Tensor) -> Tensor:
    return alpha.to(x.dtype).view(-1, *[1] * (x.dim() - 1))  # (B, 1, …)


def _root(squares: Tensor) -> Tensor:
    return squares.clamp_min(1e-24).sqrt()  # the slope of √ at 0 is infinite, and would make every gradient NaN


def _upcast(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _full_precision(x: Tensor) -> torch.autocast:
    return torch.autocast(x.device.type, enabled=False)


def _describe(output: Any) -> str:
    return f"a {type(output).__name__}" + (f" of {len(output)}" if isinstance(output, tuple) else "")
