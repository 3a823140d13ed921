"""Texts come back as they were, and their tokens are those that counting by hand finds."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

from elegan.data.batches import Batches
from elegan.data.codec import codec_of
from elegan.data.codecs.text import BEGIN, END, PAD, SPECIALS, UNKNOWN, TokenCodec
from elegan.data.form import Form
from elegan.data.select import Selection
from elegan.data.sources import open_data, prepare
from elegan.errors import NoSplitError
from elegan.exporting.samples import Samples
from elegan.spec import Spec

LINES = ["the cat sat", "the dög ran", "a 猫 sat 🐈", "the end", "the cat ran ran", "cat"]


def test_lines_come_back_as_they_were(tmp_path):
    (tmp_path / "x.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    source = open_data(tmp_path / "x.txt", length=20)
    codec = codec_of(source.spec["real"])
    assert source.arrays["real"].dtype == np.int32
    assert repr(source.spec) == "Spec(real=token[20])"
    assert codec.texts(source.arrays["real"]) == LINES
    counts = Counter("".join(LINES))
    assert codec.vocabulary[:4] == SPECIALS
    assert set(codec.vocabulary[4:]) == set(counts)
    assert [counts[token] for token in codec.vocabulary[4:]] == sorted(counts.values(), reverse=True)
    row = source.arrays["real"][5].tolist()
    assert [codec.vocabulary[k] for k in row[:4]] == ["c", "a", "t", "<end>"]
    assert row[4:] == [PAD] * 16
    assert f"6 texts of 20 characters of {len(counts)} kinds" in source.about
    assert "cut" not in source.about


def test_the_same_lines_however_they_end(tmp_path):
    plain = "\n".join(LINES).encode()
    (tmp_path / "a.txt").write_bytes(plain)
    wanted = open_data(tmp_path / "a.txt").arrays["real"]
    for k, other in enumerate((plain + b"\n\n \n", plain.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + plain)):
        (tmp_path / f"{k}.txt").write_bytes(other)
        assert np.array_equal(open_data(tmp_path / f"{k}.txt").arrays["real"], wanted)


def test_words(tmp_path):
    (tmp_path / "x.txt").write_text("\n".join(LINES))
    source = open_data(tmp_path / "x.txt", tokens="word")
    codec = codec_of(source.spec["real"])
    assert codec.vocabulary[4:] == ("the", "cat", "ran", "sat")  # those seen twice
    assert source.spec.shape == (4,)
    assert codec.texts(source.arrays["real"]) == [
        "the cat sat", "the \ufffd ran", "\ufffd \ufffd sat \ufffd", "the \ufffd", "the cat ran ran", "cat",
    ]  # fmt: skip
    assert "4 words of 4 kinds (5 words unknown)" in source.about
    assert (source.arrays["real"] == UNKNOWN).sum() == 5


def test_the_length_holds_95_of_100_texts_and_the_rest_is_told(tmp_path):
    lengths = [*range(1, 100), 900]
    (tmp_path / "x.txt").write_text("\n".join("x" * n for n in lengths))
    source = open_data(tmp_path / "x.txt")
    longest = sorted(lengths)[95]  # the least that 95 of 100 do not exceed, from above
    assert source.spec.shape == (longest,)
    assert f"({100 - longest} cut)" in source.about
    assert source.arrays["real"][-1].tolist() == [4] * longest  # no end: it does not end here
    assert source.arrays["real"][longest - 1].tolist() == [4] * longest
    assert source.arrays["real"][longest - 2].tolist() == [4] * (longest - 1) + [END]


def test_the_vocabulary_is_that_of_the_training_split(tmp_path):
    lines = [f"{chr(0x4E00 + k)}abc" for k in range(100)]
    (tmp_path / "x.txt").write_text("\n".join(lines), encoding="utf-8")
    train, test = (open_data(tmp_path / "x.txt", split=split, holdout=0.3) for split in ("train", "test"))
    assert train.spec == test.spec
    rule = Selection("train", 0.3)
    seen = {line[0] for k, line in enumerate(lines) if rule.holds(str(k))}
    assert set(codec_of(train.spec["real"]).vocabulary[4:]) == seen | set("abc")
    assert len(train) + len(test) == 100
    assert codec_of(test.spec["real"]).texts(test.arrays["real"]) == ["\ufffdabc"] * len(test)
    with pytest.raises(NoSplitError):
        open_data(tmp_path / "x.txt", split="test")
    two = tmp_path / "two"
    two.mkdir()
    (two / "train.txt").write_text("ab\nba\n")
    (two / "test.txt").write_text("abc\n")
    train, test = (open_data(two, split=split) for split in ("train", "test"))
    assert train.spec == test.spec
    assert codec_of(test.spec["real"]).texts(test.arrays["real"]) == ["ab"]
    assert "(1 cut)" in test.about


def test_a_file_a_text_with_classes_and_splits(tmp_path):
    for split in ("train", "test"):
        for kind in ("ham", "spam"):
            (tmp_path / split / kind).mkdir(parents=True)
            for k in range(4):
                (tmp_path / split / kind / f"{k}.txt").write_bytes(f"{kind}\r\nno {k} {split[1]}\r\n".encode())
    train, test = (open_data(tmp_path, split=split) for split in ("train", "test"))
    codec = codec_of(train.spec["real"])
    assert train.spec["label"].names == ("ham", "spam")
    assert codec.texts(train.arrays["real"])[3:5] == ["ham\nno 3 r", "spam\nno 0 r"]
    assert train.spec["real"] == test.spec["real"]
    assert codec.texts(test.arrays["real"])[0] == "ham\nno 0 \ufffd"  # an e was not seen
    paths = Samples(train.arrays["real"][:2], train.spec["real"], {}).save(tmp_path / "out")
    assert [path.read_text() for path in paths] == ["ham\nno 0 r\n", "ham\nno 1 r\n"]
    flat = open_data(tmp_path / "train" / "ham", holdout=0.5)
    assert "text" in flat.about


def test_molecules_are_lines(tmp_path):
    lines = ["CC(=O)Oc1ccccc1C(=O)O", "C1CC[N+]C1", "c1ccccc1"]
    (tmp_path / "x.smi").write_text("\n".join(lines))
    source = open_data(tmp_path / "x.smi")
    assert codec_of(source.spec["real"]).texts(source.arrays["real"]) == lines


def test_what_a_game_makes_becomes_text(tmp_path):
    codec = TokenCodec.fit(Counter("banana"))
    assert codec.vocabulary[4:] == ("a", "n", "b")
    numbers = torch.tensor([[BEGIN, 6, 4, 5, END, 4], [4, 4, UNKNOWN, 5, 6, 4], [END, 4, 4, 4, 4, 4]])
    assert codec.texts(codec.decode(numbers)) == ["ban", "aa\ufffdnba", ""]
    scores = torch.nn.functional.one_hot(numbers, 7) * 3.0 + torch.rand(3, 6, 7)
    assert np.array_equal(codec.decode(scores), numbers.numpy())


def test_batches_stores_json_and_files(tmp_path):
    (tmp_path / "x.txt").write_text("\n".join(LINES), encoding="utf-8")
    source = open_data(tmp_path / "x.txt", length=20)
    codec = codec_of(source.spec["real"])
    assert codec_of(Spec.from_json(json.loads(json.dumps(source.spec.to_json())))["real"]) == codec
    prepare(tmp_path / "x.txt", tmp_path / "store", form=Form(length=20))
    batch = Batches(open_data(tmp_path / "store"), rows=6)(0, 0, 0, 6)["real"]
    assert batch.dtype == torch.int64
    assert sorted(codec.texts(codec.decode(batch))) == sorted(LINES)
    (path,) = Samples(source.arrays["real"], source.spec["real"], {}).save(tmp_path / "out")
    assert path.read_text(encoding="utf-8").splitlines() == LINES
