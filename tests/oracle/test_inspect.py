"""What an inspection measures, against closed forms and other libraries; and what it says of data whose faults are
known, because they were put in."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import fft, ndimage, stats

from elegan.data.curation import hashes, outliers, twins
from elegan.data.curation.glance import digest, glances, in_shares, reduced
from elegan.data.curation.inspect import facts_of, inspect, kind_of_fault
from elegan.data.curation.parts import take_apart
from elegan.data.form import Form


def smooth(rng: np.random.Generator, side: int = 64, cells: int = 6) -> np.ndarray:
    """A picture (side, side, 3) of soft patches, unlike any other."""
    coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))


def save(folder: Path, name: str, pixels: np.ndarray, **options) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def kinds(found) -> dict[str, int]:
    return {one.kind: one.count for one in found.findings}


def named(found, kind: str):
    return next(one for one in found.findings if one.kind == kind)


# ---- hashes


def test_the_hash_is_the_sign_of_the_low_frequencies_against_their_median():
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32), dtype=np.uint8)
    for image, made in zip(images, hashes.dct_hash(images).tolist(), strict=True):
        low = fft.dctn(image.astype(float), type=2)[1:9, 1:9].reshape(-1)
        bits = "".join("1" if value > np.median(low) else "0" for value in low)
        assert f"{made:064b}" == bits


def test_the_hash_knows_neither_light_nor_contrast_but_the_picture():
    rng = np.random.default_rng(1)
    images = np.stack([smooth(rng, 32)[:, :, 0] for _ in range(50)]).astype(np.float32)
    made, other = hashes.dct_hash(images), hashes.dct_hash(0.6 * images + 40)
    assert np.bitwise_count(made ^ other).max() == 0
    apart = np.bitwise_count(made[:, None] ^ made[None])[~np.eye(50, dtype=bool)]
    assert 24 < apart.mean() < 40, "of two pictures half of the bits agree"


@pytest.mark.parametrize("few", [0, 20_000], ids=["looked up", "compared"])
@pytest.mark.parametrize("most", [0, 1, 3, 4, 7, 10, 14])
def test_near_hashes_are_all_found_and_no_others(few, most, monkeypatch):
    monkeypatch.setattr(hashes, "FEW", few)
    rng = np.random.default_rng(most)
    made = rng.integers(0, 2**64, 300, dtype=np.uint64)
    made[100:] = made[rng.integers(100, size=200)]
    for k in range(100, 300):
        for bit in rng.choice(64, rng.integers(0, most + 4), replace=False):
            made[k] ^= np.uint64(1 << int(bit))
    numbers = made.tolist()
    wanted = [[i, j] for i in range(300) for j in range(i + 1, 300) if (numbers[i] ^ numbers[j]).bit_count() <= most]
    assert len(wanted) > 20
    assert hashes.near_pairs(made, most).tolist() == wanted


def test_a_set_of_one_picture_ends(monkeypatch):
    """All pairs of it are twins; only so many are kept."""
    monkeypatch.setattr(hashes, "MOST", 1000)
    monkeypatch.setattr(hashes, "PORTION", 4096)
    for few in (0, 20_000):
        monkeypatch.setattr(hashes, "FEW", few)
        found = hashes.near_pairs(np.zeros(3000, np.uint64), 6)
        assert 1000 < len(found) < 30_000
        assert (found[:, 0] < found[:, 1]).all()


# ---- glances


def test_light_contrast_and_entropy_are_those_of_the_definition():
    half = np.zeros((1, 1, 40, 40), np.uint8)
    half[..., 20:] = 255
    made = glances(half, colours=1)[0]
    assert made["brightness"] == pytest.approx(0.5)
    assert made["contrast"] == pytest.approx(0.5)
    assert made["entropy"] == pytest.approx(1.0), "two levels, equally often: one bit"
    assert made["bands"] == 1
    noise = np.random.default_rng(0).integers(0, 256, (3, 1, 100, 90), dtype=np.uint8)
    for row, glance in zip(noise, glances(noise, colours=1), strict=True):
        counts = np.bincount(row.reshape(-1), minlength=256)
        assert glance["entropy"] == pytest.approx(stats.entropy(counts, base=2), rel=1e-5)
        assert glance["mean"][0] == pytest.approx(row.mean() / 255, rel=1e-5)
        assert glance["square"][0] == pytest.approx(((row / 255) ** 2).mean(), rel=1e-5)


def test_sharpness_is_the_laplacian_s_variance_and_knows_no_contrast():
    rows = np.random.default_rng(1).random((2, 1, 50, 60), dtype=np.float32)
    found = glances(rows, colours=1)["sharpness"]
    for row, sharpness in zip(rows[:, 0], found, strict=True):
        laplacian = ndimage.laplace(row.astype(np.float64))[1:-1, 1:-1]
        assert sharpness == pytest.approx(np.log10(laplacian.var() / row.var()), abs=1e-4)
    assert glances(rows * 0.3 + 0.2, colours=1)["sharpness"] == pytest.approx(found, abs=1e-3)
    soft = np.stack([ndimage.gaussian_filter(row, 1.5) for row in rows[:, 0]])[:, None]
    assert (glances(soft, colours=1)["sharpness"] < found - 1).all()
    assert np.isnan(glances(np.full((1, 1, 8, 8), 7, np.uint8), colours=1)["sharpness"][0])


def test_every_depth_and_alpha_gives_the_same_light():
    rng = np.random.default_rng(2)
    eight = rng.integers(0, 256, (1, 3, 30, 20), dtype=np.uint8)
    wanted = glances(eight, colours=3)[0]
    alpha = np.concatenate([eight, np.full_like(eight[:, :1], 9)], 1)
    forms = [
        (eight.astype(np.uint16) * 257, {}), ((eight / 255).astype(np.float32), {}), (alpha, {}),
        ((eight * 2.0 - 100).astype(np.float32), {"span": (-100.0, 410.0)}),
        ((eight / 127.5 - 1).astype(np.float32), {}),
    ]  # fmt: skip
    for rows, options in forms:
        made = glances(rows, colours=3, **options)[0]
        for name in ("brightness", "contrast", "mean"):
            assert made[name] == pytest.approx(wanted[name], abs=2e-6), rows.dtype
        assert made["hash"] == wanted["hash"]
        assert tuple(made["digest"]) != tuple(wanted["digest"]), "other values are another row"
    grey = np.asarray(Image.fromarray(eight[0].transpose(1, 2, 0)).convert("L")) / 255
    assert wanted["brightness"] == pytest.approx(grey.mean(), abs=0.003)


def test_a_digest_tells_values_shape_and_type_apart():
    row = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    others = [row.reshape(1, 4, 3), row.astype(np.uint16), row[:, ::-1], row + 1]
    assert len({digest(one).tobytes() for one in [row, *others]}) == 5
    assert digest(row.copy(order="F")).tobytes() == digest(row).tobytes()


def test_reducing_takes_means_of_whole_boxes():
    rows = np.random.default_rng(3).integers(0, 256, (2, 3, 300, 401), dtype=np.uint8)
    wanted = rows[:, :, :300, :399].reshape(2, 3, 100, 3, 133, 3).mean((3, 5))
    assert reduced(rows) == pytest.approx(np.rint(wanted), abs=1)
    assert reduced(rows[:, :, :200, :200]).shape == (2, 3, 200, 200), "below twice the side nothing is lost"
    assert reduced(rows[:, :, :1]).shape[3] >= 100, "nor is a strip reduced to nothing"
    assert in_shares(np.array([[[[-1.0, 3.0]]]], np.float32)).tolist() == [[[[0.0, 1.0]]]]


# ---- twins


def test_a_picture_is_found_again_under_a_shift_a_stretch_and_other_light():
    rng = np.random.default_rng(4)
    large = [Image.fromarray(smooth(rng, 256)).convert("L") for _ in range(30)]
    one = np.stack([np.asarray(p.resize((32, 32))) for p in large]).astype(np.float32) / 255
    cut = [p.crop((6, 10, 250, 256)) for p in large]
    other = np.stack([np.asarray(p.resize((32, 32))) for p in cut]).astype(np.float32) / 255
    smoothed = twins._smoothing() @ one @ twins._smoothing().T, twins._smoothing() @ other @ twins._smoothing().T
    plain = np.array([np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1] for a, b in zip(*smoothed, strict=True)])
    found = twins.likeness(*smoothed)
    assert plain.max() < 0.99, "as they lie, none would be found"
    assert found.min() > 0.998
    assert twins.likeness(smoothed[0], 0.5 * smoothed[1] + 0.3).min() > 0.998
    assert twins.likeness(smoothed[0], np.roll(smoothed[1], 1, axis=0)).max() < 0.95, "another picture stays another"


def test_same_pixels_are_found_in_every_format_and_one_pixel_is_a_difference(tmp_path):
    rng = np.random.default_rng(5)
    pixels = smooth(rng, 100)
    for k, name in enumerate(["a.png", "b.bmp", "c.tif", "d.webp"]):
        save(tmp_path, name, pixels, **({"lossless": True} if k == 3 else {}))
    other = pixels.copy()
    other[50, 50, 0] ^= 1
    save(tmp_path, "e.png", other)
    found = inspect(str(tmp_path), Form())
    assert [line["group"] for line in named(found, "duplicates").names] == [["a.png", "b.bmp", "c.tif", "d.webp"]]
    assert named(found, "near duplicates").names[0]["group"] == ["a.png", "e.png"]


def test_what_was_only_seen_in_a_smaller_size_is_compared_in_full(tmp_path):
    """Two large pictures that differ in one pixel are the same at a glance, and not the same."""
    pixels = smooth(np.random.default_rng(6), 1000)
    save(tmp_path, "a.png", pixels)
    save(tmp_path, "b.png", pixels)
    pixels = pixels.copy()
    pixels[500, 500] ^= 1
    save(tmp_path, "c.png", pixels)
    part = take_apart(str(tmp_path), Form()).parts[0]
    assert not part.glances["whole"].any()
    assert len(np.unique(part.glances["digest"], axis=0)) == 1
    assert twins.exact(twins.Joined([part])) == [[0, 1]]


# ---- outliers


def test_a_robust_z_is_that_of_a_normal_sample_and_a_tenth_of_nonsense_moves_it_little():
    values = np.random.default_rng(7).normal(5, 2, 20_000)
    wanted = stats.zscore(values)
    assert outliers.robust_z(values) == pytest.approx(wanted, rel=0.03, abs=0.03)
    values[:2_000:2], values[1:2_000:2] = 1e6, -1e6
    found = outliers.robust_z(values)[2_000:]
    assert found == pytest.approx(wanted[2_000:] / 1.15, rel=0.1, abs=0.05), "half of the rest lies within 0.77 of it"
    assert (outliers.robust_z(np.full(5, 3.0)) == 0).all()


def test_pictures_off_the_subspace_of_the_others_are_outliers():
    rng = np.random.default_rng(8)
    basis = rng.normal(0, 1, (5, 400))
    rows = 6 * rng.normal(0, 1, (600, 5)) @ basis + rng.normal(0, 2, (600, 400)) + 128
    rows[::60] = rng.integers(0, 256, (10, 400))
    thumbs = rows.clip(0, 255).astype(np.uint8).reshape(600, 20, 20)
    found = outliers.unexplained(thumbs, np.arange(600))
    assert sorted(np.argsort(-found)[:10].tolist()) == list(range(0, 600, 60))
    assert found[::60].min() > 3.5
    assert (np.delete(found, slice(None, None, 60)) > 3.5).mean() < 0.02
    chosen = np.arange(1, 600)
    assert len(outliers.unexplained(thumbs, chosen)) == 599
    assert (outliers.unexplained(thumbs, np.arange(5)) == 0).all(), "of five nobody is unlike the others"


def test_vectors_far_from_all_others_are_isolated():
    rng = np.random.default_rng(9)
    rows = rng.normal(0, 1, (500, 3)).astype(np.float32)
    rows[:4] = [[9, 9, 9], [-9, 9, 0], [0, -12, 0], [0, 0, 15]]
    found = outliers.isolated(rows)
    assert found[:4].min() > 3.5
    assert (found[4:] > 3.5).mean() < 0.02


def test_margins_are_the_votes_of_the_nearest_others(monkeypatch):
    monkeypatch.setattr(outliers, "NEIGHBOURS", 4)
    features = np.array([0.0, 1, 2, 3, 4, 100, 101, 102, 103, 104])[:, None]
    labels = np.array([0, 0, 1, 0, 0, 1, 1, 1, 1, 2])
    margin, other = outliers.margins(features, labels, 3)
    assert margin[2] == pytest.approx(1.0), "its four neighbours are all of class 0, none of its own"
    assert other[2] == 0
    assert margin[0] == pytest.approx(0.25 - 0.75)
    assert margin[9] == pytest.approx(1.0)
    assert other[9] == 1


# ---- an inspection


def test_numbers_are_those_of_numpy(tmp_path):
    rng = np.random.default_rng(10)
    images = [smooth(rng, side) for side in (40, 40, 40, 60)]
    for k, pixels in enumerate(images):
        save(tmp_path, f"{k}.png", pixels)
    save(tmp_path, "grey.jpg", images[0][:, :, 0], quality=95)
    found = inspect(str(tmp_path), Form())
    facts = found.facts["train/real"]
    assert facts["count"] == 5
    assert facts["sizes"] == {"40x40": 4, "60x60": 1}
    assert facts["formats"] == {"PNG": 4, "JPEG": 1}
    assert facts["modes"] == {"RGB": 4, "L": 1}
    with Image.open(tmp_path / "grey.jpg") as packed:
        grey = np.asarray(packed)
    shares = [pixels.reshape(-1, 3) / 255 for pixels in images] + [np.repeat(grey.reshape(-1, 1), 3, 1) / 255]
    mean = np.mean([share.mean(0) for share in shares], 0)
    square = np.mean([(share**2).mean(0) for share in shares], 0)
    assert facts["mean"] == pytest.approx(mean, abs=1e-3)
    assert facts["deviation"] == pytest.approx(np.sqrt(square - mean**2), abs=1e-3)
    assert kinds(found)["grey"] == 1
    assert named(found, "grey").names[0]["name"] == "grey.jpg"


def test_the_bundled_digits_have_the_mean_and_deviation_the_field_knows():
    part = next(p for p in take_apart("digits", Form(), splits=("test",)).parts)
    facts = facts_of(part)
    assert facts["mean"] == pytest.approx([0.1325], abs=5e-4)
    assert facts["deviation"] == pytest.approx([0.3105], abs=5e-4)
    assert sum(facts["classes"].values()) == facts["count"] == 10_000


def test_nothing_is_said_against_sound_data(tmp_path):
    rng = np.random.default_rng(11)
    for k in range(40):
        save(tmp_path, f"{'cat' if k % 2 else 'dog'}/{k}.png", smooth(rng))
    found = inspect(str(tmp_path), Form())
    assert found.findings == []
    assert found.severity == 0
    assert "nothing to say against it" in str(found)


def test_faults_conversions_and_leaks_are_told(tmp_path):
    rng = np.random.default_rng(12)
    for k in range(60):
        save(tmp_path, f"train/{('cat', 'dog')[k % 12 == 0]}/{k}.png", smooth(rng))
    for k in range(4):
        save(tmp_path, f"test/{('cat', 'dog')[k % 2]}/{k}.png", smooth(rng))
    leaked = (tmp_path / "train/cat/1.png").read_bytes()
    (tmp_path / "test/cat/leak.png").write_bytes(leaked)
    (tmp_path / "train/dog/torn.png").write_bytes((tmp_path / "train/cat/2.png").read_bytes())
    (tmp_path / "train/cat/empty.png").write_bytes(b"")
    (tmp_path / "train/cat/text.png").write_text("no picture")
    (tmp_path / "train/cat/cut.png").write_bytes(leaked[: len(leaked) // 2])
    save(tmp_path, "train/cat/tall.png", np.concatenate([smooth(rng)] * 2))
    save(tmp_path, "train/cat/wide.png", np.concatenate([smooth(rng)] * 4, axis=1))
    save(tmp_path, "train/cat/clear.png", np.dstack([smooth(rng), np.full((64, 64), 90, np.uint8)]))
    Image.fromarray(smooth(rng)).convert("CMYK").save(tmp_path / "train/cat/print.jpg")
    Image.fromarray(smooth(rng)).quantize(50).save(tmp_path / "train/cat/palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth(rng)).save(tmp_path / "train/cat/turned.jpg", exif=exif)
    (tmp_path / "train/cat/out.png").symlink_to("/etc/passwd")
    found = inspect(str(tmp_path), Form.of({"size": 64}))
    said = kinds(found)
    assert found.severity == 1
    assert {said[f"fault: {kind}"] for kind in ("empty", "of no known format")} == {1}
    assert sum(count for kind, count in said.items() if kind.startswith("fault")) == 3
    assert said["passed over"] == 1
    assert [said[kind] for kind in ("alpha", "cmyk", "palette", "turned")] == [1, 1, 1, 1]
    assert "2 images of another aspect than 64x64: 62% is cut off on average, 75% at most" in named(found, "fit").text
    assert named(found, "leakage").names == [
        {"group": ["train/cat/1.png", "test/cat/leak.png"], "splits": ["train", "test"]}
    ]
    assert named(found, "two classes").names[0]["group"] == ["train/cat/2.png", "train/dog/torn.png"]
    assert said["duplicates"] == 2
    assert "imbalance" in said
    report = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert report["severity"] == 1
    unsized = inspect(str(tmp_path), Form())
    assert unsized.severity == 3
    assert "mixes sizes" in named(unsized, "refused").text


def test_pictures_of_one_colour_are_told_as_such_and_not_as_outliers(tmp_path):
    rng = np.random.default_rng(14)
    for k in range(60):
        save(tmp_path, f"{k}.png", smooth(rng))
    for k, light in enumerate((0, 90, 255)):
        save(tmp_path, f"flat{k}.png", np.full((64, 64, 3), light, np.uint8))
    dot = np.zeros((64, 64, 3), np.uint8)
    dot[20:22, 20:22] = 255  # more contrast than a colour has, and hardly a picture
    save(tmp_path, "dot.png", dot)
    found = inspect(str(tmp_path), Form())
    flat = {line["name"] for line in named(found, "nearly constant").names}
    assert flat == {"dot.png", "flat0.png", "flat1.png", "flat2.png"}
    others = {line["name"] for one in found.findings if one.kind in ("outliers", "blurred") for line in one.names}
    assert not flat & others


def test_pairs_are_looked_at_on_both_sides(tmp_path):
    rng = np.random.default_rng(13)
    for k in range(5):
        save(tmp_path, f"a/{k}.png", smooth(rng))
        save(tmp_path, f"b/{k}.png", smooth(rng))
    (tmp_path / "b/3.png").write_bytes((tmp_path / "b/1.png").read_bytes())
    found = inspect(str(tmp_path), Form())
    assert {name: facts["count"] for name, facts in found.facts.items()} == {"train/a": 5, "train/b": 5}
    assert kinds(found) == {"duplicates": 1}


def test_the_kind_of_a_fault_is_told_by_its_reason():
    reasons = {
        "the file is empty": "empty", "it is no image of a known format": "of no known format",
        "image file is truncated (3 bytes not processed)": "truncated",
        "99999x99999 is more than 67,108,864 pixels": "too large",
        "[Errno 2] No such file or directory: 'x'": "gone", "broken PNG file": "damaged",
        "it has changed since it was listed": "changed",
    }  # fmt: skip
    assert {reason: kind_of_fault(reason) for reason in reasons} == reasons
