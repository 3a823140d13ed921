"""A game: networks, how they are trained against each other, and how to draw a sample from them.

`Game` is what every file of the zoo derives from. `Turn`, `Phase` and the optimiser records are plain data: they say
what should happen, the training loop makes it happen.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from elegan import options as option_reader
from elegan.errors import DataError, ElegantError, OptionError, out_of_memory
from elegan.spec import Spec

Terms = Mapping[str, Tensor]


@dataclass(frozen=True)
class Optim:
    """A first-order optimiser and its rate. Moments belong to the parameters, whichever turn moves them."""

    lr: float = 2e-4

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lr) and self.lr >= 0):
            raise ValueError(f"a learning rate must be finite and 0 or more, not {self.lr}")


@dataclass(frozen=True)
class Adam(Optim):
    """Adam (Kingma and Ba, 2015, arXiv:1412.6980); `decay` is the decoupled weight decay of AdamW (1711.05101)."""

    betas: tuple[float, float] = (0.5, 0.999)
    eps: float = 1e-8
    decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"the betas of Adam lie in [0, 1), not {self.betas}")


@dataclass(frozen=True)
class RMSprop(Optim):
    """RMSprop, as the first Wasserstein GAN used it."""

    alpha: float = 0.99
    eps: float = 1e-8


@dataclass(frozen=True)
class SGD(Optim):
    """Stochastic gradient descent with optional momentum."""

    momentum: float = 0.0


@dataclass(frozen=True)
class Turn:
    """Which players move by which loss, and how often.

    players: attribute names of the game, `"D"`, `"G F"`, `"G.local"`.
    loss: a method of the game; the fields it names in its signature are what it gets; returns named terms.
    repeat: moves in a row. every: moves only each so many steps, its sum multiplied by as many (lazy regularisation).
    when: of the terms, a 0-d truth tensor; where false the update is masked on the device, without waiting.
    then: of the terms, runs after each move (weight clipping, adaptive strength).
    clip: the largest norm of the movers' gradient.
    """

    players: str
    loss: Callable[..., Terms]
    repeat: int = 1
    every: int = 1
    when: Callable[[Terms], Tensor] | None = None
    then: Callable[[Terms], None] | None = None
    optim: Optim = Adam()
    clip: float = math.inf

    def __post_init__(self) -> None:
        if self.repeat < 1 or self.every < 1:
            raise ValueError(f"turn {self.players!r}: repeat and every must be 1 or more")


@dataclass(frozen=True)
class Phase:
    """A stretch of `steps` training steps with its own turns; the last may be endless. `fresh` forgets the moments."""

    name: str
    turns: Callable[[], list[Turn]]
    steps: int | None = None
    fresh: bool = False


class Configured(type):
    """Checks a constructor's keyword-only arguments and binds them to attributes of the same names before it runs."""

    accepts: Callable[[Spec], str]

    def __call__(cls, spec: Spec, **values: Any) -> Any:
        name = cls.__module__.rpartition(".")[2].replace("_", "-") if "zoo" in cls.__module__ else cls.__name__
        known = option_reader.of_callable(cls.__init__)
        checked = option_reader.check(known, values, name)
        game: Any = object.__new__(cls)
        game.__dict__.update(checked, options=checked, name=name)
        try:
            if why := cls.accepts(spec):
                raise DataError(f"{name} cannot take this data: {why}.")
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # what follows is said below
                game.__init__(spec, **checked)
            for phase in game.phases():
                phase.turns()
            empty = next((n for n, p in game.named_parameters() if not p.numel()), None)
            if empty is not None:
                raise ValueError(f"its {empty} would hold nothing; widths and dimensions must be 1 or more")
        except ElegantError:
            raise
        except (ValueError, RuntimeError, ZeroDivisionError, IndexError) as error:
            if out_of_memory(error):
                raise
            unusual = [f"{o.name}={checked[o.name]!r}" for o in known if checked[o.name] != o.default]
            given = ", ".join(unusual) or "its defaults"
            reason = str(error).split("\n", 1)[0]
            raise OptionError(f"{name} cannot be built with {given} on {spec!r}: {reason}") from error
        return game


