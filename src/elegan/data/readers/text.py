"""Text -> rows of token numbers, int32 (T,).

One file (.txt, and .smi of molecules): a line is a text; blank lines are passed over. Files called train and test are
    splits, and their lines the texts. Several files: a file is a text, with classes and splits by folders.
Tokens: characters, or words, which stand between white space. Known are those of the training split: of characters all,
    of words those seen twice; how many are not is told.
Length: as asked for, else what holds 95 of 100 training texts; longer texts are cut, told.
UTF-8 only, with or without its mark; line ends of either kind.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

from elegan.data.codecs.text import UNKNOWN, TokenCodec, count
from elegan.data.form import Form
from elegan.data.listing import Layout, Listing
from elegan.data.readers.files import SPLITS, TESTS, arranged
from elegan.data.select import Selection
from elegan.data.source import Source
from elegan.data.tree import Entry, Tree
from elegan.errors import DataError, NoSplitError
from elegan.spec import Field, Spec

SUFFIXES = frozenset({".txt", ".text", ".smi", ".smiles"})
LINE = 1 << 20  # bytes of a line at most
FILE = 1 << 24  # bytes of a file that is one text
LONGEST = 1 << 16  # tokens of a text, unless more are asked for
SHARE = 0.95  # of the texts that the length is to hold


@dataclass(frozen=True)
class Texts:
    """The decoder of files that are one text each. codec, length: fitted on the training split."""

    codec: TokenCodec
    length: int
    kind = "text"
    version = 1

    def look(self, files: Sequence[BinaryIO]) -> int:
        """Errors: `ValueError` if it is no UTF-8, is empty, or too long."""
        return len(whole(files[0]))

    def settle(self, looks: Sequence[tuple[str, int]], *, name: str) -> Layout:
        return Layout((self.length,), "int32")

    def read(self, files: Sequence[BinaryIO], layout: Layout) -> np.ndarray:
        """int32 (T,). Errors: as `look`."""
        return self.codec.row(whole(files[0]), self.length)

    def field(self, layout: Layout, low: float, high: float) -> Field:
        return Field("token", layout.shape, about=self.codec.to_json())


def of_tree(tree: Tree, *, name: str, split: str, form: Form) -> Source | Listing:
    """The texts of a tree, which are all read to find their tokens.

    Errors: `DataError` if there are none, or a line is not UTF-8 or too long; else as `arranged`.
    """
    found = [entry for entry in tree.entries if entry.suffix in SUFFIXES]
    stems = {entry.parts[-1].rsplit(".", 1)[0].lower(): entry for entry in found}
    if len(stems) == len(found) > 1 and "train" in stems and stems.keys() <= SPLITS:
        test = next((stems[other] for other in TESTS if other in stems), None)
        return _of_lines(tree, stems["train"], test, name=name, split=split, form=form)
    if len(found) == 1:
        return _of_lines(tree, found[0], None, name=name, split=split, form=form)
    return _of_files(tree, name=name, split=split, form=form)


def _of_lines(tree: Tree, train: Entry, test: Entry | None, *, name: str, split: str, form: Form) -> Source:
    """One file, or one of each split, of one text a line."""
    selection = Selection.of(form if test is None else replace(form, holdout=0.0), "train")
    kept = (text for k, text in enumerate(lines(tree, train)) if selection.among([str(k)]))
    codec, length = _fitted(kept, form, name, lines=True)
    if split == "test" and test is None and not form.holdout:
        raise NoSplitError(f"{name!r} has no test split: put a test.txt beside train.txt, or use --holdout 0.1")
    wanted = test if split == "test" and test is not None else train
    flat, cut = array("i"), 0
    for text in lines(tree, wanted):
        flat.frombytes(codec.row(text, length).tobytes())
        cut += len(codec.split(text)) > length
    if not flat:
        raise DataError(f"{name!r} holds no samples: {wanted.path!r} has no lines")
    rows = np.frombuffer(flat, np.int32).reshape(-1, length)
    spec = Spec(real=Field("token", (length,), about=codec.to_json()))
    where = "/".join((tree.root, wanted.path))
    about = f"{len(rows):,} texts of {_words(codec, length, cut, int((rows == UNKNOWN).sum()))} from {where!r}"
    return Source(name, spec, {"real": rows}, about, own_split=test is not None)


def _of_files(tree: Tree, *, name: str, split: str, form: Form) -> Listing:
    """Files of one text each. One that cannot be read has no say; `pack` will tell of it."""
    nothing = Texts(TokenCodec(()), 1)
    listing = arranged(tree, name=name, split=split, form=form, suffixes=SUFFIXES, decoder=nothing)
    train = listing
    if split != "train" and listing.own_split:
        train = arranged(tree, name=name, split="train", form=form, suffixes=SUFFIXES, decoder=nothing)
    selection = Selection.of(replace(form, holdout=0.0) if listing.own_split else form, "train")

    def texts(wanted: Listing) -> Iterator[str]:
        samples = [sample for those in wanted.streams.values() for sample in those]
        for k in selection.among([sample.name for sample in samples]) if wanted is train else range(len(samples)):
            for part in samples[k].parts:
                try:
                    with tree.open(part[0]) as file:
                        yield whole(file)
                except (OSError, ValueError):
                    continue

    codec, length = _fitted(texts(train), form, name, lines=False)
    cut = sum(len(codec.split(text)) > length for text in texts(listing))
    what = f"of {_words(codec, length, cut)} {listing.what}"
    return replace(listing, decoders=dict.fromkeys(listing.decoders, Texts(codec, length)), what=what)


def _fitted(texts: Iterator[str], form: Form, name: str, *, lines: bool) -> tuple[TokenCodec, int]:
    """The codec of training texts, and the length of a row."""
    seen, lengths = count(texts, form.tokens)
    if not seen:
        raise DataError(f"{name!r} holds no samples: there is no text in its train split")
    length = form.length or max(1, int(np.quantile(lengths, SHARE, method="higher")))
    if form.length is None and length > LONGEST:
        raise DataError(f"{name!r}: its texts have up to {max(lengths):,} {form.tokens}s: use --length 256")
    return TokenCodec.fit(seen, form.tokens, lines=lines), length


def _words(codec: TokenCodec, length: int, cut: int, unknown: int = 0) -> str:
    """64 characters of 27 kinds (3 cut)."""
    what = "characters" if codec.tokens == "char" else "words"
    said = [f"{cut:,} cut"] * bool(cut) + [f"{unknown:,} {what} unknown"] * bool(unknown)
    return f"{length:,} {what} of {len(codec.vocabulary) - 4:,} kinds" + (f" ({', '.join(said)})" if said else "")


def lines(tree: Tree, entry: Entry) -> Iterator[str]:
    """The lines of a text without their ends, but for blank ones. Errors: `DataError` with the line that is none."""
    where, number = f"{entry.path!r} of {tree.root!r}", 0
    try:
        with tree.open(entry) as file:
            while raw := file.readline(LINE + 1):
                number += 1
                if len(raw) > LINE:
                    raise ValueError(f"it is longer than {LINE:,} bytes")
                if text := _decoded(raw.rstrip(b"\r\n"), first=number == 1):
                    yield text
    except (OSError, ValueError) as error:
        raise DataError(f"{where}, line {max(1, number)} cannot be read ({error}): mend it") from error


def whole(file: BinaryIO) -> str:
    """The text of a file, its line ends as one character, without those at its end.

    Errors: `ValueError` if it is no UTF-8, holds nothing, or is too long.
    """
    raw = file.read(FILE + 1)
    if len(raw) > FILE:
        raise ValueError(f"it is longer than {FILE:,} bytes: put one text on a line, in one file")
    text = _decoded(raw.replace(b"\r\n", b"\n").rstrip(b"\n"), first=True)
    if not text:
        raise ValueError("there is no text in it")
    return text


def _decoded(raw: bytes, *, first: bool) -> str:
    """Bytes as text, nothing if they are blank."""
    if b"\0" in raw:
        raise ValueError("it holds a zero byte, which no text does")
    try:
        text = raw.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 at byte {error.start + 1:,}") from error
    return "" if text.isspace() else text
