"""The codec of sound: waveforms (C, T) between -1 and 1, and the log-mel spectrograms that belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from elegan.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

FULL = 32_768.0  # full scale of 16 bits
LINEAR, LOWEST_LOG, STEP = 200 / 3, 1_000.0, np.log(6.4) / 27  # of the mel scale, in Hz, Hz, and per mel


@dataclass(frozen=True)
class Mel:
    """A log-mel spectrogram: log(max(floor, M |STFT|)), M the filters below, the STFT with a Hann window, centred.

    rate: samples per second. n_fft: samples of a frame. hop: samples from one to the next. n_mels: number of filters.
    fmin, fmax: where they begin and end, in Hz.
    """

    rate: int
    n_fft: int = 1024
    hop: int = 256
    n_mels: int = 80
    fmin: float = 0.0
    fmax: float = 8000.0
    floor: ClassVar[float] = 1e-5
    _placed: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of_rate(cls, rate: int) -> Mel:
        """The usual parameters at a rate: a frame of about 46 ms, a hop of a quarter, as many filters as have bins."""
        n_fft = 1 << max(6, round(np.log2(rate * 1024 / 22_050)))
        return cls(rate, n_fft, n_fft // 4, min(80, n_fft // 8), 0.0, min(8000.0, rate / 2))

    @cached_property
    def filters(self) -> np.ndarray:
        """Triangles of area 1 on Slaney's scale, linear to 1 kHz and logarithmic above (Slaney 1998, Auditory Toolbox,
        Interval Research report 1998-010); float64 (n_mels, n_fft // 2 + 1)."""
        low, high = mels(np.array([self.fmin, self.fmax])).tolist()
        ends = hertz(np.linspace(low, high, self.n_mels + 2))
        bins = np.linspace(0, self.rate / 2, self.n_fft // 2 + 1)
        left, top, right = (ends[k : k + self.n_mels, None] for k in range(3))
        up, down = (bins - left) / (top - left), (right - bins) / (right - top)
        return np.maximum(0, np.minimum(up, down)) * (2 / (right - left))

    def __call__(self, waves: Tensor) -> Tensor:
        """Waveforms (B, C, T) -> (B, C, n_mels, T // hop + 1), with gradients."""
        filters, _ = self._on(waves)
        return (filters @ self._stft(waves).abs()).clamp(min=self.floor).log()

    def invert(self, spectrogram: Tensor, length: int, *, rounds: int = 60) -> Tensor:
        """Log-mel (B, C, n_mels, frames) -> waveforms (B, C, length) to listen to: magnitudes by the filters'
        pseudo-inverse, phases by Griffin and Lim (1984, Signal Estimation from Modified Short-Time Fourier Transform).
        """
        import torch

        _, inverse = self._on(spectrogram)
        size = (inverse @ spectrogram.exp()).clamp(min=0.0)  # (B, C, bins, frames)
        draw = torch.Generator(size.device).manual_seed(0)
        turn = torch.rand(size.shape, generator=draw, device=size.device) * (2 * np.pi)
        wave = self._istft(torch.polar(size, turn), length)
        for _ in range(rounds):
            wave = self._istft(torch.polar(size, self._stft(wave).angle()), length)
        return wave

    def _stft(self, waves: Tensor) -> Tensor:
        import torch

        flat = waves.reshape(-1, waves.shape[-1])
        window = torch.hann_window(self.n_fft, device=waves.device, dtype=waves.dtype)
        made = torch.stft(flat, self.n_fft, self.hop, window=window, pad_mode="constant", return_complex=True)
        return made.reshape(*waves.shape[:-1], *made.shape[-2:])  # (B, C, bins, frames)

    def _istft(self, spectra: Tensor, length: int) -> Tensor:
        import torch

        window = torch.hann_window(self.n_fft, device=spectra.device, dtype=spectra.real.dtype)
        flat = spectra.reshape(-1, *spectra.shape[-2:])
        return torch.istft(flat, self.n_fft, self.hop, window=window, length=length).reshape(
            *spectra.shape[:-2], length
        )

    def _on(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The filters and their pseudo-inverse, in the type and on the device of a tensor."""
        key = like.device, like.dtype
        if key not in self._placed:
            self._placed[key] = like.new_tensor(self.filters), like.new_tensor(np.linalg.pinv(self.filters))
        return self._placed[key]

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("rate", "n_fft", "hop", "n_mels", "fmin", "fmax")}


def mels(hertz: np.ndarray) -> np.ndarray:
    """Hz -> Slaney's mel."""
    high = LOWEST_LOG / LINEAR + np.log(np.maximum(hertz, LOWEST_LOG) / LOWEST_LOG) / STEP
    return np.where(hertz < LOWEST_LOG, hertz / LINEAR, high)


def hertz(mels: np.ndarray) -> np.ndarray:
    """Slaney's mel -> Hz."""
    low = LOWEST_LOG / LINEAR
    return np.where(mels < low, mels * LINEAR, LOWEST_LOG * np.exp(STEP * (np.maximum(mels, low) - low)))


@dataclass(frozen=True)
class AudioCodec:
    """Samples (B, C, T) of int16, x / 32768, or of float32, x / peak, <-> float32 within [-1, 1].

    rate: samples per second. channels: C. dtype: int16 or float32. peak: the greatest size of floats, at least 1.
    subtype: how a sample was kept in the source, and is written, in libsndfile's words such as PCM_16.
    """

    rate: int
    channels: int = 1
    dtype: str = "int16"
    peak: float = 1.0
    subtype: str = "PCM_16"
    kind: ClassVar[str] = "audio"

    @property
    def mel(self) -> Mel:
        """The log-mel spectrogram that is usual at this rate, for a derived field:
        `Batches(source, rows=64, derived={"mel": lambda batch: codec.mel(batch["real"])})`."""
        return Mel.of_rate(self.rate)

    def encode(self, rows: Tensor) -> Tensor:
        return rows.float().div_(self._scale) if self.dtype == "int16" else rows / self._scale

    def decode(self, batch: Tensor) -> np.ndarray:
        """float (B, C, T) -> the same in the type of the data; what lies outside [-1, 1] is clamped."""
        samples = batch.detach().float().mul(self._scale)
        if self.dtype == "int16":
            return samples.round_().clamp_(-FULL, FULL - 1).cpu().numpy().astype(np.int16)
        return samples.clamp_(-self.peak, self.peak).cpu().numpy()

    def write(self, rows: np.ndarray, folder: Path, note: str = "") -> list[Path]:
        """One WAV a row, in the source's rate, channels and subtype. note: kept in the file as its comment."""
        soundfile = load_soundfile()
        width, paths = max(5, len(str(len(rows)))), []
        for k, row in enumerate(rows):
            paths.append(folder / f"{k:0{width}d}.wav")
            with soundfile.SoundFile(paths[-1], "w", self.rate, self.channels, self.subtype, format="WAV") as file:
                if note:
                    file.comment = note
                file.write(row.T)
        return paths

    @property
    def _scale(self) -> float:
        return FULL if self.dtype == "int16" else self.peak

    def to_json(self) -> dict[str, Any]:
        return {"codec": {"kind": self.kind, **asdict(self)}, "mel": self.mel.to_json()}

    @classmethod
    def from_json(cls, made: Mapping[str, Any]) -> AudioCodec:
        return cls(**{name: value for name, value in made.items() if name != "kind"})


def load_soundfile() -> Any:
    """The library that reads and writes sound. Errors: `DataError` if it is not installed."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: its own library is missing
        raise DataError('audio needs soundfile: pip install "elegan[audio]"') from error
    return soundfile
