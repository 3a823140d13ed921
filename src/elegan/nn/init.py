"""Initial weights by name of the paper that chose them."""

from typing import TypeVar

from torch import nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


# Radford et al. 2015 (arXiv 1511.06434), section 4
def dcgan_(module: AnyModule, std: float = 0.02) -> AnyModule:
    """N(0, std) for convolutions and linear layers, N(1, std) for the gains of BatchNorm, zero biases; in place."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(part.weight, 0.0, std)
        elif isinstance(part, nn.modules.batchnorm._BatchNorm) and part.affine:
            nn.init.normal_(part.weight, 1.0, std)
        else:
            continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    return module
