"""A folder of images, with what its shape says of them.

    photos/*.png                     images
    photos/cat/*.png, photos/dog/    images with labels, if every image lies in one of two or more class folders
    photos/trainA/, photos/trainB/   fields `a` and `b`, unpaired: each is permuted on its own
    photos/a/, photos/b/             fields `a` and `b`, paired: the same file stems in both
    photos/train/, photos/test/      splits, each of them one of the above

Files are taken in the order of their names; hidden ones, and those without the suffix of an image, are passed over.
Duplicates are kept. All images of a field have one size, or are brought to `size`. A field is grey if all its images
are, else RGB (see `picture`). Up to a tenth of the files, but always one, may be unreadable: they are left out with a
warning. Links are followed to files inside the folder only.
"""

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from elegan.data.readers import picture
from elegan.data.source import Source, image_field, label_field
from elegan.errors import DataError, NoSplitError
from elegan.spec import Spec

SPLITS = frozenset({"train", "test", "val", "valid", "validation"})
BAD = 0.1  # share of the files that may be unreadable
THREADS = 8  # decoders let go of the interpreter, so threads help


def reads(path: Path) -> bool:
    """Whether this is a folder, or one image."""
    return path.is_dir() or path.suffix.lower() in picture.SUFFIXES


def read(path: Path, *, name: str, split: str, size: int | None = None) -> Source:
    """The images of a folder, as the module says.

    Errors: `DataError` if there are none, too many are unreadable, sizes are mixed without `size`, a class folder is
        empty, pairs do not match, or the split is missing.
    """
    base, splits = _base(path, name=name, split=split)
    inside = {folder.name: folder for folder in _folders(base)}
    if f"{split}A" in inside and f"{split}B" in inside:
        homes = inside[f"{split}A"], inside[f"{split}B"]
        return _two(base, homes, name=name, size=size, paired=False)
    if split == "test" and not splits:
        raise NoSplitError(f"{name!r} has no test split: put its images into {str(path / 'test')!r}")
    lower = {folder.lower(): where for folder, where in inside.items()}
    if set(lower) == {"a", "b"}:
        return _two(base, (lower["a"], lower["b"]), name=name, size=size, paired=True)
    return _one(base, name=name, size=size, splits=splits)


def _base(path: Path, *, name: str, split: str) -> tuple[Path, list[Path]]:
    """The folder of a split, and all the splits there are."""
    folders = _folders(path)
    splits = [folder for folder in folders if folder.name in ("train", "test")]
    if not splits or not {folder.name for folder in folders} <= SPLITS:
        return path, []
    if path / split not in splits:
        raise NoSplitError(f"{name!r} has no {split} split: there is no folder {str(path / split)!r}")
    return path / split, splits


def _one(base: Path, *, name: str, size: int | None, splits: Sequence[Path]) -> Source:
    """Field `real`, and `label` if the images lie in class folders."""
    files = _images(base, name=name)
    names = _classes(base, files)
    for other in splits if names else ():
        odd = {*names} ^ {folder.name for folder in _folders(other)}
        if odd and _folders(other):
            raise DataError(f"{name!r}: class folder {min(odd)!r} is not in every split: add it or take it away")
    pixels = _decode(base, files, name=name, size=size)
    _tolerate(base, files, pixels, name=name)
    kept = [(file, image) for file, image in zip(files, pixels, strict=True) if isinstance(image, np.ndarray)]
    rows = _stack([image for _, image in kept])
    about = f"{_count(rows, 'image')} of {rows.shape[3]}x{rows.shape[2]} from {str(base)!r}"
    if not names:
        return Source(name, Spec(real=image_field(rows)), {"real": rows}, about)
    labels = np.array([names.index(file.parent.name) for file, _ in kept], np.int64)
    label = label_field(labels, names)
    if 0 in label.counts:
        raise DataError(f"{name!r}: class folder {names[label.counts.index(0)]!r} holds no readable image: mend it")
    spec = Spec(real=image_field(rows, classes=len(names)), label=label)
    return Source(name, spec, {"real": rows, "label": labels}, f"{about}, {len(names)} classes")


def _two(base: Path, homes: tuple[Path, Path], *, name: str, size: int | None, paired: bool) -> Source:
    """Fields `a` and `b`. Of a pair both images are kept or neither."""
    files = [_images(home, name=name) for home in homes]
    if paired:
        stems = [[file.relative_to(home).with_suffix("") for file in files[i]] for i, home in enumerate(homes)]
        files = [[file for _, file in sorted(zip(*both, strict=True))] for both in zip(stems, files, strict=True)]
        a, b = (Counter(those) for those in stems)
        if alone := [*(a - b), *(b - a)]:
            raise DataError(
                f"{name!r}: {str(min(alone))!r} is not in both {homes[0].name!r} and {homes[1].name!r}: "
                "the two of a pair share a name; call the folders trainA and trainB if there are no pairs"
            )
    pixels = [_decode(base, those, name=name, size=size) for those in files]
    _tolerate(base, [*files[0], *files[1]], [*pixels[0], *pixels[1]], name=name)
    if paired:
        both = [pair for pair in zip(*pixels, strict=True) if not any(isinstance(image, str) for image in pair)]
        pixels = [[pair[0] for pair in both], [pair[1] for pair in both]]
    arrays = {}
    for field, home, those in zip("ab", homes, pixels, strict=True):
        kept = [image for image in those if isinstance(image, np.ndarray)]
        if not kept:
            raise DataError(f"{name!r}: no readable image is left in {home.name!r}: mend it")
        arrays[field] = _stack(kept)
    spec = Spec(**{field: image_field(rows, stream="main" if paired else field) for field, rows in arrays.items()})
    a, b = (len(rows) for rows in arrays.values())
    about = f"{a:,} pairs of images" if paired else f"{a:,} and {b:,} unpaired images"
    return Source(name, spec, arrays, f"{about} from {str(base)!r}")