class Game(nn.Module, metaclass=Configured):
    """Players and the rules between them. Derive, set the players in the constructor, and write `turns` and `sample`.

    The constructor takes the data's `Spec` and keyword-only options; each option is an attribute before the
    constructor's body runs. All state lives in parameters and registered buffers, which are changed in place.

    tasks: what one may ask of the trained game ("generation" means `sample`, "translation" means `translate` …).
    recipe: defaults of the training verb's options (batch, steps, half_life_images …).
    """

    tasks: ClassVar[tuple[str, ...]] = ("generation",)
    recipe: ClassVar[dict[str, Any]] = {}

    name: str
    options: dict[str, Any]
    spec: Spec
    rows: int = 1  # samples of the shard at hand, set by the loop
    step: int = 0  # steps made so far, set by the loop
    images: int = 0  # real samples read so far, set by the loop

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Options and players are attributes; which ones, a game's constructor says."""

    def __init__(self, spec: Spec):
        super().__init__()
        self.spec = spec

    @classmethod
    def accepts(cls, spec: Spec) -> str:
        """Why this game cannot take such data; empty if it can. Unless a game says otherwise: images and vectors."""
        if "real" not in spec:
            return f"it needs a field 'real', the data has {', '.join(spec)}"
        what = "text" if spec.kind == "token" else spec.kind
        return "" if what in ("image", "vector") else f"it needs images or vectors, not {what}"

    def turns(self) -> list[Turn]:
        """The turns of one step, asked anew each step, so rates may be schedules of `self.images`."""
        raise NotImplementedError(f"{type(self).__name__} has no turns()")

    def phases(self) -> list[Phase]:
        """The phases of a training, one endless phase unless a game has stages."""
        return [Phase("train", self.turns)]

    def before(self) -> None:
        """Runs before each step and after loading; may depend on `step`, `images` and buffers only."""

    def sample(self, n: int) -> Tensor:
        """Draw `n` samples, (n, *shape), with the step's random stream. Keeps gradients when a loss calls it."""
        raise NotImplementedError(f"{type(self).__name__} draws no samples")

    @property
    def labelled(self) -> bool:
        """Whether samples can be drawn of a chosen class."""
        return "label" in inspect.signature(self.sample).parameters

    @property
    def device(self) -> torch.device:
        return self._somewhere.device

    @property
    def _somewhere(self) -> Tensor:
        """Any parameter, found without walking the whole tree of modules."""
        for module in self.modules():
            for parameter in module._parameters.values():
                if parameter is not None:
                    return parameter
        raise AttributeError(f"{type(self).__name__} has no parameters yet")

    def randn(self, *shape: int) -> Tensor:
        """Normal noise of a shape from the step's random stream, on the game's device."""
        return torch.randn(shape, device=self.device)

    def noise(self, n: int, truncation: float | None = None) -> Tensor:
        """Latent noise, (n, z_dim), from N(0, I); with truncation t, cut off at ±t (arXiv 1809.11096, section 3.1)."""
        shape = (n, int(self.options["z_dim"]))
        if truncation is None:
            return self.randn(*shape)
        if not truncation > 0:
            raise OptionError(f"--truncation {truncation} must be greater than 0.")
        inside = math.erf(truncation / math.sqrt(2))
        uniform = torch.rand(shape, device=self.device, dtype=torch.float64) * 2 - 1
        return (torch.erfinv(uniform * inside) * math.sqrt(2)).float()

    def labels(self, n: int, label: int | Tensor | None = None) -> Tensor:
        """Class labels, (n,): drawn uniformly if None, n times the same for a number, as they are for a tensor."""
        classes = self.spec.classes
        if label is None:
            return torch.randint(classes, (n,), device=self.device)
        if isinstance(label, Tensor):
            return label.to(self.device)
        if not 0 <= label < classes:
            raise OptionError(f"--label {label} is no class: there are {classes}, numbered from 0.")
        return torch.full((n,), label, device=self.device)


def player(game: Game, name: str) -> nn.Module:
    """The player of a (dotted) name. Raises `AttributeError` naming what the game has."""
    try:
        return game.get_submodule(name)
    except AttributeError:
        have = ", ".join(n for n, _ in game.named_children())
        raise AttributeError(f"{type(game).__name__} has no player {name!r}; it has {have}") from None


def cosine(first: float, last: float, images: int, over: int) -> float:
    """The one shape of all schedules: from `first` to `last` by half a cosine over so many images, constant after."""
    share = min(images / over, 1.0) if over > 0 else 1.0
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
