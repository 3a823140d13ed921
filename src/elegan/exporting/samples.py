"""Drawn samples in the form of the data they imitate: as arrays, as files, as a picture in a notebook."""

import csv
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from elegan.data.codec import codec_of, eight_bits, mode_of
from elegan.data.codecs import CODECS, write_rows
from elegan.data.readers.deep import INSTALLED
from elegan.errors import ResourceError, RunInUseError
from elegan.exporting.provenance import marks, note, save_png, save_png16, save_tiff
from elegan.game import Game
from elegan.spec import Field, Spec
from elegan.tasks.generate import draw
from elegan.tasks.judge import verdict
from elegan.tasks.translate import translate
from elegan.training.loop import Event
from elegan.view.plane import Window, points
from elegan.view.sheet import seen, sheet

POINTS = 1_000  # of a picture of the plane, drawn and real each


class Samples:
    """Samples a model made: `values` as the data has them, images (N, C, H, W) or float32 (N, D)."""

    def __init__(
        self,
        values: np.ndarray,
        field: Field,
        facts: Mapping[str, object],
        columns: int | None = None,
        names: Sequence[str] = (),
    ):
        self.values, self.field, self.facts, self.columns, self.names = values, field, dict(facts), columns, names

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, k: int) -> np.ndarray:
        return self.values[k]

    def __repr__(self) -> str:
        return f"Samples({len(self)} × {self.field.kind} {list(self.field.shape)})"

    def picture(self) -> Image.Image | None:
        """All samples as one picture; None if they are neither images nor points in the plane."""
        if self.field.kind == "image":
            return sheet(eight_bits(self.field, self.values), self.columns, self.names, mode=mode_of(self.field))
        if is_plane(self.field):
            return points(self.values)
        return None

    def save(self, out: Path | str) -> list[Path]:
        """Write `grid.png` and one file per image, or `samples.csv` for vectors, into a new or empty directory.

        Images are written in the depth and channels of the data: grey and RGB, with alpha or without, of 8 and 16 bits
        as PNG; floats and other numbers of bands as TIFF, or without the extra `images` all of them in `samples.npy`.
        Tables, sound, film and texts are written as their codecs say, in the form of what they imitate.
        Raises `RunInUseError` if it is not empty, `ResourceError` if it cannot be written.
        """
        folder = Path(out)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise RunInUseError(f"{folder} is not empty; choose another --out.")
            written = []
            if (picture := self.picture()) is not None:
                written.append(save_png(picture, folder / "grid.png", self.facts))
            if self.field.kind == "image":
                written += self._save_images(folder)
            elif self.field.about.get("codec", {}).get("kind") in CODECS:
                written += write_rows(self.field, self.values, folder, note(self.facts))
            else:
                written.append(folder / "samples.csv")
                with written[-1].open("w", newline="") as file:
                    csv.writer(file).writerows(self.values.tolist())
        except OSError as error:
            raise ResourceError(
                f"{folder} cannot be written ({error.strerror or error}); choose another --out."
            ) from error
        return written

    def _save_images(self, folder: Path) -> list[Path]:
        mode, width = mode_of(self.field), max(5, len(str(len(self))))
        png = bool(mode) and self.values.dtype != np.float32
        if not png and not INSTALLED:
            np.save(folder / "samples.npy", self.values)
            return [folder / "samples.npy"]
        written = []
        for k, value in enumerate(self.values):
            path, facts = folder / f"{k:0{width}d}{'.png' if png else '.tif'}", {**self.facts, "sample": k}
            if not png:
                written.append(save_tiff(value, mode, path, facts))
            elif value.dtype == np.uint16:
                written.append(save_png16(value, path, facts))
            else:
                pixels = value[0] if len(value) == 1 else np.ascontiguousarray(value.transpose(1, 2, 0))
                written.append(save_png(Image.fromarray(pixels), path, facts))
        return written

    def _repr_png_(self) -> bytes | None:
        picture = self.picture()
        if picture is None:
            return None
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", pnginfo=marks(self.facts))
        return buffer.getvalue()


