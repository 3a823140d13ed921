"""Files moved aside, out of a folder of data, and put back: nothing is deleted, nothing overwritten.

    set_aside(names, "photos/", Path("odd"), form=Form())      # photos/cat/7.png -> odd/cat/7.png
    put_back("photos/", Path("odd"))

What is to be moved is noted first, in `odd/moved.csv`, so whatever happens, it can be put back.
"""

import contextlib
import csv
import errno
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from elegan.data.form import Form
from elegan.data.listing import Listing
from elegan.data.sources import find_data
from elegan.data.tree import Folder
from elegan.errors import DataError, OptionError, ResourceError

LOG = "moved.csv"
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def set_aside(names: Collection[str], data: str, to: Path, *, form: Form) -> tuple[int, list[str]]:
    """Move the files of those samples into a directory, by their paths below the folder. How many, and names of samples
    whose files also belong to others that stay.

    Errors: `OptionError` if the data is no folder, or the directory lies in it; `DataError` if it holds none of them;
        `ResourceError` if the disk refuses, or there is another file of that name.
    """
    found = find_data(data, form=form)
    if not isinstance(found, Listing) or not isinstance(found.tree, Folder):
        raise OptionError(f"--move: {data!r} is no folder of files: use 'elegan train … --without' with the list.")
    root = Path(found.tree.root).resolve()
    if to.resolve().is_relative_to(root):
        raise OptionError(f"--move {str(to)!r} lies in {data!r}, where it would be data: choose another directory.")
    files: dict[str, set[str]] = {}
    users: dict[str, set[str]] = {}
    for samples in found.streams.values():
        for sample in samples:
            for entry in (entry for part in sample.parts for entry in part):
                files.setdefault(sample.name, set()).add(entry.path)
                users.setdefault(entry.path, set()).add(sample.name)
    known = [name for name in names if name in files]
    if names and not known:
        raise DataError(f"{data!r} has none of the samples on the list: is it of other data?")
    shared = [name for name in known if any(users[path] - {*names} for path in files[name])]
    paths = sorted({path for name in known if name not in {*shared} for path in files[name]})
    with _told(to):
        to.mkdir(parents=True, exist_ok=True)
        for path in paths:
            if os.path.lexists(to / path):
                raise ResourceError(f"{str(to / path)!r} is there already: choose another directory for --move.")
        with (to / LOG).open("a", newline="", encoding="utf-8", errors="surrogateescape") as log:
            lines = csv.writer(log)
            if log.tell() == 0:
                lines.writerow(("path", "from"))
            lines.writerows((path, root) for path in paths)
            log.flush()
            os.fsync(log.fileno())
        for path in paths:
            _move(root / path, to / path)
    return len(paths), shared


def put_back(data: str, place: Path) -> int:
    """Put back into a folder all that was moved out of it into a directory; how many files that were.

    Errors: `DataError` if nothing was moved there; `ResourceError` if the disk refuses, or there is a new file.
    """
    root = Path(data).expanduser()
    try:
        with (place / LOG).open(newline="", encoding="utf-8", errors="surrogateescape") as log:
            paths = [row["path"] for row in csv.DictReader(log)]
    except (OSError, KeyError, csv.Error) as error:
        raise DataError(f"{str(place)!r} holds no {LOG}: nothing was moved there by --move.") from error
    if odd := [path for path in paths if not path or Path(path).is_absolute() or ".." in Path(path).parts]:
        raise DataError(f"{str(place / LOG)!r} names a path that leads out of {data!r}, {odd[0]!r}: mend it.")
    waiting = [path for path in paths if os.path.lexists(place / path)]  # the others are back, or were never moved
    if there := next((path for path in waiting if os.path.lexists(root / path)), None):
        raise ResourceError(f"{str(root / there)!r} is there again and is not overwritten: move it away.")
    with _told(place):
        for path in waiting:
            _move(place / path, root / path)
        (place / LOG).unlink()
        for folder in sorted((folder for folder in place.rglob("*") if folder.is_dir()), reverse=True):
            with contextlib.suppress(OSError):  # not empty: of the user
                folder.rmdir()
        with contextlib.suppress(OSError):
            place.rmdir()
    return len(waiting)


def _move(file: Path, to: Path) -> None:
    """Move a file, never over another: by a second name for it, or a copy where that cannot be."""
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, to, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with file.open("rb") as content, to.open("xb") as copy:
            shutil.copyfileobj(content, copy)
            copy.flush()
            os.fsync(copy.fileno())
        shutil.copystat(file, to)
    file.unlink()


@contextlib.contextmanager
def _told(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or place
        raise ResourceError(
            f"{str(where)!r} cannot be moved or written ({error.strerror or error}); what was moved stands in "
            f"{str(place / LOG)!r}."
        ) from error
