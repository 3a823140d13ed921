"""Which samples are meant: the rule of `--holdout`, computed here by hand, and lists of what to leave out."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

import elegan
from elegan.data.sources import open_data
from elegan.errors import DataError, NoSplitError, OptionError


def held_out(name: str, share: float) -> bool:
    """The rule as the documents state it."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64 < share


@pytest.fixture
def folder(tmp_path):
    """Forty pictures, each of a level of its own, in two classes."""
    for k in range(40):
        home = tmp_path / "photos" / ("even" if k % 2 == 0 else "odd")
        home.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), k).save(home / f"{k}.png")
    return tmp_path / "photos"


def levels(source) -> set[int]:
    return set(source.arrays["real"][:, 0, 0, 0].tolist())


def test_a_file_is_held_out_by_the_hash_of_its_path(folder):
    want = {k for k in range(40) if held_out(f"{'even' if k % 2 == 0 else 'odd'}/{k}.png", 0.3)}
    assert 0 < len(want) < 40
    assert levels(open_data(folder, split="test", holdout=0.3)) == want
    assert levels(open_data(folder, holdout=0.3)) == set(range(40)) - want
    (folder / "even" / "2.png").unlink()
    Image.new("L", (8, 8), 99).save(folder / "even" / "0000.png")  # others come and go: none changes sides
    assert levels(open_data(folder, split="test", holdout=0.3)) - {99} == want - {2}
    with pytest.raises(NoSplitError, match="--holdout"):
        open_data(folder, split="test")
    for bad in (1.0, -0.1):
        with pytest.raises(OptionError, match="holdout"):
            open_data(folder, holdout=bad)


def test_a_row_is_held_out_by_the_hash_of_its_number(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(100, dtype=np.float32).reshape(50, 2))
    want = [k for k in range(50) if held_out(str(k), 0.2)]
    assert (open_data(tmp_path / "x.npy", split="test", holdout=0.2).arrays["real"][:, 0] / 2).tolist() == want


def test_a_split_of_the_datas_own_is_kept(tmp_path):
    np.savez(tmp_path / "x.npz", train_x=np.zeros((9, 2), np.float32), test_x=np.ones((4, 2), np.float32))
    assert len(open_data(tmp_path / "x.npz", holdout=0.5)) == 9
    assert len(open_data(tmp_path / "x.npz", split="test", holdout=0.5)) == 4


def test_a_run_remembers_the_rule_and_is_scored_by_what_was_held_out(folder, tmp_path):
    model = elegan.train(
        "dcgan", folder, out=tmp_path / "run", holdout=0.3, preset="tiny", steps=2, batch=4, threads=1, precision="fp32"
    )
    data = json.loads((tmp_path / "run" / "options.json").read_text())["data"]
    test = open_data(folder, split="test", holdout=0.3)
    assert data["form"] == {"holdout": 0.3}
    assert data["count"] == 40 - len(test)
    protocol = elegan.evaluate(model, n=20, embedder="pixels", metrics="sliced-wasserstein").scores[0].protocol
    assert protocol.reference == f"{folder} (test)"
    assert (protocol.reference_count, protocol.fingerprint) == (len(test), test.fingerprint)
    elegan.resume(tmp_path / "run", steps=3)


def test_what_stands_on_a_list_is_left_out(folder, tmp_path):
    (tmp_path / "list.csv").write_text("name,reason\neven/4.png,blurred\nodd/7.png,doubled\n")
    assert levels(open_data(folder, without=tmp_path / "list.csv")) == set(range(40)) - {4, 7}
    (tmp_path / "list.csv").write_text("name\nelsewhere.png\n")
    with pytest.raises(DataError, match=r"no sample 'elsewhere\.png'"):
        open_data(folder, without=tmp_path / "list.csv")
    (tmp_path / "list.csv").write_text("name\nelsewhere.png\neven/4.png\n")
    with pytest.warns(UserWarning, match=r"no sample 'elsewhere\.png'"):
        assert len(open_data(folder, without=tmp_path / "list.csv")) == 39
