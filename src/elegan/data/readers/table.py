"""Tables: .csv and .tsv, and the plain columns of any other format, to rows of numbers and categories.

Cells: spaces around them are dropped. Missing is one of `MISSING`; a column that misses some says so by a mode of its
    own if it holds numbers, by a category if it holds classes.
Columns, the first that fits
    constant     one text in all rows: not trained on, put back into what is written
    boolean      two of true/false, yes/no, t/f, y/n or 0/1
    date         all YYYY-MM-DD, with hh:mm:ss or without
    categorical  whole numbers of at most `FEW` different values
    integer      whole numbers; with leading zeros or over 15 digits they are names, not numbers
    continuous   numbers, with a decimal point, or in a table that is not cut by commas a decimal comma
    categorical  texts of at most `MANY` different values, in at most half as many as there are rows
    text         anything else: not trained on, left empty in what is written, and told
Class: the column named by `class_column` is the field `label`; it must not miss any.
Fit: modes and counts on the training split alone; kinds, ranges and categories on all, so that both are encoded alike.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from elegan.data.codecs.table import EPOCH, Column, TableCodec
from elegan.data.form import Form
from elegan.data.readers.delimited import NUMBER, Cells, read_delimited
from elegan.data.readers.files import SPLITS, TESTS
from elegan.data.select import Selection
from elegan.data.source import Source, label_field
from elegan.data.tree import Tree
from elegan.errors import DataError, NoSplitError, nearest
from elegan.spec import Field, Spec

SUFFIXES = frozenset({".csv", ".tsv"})
MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?"})
TRUTHS = ({"true", "false"}, {"yes", "no"}, {"t", "f"}, {"y", "n"}, {"0", "1"})
FEW, MANY = 10, 1000
MODES, LIGHT = 10, 0.005  # modes of a column at most; a lighter one is dropped
FITTED = 5_000  # values that modes are fitted to, drawn without replacement
COMMA = re.compile(r"[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d+)?")
NAME = re.compile(r"[+-]?(0\d+|\d{16,})")
DATES = {
    re.compile(r"[1-9]\d{3}-\d\d-\d\d"): "%Y-%m-%d",
    re.compile(r"[1-9]\d{3}-\d\d-\d\d \d\d:\d\d:\d\d"): "%Y-%m-%d %H:%M:%S",
    re.compile(r"[1-9]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d"): "%Y-%m-%dT%H:%M:%S",
}


def of_tree(tree: Tree, *, name: str, split: str, form: Form) -> Source:
    """The one table of a tree, or the one called as the split: train.csv, test.csv.

    Errors: `DataError` if there are several or none, or one is no table; else as `of_columns`.
    """
    found = {entry.parts[-1].rsplit(".", 1)[0].lower(): entry for entry in tree.entries if entry.suffix in SUFFIXES}
    if not found:
        raise DataError(f"{tree.root!r} holds no tables (csv, tsv)")
    if len(found) > 1 and not ("train" in found and found.keys() <= SPLITS):
        raise DataError(
            f"{tree.root!r} holds {len(found)} tables: open one of them, such as {min(found.values()).path!r}"
        )
    if len(found) == 1:
        (entry,) = found.values()
        read, where = {"train": read_delimited(tree, entry)}, f"{tree.root}/{entry.path}"
        split = "train" if form.holdout else split
    else:
        test, where = next((other for other in TESTS if other in found), "test"), tree.root
        read = {s: read_delimited(tree, found[f]) for s, f in (("train", "train"), ("test", test)) if f in found}
    lead = read["train"]
    return of_columns(
        {split: table.columns for split, table in read.items()}, split, name=name, form=form,
        where=repr(where), delimiter=lead.delimiter, header=lead.header,
    )  # fmt: skip


def of_columns(
    splits: Mapping[str, Mapping[str, Cells]],
    split: str,
    *,
    name: str,
    form: Form,
    where: str,
    delimiter: str = ",",
    header: bool = True,
) -> Source:
    """One split of a table as field `real` of kind vector, and `label` if the form names a class column.

    splits: of each split, which are all needed to encode them alike, the cells by column, as `Cells.of(texts)` makes
        them: numbers as Python writes them, dates as in ISO 8601, None or "" where there is nothing.
    where: what they are of, for people.
    Errors: `DataError` if there are no rows, no column can be trained on, the splits differ in their columns, or the
        class column is none; `NoSplitError` if there is no such split.
    """
    if split not in splits:
        raise NoSplitError(f"{name!r} has no {split} split: put a test.csv beside train.csv, or use --holdout 0.1")
    titles, lengths = list(splits["train"]), {s: len(next(iter(those.values()), ())) for s, those in splits.items()}
    for other, length in lengths.items():
        if odd := splits[other].keys() ^ set(titles):
            raise DataError(f"{name!r}: not every split has the column {min(odd)!r}: add it or take it away")
        if not length:
            raise DataError(f"{name!r} holds no samples: {where} has no rows for the {other} split")
    if form.class_column is not None and form.class_column not in titles:
        raise DataError(f"{name!r} has no column {form.class_column!r}.{nearest(form.class_column, titles)}")
    own_split = len(splits) > 1
    train = Selection.of(replace(form, holdout=0.0) if own_split else form, "train")
    drawn = train.among([str(k) for k in range(lengths["train"])])
    if not drawn:
        raise DataError(f"{name!r}: no row is left in the train split")
    start = 0 if split == "train" else lengths["train"]
    ask = _Ask(form.class_column, delimiter, name, drawn, slice(start, start + lengths[split]))
    found = [_column(title, sum((splits[s][title] for s in splits), Cells()), ask) for title in titles]
    codec = TableCodec(tuple(column for column, _ in found), delimiter, header)
    raw = [values for column, values in found if column.width]
    if not raw:
        raise DataError(f"{name!r}: no column of {where} can be trained on: all are constant, or texts")
    arrays = {"real": np.stack(raw, 1)}  # (N, K)
    label = next((pair for pair in found if pair[0].kind == "class"), None)
    classes = () if label is None else label[0].categories
    about = {**codec.to_json(), "groups": codec.groups}
    names = tuple(column.name for column in codec.trained)
    fields = {"real": Field("vector", (codec.width,), len(classes), names=names, about=about)}
    if label is not None:
        arrays["label"] = label[1].astype(np.int64)
        fields["label"] = label_field(arrays["label"], classes)
    _tell(name, codec)
    told = f"{lengths[split]:,} rows of {_words(codec)} from {where}"
    return Source(name, Spec(**fields), arrays, told + f", {len(classes)} classes" * bool(classes), own_split=own_split)


def _tell(name: str, codec: TableCodec) -> None:
    if texts := [column.name for column in codec.columns if column.kind == "text"]:
        warnings.warn(
            f"{name!r}: left out: {len(texts)} column{'s' * (len(texts) > 1)} of texts, the first is {texts[0]!r}",
            stacklevel=2,
        )


def _words(codec: TableCodec) -> str:
    """3 columns (2 continuous, 1 boolean), 1 constant."""
    kinds = [column.kind for column in codec.columns]
    known = dict.fromkeys(kinds)
    trained = {column.kind for column in codec.trained}
    inside = ", ".join(f"{kinds.count(kind)} {kind}" for kind in known if kind in trained)
    beside = "".join(f", {kinds.count(kind)} {kind}" for kind in known if kind not in trained)
    count = len(codec.trained)
    return f"{count} column{'s' * (count > 1)} ({inside}){beside}"


@dataclass(frozen=True)
class _Ask:
    """What is known of a table before its columns are looked at. drawn: rows of the training split, to fit to.
    wanted: rows of the split that is asked for."""

    class_column: str | None
    delimiter: str
    name: str
    drawn: Sequence[int]
    wanted: slice


def _column(title: str, cells: Cells, ask: _Ask) -> tuple[Column, np.ndarray]:
    """What a column is, and its raw values in the wanted rows (N,)."""
    wanted, fitted = cells.places[ask.wanted], cells.places[ask.drawn]
    present = [text for text in cells.texts if text not in MISSING]
    gone = [text for text in cells.texts if text in MISSING]
    counts = np.bincount(fitted, minlength=len(cells.texts))
    if title == ask.class_column:
        if gone or len(present) < 2 or len(present) > MANY:
            what = f"misses cells (as {gone[0]!r})" if gone else f"has {len(present)} different values"
            raise DataError(f"{ask.name!r}: the class column {title!r} {what}: it must name a class in every row")
        return _classes(title, "class", present, gone, cells, counts, wanted)
    comma = ask.delimiter != "," and not all(map(NUMBER.fullmatch, present)) and all(map(COMMA.fullmatch, present))
    plain = [text.replace(",", ".") for text in present] if comma else present
    match _kind(plain, bool(gone), len(cells)):
        case "constant":
            return Column(title, "constant", (cells.texts[0],)), np.zeros(len(wanted))
        case "text":
            return Column(title, "text"), np.zeros(len(wanted))
        case "categorical" | "boolean" as kind:
            return _classes(title, kind, present, gone, cells, counts, wanted)
        case kind:
            missing = max(gone, key=lambda text: counts[cells.texts.index(text)], default=None)
            stamp = next((stamp for shape, stamp in DATES.items() if shape.fullmatch(plain[0])), "")
            value = _values(plain, stamp, f"{ask.name!r}, column {title!r}")
            known = dict(zip(present, value, strict=True))
            values = np.array([known.get(text, np.nan) for text in cells.texts])
            column = Column(title, kind, comma=comma, stamp=stamp, missing=missing, **_written(plain, kind))
            return _with_modes(column, values[fitted], values), values[wanted]


def _kind(present: Sequence[str], gone: bool, rows: int) -> str:
    """The kind of a column, by the texts of its cells that are there and its number of rows."""
    if len(present) + gone <= 1:
        return "constant"
    if {text.lower() for text in present} in TRUTHS:
        return "boolean"
    if present and any(all(map(shape.fullmatch, present)) for shape in DATES):
        return "date"
    if present and all(map(NUMBER.fullmatch, present)) and not any(map(NAME.fullmatch, present)):
        if not all(text.lstrip("+-").isdigit() for text in present):
            return "continuous"
        return "categorical" if len(present) <= FEW else "integer"
    return "categorical" if len(present) <= min(MANY, max(FEW, rows // 2)) else "text"


def _classes(
    title: str, kind: str, present: list[str], gone: list[str], cells: Cells, counts: np.ndarray, wanted: np.ndarray
) -> tuple[Column, np.ndarray]:
    """A column of categories: numbers in their order, texts in theirs, what is missing last."""
    whole = all(NUMBER.fullmatch(text) for text in present)
    categories = [*sorted(present, key=lambda text: (float(text) if whole else 0.0, text)), *gone[:1]]
    number = {text: k for k, text in enumerate(categories)} | dict.fromkeys(gone, len(categories) - 1)
    places = np.array([number[text] for text in cells.texts])
    counted = np.bincount(places, counts, minlength=len(categories)).astype(int)
    return Column(title, kind, tuple(categories), tuple(counted.tolist())), places[wanted].astype(float)


def _values(texts: Sequence[str], stamp: str, where: str) -> list[float]:
    """Numbers, or dates as days or seconds since 1970. Errors: `DataError` naming the text that is none."""
    values = []
    for text in texts:
        try:
            since = datetime.strptime(text, stamp) - EPOCH if stamp else None
            value = float(text) if since is None else since.days + (since.seconds / 86_400)
        except ValueError as error:
            raise DataError(f"{where}: there is no day {text!r}: mend it") from error
        if not abs(value) <= 1e30:
            raise DataError(f"{where}: {text!r} is beyond what can be trained on: mend it")
        values.append(round(value * 86_400) if "%H" in stamp else value)
    return values


def _written(texts: Sequence[str], kind: str) -> dict[str, Any]:
    """How numbers are written: digits behind the point, and whether always as many."""
    if kind != "continuous":
        return {}
    if any("e" in text.lower() for text in texts):
        mantissas = (re.sub(r"[+-]|\.|[eE].*", "", text) for text in texts)
        return {"decimals": None, "digits": max(len(mantissa.lstrip("0")) for mantissa in mantissas) or 1}
    digits = {len(text.partition(".")[2]) for text in texts}
    return {"decimals": max(digits), "fixed": len(digits) == 1}


def _with_modes(column: Column, fitted: np.ndarray, seen: np.ndarray) -> Column:
    """A column of numbers with the modes of its fitted values, those of a Bayesian mixture of Gaussians (a Dirichlet
    process) that carry weight, and with the range of all that were seen."""
    there = fitted[~np.isnan(fitted)]
    if not len(there):  # the training split misses them all
        there = seen[~np.isnan(seen)]
    draw = np.random.default_rng(0)
    sample = there if len(there) <= FITTED else draw.choice(there, FITTED, replace=False)
    shift, scale = float(sample.mean()), float(sample.std()) or 1.0
    weights, means, deviations = _mixture((sample - shift) / scale)
    means, deviations = shift + scale * means, scale * deviations
    place = (there[:, None] - means) / deviations
    mode = (np.log(weights / deviations) - place**2 / 2).argmax(1)
    counts = np.bincount(mode, minlength=len(means)).tolist()
    return replace(
        column, weights=tuple(weights.tolist()), means=tuple(means.tolist()), deviations=tuple(deviations.tolist()),
        counts=(*counts, *([len(fitted) - len(there)] if column.missing is not None else [])),
        low=float(np.nanmin(seen)), high=float(np.nanmax(seen)),
    )  # fmt: skip


def _mixture(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and deviations of the modes of values (N,) of mean 0 and deviation 1."""
    kinds = len(np.unique(values))
    if kinds == 1:
        return np.ones(1), values[:1], np.ones(1)
    try:
        from sklearn.mixture import BayesianGaussianMixture
    except ImportError as error:
        raise DataError('tables need scikit-learn: pip install "elegan[table]"') from error
    fit = BayesianGaussianMixture(
        n_components=min(MODES, kinds), weight_concentration_prior_type="dirichlet_process",
        weight_concentration_prior=1e-3, random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it might still move a little
        fit.fit(values[:, None])
    kept = fit.weights_ > LIGHT
    deviations = np.sqrt(fit.covariances_[kept].reshape(-1))
    return fit.weights_[kept] / fit.weights_[kept].sum(), fit.means_[kept, 0], deviations
