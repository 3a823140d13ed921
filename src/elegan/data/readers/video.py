"""Film -> clips uint8 (C, T, H, W): mp4, mov, mkv, webm and avi; or folders of frames, each leaf folder a film.

Rate: the frame nearest to each time k / fps is taken, of `fps` or of the file's own average rate; a film of even rate
    is so read frame by frame. All have one rate, or are brought to one. Frames in folders have no rate but `fps`.
Length: all films are equally long, or clips of so many `frames`: a longer one gives one clip after another, what is
    left at its end is left out, told; a shorter one cannot be read.
Frames: upright by the file's rotation, with square pixels; grey if all files are; to a size as images are. Of frames in
    folders also all that holds of images, in 8 bits. They are taken by the numbers in their names: 9 before 10.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from elegan.data.codecs.video import VideoCodec, load_av
from elegan.data.form import Form
from elegan.data.listing import Layout, Listing, Sample
from elegan.data.readers import picture
from elegan.data.readers.files import arranged
from elegan.data.readers.picture import Pictures
from elegan.data.readers.pieces import cut, piece_of
from elegan.data.tree import Entry, Tree
from elegan.errors import DataError
from elegan.spec import Field

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})
BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # that an MP4 or MOV may begin with
FRAMES = ".frames"  # the suffix that a folder of frames goes by
ROW = 1 << 30  # bytes of one clip at most
CLAIMED = 1 << 22  # frames that a film may claim: 38 hours at 30 a second
FPS = 25.0  # of frames in folders, if nothing is said


@dataclass(frozen=True)
class Look:
    """What a film's header and first frame say: its upright size in square pixels, frames, frames per second, and
    whether it is grey."""

    width: int
    height: int
    frames: int
    fps: float
    grey: bool

    def length(self, fps: float | None) -> int:
        """Frames at a rate."""
        return self.frames if fps is None else int(self.frames / self.fps * fps + 1e-6)


@dataclass(frozen=True)
class Films:
    """The decoder of film, in a form."""

    form: Form
    kind = "video"
    version = 1

    def look(self, files: Sequence[BinaryIO]) -> Look:
        """Errors: what the decoder raises on damaged bytes; `ValueError` if it is empty, too large, or too short."""
        with _opened(files[0]) as film:
            frames = film.stream.frames or sum(1 for packet in film.container.demux(film.stream) if packet.size)
            film.container.seek(0)
            first = next(film.decoded(), None)
            if first is None or not frames:
                raise ValueError("it has no frames")
            if frames > CLAIMED:
                raise ValueError(f"it claims {frames:,} frames")
            width, height = round(first.width * film.aspect), first.height
            if first.rotation % 180:
                width, height = height, width
            look = Look(width, height, frames, film.fps, first.format.name.startswith("gray"))
        if self.form.frames and look.length(self.form.fps) < self.form.frames:
            raise ValueError(f"it has {look.length(self.form.fps)} frames, fewer than {self.form.frames}")
        return look

    def settle(self, looks: Sequence[tuple[str, Look]], *, name: str) -> Layout:
        """Errors: `DataError` if sizes, rates or lengths are mixed and none is asked for, or a clip is too large."""
        (first_name, first), size = looks[0], self.form.pixels
        for other_name, look in looks:
            _same(name, "sizes", "--size 64", size is not None, {
                first_name: f"{first.width}x{first.height}", other_name: f"{look.width}x{look.height}",
            })  # fmt: skip
            _same(name, "frame rates", "--fps 12", self.form.fps is not None, {
                first_name: f"{first.fps:.2f} frames a second", other_name: f"{look.fps:.2f}",
            })  # fmt: skip
            _same(name, "lengths", "--frames 16", self.form.frames is not None, {
                first_name: f"{first.length(self.form.fps)} frames", other_name: f"{look.length(self.form.fps)}",
            })  # fmt: skip
        colours = 1 if all(look.grey for _, look in looks) else 3
        if self.form.colour != "keep":
            colours = 1 if self.form.colour == "grey" else 3
        length = self.form.frames or first.length(self.form.fps)
        shape = (colours, length, *(size or (first.height, first.width)))
        if np.prod(shape, dtype=float) > ROW:
            raise DataError(f"{name!r}: a clip of {length} frames takes {np.prod(shape):,} bytes: use --frames 16")
        return Layout(shape, "uint8", {"fps": self.form.fps or first.fps, "mode": "L" if colours == 1 else "RGB"})

    def read(self, files: Sequence[BinaryIO], layout: Layout) -> np.ndarray:
        """uint8 (C, T, H, W). Errors: as `look`, and `ValueError` if it ends before its header says."""
        colours, length, *size = layout.shape
        start, fps = piece_of(files) * length, float(layout.about["fps"])
        row = np.empty(layout.shape, np.uint8)
        with _opened(files[0]) as film:
            for k, frame in enumerate(film.nearest([(start + k) / fps for k in range(length)])):
                row[:, k] = self._brought(
                    _upright(frame, "gray" if colours == 1 else "rgb24", film.aspect), tuple(size)
                )
        return row

    def _brought(self, pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """(C, h, w) -> (C, H, W)."""
        if pixels.shape[1:] == size:
            return pixels
        if self.form.pixels is None:
            raise ValueError(f"a frame is {pixels.shape[2]}x{pixels.shape[1]}, the first was {size[1]}x{size[0]}")
        return picture.formed(pixels[None], self.form, "a frame")[0]

    def field(self, layout: Layout, low: float, high: float) -> Field:
        codec = VideoCodec(layout.about["fps"], layout.about["mode"])
        return Field("video", layout.shape, about=codec.to_json())


def _same(name: str, what: str, remedy: str, asked: bool, said: dict[str, str]) -> None:
    (first, a), (other, b) = (*said.items(), *said.items())[:2]
    if not asked and a.split()[0] != b.split()[0]:
        raise DataError(f"{name!r} mixes {what}: {first!r} is {a}, {other!r} is {b}: use {remedy}")


@dataclass(frozen=True)
class _Film:
    """An opened film. aspect: how much wider than high a pixel is."""

    container: Any
    stream: Any
    fps: float
    aspect: float

    def __enter__(self) -> "_Film":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.container.close()
        if isinstance(error, load_av().FFmpegError):
            raise _damaged(error) from error

    def decoded(self) -> Any:
        return self.container.decode(self.stream)

    def nearest(self, times: Sequence[float]) -> Any:
        """The frame nearest to each of some times, rising, in seconds from the first frame."""
        base = self.stream.time_base
        origin = self.stream.start_time or 0
        if times[0] > 1:
            self.container.seek(origin + int((times[0] - 1) / base), stream=self.stream)
        wanted, last, seen = 0, None, -1.0
        for frame in self.decoded():
            now = float((frame.pts - origin) * base) if frame.pts is not None else seen + 1 / self.fps
            while wanted < len(times) and last is not None and times[wanted] < (seen + now) / 2:
                yield last
                wanted += 1
            if wanted == len(times):
                return
            last, seen = frame, now
        while wanted < len(times) and last is not None and times[wanted] < seen + 1.5 / self.fps:
            yield last
            wanted += 1
        if wanted < len(times):
            raise ValueError(f"it ends after {seen + 1 / self.fps:.2f} s, its header says more")


def _opened(file: BinaryIO) -> _Film:
    """A film whose header is read. Errors: `ValueError` if it is empty, no film, or its frames are too large."""
    av = load_av()
    form = _format(file)
    try:
        container = av.open(file, format=form, metadata_errors="replace")
    except av.FFmpegError as error:
        raise _damaged(error) from error
    try:
        if not container.streams.video:
            raise ValueError("it has no frames, only sound" if container.streams.audio else "it has no frames")
        stream = container.streams.video[0]
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > picture.PIXELS:
            raise ValueError(f"{width}x{height} is more than {picture.PIXELS:,} pixels")
        if not stream.average_rate:
            raise ValueError("its frames have no rate")
        stream.codec_context.thread_count = 1  # samples are decoded side by side already
        return _Film(container, stream, float(stream.average_rate), float(stream.sample_aspect_ratio or 1))
    except BaseException:
        container.close()
        raise


def _damaged(error: Any) -> ValueError:
    return ValueError(f"it is no film, damaged, or cut short ({error.strerror})")


def _format(file: BinaryIO) -> str:
    """The format of a file, by how it begins: the library is to try no other, for some, such as playlists, make it open
    further files. Errors: `ValueError` if it is empty, none of them, or seen to be cut short."""
    head = file.read(4096)
    size = file.seek(0, 2)
    file.seek(0)
    if not head:
        raise ValueError("the file is empty")
    if head[4:8] in BOXES:
        return "mov"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        raise ValueError("it is no film of a known format")
    if (said := _segment(head)) > size:
        raise ValueError(f"it is cut short: {size:,} of {said:,} bytes")
    return "matroska"


def _segment(head: bytes) -> int:
    """Where the segment of a Matroska or WebM file ends, by what it says (RFC 8794, section 4; RFC 9559, section 5.1),
    0 if it does not: the library would read what there is without a word."""
    start = head.find(b"\x18\x53\x80\x67") + 4
    if start < 4 or len(head) < start + 8 or not head[start]:
        return 0
    width = 9 - head[start].bit_length()  # of the number: its leading zeros say how many bytes it has
    length = int.from_bytes(head[start : start + width], "big") - (1 << 7 * width)
    return 0 if length == (1 << 7 * width) - 1 else start + width + length  # all ones is a length that is not known


def _upright(frame: Any, form: str, aspect: float) -> np.ndarray:
    """A frame -> (C, H, W), turned as the file says, with square pixels."""
    width = round(frame.width * aspect)
    pixels = (frame.reformat(width=width, interpolation="LANCZOS") if width != frame.width else frame).to_ndarray(
        format=form
    )
    pixels = np.rot90(pixels, frame.rotation // 90)  # both turn left
    return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))


@dataclass(frozen=True)
class Frames:
    """The decoder of films that are images, in a form."""

    form: Form
    kind = "video"
    version = 1

    @property
    def _pictures(self) -> Pictures:
        return Pictures(replace(self.form, bits="8"))

    def look(self, files: Sequence[BinaryIO]) -> tuple[Any, int]:
        """What the first frame's header says, and the number of frames. Errors: as that of images."""
        looks = [self._pictures.look([file]) for file in files]
        if self.form.frames and len(files) < self.form.frames:
            raise ValueError(f"it has {len(files)} frames, fewer than {self.form.frames}")
        if odd := next((k for k, look in enumerate(looks) if look != looks[0]), None):
            raise ValueError(f"frame {odd} is another kind of image than the first")
        return looks[0], len(files)

    def settle(self, looks: Sequence[tuple[str, tuple[Any, int]]], *, name: str) -> Layout:
        """Errors: `DataError` if sizes or lengths are mixed."""
        plain = self._pictures.settle([(called, look) for called, (look, _) in looks], name=name)
        (first_name, (_, length)) = looks[0]
        for other_name, (_, other) in looks:
            _same(name, "lengths", "--frames 16", False, {first_name: f"{length} frames", other_name: f"{other}"})
        if length * np.prod(plain.shape, dtype=float) > ROW:
            raise DataError(f"{name!r}: a clip of {length} frames takes over {ROW:,} bytes: use --frames 16")
        return Layout((plain.shape[0], length, *plain.shape[1:]), "uint8", {**plain.about, "fps": self.form.fps or FPS})

    def read(self, files: Sequence[BinaryIO], layout: Layout) -> np.ndarray:
        """uint8 (C, T, H, W). Errors: as those of images."""
        plain = Layout((layout.shape[0], *layout.shape[2:]), "uint8", layout.about)
        return np.stack([self._pictures.read([file], plain) for file in files], 1)

    field = Films.field


