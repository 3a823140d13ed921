"""Tables against SciPy's densities, closed forms, and the very text of the files they came from."""

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, norm
from sklearn.datasets import load_breast_cancer, load_wine

from elegan.data.batches import Batches
from elegan.data.codec import codec_of
from elegan.data.form import Form
from elegan.data.readers import table
from elegan.data.readers.delimited import Cells
from elegan.data.select import Selection
from elegan.data.sources import open_data, prepare
from elegan.errors import DataError, NoSplitError
from elegan.exporting.samples import Samples, is_plane
from elegan.spec import Spec

ROWS = 40
MIXED = {  # of each kind of column its cells
    "weight": [f"{k / 4 + (k % 2) * 50:.2f}" for k in range(ROWS)],
    "count": [str(100 - 3 * k) for k in range(ROWS)],
    "day": [f"2021-{1 + k % 12:02d}-{1 + k % 28:02d}" for k in range(ROWS)],
    "moment": [f"2021-03-04 05:{k:02d}:07" for k in range(ROWS)],
    "colour": [("red", "green", "blue, dark")[k % 3] for k in range(ROWS)],
    "cylinders": [str((4, 6, 8)[k % 3]) for k in range(ROWS)],
    "sold": [("yes", "no")[k % 2] for k in range(ROWS)],
    "unit": ["kg"] * ROWS,
    "post code": [f"0{k:04d}" if k % 5 else "12345" for k in range(ROWS)],
    "maybe": ["NA" if k % 4 == 0 else str(k * 1.5) for k in range(ROWS)],
    "hue": ["" if k % 5 == 0 else "ab"[k % 2] for k in range(ROWS)],
    "tiny": [f"{k % 9 + 1}.5e-09" for k in range(ROWS)],
}
KINDS = {
    "weight": "continuous", "count": "integer", "day": "date", "moment": "date", "colour": "categorical",
    "cylinders": "categorical", "sold": "boolean", "unit": "constant", "post code": "text", "maybe": "continuous",
    "hue": "categorical", "tiny": "continuous",
}  # fmt: skip


