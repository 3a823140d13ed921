"""The pictures of a run, in `RUN/pictures/`: the film of its frames, its first moves, and what its noise means.

training.gif: the frames of `samples/`. Of points in the plane, moves.png: the start, after the judge's moves, after the
generator's, the end. Of images, interpolation.png, and classes.png where samples can be drawn of a class.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import elegan
from elegan.data.codec import codec_of
from elegan.disk import whole
from elegan.errors import OptionError, plain
from elegan.exporting.provenance import SOURCE_TYPE, save_png
from elegan.exporting.samples import Samples, is_plane, plane
from elegan.game import Game
from elegan.tasks.interpolate import classes, interpolate
from elegan.tasks.judge import pull
from elegan.view.plane import Window, framed, panel

Facts = Mapping[str, object]

FRAMES = 60  # of a film at most
FRAME_MS, LAST_MS = 140, 2_500
WIDEST = 640  # pixels of a film
COLOURS, GREYS = 128, 32
CLASSES = 20  # rows of a sheet of classes at most
ARROWS = 16


def draw_pictures(
    folder: Path,
    samples: Path,
    game: Game,
    batch: Mapping[str, Tensor],
    facts: Facts,
    seed: int,
    first_moves: Callable[[], Iterable[tuple[str, Game]]],
) -> Iterator[Path]:
    """Draw the pictures of a run one by one, as they are asked for, and yield the path of each.

    folder, samples: where they go, and where the run's frames are. game: the trained one. batch: real samples by field.
    facts: written into each, with the seed. first_moves: titles and games, as `one_sided` gives them.
    A picture that cannot be made or written is a warning.
    """
    facts = {**facts, "seed": seed}
    makers: dict[str, Callable[[Path], object]] = {"training.gif": partial(save_film, samples, facts=facts)}
    field = game.spec["real"] if "generation" in game.tasks and "real" in game.spec else None
    if field is not None and is_plane(field):
        makers["moves.png"] = lambda path: save_png(moves(game, first_moves(), batch, facts), path, facts)
    if field is not None and field.kind == "image":
        makers["interpolation.png"] = lambda path: save_sheet(interpolation_of(game, facts, seed=seed), path)
        if game.labelled and game.spec.classes <= CLASSES:
            makers["classes.png"] = lambda path: save_sheet(classes_of(game, facts, seed=seed), path)
    for name, make in makers.items():
        try:
            folder.mkdir(exist_ok=True)
            if make(folder / name):
                yield folder / name
        except OptionError:
            continue  # a game without noise has no ways through it
        except OSError as error:
            warnings.warn(f"{folder / name} cannot be written ({error.strerror or error}).", stacklevel=2)
            return
        except Exception as error:  # whatever it is: the run is whole and saved, and this was a picture of it
            warnings.warn(f"{folder / name} cannot be made: {error}", stacklevel=2)


def moves(game: Game, first: Iterable[tuple[str, Game]], batch: Mapping[str, Tensor], facts: Facts) -> Image.Image:
    """Panels of the plane: each of the first moves, and the game as it is now.

    Where only the judge has moved, arrows show where drawn points are pulled. Where the generator then has, the judge
    stands still and so does its surface.
    """
    window = Window.around(codec_of(game.spec["real"]).decode(batch["real"]))
    panels, surface, pulled = [], None, False
    for title, moved in [*first, (f"end: step {facts['step']:,}", game)]:
        parts = plane(moved, batch, int(str(facts["seed"])))
        arrows = pulls(moved, batch) if title.endswith("judge") else None
        if title.endswith("generator"):
            parts["surface"] = surface
        surface, pulled = parts["surface"], pulled or arrows is not None
        panels.append((title, panel(window, **parts, arrows=arrows)))
    note = "arrows: where the generator's loss pulls some drawn points" if pulled else ""
    return framed(panels, judged=surface is not None, note=note)


def pulls(game: Game, batch: Mapping[str, Tensor]) -> tuple[np.ndarray, np.ndarray] | None:
    """Some drawn points and where the generator's loss would move them, in the units of the data; None if unknown."""
    found = pull(game, batch, ARROWS)
    if found is None:
        return None
    codec = codec_of(game.spec["real"])
    origin = codec.decode(torch.zeros_like(found[1]))
    return codec.decode(found[0]), codec.decode(found[1]) - origin


def interpolation_of(
    game: Game, facts: Facts, rows: int = 8, steps: int = 10, *, seed: int = 0, label: int | list[int] | None = None
) -> Samples:
    """Ways through the noise as samples, a row each."""
    drawn = interpolate(game, rows, steps, seed=seed, label=label)  # which says whether the game can
    field = game.spec["real"]
    return Samples(
        codec_of(field).decode(drawn), field, {**facts, "seed": seed, "steps": steps, "label": label}, columns=steps
    )


def classes_of(game: Game, facts: Facts, columns: int = 10, *, seed: int = 0) -> Samples:
    """Every class in a row of its own as samples, with the same noise down a column."""
    drawn = classes(game, columns, seed=seed)
    field = game.spec["real"]
    return Samples(codec_of(field).decode(drawn), field, {**facts, "seed": seed}, columns, row_names(game))


def row_names(game: Game) -> list[str]:
    """What the rows of classes are called: the classes' names where they are short enough to be read, or numbers."""
    names = game.spec["label"].names if "label" in game.spec else ()
    short = all(len(name) <= 12 and name.isascii() for name in names)
    return list(names) if names and short else [str(k) for k in range(game.spec.classes)]


def save_sheet(samples: Samples, path: Path) -> Path | None:
    picture = samples.picture()
    return None if picture is None else save_png(picture, path, samples.facts)


def save_film(samples: Path, path: Path, facts: Facts) -> Path | None:
    """The frames of a folder as an endless GIF of at most `FRAMES` frames; the first and the last are always there.

    None if there are not two frames. Whole or not at all, and marked by a comment.
    """
    names = sorted(samples.glob("[0-9]*.png"))
    if len(names) < 2:
        return None
    kept = np.unique(np.linspace(0, len(names) - 1, FRAMES).round().astype(int)) if len(names) > FRAMES else None
    frames = [_frame(name) for name in (names if kept is None else [names[k] for k in kept])]
    if any(frame.size != frames[-1].size for frame in frames):
        return None
    shown = [_few_colours(frame) for frame in frames]
    comment = plain(f"elegan {elegan.__version__}; {SOURCE_TYPE}; " + "; ".join(f"{n}: {v}" for n, v in facts.items()))
    durations = [FRAME_MS] * (len(shown) - 1) + [LAST_MS]
    with whole(path) as part:
        shown[0].save(
            part, "GIF", save_all=True, append_images=shown[1:], duration=durations, loop=0, comment=comment.encode()
        )
    return path


def _frame(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        frame = opened.convert("L" if opened.mode == "L" else "RGB")
    scale = WIDEST / frame.width
    return frame if scale >= 1 else frame.resize((WIDEST, round(frame.height * scale)), Image.Resampling.BOX)


def _few_colours(frame: Image.Image) -> Image.Image:
    """A frame in `GREYS` shades, or in a palette of its own: a common one would dull what few frames have."""
    if frame.mode == "L":
        return frame.point([round(round(v * (GREYS - 1) / 255) * 255 / (GREYS - 1)) for v in range(256)])
    return frame.quantize(COLOURS, dither=Image.Dither.NONE)