def of_tree(tree: Tree, *, name: str, split: str, form: Form) -> Listing:
    """The films of a tree, or its folders of frames; in clips if a length is asked for, which looks at their headers.

    Errors: as `arranged`.
    """
    if not any(entry.suffix in SUFFIXES for entry in tree.entries):
        return _of_frames(tree, name=name, split=split, form=form)
    decoder = Films(form)
    listing = arranged(tree, name=name, split=split, form=form, suffixes=SUFFIXES, decoder=decoder)
    if form.frames is None:
        return listing
    told = _Told()

    def clips(part: Sequence[Entry]) -> int:
        try:
            with tree.open(part[0]) as file:
                length = decoder.look([file]).length(form.fps)
        except Exception:  # decoders fed damaged bytes raise what they like; the survey tells of it
            return 1
        return told.of(length, form.frames or length)

    return replace(cut(listing, clips), what=f"of {form.frames} frames{told.words()} {listing.what}")


@dataclass
class _Told:
    """What cutting changes."""

    cut: int = 0
    left: int = 0

    def of(self, length: int, frames: int) -> int:
        """How many clips a film gives."""
        self.cut += length // frames > 1
        self.left += length % frames
        return length // frames

    def words(self) -> str:
        said = [f"{self.cut:,} films cut to clips"] * bool(self.cut)
        said += [f"{self.left:,} frames at ends left out"] * bool(self.left)
        return f" ({', '.join(said)})" if said else ""


