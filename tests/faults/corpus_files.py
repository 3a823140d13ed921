"""The kinds of `corpus` that are tables, texts, sound or film, stores, and lists of what to leave out."""

import hashlib
import io
import json
import shutil
import struct
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.corpus import Kind, add, good, kind, one_file, outside, png

# ---- tables and texts

TABLES: dict[str, tuple[str, bytes, int | None, str]] = {
    "a million columns": ("x.csv", b",".join(b"c%d" % k for k in range(10**6)) + b"\n", None, "longer than 1,048,576"),
    "fifty thousand columns": ("x.csv", b"," * 50_000 + b"\n" + b"," * 50_000 + b"\n", None, "has 50,001 columns"),
    "a zero byte in a table": ("x.csv", b"a,b\n1,2\n3,\0\n", None, "zero bytes"),
    "a cell of a megabyte": (
        "x.csv",
        b'a,b\n1,"' + b"x" * 1_000_000 + b'"\n',
        None,
        "line 2: field larger than field limit",
    ),
    "a ragged table": ("x.csv", b"a,b\n1,2\n3\n", None, "line 3: 1 cell, the first line has 2"),
    "a quote without end": ("x.csv", b'a,b\n1,"2\n3,4\n', None, "unexpected end of data"),
    "a column twice": ("x.csv", b"a,a\n1,2\n", None, "two columns 'a'"),
    "a column twice that clears the screen": ("x.csv", b"\x1b[2J,\x1b[2J\n1,2\n", None, r"two columns '\\x1b\[2J'"),
    "an empty table": ("x.csv", b"", None, "is empty"),
    "a header and no rows": ("x.csv", b"a,b\n", None, "has no rows"),
    "nothing but constants": ("x.csv", b"a,b\n1,x\n1,x\n", None, "no column of .* can be trained on"),
    "a table that is a picture": ("x.csv", png(), None, "zero bytes"),
    "a table in half of utf-16": ("x.csv", "a,b\n1,2\n".encode("utf-16")[:-1], None, "cannot be read"),
    "a table of an old encoding": (
        "x.csv",
        "a,größe\n1,2\n3,4\n5.5,6\n".encode("latin-1"),
        3,
        "is not UTF-8: read as Windows-1252",
    ),
    "numbers beyond floats": (
        "x.csv",
        b"a,b\n1e999,1\n2e999,2\n3.5,3\n",
        None,
        "'1e999' is beyond what can be trained on",
    ),
    "text of other bytes": (
        "x.txt",
        b"fine\n\xff\xfe\n",
        None,
        "'x.txt' of .*, line 2 cannot be read .it is not UTF-8 at byte 1",
    ),
    "text with a zero byte": ("x.txt", b"fine\n\0\n", None, "line 2 cannot be read .it holds a zero byte"),
    "a line of two megabytes": ("x.txt", b"x" * (2 << 20), None, "line 1 cannot be read .it is longer than"),
    "an empty text": ("x.txt", b"", None, "no text in its train split"),
    "nothing but blank lines": ("x.txt", b"\n \n\t\r\n", None, "no text in its train split"),
    "text with its mark": ("x.txt", b"\xef\xbb\xbfone\ntwo\n", 2, ""),
}
for _name, (_file, _body, _rows, _words) in TABLES.items():
    add(_name, Kind(one_file(_file, _body), _rows, _words))


@kind(rows=None, says="line 2 is longer than")
def a_line_of_100_megabytes(root: Path) -> Path:
    with (root / "x.csv").open("wb") as file:
        file.write(b"a,b\n1,")
        for _ in range(100):
            file.write(b"9" * 1_000_000)
    return root / "x.csv"


@kind(rows=None, says="has no column 'cat'", class_column="cat")
def a_class_column_that_is_not_there(root: Path) -> Path:
    return one_file("x.csv", b"a,b\n1,2\n2,3\n")(root)


@kind(rows=5, says=r"the first is 'bad.txt' \(it is not UTF-8 at byte 1\)")
def one_bad_text_of_six(root: Path) -> None:
    for k in range(5):
        (root / f"good-{k}.txt").write_text(f"text number {k}")
    (root / "bad.txt").write_bytes(b"\xff")


# ---- sound and film


