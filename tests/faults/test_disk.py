"""Files that are there whole or not at all, and what is never written over."""

import os
from pathlib import Path

import numpy as np
import pytest

from elegan.disk import whole, write_synced, write_whole
from elegan.errors import ElegantError
from elegan.exporting.provenance import save_png


def by_hand(path: Path, content: bytes) -> None:
    with whole(path) as part:
        part.write_bytes(content)


def as_a_picture(path: Path, _: bytes) -> None:
    save_png(np.zeros((2, 2), np.uint8), path, {})


@pytest.mark.parametrize("write", [by_hand, write_whole, write_synced, as_a_picture])
@pytest.mark.parametrize("what", ["pipe", "folder", "link to a pipe"])
def test_what_is_no_file_is_never_replaced(tmp_path, write, what):
    """As root, a renamed file would take the place of /dev/null for the whole machine."""
    place = tmp_path / "place"
    if what == "folder":
        place.mkdir()
    else:
        os.mkfifo(tmp_path / "pipe")
        place = tmp_path / "pipe" if what == "pipe" else place
        if what != "pipe":
            place.symlink_to(tmp_path / "pipe")
    before = {path.name: os.lstat(path)[:3] for path in tmp_path.iterdir()}
    with pytest.raises((OSError, ElegantError), match=r"is there and no file|Is a directory|cannot be written"):
        write(place, b"x")
    assert {path.name: os.lstat(path)[:3] for path in tmp_path.iterdir()} == before


def test_an_error_inside_leaves_what_was(tmp_path):
    write_whole(tmp_path / "made" / "file", b"old")

    def fail(part: Path) -> None:
        part.write_bytes(b"new")
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), whole(tmp_path / "made" / "file") as part:
        fail(part)
    assert [path.read_bytes() for path in (tmp_path / "made").iterdir()] == [b"old"]
    by_hand(tmp_path / "made" / "file", b"new")
    assert [path.read_bytes() for path in (tmp_path / "made").iterdir()] == [b"new"]