def _folders(path: Path) -> list[Path]:
    """The real folders directly below, neither hidden nor left by an archiver."""
    if not path.is_dir():
        return []
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith((".", "__")))


def _images(base: Path, *, name: str) -> list[Path]:
    """Every image below a folder, in order of name; a file is itself. Links that lead out are told, not followed."""
    if base.is_file():
        return [base]
    root = os.path.join(os.path.realpath(base), "")
    files, left = [], []
    for path in _walk(base):
        if path.is_symlink() and not (os.path.realpath(path).startswith(root) and os.path.isfile(path)):
            left.append(path)
        elif path.suffix.lower() in picture.SUFFIXES and os.path.isfile(path):
            files.append(path)
    note = f"{_count(left, 'link')} that lead out of it, such as {str(left[0].relative_to(base))!r}" if left else ""
    if not files:
        kinds = ", ".join(sorted(suffix[1:] for suffix in picture.SUFFIXES))
        only = f", only {note}: copy the files in" if left else ""
        raise DataError(f"{str(base)!r} holds no images ({kinds}){only}")
    if left:
        warnings.warn(f"{name!r}: not followed: {note}", stacklevel=2)
    return sorted(files, key=lambda path: path.relative_to(base).parts)


def _walk(base: Path) -> Iterator[Path]:
    """Files, and links of any kind, below a folder. A folder that cannot be listed is an `OSError`, never a gap."""

    def fail(error: OSError) -> None:
        raise error

    for here, folders, files in os.walk(base, onerror=fail):  # does not follow links to folders
        folders[:] = [folder for folder in folders if not folder.startswith((".", "__"))]
        yield from (Path(here, folder) for folder in folders if os.path.islink(os.path.join(here, folder)))
        yield from (Path(here, file) for file in files if not file.startswith("."))


def _classes(base: Path, files: Sequence[Path]) -> tuple[str, ...]:
    """Names of the class folders, if every image lies in one of several; else nothing."""
    if {len(file.relative_to(base).parts) for file in files} != {2}:
        return ()
    names = sorted({file.parent.name for file in files})
    if len(names) < 2:
        return ()
    for folder in _folders(base):
        if folder.name not in names:
            raise DataError(f"class folder {str(folder)!r} holds no images: fill it or take it away")
    return tuple(names)


def _decode(base: Path, files: Sequence[Path], *, name: str, size: int | None) -> list[np.ndarray | str]:
    """The pixels of each file, or the reason why it has none. Stops at the second size, before memory is filled."""

    def pixels_of(file: Path) -> np.ndarray | str:
        try:
            return picture.read(file, size)
        except Exception as error:  # decoders fed damaged bytes raise what they like
            return " ".join(str(error).split()) or type(error).__name__

    seen: list[np.ndarray | str] = []
    first: tuple[Path, np.ndarray] | None = None
    pool = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's on odd metadata; what matters is an error, or `picture`'s own
            for file, pixels in zip(files, pool.map(pixels_of, files), strict=True):
                if isinstance(pixels, np.ndarray):
                    first = first or (file, pixels)
                    if pixels.shape[:2] != first[1].shape[:2]:
                        raise DataError(
                            f"{name!r} mixes sizes: {_sized(base, *first)}, {_sized(base, file, pixels)}: use --size 64"
                        )
                seen.append(pixels)
    finally:
        pool.shutdown(cancel_futures=True)
    return seen


def _tolerate(base: Path, files: Sequence[Path], pixels: Sequence[np.ndarray | str], *, name: str) -> None:
    """Warn of files that cannot be read, or raise if they are too many."""
    bad = [(file, reason) for file, reason in zip(files, pixels, strict=True) if isinstance(reason, str)]
    if not bad:
        return
    file, reason = bad[0]
    note = f"{len(bad)} of {_count(files, 'image')} cannot be read, the first is {_below(base, file)} ({reason})"
    if len(bad) == len(files) or len(bad) > max(1, BAD * len(files)):
        raise DataError(f"{name!r}: {note}: mend or remove them")
    warnings.warn(f"{name!r}: left out: {note}", stacklevel=2)


def _stack(images: Sequence[np.ndarray]) -> np.ndarray:
    """Grey (H, W) and RGB (H, W, 3) pixels -> uint8 (N, C, H, W), grey if all are."""
    channels = 3 if any(image.ndim == 3 for image in images) else 1
    rows = np.empty((len(images), channels, *images[0].shape[:2]), np.uint8)
    for row, image in zip(rows, images, strict=True):
        row[:] = image if image.ndim == 2 else image.transpose(2, 0, 1)
    return rows


def _below(base: Path, file: Path) -> str:
    return repr(str(file.relative_to(base)) if file != base else file.name)


def _sized(base: Path, file: Path, pixels: np.ndarray) -> str:
    return f"{_below(base, file)} is {pixels.shape[1]}x{pixels.shape[0]}"


def _count(things: Sized, what: str) -> str:
    return f"{len(things):,} {what}{'s' * (len(things) != 1)}"