def wav(frames: bytes = bytes(800), channels: int = 1, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(frames)
    return file.getvalue()


def wav_of(rate: int, channels: int, bits: int, body: bytes, claimed: int = -1, form: int = 1) -> bytes:
    step = channels * bits // 8
    about = struct.pack("<HHIIHH", form, channels, rate, (rate * step) & 0xFFFFFFFF, step & 0xFFFF, bits)
    size = len(body) if claimed < 0 else claimed
    held = b"WAVEfmt " + struct.pack("<I", 16) + about + b"data" + struct.pack("<I", size) + body
    return b"RIFF" + struct.pack("<I", min(2**32 - 1, 36 + size)) + held


NANS = np.full(400, np.nan, "<f4").tobytes()
SOUNDS: dict[str, tuple[bytes, str]] = {
    "an empty recording": (b"", "the file is empty"),
    "text called wav": (b"this is no sound", "no recording of a known format"),
    "a recording of no samples": (wav(b""), "there is no sound in it"),
    "a recording that claims 4 GB": (wav_of(8000, 1, 16, bytes(800), 2**32 - 100), "cut short"),
    "a recording without channels": (wav_of(8000, 0, 16, bytes(800)), "no whole recording"),
    "a recording without a rate": (wav_of(0, 1, 16, bytes(800)), "no whole recording"),
    "a recording of 65,535 channels": (wav_of(8000, 65_535, 16, bytes(800)), "Too many channels"),
    "a recording of no bits": (wav_of(8000, 1, 0, bytes(800)), "no whole recording"),
    "a recording that is not a number": (wav_of(8000, 1, 32, NANS, form=3), "not finite"),
    "a flac of noise": (b"fLaC" + bytes(range(256)), "no whole recording"),
    "an ogg of noise": (b"OggS" + bytes(range(256)), "its last page is missing"),
    "an mp3 of noise": (b"\xff\xfb" + bytes(range(256)), "no whole recording"),
}
for _name, (_body, _reason) in SOUNDS.items():

    def _sound(root: Path, body: bytes = _body) -> None:
        for k in range(5):
            (root / f"good-{k}.wav").write_bytes(wav(np.full(400, k, "<i2").tobytes()))
        (root / "bad.wav").write_bytes(body)

    add(_name, Kind(_sound, 5, rf"1 of 6 recordings cannot be read, the first is 'bad.wav' \(.*{_reason}"))


@kind(rows=6, says="")
def a_recording_of_unknown_length(root: Path) -> None:
    _sound(root, wav_of(8000, 1, 16, bytes(800), 2**32 - 1))


def film(frames: int = 6) -> bytes:
    import av

    file = io.BytesIO()
    with av.open(file, "w", "mp4") as made:
        stream = made.add_stream("mpeg4", 10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for k in range(frames):
            made.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 30 * k, np.uint8), "rgb24")))
        made.mux(stream.encode(None))
    return file.getvalue()


