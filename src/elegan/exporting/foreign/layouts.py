"""Names of tensors in other programs, and what elegan calls them."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from elegan.errors import CheckpointError, OptionError, nearest

Tensors = Mapping[str, Tensor]
Group = dict[tuple[int, str], Tensor]  # of one `main`: by number of the layer and name within it

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

# StyleGAN2-ADA's names within a player -> ours: a resolution is a number, and so is a layer of the mapping
STYLEGAN2 = (
    (r"mapping\.fc(\d+)\.(weight|bias)", r"mapping.\1.\2"),                                         # z, c -> w
    (r"mapping\.embed\.(weight|bias)", r"mapping.embed.\1"),                                        # of classes
    (r"mapping\.w_avg", r"mapping.w_avg"),                                                          # the mean w
    (r"synthesis\.b(\d+)\.const", r"synthesis.\1.const"),                                           # (C, 4, 4)
    (r"synthesis\.b(\d+)\.(conv[01]|torgb)\.(weight|bias)", r"synthesis.\1.\2.\3"),
    (r"synthesis\.b(\d+)\.(conv[01]|torgb)\.affine\.(weight|bias)", r"synthesis.\1.\2.affine.\3"),  # w -> styles
    (r"synthesis\.b(\d+)\.(conv[01])\.(noise_const|noise_strength)", r"synthesis.\1.\2.\3"),
    (r"synthesis\.b(\d+)\.skip\.weight", r"synthesis.\1.skip.weight"),                              # if residual
    (r"b(\d+)\.(fromrgb|conv|conv[01]|fc|out)\.(weight|bias)", r"\1.\2.\3"),                        # the judge
    (r"b(\d+)\.skip\.weight", r"\1.skip.weight"),
    (r"(?:synthesis\.)?b(\d+)\.(?:\w+\.)?resample_filter", ""),                                     # constant: left out
)  # fmt: skip
PLAYERS = {"G": "G", "D": "D", "G_ema": "average"}
LEFT_OUT = "augment_pipe."  # the state of an augmentation, which is no network


@dataclass
class Named:
    """Tensors under elegan's names, their players, and what their shapes tell of the networks."""

    layout: str
    tensors: dict[str, Tensor]
    players: tuple[str, ...] = ()
    facts: dict[str, int] = field(default_factory=dict)


