"""The codec of text: numbers of tokens, by a vocabulary that travels with the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SPECIALS = ("<pad>", "<unknown>", "<begin>", "<end>")
PAD, UNKNOWN, BEGIN, END = range(4)
LOST = "\ufffd"  # what an unknown token is written as
LEAST = {"char": 1, "word": 2}  # how often a token must be seen to be known
MOST = 50_000  # tokens in a vocabulary


class _Numbers(dict[str, int]):
    def __missing__(self, token: str) -> int:
        return UNKNOWN


@dataclass(frozen=True)
class TokenCodec:
    """int32 (B, T) <-> int64 (B, T), the numbers of tokens; a text shorter than T is followed by `END`, then by `PAD`s.

    vocabulary: the tokens by number, the first four `SPECIALS`; `BEGIN` is there for games that want a first token.
    tokens: what they are, characters or words. lines: whether a text is a line of a file, or a file.
    """

    vocabulary: tuple[str, ...]
    tokens: str = "char"
    lines: bool = True
    kind: ClassVar[str] = "token"

    @classmethod
    def fit(cls, seen: Mapping[str, int], tokens: str = "char", *, lines: bool = True) -> TokenCodec:
        """The codec of tokens that were seen so often: those that were `LEAST` times, the `MOST` frequent."""
        frequent = [token for token in seen if seen[token] >= LEAST[tokens]]
        frequent.sort(key=lambda token: (-seen[token], token))
        return cls((*SPECIALS, *frequent[:MOST]), tokens, lines)

    def split(self, text: str) -> Sequence[str]:
        """Characters, or words: what stands between white space."""
        return split(text, self.tokens)

    def row(self, text: str, length: int) -> np.ndarray:
        """A text as int32 (length,); what is beyond is cut off."""
        row = np.full(length, PAD, np.int32)
        known = list(map(self._number.__getitem__, self.split(text)[:length]))
        row[: len(known)] = known
        row[len(known) : len(known) + 1] = END
        return row

    def encode(self, rows: Tensor) -> Tensor:
        return rows.long()

    def decode(self, batch: Tensor) -> np.ndarray:
        """Numbers (B, T), or scores (B, T, len(vocabulary)) of which the greatest is taken -> int32 (B, T)."""
        batch = batch.detach().argmax(-1) if batch.is_floating_point() else batch.detach()
        return batch.cpu().numpy().astype(np.int32)

    def texts(self, rows: np.ndarray) -> list[str]:
        """int32 (N, T) -> texts, each up to its first `END` or `PAD`. Words are joined by one space."""
        texts = []
        for row in rows.tolist():
            stop = next((k for k, number in enumerate(row) if number in (END, PAD)), len(row))
            tokens = [
                LOST if number == UNKNOWN else self.vocabulary[number] for number in row[:stop] if number != BEGIN
            ]
            texts.append(("" if self.tokens == "char" else " ").join(tokens))
        return texts

    def write(self, rows: np.ndarray, folder: Path, note: str = "") -> list[Path]:
        """`samples.txt` with a line a text, or one file a text, as the source was. A text has no place for a note."""
        texts = self.texts(rows)
        if self.lines:
            (folder / "samples.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8", newline="")
            return [folder / "samples.txt"]
        width = max(5, len(str(len(rows))))
        paths = [folder / f"{k:0{width}d}.txt" for k in range(len(rows))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(f"{text}\n", encoding="utf-8", newline="")
        return paths

    @cached_property
    def _number(self) -> _Numbers:
        return _Numbers((token, k) for k, token in enumerate(self.vocabulary) if k >= len(SPECIALS))

    def to_json(self) -> dict[str, Any]:
        return {"codec": {"kind": self.kind, **asdict(self), "vocabulary": list(self.vocabulary)}}

    @classmethod
    def from_json(cls, made: Mapping[str, Any]) -> TokenCodec:
        return cls(tuple(made["vocabulary"]), made["tokens"], made["lines"])


def split(text: str, tokens: str) -> Sequence[str]:
    """A text in tokens: its characters, or what stands between white space."""
    return text if tokens == "char" else text.split()


def count(texts: Iterable[str], tokens: str) -> tuple[Counter[str], list[int]]:
    """How often each token is seen in some texts, and how many tokens each text has."""
    seen: Counter[str] = Counter()
    lengths = []
    for text in texts:
        those = split(text, tokens)
        seen.update(those)
        lengths.append(len(those))
    return seen, lengths
