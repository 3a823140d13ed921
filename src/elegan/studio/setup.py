"""What a lab is asked for: its setup, and the commands that steer it, checked strictly. Nothing here imports torch.

A setup is all that a lab starts from: data, seed, batch, and the games that train on it in lockstep. It is what a share
link holds and what the page saves as JSON.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from elegan.errors import OptionError

VERSION = 1
MOST_SAMPLES = 50_000
MOST_DRAWN = 5_000
MOST_TEXT = 2_000_000  # characters of CSV
MOST_BENCHES = 4

Scalar = bool | int | float | Annotated[str, Field(max_length=200)] | None
Value = Scalar | Annotated[list[Scalar], Field(max_length=32)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Coordinate = Annotated[float, Field(ge=-1, le=1)]
Samples = Annotated[int, Field(ge=10, le=MOST_SAMPLES)]
Spread = Annotated[float, Field(gt=0, le=1)]
Formula = Annotated[str, Field(min_length=1, max_length=200)]


class Checked(BaseModel):
    """Strict: no unknown name, no `"5"` for 5, no NaN."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class Preset(Checked):
    """A distribution of the house, by name. samples: of its 50,000 training points, the first so many."""

    kind: Literal["preset"] = "preset"
    name: Name = "ring"
    samples: Samples = MOST_SAMPLES


class Drawn(Checked):
    """A distribution drawn with a brush: Gaussians of deviation `spread` around `points` in [-1, 1]², all alike."""

    kind: Literal["drawn"]
    points: Annotated[list[Annotated[list[Coordinate], Field(min_length=2, max_length=2)]],
                      Field(min_length=1, max_length=MOST_DRAWN)]  # fmt: skip
    spread: Spread = 0.03
    samples: Samples = 10_000


class Csv(Checked):
    """Points from text: the first two columns of numbers; a line of names may come first."""

    kind: Literal["csv"]
    text: Annotated[str, Field(min_length=1, max_length=MOST_TEXT)]


class Equation(Checked):
    """Points (x, y) of two formulas of t and s, uniform in [0, 1), and g, normal; blurred by `spread`."""

    kind: Literal["equation"]
    x: Formula
    y: Formula
    spread: Annotated[float, Field(ge=0, le=1)] = 0.02
    samples: Samples = 10_000


Data = Annotated[Preset | Drawn | Csv | Equation, Field(discriminator="kind")]


class Bench(Checked):
    """One game of a lab, as `elegan train GAME --preset PRESET` takes it: options over the preset's.

    preset: None is the one called like the data, or like its kind.
    """

    game: Name
    preset: Name | None = None
    options: Annotated[dict[Name, Value], Field(max_length=80)] = {}


DEFAULT = Bench(game="gan", preset="lab")


class Setup(Checked):
    """Everything a lab starts from; the same setup gives the same lab.

    batch, half_life_images: None is what the first bench's game and preset say. trained: begin with weights that were
    trained on the preset's data.
    """

    version: Literal[1] = VERSION
    data: Data = Preset()
    benches: Annotated[list[Bench], Field(min_length=1, max_length=MOST_BENCHES)] = [DEFAULT]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    batch: Annotated[int, Field(ge=1, le=4_096)] | None = None
    half_life_images: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    trained: bool = False


class Open(Checked):
    """Begin anew with a setup; None is the present one from its start."""

    do: Literal["open"]
    setup: Setup | None = None


class Play(Checked):
    """Train, until a step if one is given; at most so many rounds a second if `rate` is given."""

    do: Literal["play"]
    until: Annotated[int, Field(ge=1, le=10**9)] | None = None
    rate: Annotated[float, Field(gt=0, le=1e6)] | None = None


class Pause(Checked):
    do: Literal["pause"]


class Step(Checked):
    """One player's move of the round, or what is left of the round."""

    do: Literal["step"]
    who: Literal["D", "G", "both"] = "both"


class Slow(Checked):
    """The next of the explained stages of a round."""

    do: Literal["slow"]


class Change(Checked):
    """What the loop's control takes: a rate (`D.lr`) or an option of one bench's game."""

    do: Literal["change"]
    bench: Annotated[int, Field(ge=0, lt=MOST_BENCHES)] = 0
    change: Annotated[dict[Name, Value], Field(min_length=1, max_length=80)]


class View(Checked):
    """What frames hold; None leaves it as it is. average: draw from the averaged players, not the live ones."""

    do: Literal["view"]
    average: bool | None = None
    points: Annotated[int, Field(ge=16, le=1_024)] | None = None
    arrows: bool | None = None
    surface: bool | None = None
    manifold: bool | None = None


class Measure(Checked):
    """Measure the duality gap now, which takes a moment."""

    do: Literal["measure"]
    what: Literal["gap"] = "gap"


class Save(Checked):
    """Keep every bench as a run directory, which `elegan resume` goes on with."""

    do: Literal["save"]


class Seen(Checked):
    """The page has drawn a frame. The server's, not the lab's: nothing newer is sent while two are unseen."""

    do: Literal["seen"]
    seq: Annotated[int, Field(ge=0)]


Command = Annotated[
    Open | Play | Pause | Step | Slow | Change | View | Measure | Save | Seen, Field(discriminator="do")
]
_COMMAND: TypeAdapter[Command] = TypeAdapter(Command)
_SETUP = TypeAdapter(Setup)


def command(text: str | bytes) -> Command:
    """The command that some JSON says. Raises `OptionError` in one line that names what is wrong with it."""
    return _read(_COMMAND, text, "the command")


def setup(text: str | bytes) -> Setup:
    """The setup that some JSON says. Raises `OptionError` in one line that names what is wrong with it."""
    return _read(_SETUP, text, "the setup")


def _read(kind: TypeAdapter[Any], text: str | bytes, what: str) -> Any:
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        raise OptionError(f"{what} does not read: {where}: {first['msg']}.") from None
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{what} is not JSON: {error}.") from None