FILMS: dict[str, tuple[bytes, str]] = {
    "an empty film": (b"", "the file is empty"),
    "noise called mp4": (np.random.default_rng(0).bytes(4096), "no film of a known format"),
    "text called mp4": (b"this is no film", "no film of a known format"),
    "a picture called mp4": (png(), "no film of a known format"),
    "a list of other files called mp4": (
        b"ffconcat version 1.0\nfile ../outside/secret.png\n",
        "no film of a known format",
    ),
    "a playlist called mp4": (
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n../outside/secret.png\n",
        "no film of a known format",
    ),
    "subtitles called mp4": (b"1\n00:00:00,000 --> 00:00:09,000\nhello\n", "no film of a known format"),
    "an mp4 of no tracks": (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\0\0\0\x08moov", "it has no frames"),
    "an mp4 whose box is endless": (
        b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\xff\xff\xff\xffmoov" + bytes(99),
        "it has no frames",
    ),
    "a webm of an endless segment": (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x08" + b"\xff" * 7, "cut short"),
}
for _name, (_body, _reason) in FILMS.items():

    def _film(root: Path, body: bytes = _body) -> None:
        outside(root)
        for k in range(5):
            (root / f"good-{k}.mp4").write_bytes(film())
        (root / "bad.mp4").write_bytes(body)

    add(_name, Kind(_film, 5, rf"1 of 6 videos cannot be read, the first is 'bad.mp4' \(.*{_reason}"))


# ---- stores, whose manifest is sealed but says odd things


def stored(root: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A store with a manifest that was changed, and sealed again."""
    from elegan.data.form import Form
    from elegan.data.sources import prepare

    good(root / "in")
    prepare(root / "in", root / "store", form=Form())
    said = json.loads((root / "store" / "store.json").read_text())
    said.pop("sha256")
    said = change(said) or said
    sealed = {**said, "sha256": hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()}
    (root / "store" / "store.json").write_text(json.dumps(sealed))
    return root / "store"


def _set(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(said: dict[str, Any]) -> None:
        inside: Any = said
        for key in keys[:-1]:
            inside = inside[key]
        if to is None:
            del inside[keys[-1]]
        else:
            inside[keys[-1]] = to

    return change


REAL = ("splits", "train", "fields", "real")
STORES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "of another version": (_set("format", to="elegan store 999"), "'elegan store 999'"),
    "of another program": (_set("format", to="\x1b[2J"), "it is no store's"),
    "without splits": (_set("splits", to=None), "store.json' is"),
    "without a form": (_set("form", to=None), "store.json' is"),
    "whose form is a list": (_set("form", to=[1]), "store.json' is"),
    "whose splits are a list": (_set("splits", to=["train"]), "store.json' is"),
    "without fields": (_set("splits", "train", "fields", to=None), "store.json' is"),
    "whose fields are texts": (_set(*REAL, to="real"), "store.json' is"),
    "without a file": (_set(*REAL, "file", to=None), "store.json' is"),
    "whose file is a number": (_set(*REAL, "file", to=7), "store.json' is"),
    "whose file lies outside": (_set(*REAL, "file", to="../../outside/secret.npy"), "secret.npy' is missing"),
    "of another shape": (_set(*REAL, "shape", to=[9, 3, 24, 32]), "train-real.npy' is missing, cut short or damaged"),
    "of another type": (_set(*REAL, "dtype", to="<f8"), "train-real.npy' is missing, cut short or damaged"),
    "of fewer checksums": (_set(*REAL, "blocks", to=[]), "train-real.npy' is not of the size"),
    "of other checksums": (_set(*REAL, "blocks", to=["0"]), "train-real.npy' is damaged at byte 0"),
    "whose checksums are a number": (_set(*REAL, "blocks", to=7), "store.json' is"),
    "of an unknown kind": (_set("splits", "train", "spec", "real", "kind", to="magic"), "store.json' is"),
    "of an unknown codec": (_set("splits", "train", "spec", "real", "about", to={"codec": "magic"}), "store.json' is"),
    "with fields that are not there": (
        _set("splits", "train", "spec", "a", to={"kind": "image", "shape": [1], "names": [], "counts": []}),
        "store.json' is",
    ),
    "whose spec is empty": (_set("splits", "train", "spec", to={}), "says only where samples lie in tars"),
    "whose rows are of another shape": (
        _set("splits", "train", "spec", "real", "shape", to=[1, 24, 32]),
        "store.json' is",
    ),
}
for _name, (_change, _words) in STORES.items():

    def _store(root: Path, change: Callable[[dict[str, Any]], Any] = _change) -> Path:
        made = stored(root, change)
        shutil.copy(made / "train-real.npy", outside(root).with_name("secret.npy"))
        return made

    add(f"a store {_name}", Kind(_store, None, _words))


@kind(rows=None, says="store.json' is damaged")
def a_store_without_end(root: Path) -> None:
    (root / "store.json").write_text('{"format": ' + "[" * 200_000)


# ---- lists of what to leave out

LISTS: dict[str, tuple[bytes, int | None, str]] = {
    "no column": (b"file,reason\nx,y\n", None, "it has no column 'name'"),
    "nothing in it": (b"", None, "it has no column 'name'|is no list"),
    "a picture": (png(), None, "is no list of samples"),
    "a zero byte": (b"name,reason\n\0,x\n", None, "list"),
    "a cell of megabytes": (b'name\n"' + b"x" * 3_000_000 + b'"\n', None, "list"),
    "names of other data": (b"name\nother.png\n", None, "has no sample 'other.png'"),
    "names that clear the screen": (b"name\n\x1b[2J\n", None, r"has no sample '\\x1b\[2J'"),
    "all names": (b"name\n" + b"".join(b"good-%d.png\n" % k for k in range(5)), None, "no sample of 'main' is left"),
    "a name twice and one too many": (
        b"name,reason\ngood-0.png,x\ngood-0.png\nnone.png,x\n",
        4,
        "has no sample 'none.png'",
    ),
    "other bytes in it": (b"name\ngood-0.png\n\xff\n", 4, r"has no sample '\\udcff'"),
}
for _name, (_body, _rows, _words) in LISTS.items():

    def _list(root: Path, body: bytes = _body) -> Path:
        good(root / "in")
        (root / "list.csv").write_bytes(body)
        return root / "in"

    add(f"a list with {_name}", Kind(_list, _rows, _words, {"without": "root/list.csv"}))
