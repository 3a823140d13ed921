"""Sound: wav, flac, ogg (Vorbis, Opus), aiff, mp3 -> rows (C, T), by rules that are stated.

Length: all recordings are equally long, or pieces of so many seconds: a longer one gives one piece after another, what
    is left at its end is a piece too if it is at least half as long; a shorter piece is filled up with silence, told.
Rate: all have one, or are brought to one (soxr, high quality); a piece is resampled with what is before and after it.
Channels: as found; one is copied to as many as the others have; several are mixed down, by their mean, if `mono`.
Depth: 16 bits and less, and what is compressed with loss, are int16; a set with deeper ones is float32. Out of range
    after resampling is clamped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from elegan.data.codecs.audio import AudioCodec, load_soundfile
from elegan.data.form import Form
from elegan.data.listing import Layout, Listing
from elegan.data.readers.files import arranged
from elegan.data.readers.pieces import cut, piece_of
from elegan.data.tree import Entry, Tree
from elegan.errors import DataError
from elegan.spec import Field

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".mp3"})
HEADS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"FORM", b"ID3")  # no other decoder is tried, whatever a file is called
DEEP = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")
SAMPLES = 1 << 28  # of one row, over all channels, at most
ROOMY, SWELL = 1 << 26, 1000  # samples a file may claim whatever its size; beyond them, so many a byte
MARGIN = 0.05  # seconds before and after a piece that are resampled with it, at least


@dataclass(frozen=True)
class Look:
    """What a recording's header says: samples of a channel, how many a second, channels, how a sample is kept."""

    samples: int
    rate: int
    channels: int
    subtype: str

    def at(self, rate: int) -> int:
        """Samples at another rate."""
        return round(self.samples * rate / self.rate)


@dataclass(frozen=True)
class Recordings:
    """The decoder of sound, in a form."""

    form: Form
    kind = "audio"
    version = 1

    def look(self, files: Sequence[BinaryIO]) -> Look:
        """Errors: `ValueError` if it is no recording, damaged, empty, cut short, or claims too much."""
        with _open(files[0]) as sound:
            look = Look(sound.frames, sound.samplerate, sound.channels, sound.subtype)
        size = files[0].seek(0, 2)
        if look.samples <= 0:
            raise ValueError("there is no sound in it")
        if look.samples * look.channels > max(ROOMY, SWELL * size):
            raise ValueError(f"it claims {look.samples:,} samples in {size:,} bytes")
        return look

    def settle(self, looks: Sequence[tuple[str, Look]], *, name: str) -> Layout:
        """Errors: `DataError` if rates, channels or lengths are mixed and none is asked for, or a row is too long."""
        (first_name, first), rate = looks[0], self.form.rate or looks[0][1].rate
        length = first.at(rate) if self.form.seconds is None else round(self.form.seconds * rate)
        for other_name, look in looks:
            if rate != look.rate and self.form.rate is None:
                raise DataError(
                    f"{name!r} mixes rates: {first_name!r} has {first.rate:,} samples a second, "
                    f"{other_name!r} {look.rate:,}: use --rate {rate}"
                )
            if self.form.seconds is None and look.at(rate) != length:
                raise DataError(
                    f"{name!r} mixes lengths: {first_name!r} has {first.samples / first.rate:.3f} s, "
                    f"{other_name!r} {look.samples / look.rate:.3f} s: use --seconds 1"
                )
        found = sorted({look.channels for _, look in looks})
        if not self.form.mono and len(set(found) - {1}) > 1:
            raise DataError(f"{name!r} mixes recordings of {found[-2]} and of {found[-1]} channels: use --mono")
        channels = 1 if self.form.mono else found[-1]
        if length < 1 or length * channels > SAMPLES:
            raise DataError(f"{name!r}: {length:,} samples are no length of a recording: use --seconds 1")
        kept = {look.subtype for _, look in looks}
        deep = bool(kept & {*DEEP})
        subtype = "PCM_16" if not deep else "PCM_24" if not kept & {*DEEP[1:]} else "FLOAT"
        if kept <= {"PCM_U8", "PCM_S8"}:
            subtype = "PCM_U8"
        return Layout((channels, length), "float32" if deep else "int16", {"rate": rate, "subtype": subtype})

    def read(self, files: Sequence[BinaryIO], layout: Layout) -> np.ndarray:
        """int16 or float32 (C, T). Errors: as `look`."""
        channels, length = layout.shape
        with _open(files[0]) as sound:
            start = piece_of(files) * length
            plain = layout.dtype == "int16" and sound.samplerate == layout.about["rate"] and not self.form.mono
            samples = _slice(sound, start, length, layout.about["rate"], "int16" if plain else "float32")  # (T, C)
        if self.form.mono:
            samples = samples.mean(1, keepdims=True)
        if layout.dtype == "int16" and not plain:
            samples = np.rint(samples * 32_768).clip(-32_768, 32_767)
        row = np.zeros((channels, length), layout.dtype)
        row[:, : len(samples)] = samples.T  # one channel is copied to all
        return row

    def field(self, layout: Layout, low: float, high: float) -> Field:
        channels, rate = layout.shape[0], layout.about["rate"]
        peak = 1.0 if layout.dtype == "int16" else max(1.0, -low, high)
        codec = AudioCodec(rate, channels, layout.dtype, peak, layout.about["subtype"])
        return Field("audio", layout.shape, about=codec.to_json())


