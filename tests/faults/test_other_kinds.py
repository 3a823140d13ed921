"""Tables, sound, film and texts that are broken, odd or hostile: one line names the file and the reason, and what is
good is read."""

import io
import itertools
import sys
import tracemalloc
import warnings
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from elegan import zoo
from elegan.cli import main
from elegan.data.form import Form
from elegan.data.readers import audio, delimited, picture, text, video
from elegan.data.sources import find_data, open_data
from elegan.errors import DataError, OptionError

TENTHS = range(10)
NOISE = np.random.default_rng(0).normal(0, 0.2, (8000, 1)).clip(-1, 1)


def quietly(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_data(path, **options)


def refused(path, *words: str, **options) -> str:
    """The one line that opening raises; it holds all the words."""
    with pytest.raises(DataError) as caught:
        quietly(path, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    for word in words:
        assert word in line
    return line


def one_is_left_out(folder: Path, bad: str, total: int, **options) -> str:
    """The reason why one of some samples is left out; all others are read."""
    with pytest.warns(UserWarning, match="left out: 1 of"):
        source = open_data(folder, **options)
    ((name, reason),) = source.left_out
    assert name == bad
    assert len(source) == total - 1
    assert reason
    assert "\n" not in reason
    assert " object at " not in reason
    return reason


# ---- tables


def table(tmp_path, content: str | bytes, suffix: str = "csv") -> Path:
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_odd_tables(tmp_path):
    for content, words in (
        ("", ["x.csv", "is empty"]),
        ("\n\n", ["is empty"]),
        ("a,b\n", ["no rows"]),
        ("a,b\n1,2\n3\n", ["x.csv", "line 3: 1 cell, the first line has 2"]),
        ("a,b\n1,2\n3,4,5\n", ["line 3: 3 cells"]),
        ("a,a\n1,2\n", ["two columns 'a'"]),
        ('a,b\n1,"2\n3,4\n', ["line", "unexpected end"]),
        ('a,b\n1,"2"x\n3,4\n', ["line 2"]),
        (b"a,b\n1,\x00\n", ["zero bytes"]),
        (b"a,b\n1,\xff\x00\n", ["zero bytes"]),
        (b"\xff\xfea\x00,\x00b\x00\n\x00\x00", ["x.csv", "cannot be read"]),
        ("a,b\nx,\ny,\n", []),
        ("a,b\n7,x\n7,x\n", ["no column", "can be trained on"]),
        ("a\n" + "NA\n" * 5, ["no column", "can be trained on"]),
        ("day,n\n2021-02-30,1\n2021-02-01,2\n", ["column 'day'", "no day '2021-02-30'"]),
        ("n\n" + "\n".join(f"{k}e300" for k in range(20)), ["column 'n'", "'1e300' is beyond"]),
        ("n\n" + "\n".join(f"{k}e999" for k in range(1, 20)), ["column 'n'", "is beyond"]),
    ):
        path = table(tmp_path, content)
        if words:
            refused(path, *words)
        else:
            assert open_data(path).spec.shape == (2,)


def test_one_row_and_one_column(tmp_path):
    refused(table(tmp_path, "a,b\n1,2\n"), "no column", "can be trained on")
    assert open_data(table(tmp_path, "a\n1.5\n2.5\n")).spec["real"].names == ("a",)


def test_a_line_of_a_million_cells_takes_no_room(tmp_path):
    path = table(tmp_path, "a,b\n" + "1," * 1_000_000 + "\n")
    tracemalloc.start()
    refused(path, "x.csv")
    assert tracemalloc.get_traced_memory()[1] < 150e6
    tracemalloc.stop()
    refused(table(tmp_path, ",".join(f"c{k}" for k in range(20_000)) + "\n"), "20,000 columns")
    refused(table(tmp_path, "a,b\n1," + "x" * (delimited.HEAD + 5) + "\n"), "line 2 is longer than")
    refused(table(tmp_path, "a,b\n1," + "x" * 200_000 + "\n"), "line 2", "field")


def test_a_class_column_that_is_none(tmp_path):
    path = table(tmp_path, "x,y,z\n" + "".join(f"{k}.5,{k % 2},u\n" for k in range(9)) + "9.5,NA,u\n")
    refused(path, "no column 'yy'. Did you mean 'y'?", class_column="yy")
    refused(path, "class column 'y' misses cells (as 'NA')", class_column="y")
    refused(path, "class column 'z' has 1 different values", class_column="z")


def test_tables_in_folders(tmp_path):
    table(tmp_path, "a\n1\n2\n3\n")
    (tmp_path / "y.csv").write_text("a\n1\n")
    refused(tmp_path, "holds 2 tables", "x.csv")
    refused(tmp_path, "holds no recordings", kind="audio")
    (tmp_path / "y.csv").unlink()
    assert len(open_data(tmp_path)) == 3
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "train.csv").write_text("a,b\n1,2\n")
    (tmp_path / "two" / "test.csv").write_text("a,c\n1,2\n")
    refused(tmp_path / "two", "not every split has the column 'b'")
    (tmp_path / "two" / "test.csv").write_text("a,b\n")
    refused(tmp_path / "two", "no rows for the test split")


def test_a_table_cut_short_at_each_tenth(tmp_path):
    whole = ("a,b,c\n" + "".join(f"{k},{k * 0.5},{'xyz'[k % 3]}\n" for k in range(40))).encode()
    refused(table(tmp_path, b""), "x.csv", "is empty")
    for k in TENTHS[1:]:
        part = whole[: len(whole) * k // 10]
        path, last = table(tmp_path, part), part.splitlines()[-1]
        if last.count(b",") < 2:
            refused(path, "x.csv", "line", "the first line has 3")
        else:  # nobody can tell
            assert len(open_data(path)) == len(part.splitlines()) - 1


# ---- sound

SOUNDS = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS", "opus": "OPUS", "aiff": "PCM_16"}


@pytest.mark.parametrize("suffix", SOUNDS)
def test_sound_cut_short_at_each_tenth(tmp_path, suffix):
    for k in range(12):
        soundfile.write(
            tmp_path / f"{k:02}.{suffix}", NOISE, 8000, SOUNDS[suffix], format="OGG" if suffix == "opus" else None
        )
    whole = (tmp_path / f"05.{suffix}").read_bytes()
    for k in TENTHS:
        (tmp_path / f"05.{suffix}").write_bytes(whole[: len(whole) * k // 10])
        for options in ({}, {"seconds": 1.0}):
            one_is_left_out(tmp_path, f"05.{suffix}", 12, **options)


@pytest.mark.parametrize(("suffix", "subtype"), [("ogg", "VORBIS"), ("opus", "OPUS"), ("mp3", "MPEG_LAYER_III")])
def test_compressed_sound_cut_short_within_its_last_page(tmp_path, suffix, subtype):
    """The library itself would give back what there is."""
    form = "MP3" if suffix == "mp3" else "OGG"
    soundfile.write(tmp_path / f"x.{suffix}", NOISE[:3000], 8000, subtype, format=form)
    whole = (tmp_path / f"x.{suffix}").read_bytes()
    assert open_data(tmp_path / f"x.{suffix}").spec.kind == "audio"
    (tmp_path / f"x.{suffix}").write_bytes(whole[: -len(whole) // 3] if form == "MP3" else whole[:-1])
    words = "it ends after" if form == "MP3" else "its last page is missing"
    refused(tmp_path / f"x.{suffix}", "1 of 1 recording cannot be read", words)


def test_odd_sounds(tmp_path):
    for k in range(20):
        soundfile.write(tmp_path / f"{k:02}.wav", NOISE, 8000)
    flac = io.BytesIO()
    soundfile.write(flac, NOISE, 8000, format="FLAC")
    claims = bytearray(flac.getvalue())
    claims[21] |= 0x0F  # the high bits of the number of samples, of 36 (RFC 9639, section 8.2)
    empty = io.BytesIO()
    soundfile.write(empty, NOISE[:0], 8000, format="WAV")
    for content, words in (
        (b"", "empty"),
        (b"no sound at all" * 20, "no recording of a known format"),
        (b"RIFF" + bytes(200), "no whole recording"),
        (bytes(claims), "it claims"),
        (empty.getvalue(), "no sound in it"),
        (Path(__file__).read_bytes(), "no recording of a known format"),
    ):
        (tmp_path / "05.wav").write_bytes(content)
        assert words in one_is_left_out(tmp_path, "05.wav", 20)
        assert words in one_is_left_out(tmp_path, "05.wav", 20, seconds=1.0)


def test_sounds_that_differ(tmp_path):
    soundfile.write(tmp_path / "a.wav", NOISE, 8000)
    soundfile.write(tmp_path / "b.wav", NOISE, 11_025)
    refused(tmp_path, "mixes rates: 'a.wav' has 8,000", "'b.wav' 11,025", "--rate 8000")
    refused(tmp_path, "mixes lengths: 'a.wav' has 1.000 s, 'b.wav' 0.726 s: use --seconds 1", rate=8000)
    assert len(open_data(tmp_path, rate=8000, seconds=1)) == 2
    soundfile.write(tmp_path / "b.wav", NOISE[:4000], 8000)
    refused(tmp_path, "mixes lengths")
    refused(tmp_path, "no length of a recording", seconds=1e-6)
    refused(tmp_path, "no length of a recording", seconds=1e6)


# ---- film


def film(path: Path, codec: str, count: int = 6, size: tuple[int, int] = (32, 48), fps: int = 10) -> Path:
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=fps)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for k in range(count):
            levels = np.add.outer(np.arange(size[0]) * (k + 1), np.arange(size[1]) * 3) % 256
            made = np.stack([levels] * 3, -1).astype(np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(made, format="rgb24")))
        file.mux(stream.encode(None))
    return path


FILMS = {"mp4": "libx264", "mov": "libx264", "mkv": "libx264", "webm": "libvpx-vp9", "avi": "mpeg4"}


@pytest.mark.parametrize("suffix", FILMS)
def test_film_cut_short_at_each_tenth(tmp_path, suffix):
    whole = film(tmp_path / f"00.{suffix}", FILMS[suffix]).read_bytes()
    for k in range(1, 11):
        (tmp_path / f"{k:02}.{suffix}").write_bytes(whole)
    for k in TENTHS:
        (tmp_path / f"05.{suffix}").write_bytes(whole[: len(whole) * k // 10])
        for options in ({}, {"frames": 3}) if k == 7 else ({},):
            if options:
                with pytest.warns(UserWarning, match="left out: 1 of 21"):
                    assert len(open_data(tmp_path, **options)) == 20
            else:
                one_is_left_out(tmp_path, f"05.{suffix}", 11)


def test_odd_films(tmp_path, monkeypatch):
    whole = film(tmp_path / "00.mp4", "libx264").read_bytes()
    for k in range(1, 11):
        (tmp_path / f"{k:02}.mp4").write_bytes(whole)
    sound = io.BytesIO()
    with av.open(sound, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    (tmp_path / "secret.ts").write_bytes(whole)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{tmp_path}/00.mp4\n#EXT-X-ENDLIST\n"
    for content, words in (
        (b"", "empty"),
        (b"plain words", "no film of a known format"),
        (sound.getvalue(), "no frames, only sound"),
        (playlist.encode(), "no film of a known format"),
        (f"ffconcat version 1.0\nfile {tmp_path}/00.mp4\n".encode(), "no film of a known format"),
        (bytes(4) + b"ftyp" + bytes(100), "no film, damaged, or cut short"),
    ):
        (tmp_path / "05.mp4").write_bytes(content)
        assert words in one_is_left_out(tmp_path, "05.mp4", 11)
    (tmp_path / "05.mp4").write_bytes(whole)
    film(tmp_path / "05.mp4", "libx264", size=(64, 64))
    monkeypatch.setattr(picture, "PIXELS", 48 * 32)
    assert "64x64 is more than" in one_is_left_out(tmp_path, "05.mp4", 11)
    monkeypatch.undo()
    monkeypatch.setattr(video, "CLAIMED", 8)
    film(tmp_path / "05.mp4", "libx264", count=9)
    assert "claims 9 frames" in one_is_left_out(tmp_path, "05.mp4", 11)
    monkeypatch.setattr(video, "ROW", 1000)
    refused(tmp_path / "00.mp4", "a clip of 6 frames takes", "use --frames")


def test_a_film_that_ends_before_a_frame_that_is_wanted(tmp_path):
    path = film(tmp_path / "a.mp4", "libx264")  # 0.6 s
    with path.open("rb") as file, video._opened(file) as opened:
        assert len(list(opened.nearest([0.0, 0.3, 0.5]))) == 3
    with path.open("rb") as file, video._opened(file) as opened:
        found = opened.nearest([0.0, 0.7, 0.8])
        assert next(found).pts == 0
        with pytest.raises(ValueError, match=r"it ends after 0\.60 s"):
            next(found)


def test_films_that_differ(tmp_path):
    film(tmp_path / "a.mp4", "libx264")
    film(tmp_path / "b.mp4", "libx264", size=(48, 32))
    refused(tmp_path, "mixes sizes: 'a.mp4' is 48x32, 'b.mp4' is 32x48: use --size")
    film(tmp_path / "b.mp4", "libx264", fps=25)
    refused(tmp_path, "mixes frame rates: 'a.mp4' is 10.00", "'b.mp4' is 25.00: use --fps")
    film(tmp_path / "b.mp4", "libx264", count=9)
    refused(tmp_path, "mixes lengths: 'a.mp4' is 6 frames, 'b.mp4' is 9: use --frames")
    refused(tmp_path, "2 of 2 videos cannot be read", "it has 6 frames, fewer than 10", frames=10)


def test_odd_folders_of_frames(tmp_path):
    for clip in range(11):
        (tmp_path / f"{clip:02}").mkdir()
        for k in range(4):
            Image.new("L", (8, 6), 10 * k).save(tmp_path / f"{clip:02}" / f"{k}.png")
    first = tmp_path / "05" / "2.png"
    good = first.read_bytes()
    for spoil, words in (
        (lambda: first.write_bytes(good[: len(good) // 2]), ""),
        (lambda: Image.new("L", (9, 6)).save(first), "frame 2 is another kind of image"),
        (lambda: (first.unlink(), (tmp_path / "05" / "3.png").unlink()), "it has 2 frames, fewer than 4"),
    ):
        spoil()
        assert words in one_is_left_out(tmp_path, "05", 11, kind="video", frames=4)
        first.write_bytes(good)
        (tmp_path / "05" / "3.png").write_bytes(good)
    (tmp_path / "06" / "9.png").write_bytes(good)
    refused(tmp_path, "mixes lengths", "--frames", kind="video")


# ---- text


def test_odd_texts(tmp_path):
    for content, words in (
        (b"", ["no text"]),
        (b"\n \n\r\n", ["no text"]),
        (b"good\nb\xffd\n", ["x.txt", "line 2", "not UTF-8 at byte 2"]),
        (b"good\nb\0d\n", ["line 2", "zero byte"]),
        ("go".encode("utf-16"), ["line 1", "cannot be read"]),
        (b"a" * (text.LINE + 1), ["line 1", "longer than"]),
        (b"a" * 70_000, ["up to 70,000 chars", "--length"]),
    ):
        refused(table(tmp_path, content, "txt"), *words)
    assert open_data(table(tmp_path, b"a" * 70_000, "txt"), length=100).spec.shape == (100,)


def test_one_bad_text_of_many(tmp_path):
    for k in range(12):
        (tmp_path / f"{k:02}.txt").write_text(f"text {k}")
    for content, words in (
        (b"", "no text in it"),
        (b"caf\xe9", "not UTF-8 at byte 4"),
        (b"a\0", "zero byte"),
        (b"x" * (text.FILE + 1), "longer than"),
    ):
        (tmp_path / "05.txt").write_bytes(content)
        assert words in one_is_left_out(tmp_path, "05.txt", 12, length=10)
    (tmp_path / "06.txt").write_bytes(b"\xff")
    refused(tmp_path, "2 of 12", "'05.txt'")


# ---- kinds


def test_the_kind_is_that_of_most_files(tmp_path):
    home = tmp_path / "x"
    home.mkdir()

    def kind() -> str:
        found = find_data(home, form=Form())
        return next(iter(found.decoders.values())).kind if hasattr(found, "decoders") else found.spec.kind

    (home / "a.txt").write_text("words\n")
    assert kind() == "token"
    (home / "a.csv").write_text("n\n1\n2\n")
    assert kind() == "vector"
    soundfile.write(home / "a.wav", NOISE, 8000)
    assert kind() == "audio"
    Image.new("L", (4, 4)).save(home / "cover.png")
    assert kind() == "audio"
    Image.new("L", (4, 4)).save(home / "b.png")
    assert kind() == "image"
    for name in ("a", "b"):
        film(home / f"{name}.mp4", "libx264")
    assert kind() == "video"
    assert open_data(home, kind="text").spec.kind == "token"
    assert open_data(home, kind="table").spec.kind == "vector"


def test_options_of_another_kind_are_refused(tmp_path):
    path = table(tmp_path, "words\n", "txt")
    for options in ({"seconds": 1.0}, {"frames": 3}, {"size": "8"}, {"sides": True}, {"mono": True}):
        with pytest.raises(OptionError, match=f"--{next(iter(options))} is for"):
            open_data(path, **options)


@pytest.mark.parametrize("library", ["soundfile", "soxr", "av", "sklearn.mixture"])
def test_a_library_that_is_not_there_is_named(tmp_path, monkeypatch, library):
    soundfile.write(tmp_path / "a.wav", NOISE, 8000)
    film(tmp_path / "a.mp4", "libx264")
    table(tmp_path, "n,m\n" + "".join(f"{k}.5,{k}\n" for k in range(20)))
    name, extra, options = {
        "soundfile": ("a.wav", "audio", {}), "soxr": ("a.wav", "audio", {"rate": 4000}),
        "av": ("a.mp4", "video", {}), "sklearn.mixture": ("x.csv", "table", {}),
    }[library]  # fmt: skip
    monkeypatch.setitem(sys.modules, library, None)
    refused(tmp_path / name, f'pip install "elegan[{extra}]"', **options)


def test_no_game_takes_what_it_is_not_made_for(tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", NOISE, 8000)
    film(tmp_path / "a.mp4", "libx264")
    table(tmp_path, "words\n" * 3, "txt")
    for name, game in itertools.product(("a.wav", "a.mp4", "x.txt"), zoo.names()):
        spec = open_data(tmp_path / name).spec
        with pytest.raises(DataError) as caught:
            zoo.build(game, spec)
        assert "cannot take this data" in str(caught.value)
    assert main(["train", "gan", str(tmp_path / "a.wav"), "--out", str(tmp_path / "run")]) == 3
    assert "gan cannot take this data: it needs images or vectors, not audio" in capsys.readouterr().err
    assert audio.SUFFIXES.isdisjoint(video.SUFFIXES | text.SUFFIXES | picture.SUFFIXES)