def wanted_at(step: int) -> bool:
    """Whether a run draws a frame after this step: at 1, 2, 5, 10, 20, 50, 100, 200, 500, and then every thousand."""
    return step in (1, 2, 5, 10, 20, 50, 100, 200, 500) or step % 1_000 == 0


def is_plane(field: Field) -> bool:
    """Whether a field holds points in the plane."""
    return field.kind == "vector" and tuple(field.shape) == (2,) and "groups" not in field.about


def shown_rows(spec: Spec, rows: int) -> int:
    """How many real samples pictures are drawn beside: a batch, but of points in the plane at least a thousand."""
    return max(rows, POINTS) if "real" in spec and is_plane(spec["real"]) else rows


def plane(game: Game, batch: Mapping[str, Tensor], seed: int) -> dict[str, Any]:
    """Points a game draws, (POINTS, 2), those of a batch, and the judge's surface if it has one, as pictures show them.

    A judge that cannot be asked costs the picture its surface, not the run its training.
    """
    codec = codec_of(game.spec["real"])
    real, drawn = codec.decode(batch["real"]), draw(game, POINTS, seed=seed)
    places = codec.encode(torch.from_numpy(Window.around(real).places()).to(game.device))
    try:
        surface = verdict(game, places, batch, drawn)
    except (TypeError, ValueError, RuntimeError, AttributeError):
        surface = None
    return {
        "drawn": codec.decode(drawn), "real": real, "surface": None if surface is None else surface.cpu().numpy()
    }  # fmt: skip


class GridListener:
    """Draws a frame from the average at fixed steps, always of the same noise, into `samples/`."""

    def __init__(self, folder: Path, facts: Mapping[str, object], batch: Mapping[str, Tensor], seed: int = 0):
        self.folder, self.facts, self.batch, self.seed = folder, facts, batch, seed
        self.drawn_step = -1
        self._failed = False

    def __call__(self, event: Event) -> None:
        if wanted_at(event.step):
            self.draw(event.state.average.game, event.step)

    def draw(self, game: Game, step: int) -> Path | None:
        """Draw now, unless this step is drawn. None if there is nothing one could show, or the disk refuses."""
        if step == self.drawn_step:
            return None
        self.drawn_step = step
        picture = self.picture(game, step)
        if picture is None:
            return None
        path = self.folder / f"{step:08d}.png"
        try:
            return save_png(picture, path, {**self.facts, "step": step, "seed": self.seed})
        except OSError as error:
            if not self._failed:
                warnings.warn(f"{path} cannot be written ({error.strerror or error}); training goes on.", stacklevel=2)
            self._failed = True
            return None

    def picture(self, game: Game, step: int) -> Image.Image | None:
        """Eight rows of samples (one column a class if there are labels); the plane; or translations."""
        spec = game.spec
        if "generation" in game.tasks and spec.kind == "image":
            columns = spec.classes if game.labelled and spec.classes <= 16 else 8
            label = [k % spec.classes for k in range(8 * columns)] if game.labelled else None
            field = spec["real"]
            values = eight_bits(field, codec_of(field).decode(draw(game, 8 * columns, seed=self.seed, label=label)))
            return sheet(values, columns, mode=mode_of(field))
        if "generation" in game.tasks and "real" in spec and is_plane(spec["real"]):
            return points(**plane(game, self.batch, self.seed), title=f"step {step:,}")
        if "translation" in game.tasks:
            parts = []
            for source, target, direction in (("a", "b", "ab"), ("b", "a", "ba")):
                before = self.batch[source][:8]
                after = translate(game, before, direction=direction)
                parts += [
                    seen(eight_bits(spec[f], codec_of(spec[f]).decode(x)), mode_of(spec[f]))
                    for f, x in ((source, before), (target, after))
                ]
            most = max(part.shape[1] for part in parts)
            same = [part.repeat(most // part.shape[1], axis=1) for part in parts]  # grey beside colours
            return sheet(np.concatenate(same), columns=len(parts[0]))
        return None
