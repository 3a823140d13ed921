"""In which form data is wanted: what the verbs' data options mean, and all that a run records of how it was opened."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from elegan.errors import OptionError
from elegan.options import Option, check, read_record


@dataclass(frozen=True, kw_only=True)
class Form:
    """How data is read and brought to one form. Each field is an option of every verb that opens data.

    Errors: `OptionError` from `Form.of` on a name, type or value that makes no sense.
    """

    kind: Literal["auto", "image", "audio", "video", "text", "table"] = "auto"  # what to take the files for
    size: str | None = None  # of images: side in pixels, or WIDTHxHEIGHT
    fit: Literal["crop", "pad", "stretch"] = "crop"  # to a size: cut the centre out, show all on black, or distort
    alpha: Literal["composite", "keep", "drop"] = "composite"  # laid on white, kept as a channel, or dropped
    colour: Literal["keep", "grey", "rgb"] = "keep"  # as found, or made grey or RGB
    bits: Literal["keep", "8"] = "keep"  # 16 bits and floats as found, or brought to 8 bits
    sides: bool = False  # each image is two, side by side: a pair a, b
    seconds: float | None = None  # length of a piece of audio
    rate: int | None = None  # samples per second of audio
    mono: bool = False  # audio of several channels is mixed down to one
    frames: int | None = None  # length of a piece of video
    fps: float | None = None  # frames per second of video
    length: int | None = None  # of texts, in tokens
    tokens: Literal["char", "word"] = "char"  # what texts are cut into
    class_column: str | None = None  # column of a table that is the class
    holdout: float = 0.0  # share kept as the test split, by a hash of each sample's name
    without: str | None = None  # a list of samples to leave out, as 'elegan data clean' writes it
    stream: bool = False  # tars of samples are read as they lie, each rank its own, and not packed

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Form":
        """The form that options ask for. `size` may be a number, a text, or (height, width) as in a tensor's shape."""
        given = {name: value for name, value in options.items() if value is not None}
        if isinstance(size := given.get("size"), int) and not isinstance(size, bool):
            given["size"] = str(size)
        elif isinstance(size, (tuple, list)) and len(size) == 2:
            given["size"] = f"{size[1]}x{size[0]}"
        if isinstance(without := given.get("without"), Path):
            given["without"] = str(without)
        made = cls(**check(form_options(), given, "data"))
        if made.size is not None:
            _pixels(made.size)
        if not 0 <= made.holdout < 1:
            raise OptionError(f"--holdout {made.holdout} is no share: use a number such as 0.1.")
        for name in ("seconds", "rate", "frames", "fps", "length"):
            if (value := getattr(made, name)) is not None and value <= 0:
                raise OptionError(f"--{name} {value} must be more than 0.")
        return made

    @property
    def pixels(self) -> tuple[int, int] | None:
        """`size` as (height, width)."""
        return None if self.size is None else _pixels(self.size)

    def of_inputs(self) -> "Form":
        """The form for what a model is given to work on: brought to the same shape, and none of it held out."""
        return replace(self, sides=False, class_column=None, holdout=0.0, without=None, stream=False)

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults; `Form.of` reads it."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}


def _pixels(size: str) -> tuple[int, int]:
    """`64` or `96x64`, width x height as people say it, as (height, width). Errors: `OptionError` on anything else."""
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", size)
    if found is None:
        raise OptionError(f"--size {size} is not a number of pixels: use a whole number such as 64, or 96x64")
    width = int(found[1])
    return int(found[2] or width), width


def split_options(options: Mapping[str, Any]) -> tuple[Form, dict[str, Any]]:
    """The form that some options ask for, and the options that are none of a form's."""
    names = {option.name for option in form_options()}
    rest = {name: value for name, value in options.items() if name not in names}
    return Form.of({name: value for name, value in options.items() if name in names}), rest


@cache
def form_options() -> tuple[Option, ...]:
    """The fields of `Form` as options, with their comments as help."""
    return read_record(Path(__file__), "Form")
