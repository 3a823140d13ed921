"""Sound against the standard library's reader, closed forms of tones and of the mel scale, and SciPy's transform."""

import json
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import stft

from elegan.data.batches import Batches
from elegan.data.codec import codec_of
from elegan.data.codecs.audio import AudioCodec, Mel, hertz, mels
from elegan.data.form import Form
from elegan.data.sources import open_data, prepare
from elegan.errors import DataError, OptionError
from elegan.exporting.samples import Samples
from elegan.spec import Spec

NOISE = np.random.default_rng(0).integers(-20_000, 20_000, (4000, 2), dtype=np.int16)


def write_wav(path: Path, samples: np.ndarray, rate: int = 8000) -> Path:
    """int16 (T, C) by the standard library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def tone(rate: int, seconds: float, pitch: float = 440.0, level: float = 0.5) -> np.ndarray:
    """(T, 1)."""
    return level * np.sin(2 * np.pi * pitch * np.arange(round(rate * seconds)) / rate)[:, None]


def test_samples_are_those_of_the_file(tmp_path):
    source = open_data(write_wav(tmp_path / "a.wav", NOISE))
    assert source.arrays["real"].dtype == np.int16
    assert np.array_equal(source.arrays["real"][0], NOISE.T)
    assert repr(source.spec) == "Spec(real=audio[2, 4000])"
    for name, subtype in (("b.flac", "PCM_16"), ("c.aiff", "PCM_16")):
        soundfile.write(tmp_path / name, NOISE, 8000, subtype)
        assert np.array_equal(open_data(tmp_path / name).arrays["real"][0], NOISE.T)


def test_depths_are_kept(tmp_path):
    whole = np.random.default_rng(1).integers(-(1 << 23), 1 << 23, (500, 1))
    packed = b"".join(struct.pack("<i", int(x))[:3] for x in whole[:, 0])
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 3, 8000, 0, "NONE", ""))
        file.writeframes(packed)
    deep = open_data(tmp_path / "a.wav")
    assert deep.arrays["real"].dtype == np.float32
    assert np.array_equal(deep.arrays["real"][0, 0].astype(float), whole[:, 0] / (1 << 23))
    assert codec_of(deep.spec["real"]).subtype == "PCM_24"
    soundfile.write(tmp_path / "b.wav", np.arange(-128, 128)[:, None] / 128, 8000, "PCM_U8")
    shallow = open_data(tmp_path / "b.wav")
    assert shallow.arrays["real"][0, 0].tolist() == [256 * k for k in range(-128, 128)]
    assert codec_of(shallow.spec["real"]).subtype == "PCM_U8"
    soundfile.write(tmp_path / "c.ogg", tone(8000, 0.5), 8000)
    assert open_data(tmp_path / "c.ogg").arrays["real"].dtype == np.int16
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    write_wav(mixed / "a.wav", NOISE[:500, :1])
    (tmp_path / "a.wav").rename(mixed / "b.wav")
    both = open_data(mixed)
    assert both.arrays["real"].dtype == np.float32
    assert np.array_equal(both.arrays["real"][0, 0] * 32_768, NOISE[:500, 0])


def test_long_recordings_are_cut_and_short_ones_filled_up_and_it_is_told(tmp_path):
    write_wav(tmp_path / "long.wav", NOISE)  # 0.5 s
    write_wav(tmp_path / "short.wav", NOISE[:700])
    source = open_data(tmp_path, seconds=0.15)  # 1,200 samples
    assert source.names == ["long.wav#0", "long.wav#1", "long.wav#2", "short.wav"]
    rows = source.arrays["real"]
    assert np.array_equal(np.concatenate(rows[:3], 1), NOISE[:3600].T)  # 400 samples are less than half a piece
    assert np.array_equal(rows[3, :, :700], NOISE[:700].T)
    assert not rows[3, :, 700:].any()
    assert (
        "4 recordings of 0.15 s (1 of 2 recordings cut to pieces, 1 filled up with silence, 0.1 s at ends"
        in source.about
    )
    rows = open_data(tmp_path / "long.wav", seconds=0.2).arrays["real"]  # half a piece is left
    assert len(rows) == 3
    assert np.array_equal(rows[2, :, :800], NOISE[3200:].T)
    assert not rows[2, :, 800:].any()
    assert open_data(tmp_path / "long.wav", seconds=0.5).names == ["long.wav"]


def test_pieces_of_one_recording_stay_on_one_side(tmp_path):
    for k in range(30):
        write_wav(tmp_path / f"{k}.wav", NOISE[:800])
    sides = [open_data(tmp_path, split=split, seconds=0.025, holdout=0.4) for split in ("train", "test")]
    names = [{name.split("#")[0] for name in side.names} for side in sides]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 30
    assert all(names)
    assert sum(map(len, sides)) == 120


@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_resampling_keeps_a_tone(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(44_100, 1.0), 44_100, "FLOAT")
    row = open_data(tmp_path / "a.wav", rate=rate).arrays["real"][0, 0]
    wanted = tone(rate, 1.0)[:, 0]
    assert row.shape == wanted.shape
    inside = slice(rate // 20, -rate // 20)
    assert np.abs(row - wanted)[inside].max() < 1e-4
    pieces = open_data(tmp_path / "a.wav", rate=rate, seconds=0.1).arrays["real"]
    joined = np.concatenate(pieces[:, 0])
    assert np.abs(joined - wanted)[inside].max() < 1e-4  # no seams


def test_resampling_leaves_out_what_would_alias(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(44_100, 0.5, 6000.0), 44_100, "FLOAT")
    row = open_data(tmp_path / "a.wav", rate=8000).arrays["real"][0, 0]  # 4 kHz at most
    assert np.abs(row[400:-400]).max() < 1e-3


def test_channels(tmp_path):
    write_wav(tmp_path / "a.wav", NOISE)
    write_wav(tmp_path / "b.wav", NOISE[:, :1])
    rows = open_data(tmp_path).arrays["real"]
    assert np.array_equal(rows[0], NOISE.T)
    assert np.array_equal(rows[1], np.repeat(NOISE[:, :1], 2, 1).T)
    rows = open_data(tmp_path, mono=True).arrays["real"]
    assert rows.shape == (2, 1, 4000)
    assert np.array_equal(rows[0, 0], np.rint(NOISE.astype(float).mean(1)))
    assert np.array_equal(rows[1, 0], NOISE[:, 0])
    write_wav(tmp_path / "c.wav", np.repeat(NOISE, 3, 1))
    with pytest.raises(DataError, match="mixes recordings of 2 and of 6 channels"):
        open_data(tmp_path)


def test_classes_zips_and_stores(tmp_path):
    import shutil

    for kind in ("kick", "snare"):
        for k in range(3):
            write_wav(tmp_path / "drums" / kind / f"{k}.wav", NOISE[k * 100 :][:1000])
    (tmp_path / "drums" / "cover.txt").write_text("drums")
    folder = open_data(tmp_path / "drums")
    assert folder.spec["label"].names == ("kick", "snare")
    assert folder.arrays["label"].tolist() == [0, 0, 0, 1, 1, 1]
    packed = open_data(shutil.make_archive(str(tmp_path / "drums"), "zip", tmp_path / "drums"), seconds=0.05)
    assert len(packed) == 18  # two pieces and a half of each
    assert packed.names[:3] == ["kick/0.wav#0", "kick/0.wav#1", "kick/0.wav#2"]
    assert np.array_equal(packed.arrays["real"][0, :, :400], folder.arrays["real"][0, :, :400])
    prepare(tmp_path / "drums", tmp_path / "store", form=Form())
    stored = open_data(tmp_path / "store")
    assert np.array_equal(stored.arrays["real"], folder.arrays["real"])
    assert stored.spec == folder.spec
    batch = Batches(stored, rows=4)(0, 0, 0, 4)
    assert batch["real"].dtype == torch.float32
    assert batch["real"].shape == (4, 2, 1000)


def test_the_codec_is_exact_for_every_level():
    codec = AudioCodec(8000)
    levels = np.arange(-32_768, 32_768, dtype=np.int16)[None, None]
    made = codec.encode(torch.from_numpy(levels))
    assert made[0, 0, 0] == -1
    assert torch.equal(made[0, 0], torch.arange(-32_768, 32_768) / 32_768)
    assert np.array_equal(codec.decode(made), levels)
    assert codec.decode(torch.tensor([[[2.0, -2.0]]])).tolist() == [[[32_767, -32_768]]]


def test_floats_beyond_full_scale_keep_their_size(tmp_path):
    loud = tone(8000, 0.1, level=1.7)
    soundfile.write(tmp_path / "a.wav", loud, 8000, "FLOAT")
    source = open_data(tmp_path / "a.wav")
    codec = codec_of(source.spec["real"])
    made = codec.encode(torch.from_numpy(source.arrays["real"]))
    assert made.abs().max() == 1
    assert np.allclose(codec.decode(made), loud.T, atol=1e-6)
    assert codec_of(Spec.from_json(json.loads(json.dumps(source.spec.to_json())))["real"]) == codec


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24), ("PCM_U8", 8)])
def test_what_is_written_is_as_the_source(tmp_path, subtype, bits):
    soundfile.write(tmp_path / "a.wav", NOISE, 11_025, subtype)
    source = open_data(tmp_path / "a.wav")
    samples = Samples(source.arrays["real"], source.spec["real"], {"game": "some", "seed": 3})
    (path,) = samples.save(tmp_path / "out")
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getnchannels(), 8 * file.getsampwidth()) == (11_025, 2, bits)
    assert np.array_equal(open_data(path).arrays["real"], source.arrays["real"])
    with soundfile.SoundFile(path) as file:
        assert "trainedAlgorithmicMedia; elegan:game: some; elegan:seed: 3" in file.comment


# ---- mel


def filter_by_hand(rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float) -> np.ndarray:
    """Slaney's filters, a bin at a time: 3 mels are 200 Hz up to 1 kHz, and 27 mels a factor of 6.4 above."""

    def to_mel(f):
        return f * 3 / 200 if f < 1000 else 15 + 27 * np.log(f / 1000) / np.log(6.4)

    def to_hertz(m):
        return m * 200 / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27)

    low, high = to_mel(fmin), to_mel(fmax)
    ends = [to_hertz(low + (high - low) * k / (n_mels + 1)) for k in range(n_mels + 2)]
    made = np.zeros((n_mels, n_fft // 2 + 1))
    for k in range(n_mels):
        a, b, c = ends[k : k + 3]
        for bin_ in range(n_fft // 2 + 1):
            f = bin_ * rate / n_fft
            if a < f <= b:
                made[k, bin_] = (f - a) / (b - a) * 2 / (c - a)
            elif b < f < c:
                made[k, bin_] = (c - f) / (c - b) * 2 / (c - a)
    return made


def test_the_mel_scale_is_slaneys():
    assert mels(np.array([0.0, 200.0, 1000.0, 6400.0])) == pytest.approx([0, 3, 15, 42])
    f = np.linspace(0, 11_000, 50)
    assert hertz(mels(f)) == pytest.approx(f)


@pytest.mark.parametrize("mel", [Mel(22_050), Mel(16_000, 512, 128, 40, 50.0, 7600.0)])
def test_the_filters_are_triangles_of_one_area(mel):
    wanted = filter_by_hand(mel.rate, mel.n_fft, mel.n_mels, mel.fmin, mel.fmax)
    assert np.allclose(mel.filters, wanted, atol=1e-12)
    area = mel.filters.sum(1) * mel.rate / mel.n_fft
    assert area[-20:] == pytest.approx(1, abs=0.02)  # where they are wide enough to be summed over bins


def test_a_log_mel_spectrogram_is_that_of_scipys_transform():
    mel = Mel(22_050)
    waves = np.random.default_rng(0).normal(0, 0.1, (2, 1, 6000))
    made = mel(torch.from_numpy(waves))
    assert made.shape == (2, 1, 80, 6000 // 256 + 1)
    window = np.hanning(1025)[:-1]  # periodic
    _, _, spectra = stft(
        waves, window=window, nperseg=1024, noverlap=768, boundary="zeros", padded=False, scaling="spectrum"
    )
    size = np.abs(spectra) * window.sum()
    wanted = np.log(np.maximum(1e-5, filter_by_hand(22_050, 1024, 80, 0.0, 8000.0) @ size))
    assert made.numpy() == pytest.approx(wanted[..., : made.shape[-1]], abs=1e-6)


def test_a_spectrogram_has_gradients_and_is_derived_when_named(tmp_path):
    write_wav(tmp_path / "a.wav", NOISE)
    write_wav(tmp_path / "b.wav", NOISE[::-1])
    source = open_data(tmp_path)
    codec = codec_of(source.spec["real"])
    assert source.spec["real"].about["mel"] == codec.mel.to_json()
    assert Mel(**source.spec["real"].about["mel"]) == codec.mel
    asked = []

    def derived(batch):
        asked.append(1)
        return codec.mel(batch["real"])

    batches = Batches(source, rows=2, derived={"mel": derived})
    assert batches(0, 0, 0, 2).keys() == {"real"}
    assert not asked
    made = batches(0, 0, 0, 2, fields=["mel"])["mel"]
    assert made.shape == (2, 2, codec.mel.n_mels, 4000 // codec.mel.hop + 1)
    waves = torch.randn(1, 1, 4000, requires_grad=True)
    codec.mel(waves).sum().backward()
    assert waves.grad is not None
    assert waves.grad.isfinite().all()
    assert waves.grad.abs().sum() > 0


def test_griffin_and_lim_gives_back_a_tone_to_listen_to():
    mel = Mel(16_000, 512, 128, 80, 0.0, 8000.0)
    wave_ = torch.from_numpy(tone(16_000, 0.5, 1000.0).T[None]).float()
    spectrogram = mel(wave_)
    heard = mel.invert(spectrogram, 8000)
    assert heard.shape == (1, 1, 8000)
    loudest = np.abs(np.fft.rfft(heard[0, 0, 1000:7000].numpy())).argmax() * 16_000 / 6000
    assert loudest == pytest.approx(1000, abs=20)
    assert heard[..., 1000:7000].square().mean() == pytest.approx(0.125, rel=0.25)
    few, many = (
        (mel(mel.invert(spectrogram, 8000, rounds=rounds)).exp() - spectrogram.exp()).norm() for rounds in (0, 60)
    )
    assert many < 0.5 * few


def test_an_option_of_another_kind_is_refused(tmp_path):
    write_wav(tmp_path / "a.wav", NOISE)
    with pytest.raises(OptionError, match=r"--size is for image and video, .*a\.wav' is audio: leave it out"):
        open_data(tmp_path / "a.wav", size=8)
