"""Codecs of tables, audio, video and text. Each is fitted by a reader, kept as JSON, and writes files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from elegan.data.codecs.audio import AudioCodec
from elegan.data.codecs.table import TableCodec
from elegan.data.codecs.text import TokenCodec
from elegan.data.codecs.video import VideoCodec
from elegan.spec import Field

CODECS: Mapping[str, Any] = {codec.kind: codec for codec in (TableCodec, AudioCodec, VideoCodec, TokenCodec)}


def of_json(kind: str, made: Mapping[str, Any]) -> Any:
    """The codec of a kind from what its `to_json` gave."""
    return CODECS[kind].from_json(made)


def write_rows(field: Field, rows: np.ndarray, folder: Path, note: str = "") -> list[Path]:
    """Write raw rows of a field as files of its own form. note: what is kept in those that have a place for it."""
    made = field.about["codec"]
    return of_json(made["kind"], made).write(rows, folder, note)
