"""What the data tells the game: the fields of a batch. Nothing else crosses from one to the other."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from numbers import Integral
from typing import Any

KINDS = ("image", "vector", "label", "token", "series", "audio", "video")
MOST = 1 << 40  # of a size or a count; beyond it lies damage


@dataclass(frozen=True)
class Field:
    """One named tensor of a batch, without its batch dimension.

    kind: one of `KINDS`.
    shape: sizes behind the batch dimension, `(C, H, W)` for an image, `(D,)` for a vector, `()` for a label;
        `None` is a free length.
    classes: number of classes, on a label and on the field it labels; 0 is none.
    names: names of the classes or columns. counts: samples per class.
    stream: fields of one stream are permuted together; of different streams, independently (unpaired data).
    about: the codec that made the field, as JSON.
    """

    kind: str
    shape: tuple[int | None, ...]
    classes: int = 0
    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    stream: str = "main"
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"field kind {self.kind!r} is none of {', '.join(KINDS)}")
        sizes = [size for size in self.shape if size is not None]
        for name, numbers in (("shape", sizes), ("classes", [self.classes]), ("counts", self.counts)):
            if not all(_is_count(number) for number in numbers):
                raise ValueError(f"{name} of a field is made of whole numbers, not {getattr(self, name)!r}")


def _is_count(number: Any) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool) and 0 <= int(number) < MOST


class Spec(Mapping[str, Field]):
    """The fields of a data set by name. `shape` and `classes` are those of the field `real`."""

    def __init__(self, **fields: Field):
        self._fields = dict(fields)

    def __getitem__(self, name: str) -> Field:
        return self._fields[name]

    def __iter__(self):
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        inside = ", ".join(f"{n}={f.kind}{list(f.shape)}" for n, f in self._fields.items())
        return f"Spec({inside})"

    @property
    def kind(self) -> str:
        return self["real"].kind if "real" in self else ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample of `real`; free lengths are left out by games that cannot have them (see `accepts`)."""
        return tuple(n or 0 for n in self["real"].shape)

    @property
    def classes(self) -> int:
        return self["real"].classes if "real" in self else 0

    def to_json(self) -> dict[str, Any]:
        return {name: asdict(f) for name, f in self._fields.items()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Mapping[str, Any]]) -> "Spec":
        """A spec as `to_json` wrote it. Raises `ValueError` for what it cannot have written."""
        return cls(**{name: _field(name, made) for name, made in fields.items()})


def _field(name: str, made: Mapping[str, Any]) -> Field:
    try:
        tuples: dict[str, Any] = {part: tuple(made[part]) for part in ("shape", "names", "counts")}
        field = Field(**{**made, **tuples})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the field {name!r} is none: {error!r}") from error
    if not (all(isinstance(one, str) for one in (*field.names, field.stream)) and isinstance(field.about, dict)):
        raise ValueError(f"the field {name!r} is none: its names are no text, or its codec no object")
    return field
