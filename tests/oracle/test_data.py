"""Data against what is known of it: checksums, struct-parsed bytes, the truth of the toys, the laws of batches."""

import hashlib
import json
import lzma
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import elegan.data
from elegan.data.batches import Batches, place_seed
from elegan.data.codec import ImageCodec, VectorCodec, codec_of
from elegan.data.source import Source, image_field, label_field, vector_field
from elegan.data.sources import BUNDLED, open_data
from elegan.errors import DataError, OptionError
from elegan.spec import Field, Spec

MNIST = {  # SHA-256 of the files as they were published
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
HOME = Path(elegan.data.__file__).parent / "digits"


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_data("digits", split="test")


def counting(n: int, name: str = "counting") -> Source:
    """Vectors and labels whose rows are their own numbers, with a codec that changes nothing."""
    rows = np.arange(n, dtype=np.float32)[:, None]
    plain = {"codec": VectorCodec((0.0,), (1.0,)).to_json()["codec"]}
    real = replace(vector_field(rows, classes=n), about=plain)
    label = label_field(np.arange(n), tuple(map(str, range(n))))
    return Source(name, Spec(real=real, label=label), {"real": rows, "label": np.arange(n)}, "")


def unpaired(n: int, m: int) -> Source:
    a, b = (np.arange(k, dtype=np.float32)[:, None] for k in (n, m))
    plain = VectorCodec((0.0,), (1.0,)).to_json()
    spec = Spec(a=Field("vector", (1,), stream="a", about=plain), b=Field("vector", (1,), stream="b", about=plain))
    return Source("unpaired", spec, {"a": a, "b": b}, "")


def numbers(batch: dict[str, torch.Tensor], field: str = "real") -> list[int]:
    return batch[field].flatten().long().tolist()


# ---- bundled


@pytest.mark.parametrize("file", MNIST)
def test_the_bundled_digits_are_mnist_byte_for_byte(file):
    raw = lzma.decompress((HOME / f"{file}.xz").read_bytes())
    assert hashlib.sha256(raw).hexdigest() == MNIST[file]


def test_digits_have_the_published_counts(digits):
    train = open_data("digits")
    assert len(train) == 60_000
    assert len(digits) == 10_000
    assert train.spec["label"].counts == (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
    assert digits.spec["label"].counts == (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
    assert train.spec.shape == (1, 28, 28)
    assert train.spec.classes == train.spec["label"].classes == 10
    assert train.arrays["label"][:5].tolist() == [5, 0, 4, 1, 9]
    assert train.fingerprint != digits.fingerprint
    assert Spec.from_json(json.loads(json.dumps(train.spec.to_json()))) == train.spec


def test_digits_agree_with_the_bytes_parsed_by_hand(digits):
    raw = lzma.decompress((HOME / "t10k-images-idx3-ubyte.xz").read_bytes())
    magic, n, h, w = struct.unpack(">IIII", raw[:16])
    assert (magic, n, h, w) == (2051, 10_000, 28, 28)
    assert digits.arrays["real"][1234].tobytes() == raw[16 + 1234 * 784 : 16 + 1235 * 784]


def test_a_stacked_digit_is_its_three_digits(digits):
    stacked = open_data("stacked-digits", split="test")
    images, labels = stacked.arrays["real"], stacked.arrays["label"]
    assert images.shape == (10_000, 3, 28, 28)
    assert stacked.spec.classes == 1000
    assert sum(stacked.spec["label"].counts) == 10_000
    known = zip(digits.arrays["real"], digits.arrays["label"], strict=True)
    label_of = {image.tobytes(): label for image, label in known}
    for image, label in zip(images[:300], labels[:300], strict=True):
        r, g, b = (label_of[plane.tobytes()] for plane in image)
        assert label == 100 * r + 10 * g + b
    assert stacked.fingerprint == open_data("stacked-digits", split="test").fingerprint


MIXTURES = [("ring", 8, 0.01), ("grid", 25, 0.05), ("two", 2, 0.15), ("three", 3, 0.12)]


@pytest.mark.parametrize(("name", "count", "sigma"), MIXTURES)
def test_the_points_lie_around_their_modes(name, count, sigma):
    source = open_data(name)
    points, about = source.arrays["real"].astype(float), source.spec["real"].about
    modes = np.array(about["modes"])
    assert modes.shape == (count, 2)
    assert about["sigma"] == sigma
    off = points[:, None] - modes  # (N, modes, 2)
    nearest = np.square(off).sum(2).argmin(1)
    away = off[np.arange(len(points)), nearest]
    assert away.std(0) == pytest.approx(sigma, rel=0.02)
    assert away.mean(0) == pytest.approx(0, abs=4 * sigma / len(points) ** 0.5)
    share = np.bincount(nearest, minlength=count) / len(points)
    assert share == pytest.approx(1 / count, rel=0.1)
    if name in ("ring", "three"):
        assert np.hypot(*modes.T) == pytest.approx(1)
        assert np.hypot(*(modes - np.roll(modes, 1, axis=0)).T) == pytest.approx(2 * np.sin(np.pi / count))
    elif name == "two":
        assert about["modes"] == [[-0.7, -0.5], [0.7, 0.5]]
    else:
        assert {tuple(mode) for mode in about["modes"]} == {(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)}


def test_the_other_toys_have_their_shape():
    x, y = open_data("line").arrays["real"].T
    assert y == pytest.approx(x / 2)
    cells = np.floor(open_data("checkerboard").arrays["real"]).astype(int) + 2
    assert {tuple(cell) for cell in cells.tolist()} == {(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0}
    x, y = open_data("moons").arrays["real"].T
    ring = np.minimum(abs(np.hypot(x, y) - 1), abs(np.hypot(x - 1, y - 0.5) - 1))
    assert ring.max() < 0.3
    x, y = open_data("spiral").arrays["real"].T
    off = (np.hypot(x, y) * 4 * np.pi - np.arctan2(y, x) + np.pi) % (2 * np.pi) - np.pi
    assert np.median(abs(off)) < 0.2


@pytest.mark.parametrize("name", sorted({*BUNDLED} - {"digits", "stacked-digits", "fashion"}))
def test_toys_are_the_same_each_time_and_splits_differ(name):
    train, test = open_data(name), open_data(name, split="test")
    assert train.arrays["real"].shape == (50_000, 2)
    assert test.arrays["real"].shape == (10_000, 2)
    assert train.arrays["real"].dtype == np.float32
    assert train.fingerprint == open_data(name).fingerprint
    assert not np.isin(train.arrays["real"][:100, 0], test.arrays["real"][:, 0]).all()
    assert len(set(codec_of(train.spec["real"]).to_json()["codec"]["scale"])) == 1  # shapes are not distorted


def test_listing_data_imports_neither_torch_nor_pillow():
    code = (
        "import sys; from elegan.data.sources import known_data; known_data(); print({'torch', 'PIL'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_size_resizes_any_images(digits):
    source = open_data("digits", split="test", size=16)
    assert source.spec.shape == (1, 16, 16)
    assert source.arrays["real"].mean() == pytest.approx(digits.arrays["real"].mean(), rel=0.05)
    with pytest.raises(DataError, match="no images to resize"):
        open_data("ring", size=16)
    assert open_data("digits", split="test", size="20x16").spec.shape == (1, 16, 20)  # width x height, as people say
    for bad in (0, -1, True, "64px", "0x8", 8.5):
        with pytest.raises(OptionError, match="--size"):
            open_data("digits", size=bad)
    with pytest.raises(OptionError, match="split"):
        open_data("digits", split="dev")  # type: ignore[arg-type]


# ---- fingerprints


def test_the_fingerprint_sees_names_types_shapes_and_bytes():
    rows = np.zeros((4, 1, 2, 2), np.uint8)

    def fingerprint(rows, field="real"):
        return Source("x", Spec(**{field: image_field(rows)}), {field: rows}, "").fingerprint

    other = rows.copy()
    other[3, 0, 1, 1] = 1
    prints = {fingerprint(rows), fingerprint(rows, "a"), fingerprint(rows.reshape(4, 1, 1, 4)), fingerprint(other)}
    assert len(prints) == 4
    wide = np.zeros((4, 2, 2, 2), np.uint8)[:, ::2]
    assert fingerprint(wide) == fingerprint(rows)  # strides do not matter
    block = hashlib.sha256(bytes(16)).hexdigest()
    want = hashlib.sha256(f"real |u1 (4, 1, 2, 2) {block}\n".encode()).hexdigest()
    assert fingerprint(rows) == want


# ---- codecs


def test_the_image_codec_is_exact_at_all_levels():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    codec = codec_of(image_field(levels))
    encoded = codec.encode(torch.from_numpy(levels))
    assert encoded.dtype == torch.float32
    want = levels.astype(np.float64) / 127.5 - 1
    assert encoded.numpy() == pytest.approx(want, abs=1e-6)
    assert encoded.min() == -1
    assert encoded.max() == 1
    assert np.array_equal(codec.decode(encoded), levels)
    assert codec.decode(torch.tensor([-9.0, -1.001, 0.002, 1.001, 9.0])).tolist() == [0, 0, 128, 255, 255]
    half = codec.decode(encoded.bfloat16().requires_grad_())
    assert abs(half.astype(int) - levels).max() <= 1
    want = {"kind": "image", "low": 0, "high": 255, "dtype": "uint8", "mode": ""}
    assert image_field(levels).about == {"codec": want}


def test_the_image_codec_keeps_another_range():
    rows = torch.arange(10, 21, dtype=torch.uint8)
    codec = ImageCodec(10, 20)
    assert codec.encode(rows).tolist() == pytest.approx(np.linspace(-1, 1, 11).tolist(), abs=1e-6)
    assert codec.decode(codec.encode(rows)).tolist() == rows.tolist()


def test_the_vector_codec_standardises_and_inverts():
    rows = np.random.default_rng(0).normal([5, -1e3, 7], [2, 300, 0], (5000, 3)).astype(np.float32)
    field = vector_field(rows)
    codec = codec_of(Field(**json.loads(json.dumps({"kind": "vector", "shape": [3], "about": field.about}))))
    encoded = codec.encode(torch.from_numpy(rows))
    assert encoded.mean(0).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert encoded.std(0, correction=0).tolist() == pytest.approx([1, 1, 0], abs=1e-5)  # a constant has scale 1
    assert codec.decode(encoded) == pytest.approx(rows, rel=1e-6, abs=1e-4)
    common = VectorCodec.fit(rows, common=True)
    assert len(set(common.scale)) == 1


def test_labels_pass_through():
    labels = np.array([2, 0, 1])
    codec = codec_of(label_field(labels, ("a", "b", "c")))
    assert codec.encode(torch.from_numpy(labels)).dtype == torch.int64
    assert codec.decode(torch.from_numpy(labels)).tolist() == [2, 0, 1]
    with pytest.raises(DataError, match="unknown codec 'mel'"):
        codec_of(Field("audio", (None,), about={"codec": {"kind": "mel"}}))


# ---- batches


def test_every_epoch_shows_each_sample_once_and_in_another_order():
    batches = Batches(counting(23), rows=5)
    seen = [n for number in range(23) for n in numbers(batches(0, number, 0, 5))]  # five epochs, straddled
    epochs = [seen[i : i + 23] for i in range(0, 115, 23)]
    assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5
    assert numbers(batches(1, 0, 0, 5)) != numbers(batches(0, 0, 0, 5))


@pytest.mark.parametrize(("shards", "rows"), [(2, 4), (4, 2), (8, 1)])
def test_shards_make_up_the_batch_in_order(shards, rows):
    whole, parts = Batches(counting(21), rows=8), Batches(counting(21), rows=rows, shards=shards)
    assert parts.batch == whole.batch == 8
    for number in (0, 2, 5, 1000):
        union = [n for shard in range(shards) for n in numbers(parts(3, number, shard, rows))]
        assert union == numbers(whole(3, number, 0, 8))


def test_a_batch_depends_on_nothing_asked_before():
    fresh, used = (Batches(counting(50), rows=8) for _ in range(2))
    for number in (900, 3, 44, 0, 7, 7, 500):
        used(1, number, 0, 8)
        used(2, number, 0, 8, ["label"])
    assert numbers(fresh(1, 7, 0, 8)) == numbers(used(1, 7, 0, 8))
    state = torch.random.get_rng_state()
    used(5, 5, 0, 8)
    assert torch.equal(state, torch.random.get_rng_state())


def test_fields_of_a_stream_stay_together_and_streams_are_independent():
    batch = Batches(counting(40), rows=40)(0, 0, 0, 40)
    assert numbers(batch) == batch["label"].tolist()
    batches = Batches(unpaired(40, 40), rows=40)
    first, second = (batches(0, number, 0, 40) for number in (0, 1))
    assert numbers(first, "a") != numbers(first, "b")
    assert numbers(first, "b") != numbers(second, "a")
    assert numbers(batches(0, 0, 0, 40, ["b"]), "b") == numbers(first, "b")
    uneven = Batches(unpaired(7, 12), rows=6)
    seen = [n for number in range(7) for n in numbers(uneven(0, number, 0, 6), "a")]
    assert all(sorted(seen[i : i + 7]) == list(range(7)) for i in range(0, 42, 7))


def test_only_named_fields_are_computed_and_derived_ones_on_demand():
    calls = []

    def twice(batch):
        calls.append(sorted(batch))
        return 2 * batch["real"]

    batches = Batches(counting(9), rows=3, derived={"twice": twice})
    assert set(batches(0, 0, 0, 3)) == {"real", "label"}
    assert set(batches(0, 0, 0, 3, ["label"])) == {"label"}
    assert calls == []
    derived = batches(0, 0, 0, 3, ["twice"])
    assert list(derived) == ["twice"]
    assert calls == [["label", "real"]]
    assert torch.equal(derived["twice"], 2 * batches(0, 0, 0, 3)["real"])
    with pytest.raises(DataError, match=r"'twise'.*'twice'"):
        batches(0, 0, 0, 3, ["twise"])


def test_image_batches_are_the_encoded_rows(digits):
    batches = Batches(digits, rows=16)
    batch = batches(0, 3, 0, 16)
    assert batch["real"].dtype == torch.float32
    assert batch["real"].is_contiguous()
    assert batch["label"].dtype == torch.int64
    order = torch.randperm(10_000, generator=torch.Generator().manual_seed(place_seed(0, "order", "main", 0)))
    rows = order[48:64].numpy()
    assert batch["label"].tolist() == digits.arrays["label"][rows].tolist()
    assert np.array_equal(codec_of(batches.spec["real"]).decode(batch["real"]), digits.arrays["real"][rows])
    before = digits.fingerprint
    batch["real"].zero_()
    assert replace(digits).fingerprint == before


def test_rows_that_may_not_be_written_are_taken():
    source = counting(8)
    source.arrays["real"].flags.writeable = False
    assert sorted(numbers(Batches(source, rows=8)(0, 0, 0, 8))) == list(range(8))


def test_few_permutations_are_kept():
    batches = Batches(unpaired(8, 8), rows=8)
    for number in range(100):
        batches(0, number, 0, 8)
    assert batches._order.cache_info().currsize <= 8


def test_place_seed_is_stable_and_tells_places_apart():
    assert place_seed(0, "order", "main", 0) == place_seed(0, "order", "main", 0)
    digest = hashlib.blake2b(b"(0, 'order', 'main', 0)", digest_size=8).digest()
    assert place_seed(0, "order", "main", 0) == int.from_bytes(digest, "big") // 2
    places = [(0,), (1,), ("0",), (0, 0), ("0, 0",), (-1,), (), ("a", "b"), ("a', 'b",), (2**80,)]
    assert len({place_seed(*place) for place in places}) == len(places)
    assert all(0 <= place_seed(i) < 2**63 for i in range(1000))
    for odd in (np.int64(1), 1.0, True, None):
        with pytest.raises(TypeError, match="int and str"):
            place_seed(odd)  # type: ignore[arg-type]