@dataclass
class _Folders:
    """A tree whose entries are the folders of frames of another."""

    root: str
    entries: tuple[Entry, ...]
    passed: tuple[tuple[str, str], ...]

    def open(self, entry: Entry) -> BinaryIO:
        raise TypeError("a folder is not opened")


def _of_frames(tree: Tree, *, name: str, split: str, form: Form) -> Listing:
    """Leaf folders of frames, arranged as if each were one file."""
    folders: dict[tuple[str, ...], list[Entry]] = {}
    for entry in tree.entries:
        if entry.suffix in picture.SUFFIXES:
            folders.setdefault(entry.parts[:-1] or ("frames",), []).append(entry)
    entries = tuple(
        Entry((*parts[:-1], parts[-1] + FRAMES), 0, "", tuple(sorted(frames, key=_order)))
        for parts, frames in sorted(folders.items())
    )
    seen = _Folders(tree.root, entries, tree.passed)
    listing = arranged(seen, name=name, split=split, form=form, suffixes=(FRAMES,), decoder=Frames(form))
    told = _Told()

    def clips(sample: Sample) -> list[Sample]:
        plain, parts = sample.name.removesuffix(FRAMES), [part[0].place for part in sample.parts]
        shortest = min(map(len, parts))
        length = form.frames or max(map(len, parts))
        count = told.of(shortest, length)
        return [
            replace(
                sample,
                name=plain + f"#{k}" * (count > 1),
                parts=tuple(frames[k * length :][:length] for frames in parts),
            )
            for k in range(max(1, count))
        ]

    streams = {
        stream: [clip for sample in those for clip in clips(sample)] for stream, those in listing.streams.items()
    }
    what = f"{told.words().strip()} {listing.what}".strip()
    return replace(listing, tree=tree, streams=streams, what=what)


def _order(entry: Entry) -> list[tuple[int, str]]:
    """The key that sorts names by the numbers in them."""
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", entry.parts[-1])]