def named(sources: Sequence[Tensors], layout: str) -> Named:
    """The tensors of some files under the names of a layout; `auto` finds it.

    Raises `CheckpointError` if they do not fit it, `OptionError` if there is no such layout, or if it takes one file.
    """
    check_layout(layout)
    for name in [name for name in LAYOUTS if name != "plain"] if layout == "auto" else [layout]:
        if (found := LAYOUTS[name](sources)) is not None:
            return found
    names = [name for tensors in sources for name in tensors]
    few = ", ".join(name[:80] for name in names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
    fits = "fits no layout of" if layout == "auto" else f"does not fit --layout {layout}; there are"
    raise CheckpointError(f"what it holds, {few}, {fits} {', '.join(LAYOUTS)}: --layout plain keeps the names.")


def check_layout(layout: str) -> None:
    """Raise `OptionError` unless there is such a layout, or it is to be found."""
    if layout != "auto" and layout not in LAYOUTS:
        raise OptionError(f"--layout {layout!r} is none.{nearest(layout, ['auto', *LAYOUTS])}")


def plain(sources: Sequence[Tensors]) -> Named:
    """Names as they are."""
    return Named("plain", dict(_one(sources, "plain")))


def _one(sources: Sequence[Tensors], layout: str) -> Tensors:
    if len(sources) > 1:
        raise OptionError(f"--layout {layout} takes one file, not {len(sources)}: convert them one by one.")
    return sources[0]


# ---- StyleGAN2-ADA (Karras et al., 2020, arXiv:1912.04958 and 2006.06676)


def stylegan2_ada(sources: Sequence[Tensors]) -> Named | None:
    """G, D and G_ema of one file, or one network on its own; renamed by `STYLEGAN2`, their tensors as they are."""
    names = [name for tensors in sources for name in tensors]
    if not any(re.search(r"(^|\.)(synthesis\.b4\.const|b4\.out\.weight)$", name) for name in names):
        return None
    alone = "G" if any(name.startswith("synthesis.") for name in names) else "D"
    made: dict[str, Tensor] = {}
    for name, tensor in _one(sources, "stylegan2-ada").items():
        head, _, rest = name.partition(".")
        player, part = (PLAYERS[head], rest) if head in PLAYERS else (alone, name)
        rule = next(((found, ours) for theirs, ours in STYLEGAN2 if (found := re.fullmatch(theirs, part))), None)
        if rule is not None and rule[1]:
            made[f"{player}.{rule[0].expand(rule[1])}"] = tensor
        elif rule is None and not name.startswith(LEFT_OUT):
            raise CheckpointError(f"{name[:80]!r} is no name of StyleGAN2-ADA: --layout plain keeps the names.")
    players = tuple(p for p in PLAYERS.values() if any(name.startswith(f"{p}.") for name in made))
    try:
        return Named("stylegan2-ada", made, players, _sizes(made, players[-1]))
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(f"its tensors do not make up a StyleGAN2-ADA ({error}).") from error


def _sizes(made: Tensors, player: str) -> dict[str, int]:
    """What the shapes of a network tell. The mapping's first layer sees z beside what it makes of the class."""
    numbers = [re.match(rf"{player}\.(?:(mapping)|synthesis)?\.?(\d+)\.", name) for name in made]
    top = max(int(found[2]) for found in numbers if found and not found[1])
    if player == "D":
        return {"resolution": top, "channels": made[f"D.{top}.fromrgb.weight"].shape[1]}
    layers = 1 + max(int(found[2]) for found in numbers if found and found[1])
    embed = made.get(f"{player}.mapping.embed.weight", torch.zeros(0, 0))  # (w, classes)
    return {
        "z_dim": made[f"{player}.mapping.0.weight"].shape[1] - embed.shape[0],
        "w_dim": made[f"{player}.mapping.{layers - 1}.weight"].shape[0],
        "classes": embed.shape[1],
        "mapping_layers": layers,
        "resolution": top,
        "channels": made[f"{player}.synthesis.{top}.torgb.weight"].shape[0],
    }


# ---- the DCGAN of PyTorch's tutorial (Radford et al., 2015, arXiv:1511.06434), for images of 4 · 2ⁿ pixels a side


def dcgan_tutorial(sources: Sequence[Tensors]) -> Named | None:
    """Its generator and its discriminator, from one file or two, whatever they are kept under.

    Raises `CheckpointError` if there are two of one kind, or two that do not play together.
    """
    made = Named("dcgan-tutorial", {})
    for group in _mains(sources):
        found = _generator(group) or _judge(group)
        if found is None:
            return None
        if found.players[0] in made.players:
            raise CheckpointError(f"it holds two networks that could be {found.players[0]}: convert one of them.")
        odd = [name for name in found.facts.keys() & made.facts.keys() if found.facts[name] != made.facts[name]]
        if odd:
            raise CheckpointError(
                f"G and D have another {odd[0]}, {made.facts[odd[0]]} and {found.facts[odd[0]]}: convert one of them."
            )
        made.players += found.players
        made.tensors |= found.tensors
        made.facts |= found.facts
    return made if made.tensors else None


def _mains(sources: Sequence[Tensors]) -> list[Group]:
    """The tensors of each `main`, by what stands before that word."""
    groups: dict[tuple[int, str], Group] = {}
    for k, tensors in enumerate(sources):
        for name, tensor in tensors.items():
            if found := re.fullmatch(r"((?:.*\.)?)main\.(\d{1,4})\.(\w+)", name):
                groups.setdefault((k, found[1]), {})[int(found[2]), found[3]] = tensor
    return list(groups.values())


def _generator(group: Group) -> Named | None:
    """A transposed convolution of a 1 × 1 input is a linear layer: W (z, C, 4, 4) -> (C · 16, z)."""
    ups = len(_convolutions(group)) - 1
    layers = [3 * k for k in range(ups + 1)]
    norms = [3 * k + 1 for k in range(ups)]
    if not _is_chain(group, layers, norms, into=0):
        return None
    first, last = group[0, "weight"], group[layers[-1], "weight"]
    made = {"G.first.0.weight": first.flatten(1).T.contiguous(), **_norm(group, norms[0], "G.first.2")}
    for k, layer in enumerate(layers[1:]):
        made[f"G.ups.{k}.0.weight"] = group[layer, "weight"]
        made |= _norm(group, layer + 1, f"G.ups.{k}.1") if layer + 1 in norms else {}
    made[f"G.ups.{ups - 1}.0.bias"] = last.new_zeros(last.shape[1])
    facts = {"z_dim": first.shape[0], "width": last.shape[0], "size": 4 * 2**ups, "channels": last.shape[1]}
    return Named("dcgan-tutorial", made, ("G",), facts)


def _judge(group: Group) -> Named | None:
    """A convolution that covers its input is a linear layer. What it makes is the logit; the sigmoid has no weights."""
    downs = len(_convolutions(group)) - 1
    layers = [0, *(3 * k - 1 for k in range(1, downs + 1))]
    norms = [3 * k for k in range(1, downs)]
    if not _is_chain(group, layers, norms, into=1) or group[layers[-1], "weight"].shape[0] != 1:
        return None
    first, last = group[0, "weight"], group[layers[-1], "weight"]
    made = {"D.body.0.weight": first, "D.body.0.bias": first.new_zeros(first.shape[0])}
    for layer in layers[1:-1]:
        made[f"D.body.{layer}.weight"] = group[layer, "weight"]
        made |= _norm(group, layer + 1, f"D.body.{layer + 1}")
    made |= {"D.head.weight": last.flatten(1), "D.head.bias": last.new_zeros(1)}
    facts = {"width": first.shape[0], "size": 4 * 2**downs, "channels": first.shape[1]}
    return Named("dcgan-tutorial", made, ("D",), facts)


def _convolutions(group: Group) -> list[int]:
    return [layer for (layer, part), tensor in group.items() if part == "weight" and tensor.ndim == 4]


def _is_chain(group: Group, layers: Sequence[int], norms: Sequence[int], *, into: int) -> bool:
    """Whether these layers, and no others, are convolutions of 4 × 4 without biases, each of the width of the one
    before, and these norms after them. into: the dimension of a weight that counts its inputs."""
    wanted = {(k, "weight") for k in layers} | {(k, part) for k in norms for part in NORM}
    if len(layers) < 2 or not wanted - {(k, NORM[-1]) for k in norms} <= group.keys() <= wanted:
        return False
    shapes = [tuple(group[k, "weight"].shape) for k in layers]
    if any(len(shape) != 4 or shape[2:] != (4, 4) or not all(shape) for shape in shapes):
        return False
    chained = all(a[1 - into] == b[into] for a, b in itertools.pairwise(shapes))
    widths = {k: group[k - 1, "weight"].shape[1 - into] for k in norms}
    return chained and all(group[k, part].shape == (widths[k],) for k in norms for part in NORM[:-1])


def _norm(group: Group, layer: int, name: str) -> dict[str, Tensor]:
    """A BatchNorm under another name; torch before 0.4.1 did not count batches."""
    counted = group.get((layer, NORM[-1]), torch.tensor(0)).reshape(())
    return {**{f"{name}.{part}": group[layer, part] for part in NORM[:-1]}, f"{name}.{NORM[-1]}": counted}


Layout = Callable[[Sequence[Tensors]], Named | None]
LAYOUTS: dict[str, Layout] = {"dcgan-tutorial": dcgan_tutorial, "stylegan2-ada": stylegan2_ada, "plain": plain}
