"""What data costs: packing photos, feeding a training from a packed store, a batch against a DataLoader.

    python benchmarks/data.py [--files 10000] [--pngs 2000] [--steps 938] [--only pack feed batch]

pack    JPEGs of 500x375 to 64x64 by `elegan data prepare`, against a plain loop in one process (open, RGB, fit by
        Lanczos), and against two processes that do nothing but decode and resize half of the files each, as the loop
        does it and by elegan's own decoder: what two cores can do at most.
feed    the default training on digits from a packed store: the share of its time that goes into its batches, in the
        first epoch with the store's files out of the system's cache (dropped by POSIX_FADV_DONTNEED and counted by
        mincore), and in another with them in it.
batch   64 images of 64x64 from memory, against a DataLoader with two workers over PNG files.

The sides of a comparison take three turns each, so that what else the machine does falls on all.
"""

import argparse
import ctypes
import gc
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

import elegan
from elegan import api
from elegan.data import sources, store
from elegan.data.batches import Batches
from elegan.data.form import Form
from elegan.data.pack import survey
from elegan.data.sources import find_data, open_data

SIDE = 64
FORM = {"size": SIDE}


def photo(seed: int, size: tuple[int, int] = (500, 375)) -> Image.Image:
    """Something like a photo: soft shapes of colour, and grain."""
    draw = np.random.default_rng(seed)
    soft = Image.fromarray(draw.integers(0, 256, (8, 10, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = draw.normal(0, 8, (size[1], size[0], 1))
    return Image.fromarray((np.asarray(soft) + grain).clip(0, 255).astype(np.uint8))


def photos(folder: Path, count: int, end: str = ".jpg", **about: int) -> Path:
    """So many different ones; beyond 500 they repeat, in files of their own."""
    folder.mkdir(parents=True)
    for k in range(count):
        if k < 500:
            photo(k, **about).save(folder / f"{k:05}{end}", quality=90)
        else:
            shutil.copyfile(folder / f"{k % 500:05}{end}", folder / f"{k:05}{end}")
    return folder


def plainly(files: list[Path]) -> np.ndarray:
    """The loop that everybody writes."""
    rows = []
    for file in files:
        with Image.open(file) as image:
            fitted = ImageOps.fit(image.convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS)
        rows.append(np.asarray(fitted))
    return np.stack(rows)


def decode(folder: str, part: int) -> None:
    """Every second file, decoded and resized, and dropped."""
    listing = find_data(folder, form=Form.of(FORM))
    decoder, layout = listing.decoders["real"], survey(listing.only(lambda name: name < "00009")).layouts["real"]
    for sample in listing.streams["main"][part::2]:
        for file in listing.open(sample.parts[0]):
            with file:
                decoder.read([file], layout)


def at_most(works: list[Callable[[], object]]) -> float:
    """Seconds of some processes at once."""
    sides = [get_context("fork").Process(target=work) for work in works]
    start = time.perf_counter()
    for side in sides:
        side.start()
    for side in sides:
        side.join()
    return time.perf_counter() - start


def packed(folder: Path, out: Path) -> float:
    start = time.perf_counter()
    sources.prepare(folder, out, form=Form.of(FORM))
    return time.perf_counter() - start


def packing(place: Path, count: int) -> dict[str, float]:
    """Seconds for all files of the plain loop, of packing, and of two processes that only decode and resize, as the
    loop does it and as elegan does, in three turns."""
    spent = dict.fromkeys(("plain", "packed", "two plain", "two"), 0.0)
    for turn in range(3):
        folder = photos(place / f"photos-{turn}", max(12, count // 3))
        os.sync()  # or the first who brings a file to the disk waits for these
        start = time.perf_counter()
        files = sorted(folder.iterdir())
        plainly(files)
        spent["plain"] += time.perf_counter() - start
        spent["packed"] += packed(folder, place / f"store-{turn}")
        spent["two plain"] += at_most([partial(plainly, files[part::2]) for part in (0, 1)])
        spent["two"] += at_most([partial(decode, str(folder), part) for part in (0, 1)])
        shutil.rmtree(folder)
    return spent


def resident(file: Path) -> float:
    """The share of a file's pages that the system has in memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as pages:
        at = np.frombuffer(pages, np.uint8)
        seen = np.zeros(-(-len(at) // mmap.PAGESIZE), np.uint8)
        if libc.mincore(ctypes.c_void_p(at.ctypes.data), ctypes.c_size_t(len(at)), ctypes.c_void_p(seen.ctypes.data)):
            raise OSError(ctypes.get_errno(), "mincore")
        del at
    return float((seen & 1).mean())


def dropped(folder: Path) -> float:
    """Take a store's files out of the system's cache; the share that is still there."""
    gc.collect()
    files = list(folder.glob("*.npy"))
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return max(map(resident, files))


class Timed(Batches):
    """Batches that note how long they take."""

    spent = 0.0

    def __call__(self, *about, **more):
        start = time.perf_counter()
        try:
            return super().__call__(*about, **more)
        finally:
            Timed.spent += time.perf_counter() - start


def fed(path: Path, steps: int, out: Path) -> tuple[float, float]:
    """Seconds in the batches, and in all, of the steps of a default training."""
    api.Batches, Timed.spent = Timed, 0.0
    marks: list[float] = []
    before = 0.0

    def note(event):
        nonlocal before
        if event.step == 1:  # the first is of what is made once; its batch counts
            marks.append(time.perf_counter())
            before = Timed.spent
        if event.step == steps:
            marks.append(time.perf_counter())
            marks.append(Timed.spent)

    try:
        elegan.train(data=path, out=out, steps=steps, listeners=[note])
    finally:
        api.Batches = Batches
    return marks[2], marks[1] - marks[0] + before


def feeding(place: Path, steps: int) -> dict[str, tuple[float, float]]:
    """As `fed`, with the store's files out of the cache at first, and in it."""
    path = place / "digits"
    sources.prepare("digits", path, form=Form())
    store.CHECKED = 0  # of large stores, what was found whole once is not read again
    open_data(path)
    found = {}
    left = dropped(path)
    print(f"feed: {left:.1%} of the store is in the system's cache")
    found["cold"] = fed(path, steps, place / "cold")
    found["warm"] = fed(path, steps, place / "warm")
    return found


class Files(torch.utils.data.Dataset):
    """PNG files as everybody reads them."""

    def __init__(self, folder: Path):
        self.files = sorted(folder.iterdir())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, k: int) -> torch.Tensor:
        with Image.open(self.files[k]) as image:
            pixels = np.asarray(image.convert("RGB"))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div_(127.5).sub_(1)


def batching(place: Path, count: int) -> dict[str, float]:
    """Seconds a batch of 64, by a DataLoader (its workers being up) and by elegan, in three turns."""
    folder = photos(place / "pngs", max(256, count), ".png", size=(SIDE, SIDE))
    batches = Batches(open_data(folder), rows=64)
    spent = dict.fromkeys(("loader", "elegan"), 0.0)
    for turn in range(3):
        loader = torch.utils.data.DataLoader(Files(folder), 64, shuffle=True, num_workers=2, drop_last=True)
        arriving = iter(loader)
        next(arriving)
        start = time.perf_counter()
        spent["loader"] += sum(1 for _ in arriving) and (time.perf_counter() - start) / (len(loader) - 1) / 3
        start = time.perf_counter()
        for number in range(300):
            batches(turn, number, 0, 64)
        spent["elegan"] += (time.perf_counter() - start) / 300 / 3
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--pngs", type=int, default=2_000)
    parser.add_argument("--steps", type=int, default=938, help="of the default training; 938 are an epoch")
    parser.add_argument("--only", nargs="+", choices=["pack", "feed", "batch"], default=["pack", "feed", "batch"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["ELEGAN_CACHE"] = f"{folder}/cache"
        if "pack" in asked.only:
            spent = packing(place, asked.files)
            print(f"pack: {spent['packed']:.2f} s, {spent['plain'] / spent['packed']:.2f} x the plain loop, ", end="")
            print(f"{spent['two plain'] / spent['packed']:.0%} of two processes of it that keep nothing, ", end="")
            print(f"{spent['two'] / spent['packed']:.0%} of two of elegan's decoder")
        if "feed" in asked.only:
            for name, (batches, total) in feeding(place, asked.steps).items():
                print(f"feed, {name}: {batches:.3f} s of {total:.1f} s in batches, {batches / total:.2%}")
        if "batch" in asked.only:
            spent = batching(place, asked.pngs)
            print(f"batch: {spent['elegan'] * 1e3:.3f} ms, {spent['loader'] / spent['elegan']:.0f} x the DataLoader")


if __name__ == "__main__":
    main()