def save(path: Path, columns: dict[str, list[str]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        lines = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        lines.writerow(columns)
        lines.writerows(zip(*columns.values(), strict=True))
    return path


def opened(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_data(path, **options)


def back(source):
    """The codec, and raw rows that went to what a game sees and back."""
    codec = codec_of(source.spec["real"])
    return codec, codec.decode(codec.encode(torch.from_numpy(source.arrays["real"])))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    path = save(tmp_path_factory.mktemp("table") / "mixed.csv", MIXED)
    return path, opened(path)


@pytest.fixture(scope="module")
def cancer(tmp_path_factory):
    found = load_breast_cancer()
    columns = {str(n): [repr(float(x)) for x in found.data[:, j]] for j, n in enumerate(found.feature_names)}
    columns = dict(list(columns.items())[:8]) | {"kind": [str(found.target_names[k]) for k in found.target]}
    path = save(tmp_path_factory.mktemp("table") / "cancer.csv", columns)
    return path, open_data(path, class_column="kind"), found


def test_columns_are_of_the_stated_kinds(mixed):
    _, source = mixed
    codec = codec_of(source.spec["real"])
    assert {column.name: column.kind for column in codec.columns} == KINDS
    trained = [name for name, kind in KINDS.items() if kind not in ("constant", "text")]
    assert source.spec["real"].names == tuple(trained)
    assert source.arrays["real"].shape == (ROWS, len(trained))
    for words in ("40 rows of 10 columns", "3 continuous", "2 date", "1 boolean", "1 constant", "1 text", "mixed.csv"):
        assert words in source.about


def test_a_column_of_texts_is_told(mixed):
    with pytest.warns(UserWarning, match="left out: 1 column of texts, the first is 'post code'"):
        open_data(mixed[0])


def test_raw_rows_are_what_the_cells_say(mixed):
    rows = dict(zip(mixed[1].spec["real"].names, mixed[1].arrays["real"].T, strict=True))
    assert rows["weight"].tolist() == [float(x) for x in MIXED["weight"]]
    days = np.array(MIXED["day"], "datetime64[D]").astype(int)
    assert rows["day"].tolist() == days.tolist()
    moments = np.array([text.replace(" ", "T") for text in MIXED["moment"]], "datetime64[s]").astype(int)
    assert rows["moment"].tolist() == moments.tolist()
    assert np.isnan(rows["maybe"]).tolist() == [text == "NA" for text in MIXED["maybe"]]
    column = {c.name: c for c in codec_of(mixed[1].spec["real"]).columns}
    assert column["cylinders"].categories == ("4", "6", "8")
    assert column["colour"].categories == ("blue, dark", "green", "red")
    assert column["hue"].categories == ("a", "b", "")  # what is missing comes last
    assert column["hue"].counts == (16, 16, 8)
    assert [column["colour"].categories[int(k)] for k in rows["colour"]] == MIXED["colour"]


def test_what_is_encoded_and_written_again_is_the_file(mixed, tmp_path):
    path, source = mixed
    codec, rows = back(source)
    (written,) = codec.write(rows, tmp_path)
    text, told = path.read_text(), written.read_text()
    kept = [name for name in MIXED if name != "post code"]
    lines, found = (list(csv.DictReader(part.splitlines())) for part in (text, told))
    assert list(found[0]) == list(MIXED)
    for line, other in zip(lines, found, strict=True):
        assert {name: line[name] for name in kept} == {name: other[name] for name in kept}
        assert other["post code"] == ""


def test_real_tables_come_back_bit_for_bit(cancer, tmp_path):
    path, source, found = cancer
    codec, rows = back(source)
    assert np.array_equal(rows, found.data[:, :8])
    assert max(ks_2samp(rows[:, j], found.data[:, j]).statistic for j in range(8)) == 0
    table_ = codec.cells(rows, source.arrays["label"])
    assert [[*map(float, line[:8]), line[8]] for line in table_] == [
        [*row[:8], found.target_names[k]] for row, k in zip(found.data.tolist(), found.target, strict=True)
    ]
    assert [",".join(line) for line in table_] == path.read_text().splitlines()[1:]


def test_mode_specific_normalisation_is_that_of_the_paper(cancer):
    """Section 4.2: the likeliest mode, alpha = (x - mean) / (4 deviation), the mode as one of many."""
    _, source, _ = cancer
    codec = codec_of(source.spec["real"])
    raw = source.arrays["real"]
    made = codec.encode(torch.from_numpy(raw))
    assert made.dtype == torch.float32
    assert (
        made.shape[1:] == source.spec.shape == (sum(group["width"] for group in source.spec["real"].about["groups"]),)
    )
    several = 0
    for j, (column, group) in enumerate(zip(codec.trained, source.spec["real"].about["groups"], strict=True)):
        part = made[:, group["start"] : group["start"] + group["width"]].numpy()
        density = np.array(column.weights) * norm.pdf(raw[:, j, None], column.means, column.deviations)
        sure = np.sort(density)[:, -1] > (np.sort(density)[:, -2] * 1.001 if len(column.means) > 1 else 0)
        mode = density.argmax(1)
        assert np.array_equal(part[sure, 1:].argmax(1), mode[sure])
        assert (part[:, 1:].sum(1) == 1).all()
        alpha = (raw[:, j] - np.take(column.means, mode)) / (4 * np.take(column.deviations, mode))
        assert np.allclose(part[sure, 0], alpha[sure], atol=1e-6)
        assert group["counts"] == np.bincount(mode, minlength=len(column.means)).tolist()
        assert sum(column.weights) == pytest.approx(1)
        assert min(column.weights) > 0.004
        several += len(column.means) > 1
    assert several >= 4


def test_the_modes_are_found_where_they_are():
    draw = np.random.default_rng(3)
    values = np.concatenate([draw.normal(-20, 0.5, 600), draw.normal(5, 2, 300), draw.normal(400, 3, 100)])
    source = table.of_columns(
        {"train": {"x": Cells.of([repr(float(x)) for x in values])}}, "train", name="x", form=Form(), where="a test"
    )
    column = codec_of(source.spec["real"]).columns[0]
    order = np.argsort(column.means)
    heavy = [k for k in order if column.weights[k] > 0.05]
    spread = values.std()  # the prior draws modes towards the middle, and widens them, by a few hundredths of it
    assert np.array(column.means)[heavy] == pytest.approx([-20, 5, 400], abs=0.03 * spread)
    assert np.array(column.weights)[heavy] == pytest.approx([0.6, 0.3, 0.1], abs=0.02)


def test_missing_numbers_have_a_mode_of_their_own(mixed):
    _, source = mixed
    codec = codec_of(source.spec["real"])
    j = source.spec["real"].names.index("maybe")
    group = source.spec["real"].about["groups"][j]
    made = codec.encode(torch.from_numpy(source.arrays["real"]))[:, group["start"] : group["start"] + group["width"]]
    gone = torch.tensor([text == "NA" for text in MIXED["maybe"]])
    assert made[:, -1].tolist() == gone.float().tolist()
    assert made[gone, 0].abs().sum() == 0
    assert group["counts"][-1] == 10
    assert sum(group["counts"]) == ROWS


def test_what_a_game_makes_is_rounded_and_kept_in_range(mixed):
    codec = codec_of(mixed[1].spec["real"])
    draw = torch.randn(200, codec.width, generator=torch.Generator().manual_seed(0)) * 3
    rows = codec.decode(draw)
    cells = codec.cells(rows)
    for j, column in enumerate(codec.columns):
        said = [line[j] for line in cells]
        match column.kind:
            case "integer":
                assert all(1 - 3 * 39 <= int(text) <= 100 for text in said)
            case "date":
                assert min(said) >= min(MIXED[column.name])
                assert max(said) <= max(MIXED[column.name])
            case "categorical" | "boolean" | "constant":
                assert set(said) <= set(MIXED[column.name])
    assert {len(line[0].partition(".")[2]) for line in cells} == {2}
    for j, (column, group) in enumerate(zip(codec.trained, codec.groups, strict=True)):
        if column.kind in ("categorical", "boolean"):
            part = draw[:, group["start"] : group["start"] + group["width"]]
            assert rows[:, j].tolist() == part.argmax(1).tolist()


@pytest.mark.parametrize(
    ("delimiter", "suffix"), [(",", "csv"), (";", "csv"), ("\t", "csv"), ("|", "csv"), ("\t", "tsv")]
)
def test_delimiters_are_found(mixed, tmp_path, delimiter, suffix):
    source = opened(save(tmp_path / f"x.{suffix}", MIXED, delimiter))
    assert np.array_equal(source.arrays["real"], mixed[1].arrays["real"], equal_nan=True)
    codec = codec_of(source.spec["real"])
    assert codec.delimiter == delimiter
    (written,) = codec.write(source.arrays["real"][:1], tmp_path)
    assert written.read_text().splitlines()[0] == delimiter.join(MIXED)


def test_encodings(tmp_path):
    columns = {"größe": ["1", "2", "3"] * 7, "stadt": ["Köln", "Zürich", "€uro"] * 7}
    found = {}
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        found[encoding] = open_data(save(tmp_path / f"{encoding}.csv", columns, encoding=encoding))
    with pytest.warns(UserWarning, match="not UTF-8: read as Windows-1252"):
        found["cp1252"] = open_data(save(tmp_path / "cp1252.csv", columns, encoding="cp1252"))
    (tmp_path / "latin.csv").write_bytes("größe,stadt\n1,K\x81ln\n2,Bö\n".encode("latin-1"))
    with pytest.warns(UserWarning, match="not UTF-8: read as Latin-1"):
        open_data(tmp_path / "latin.csv")
    for source in found.values():
        assert source.spec["real"].names == ("größe", "stadt")
        assert codec_of(source.spec["real"]).columns[1].categories == ("Köln", "Zürich", "€uro")


def test_decimal_commas(tmp_path):
    cells = [f"{k},{k % 7}5" for k in range(30)]
    source = open_data(save(tmp_path / "x.csv", {"price": cells, "n": [str(k) for k in range(30)]}, ";"))
    assert source.arrays["real"][:, 0].tolist() == [float(text.replace(",", ".")) for text in cells]
    codec, rows = back(source)
    assert [line[0] for line in codec.cells(rows)] == cells


def test_a_table_without_a_header_has_none_when_written(tmp_path):
    (tmp_path / "x.csv").write_text("".join(f"{k},{k * k}.5\n" for k in range(20)))
    source = open_data(tmp_path / "x.csv")
    assert len(source) == 20
    assert source.spec["real"].names == ("column-1", "column-2")
    codec, rows = back(source)
    (written,) = codec.write(rows, tmp_path)
    assert written.read_text() == (tmp_path / "x.csv").read_text()


def test_quotes_and_lines_within_cells(tmp_path):
    (tmp_path / "x.csv").write_bytes(b'a,"b, c"\r\n1,"x\ny"\r\n\r\n2,"say ""hi"""\r\n3,"x\ny"\r\n')
    source = open_data(tmp_path / "x.csv")
    assert source.spec["real"].names == ("a", "b, c")
    assert codec_of(source.spec["real"]).columns[1].categories == ('say "hi"', "x\ny")
    assert len(source) == 3


def test_the_class_column(cancer):
    _, source, found = cancer
    assert source.spec["label"].names == ("benign", "malignant")
    assert np.array_equal(source.arrays["label"], 1 - found.target)
    assert source.spec["label"].counts == (357, 212)
    assert source.spec.classes == 2
    assert "kind" not in source.spec["real"].names


def test_both_splits_are_encoded_alike_and_fitted_on_one(tmp_path):
    columns = {"x": [f"{k}.5" for k in range(300)], "c": ["ab"[k % 2] for k in range(300)]}
    path = save(tmp_path / "x.csv", columns)
    train, test = (open_data(path, split=split, holdout=0.3) for split in ("train", "test"))
    assert train.spec == test.spec
    rows = Selection("test", 0.3)
    assert test.arrays["real"][:, 0].tolist() == [k + 0.5 for k in range(300) if rows.holds(str(k))]
    assert len(train) + len(test) == 300
    for group in train.spec["real"].about["groups"]:
        assert sum(group["counts"]) == len(train)
    (tmp_path / "two").mkdir()
    head = save(tmp_path / "two" / "train.csv", {"x": columns["x"][:200], "c": columns["c"][:200]})
    save(tmp_path / "two" / "test.csv", {"c": ["0", *columns["c"][:99]], "x": columns["x"][200:]})  # another order
    train, test = (open_data(head.parent, split=split) for split in ("train", "test"))
    assert train.spec == test.spec
    assert [len(train), len(test)] == [200, 100]
    assert test.arrays["real"][:, 0].tolist() == [float(text) for text in columns["x"][200:]]
    assert codec_of(train.spec["real"]).columns[1].categories == ("0", "a", "b")
    assert train.spec["real"].about["groups"][1]["counts"] == [0, 100, 100]
    with pytest.raises(NoSplitError):
        open_data(path, split="test")


def test_batches_stores_and_json_give_the_same(cancer, tmp_path):
    path, source, _ = cancer
    codec = codec_of(source.spec["real"])
    assert codec_of(Spec.from_json(json.loads(json.dumps(source.spec.to_json())))["real"]) == codec
    batch = Batches(source, rows=16)(0, 0, 0, 16)
    assert batch["real"].shape == (16, codec.width)
    prepare(path, tmp_path / "store", form=Form(class_column="kind"))
    packed = open_data(tmp_path / "store")
    assert packed.spec == source.spec
    assert np.array_equal(packed.arrays["real"], source.arrays["real"])
    assert torch.equal(Batches(packed, rows=16)(0, 0, 0, 16)["real"], batch["real"])


def test_samples_are_saved_as_a_table(mixed, tmp_path):
    _, source = mixed
    samples = Samples(source.arrays["real"][:5], source.spec["real"], {})
    (path,) = samples.save(tmp_path / "out")
    assert path.name == "samples.csv"
    first = "0.00,100,2021-01-01,2021-03-04 05:00:07,red,4,yes,kg,,NA,,1.5e-09"
    assert path.read_text().splitlines()[1] == first
    two = open_data(save(tmp_path / "two.csv", {"sold": ["yes", "no"] * 4}))
    assert two.spec.shape == (2,)
    assert not is_plane(two.spec["real"])


def test_columns_from_elsewhere_are_a_table_too():
    cells = {"train": {"n": Cells.of([str(k) for k in range(50)]), "c": Cells.of([None, "u", "v", "u", "v"] * 10)}}
    source = table.of_columns(cells, "train", name="x", form=Form(), where="columns")
    assert source.arrays["real"][:5].tolist() == [[0, 2], [1, 0], [2, 1], [3, 0], [4, 1]]
    with pytest.raises(NoSplitError, match="no test split"):
        table.of_columns(cells, "test", name="x", form=Form(), where="columns")


def test_cells_are_joined_by_what_they_say():
    both = Cells.of(["a", " b ", "a"]) + Cells.of(["c", "b", None])
    assert [both.texts[k] for k in both.places] == ["a", "b", "a", "c", "b", ""]


def test_wine_by_its_class_numbers(tmp_path):
    found = load_wine()
    columns = {f"x{j}": [str(x) for x in found.data[:, j].tolist()] for j in (0, 12)}
    source = open_data(save(tmp_path / "x.csv", columns | {"y": [str(k) for k in found.target]}), class_column="y")
    assert np.array_equal(source.arrays["label"], found.target)
    assert np.array_equal(back(source)[1], found.data[:, [0, 12]])
    with pytest.raises(DataError, match="no column 'z'"):
        open_data(tmp_path / "x.csv", class_column="z")
