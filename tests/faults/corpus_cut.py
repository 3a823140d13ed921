"""A whole file of each format, to be cut. Images, sound and film lie beside five good ones; the others on their own."""

import gzip
import io
import struct
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.corpus import ROWS, good, one_file, png
from tests.faults.corpus_archives import tarred, zipped
from tests.faults.corpus_arrays import FIVE, cells, hdf5, npy, npz, parquet
from tests.faults.corpus_files import film, stored

IDX = struct.pack(">HBBIII", 0, 8, 3, *ROWS.shape) + ROWS.tobytes()


@dataclass(frozen=True)
class Cut:
    """file: what is cut of what `make` makes. rows: how many samples may be left. codes: of the command line. shorter:
    what is left may be taken for a shorter whole, as a text's; then nothing need be said. says: instead of the file."""

    make: Callable[[Path], Path | None]
    file: str
    rows: tuple[int, ...] = ()
    codes: tuple[int, ...] = (3,)
    shorter: bool = False
    says: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def _picture(form: str, file: str) -> Cut:
    def make(root: Path) -> None:
        good(root)
        (root / file).write_bytes(png(form=form))

    return Cut(make, file, (5,), (0,))


def _sound(form: str, file: str) -> Cut:
    def make(root: Path) -> None:
        import soundfile

        noise = np.random.default_rng(0).normal(0, 0.1, 4000)
        for k in range(5):
            soundfile.write(root / f"good-{k}.wav", noise, 8000)
        soundfile.write(root / file, noise, 8000, format=form)

    return Cut(make, file, (5,), (0,))


def _films(root: Path) -> None:
    for k in range(5):
        (root / f"good-{k}.mp4").write_bytes(film())
    (root / "bad.mp4").write_bytes(film())


def _shards(root: Path) -> None:
    with tarfile.open(root / "x-000000.tar", "w") as packed:
        for k in range(5):
            about = tarfile.TarInfo(f"{k}.png")
            about.size = len(png(k))
            packed.addfile(about, io.BytesIO(png(k)))


def _packed(file: Any) -> None:
    file.create_dataset("real", data=ROWS, chunks=(1, 24, 32), compression="gzip")


def _arrow(root: Path) -> Path:
    import pyarrow

    table = pyarrow.table({"image": cells(*FIVE)})
    with pyarrow.ipc.new_file(root / "x.arrow", table.schema) as writer:
        writer.write_table(table)
    return root / "x.arrow"


def _stream(root: Path) -> Path:
    import pyarrow

    table = pyarrow.table({"image": cells(*FIVE)})
    with pyarrow.ipc.new_stream(root / "x.arrow", table.schema) as writer:
        writer.write_table(table, 1)
    return root / "x.arrow"


def _database(root: Path) -> None:
    import lmdb

    with lmdb.open(str(root), map_size=1 << 20) as env, env.begin(write=True) as writer:
        for k in range(40):
            writer.put(b"%040x" % k, png(k))
    (root / "lock.mdb").unlink()


def _store(root: Path) -> Path:
    return stored(root, lambda said: None)


TABLE = "a,b\n" + "".join(f"{k / 7},{k}\n" for k in range(40))
CUTS: dict[str, Cut] = {
    "png": _picture("PNG", "bad.png"),
    "jpg": _picture("JPEG", "bad.jpg"),
    "webp": _picture("WEBP", "bad.webp"),
    "bmp": _picture("BMP", "bad.bmp"),
    "gif": _picture("GIF", "bad.gif"),
    "tif": _picture("TIFF", "bad.tif"),
    "wav": _sound("WAV", "bad.wav"),
    "flac": _sound("FLAC", "bad.flac"),
    "ogg": _sound("OGG", "bad.ogg"),
    "mp4": Cut(_films, "bad.mp4", (5,), (0,)),
    "npy": Cut(one_file("x.npy", npy(ROWS)), "x.npy"),
    "npz": Cut(one_file("x.npz", npz(real=ROWS, label=np.arange(6) % 2)), "x.npz"),
    "idx": Cut(one_file("train-images-idx3-ubyte", IDX), "train-images-idx3-ubyte"),
    "idx.gz": Cut(one_file("train-images-idx3-ubyte.gz", gzip.compress(IDX)), "train-images-idx3-ubyte.gz"),
    "zip": Cut(zipped, "x.zip"),
    "tar": Cut(tarred, "x.tar", (5,), (0, 3), shorter=True),  # filled up with zeros, which are nothing
    "tar.gz": Cut(lambda root: tarred(root, name="x.tar.gz", mode="w:gz"), "x.tar.gz"),
    "tar.xz": Cut(lambda root: tarred(root, name="x.tar.xz", mode="w:xz"), "x.tar.xz"),
    "shards": Cut(_shards, "x-000000.tar", (5,), (0, 3), shorter=True),
    "h5": Cut(lambda root: hdf5(root, _packed), "x.h5"),
    "parquet": Cut(lambda root: parquet(root, {"image": cells(*FIVE)}), "x.parquet"),
    "arrow": Cut(_arrow, "x.arrow"),
    "arrow stream": Cut(_stream, "x.arrow"),
    "lmdb": Cut(_database, "data.mdb", says="is no whole LMDB database"),
    "store": Cut(_store, "train-real.npy"),
    "a store's manifest": Cut(_store, "store.json"),
    "csv": Cut(one_file("x.csv", TABLE.encode()), "x.csv", tuple(range(1, 40)), (0, 3), shorter=True),
    "txt": Cut(one_file("x.txt", ("größer\n" * 20).encode()), "x.txt", tuple(range(1, 21)), (0, 3), shorter=True),
}