def of_tree(tree: Tree, *, name: str, split: str, form: Form) -> Listing:
    """The recordings of a tree, cut to pieces if a length is asked for, which looks at their headers.

    Errors: as `arranged`.
    """
    decoder = Recordings(form)
    listing = arranged(tree, name=name, split=split, form=form, suffixes=SUFFIXES, decoder=decoder)
    if form.seconds is None:
        return listing
    told = _Told()
    return replace(
        cut(listing, partial(_pieces, tree, decoder, form.seconds, told)),
        what=f"of {form.seconds:g} s{told.words(len(listing.streams.get('main', ())))} {listing.what}",
    )


@dataclass
class _Told:
    """What cutting changes."""

    cut: int = 0
    padded: int = 0
    dropped: float = 0.0

    def words(self, recordings: int) -> str:
        said = [f"{self.cut:,} of {recordings:,} recordings cut to pieces"] * bool(self.cut)
        said += [f"{self.padded:,} filled up with silence"] * bool(self.padded)
        said += [f"{self.dropped:,.1f} s at ends left out"] * (self.dropped >= 0.05)
        return f" ({', '.join(said)})" if said else ""


def _pieces(tree: Tree, decoder: Recordings, seconds: float, told: _Told, part: Sequence[Entry]) -> int:
    """How many pieces a recording has; a damaged one has one, which will be told."""
    try:
        with tree.open(part[0]) as file:
            look = decoder.look([file])
    except Exception:  # decoders fed damaged bytes raise what they like
        return 1
    rate = decoder.form.rate or look.rate
    length, total = round(seconds * rate), look.at(rate)
    if length < 1:  # which will be refused
        return 1
    count = max(1, total // length + (2 * (total % length) >= length))
    told.cut += count > 1
    told.padded += count * length > total
    told.dropped += max(0, total - count * length) / rate
    return count


def _open(file: BinaryIO) -> Any:
    """A recording, opened. Errors: `ValueError` if it is empty, of no known format, or cut short."""
    head, size = file.read(12), file.seek(0, 2)
    if not head:
        raise ValueError("the file is empty")
    if not head.startswith(HEADS) and not (head[0] == 0xFF and head[1] & 0xE0 == 0xE0):
        raise ValueError("it is no recording of a known format")
    if head[:4] in (b"RIFF", b"FORM"):
        claimed = int.from_bytes(head[4:8], "little" if head[:4] == b"RIFF" else "big") + 8
        if size < claimed < 1 << 32:  # a stream of unknown length claims the most
            raise ValueError(f"it is cut short: {size:,} of {claimed:,} bytes")
    if head.startswith(b"OggS") and not _ended(file):
        raise ValueError("it is cut short: its last page is missing")
    file.seek(0)
    soundfile = load_soundfile()
    try:
        return soundfile.SoundFile(file)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"it is no whole recording: {error.error_string}") from error


def _ended(ogg: BinaryIO) -> bool:
    """Whether an Ogg file ends with a whole page that has the mark of the last (RFC 3533, section 6)."""
    size = ogg.seek(0, 2)
    ogg.seek(max(0, size - (1 << 17)))  # a page has at most 65,307 bytes
    tail = ogg.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27 or not page[5] & 4:
        return False
    segments = page[27 : 27 + page[26]]
    return len(page) >= 27 + page[26] + sum(segments)


def _slice(sound: Any, start: int, length: int, rate: int, dtype: str) -> np.ndarray:
    """Samples start … start + length - 1 of a recording at a rate, fewer if it ends before; (T, C).

    Errors: `ValueError` if it ends before its header says.
    """
    if rate == sound.samplerate:
        return _some(sound, start, start + length, dtype)
    try:
        import soxr
    except ImportError as error:
        raise ValueError('another rate needs soxr: pip install "elegan[audio]"') from error
    common = math.gcd(rate, sound.samplerate)
    block, raw = rate // common, sound.samplerate // common  # so many samples are as long as so many raw ones
    margin = math.ceil(MARGIN * common)
    first, last = max(0, start // block - margin), (start + length) // block + 1 + margin
    samples = soxr.resample(_some(sound, first * raw, last * raw, dtype), sound.samplerate, rate)
    samples = samples[start - first * block :][:length]
    return samples if samples.ndim == 2 else samples[:, None]


def _some(sound: Any, start: int, stop: int, dtype: str) -> np.ndarray:
    wanted = min(stop, sound.frames) - start
    if start:
        sound.seek(start)
    samples = sound.read(wanted, dtype=dtype, always_2d=True)
    if len(samples) != wanted:
        raise ValueError(f"it ends after {start + len(samples):,} of {sound.frames:,} samples")
    return samples
