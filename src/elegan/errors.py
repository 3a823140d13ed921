"""What a user can get wrong, each with the exit code a shell sees. One line each: what, where, what to do."""

import difflib
from collections.abc import Iterable

NO_MEMORY = ("OutOfMemoryError", "allocate memory", "bad_alloc", "failed to map segment")


class ElegantError(Exception):
    """An error a user can cause and mend. `str()` of it is one line; `code` is the exit status of the command line."""

    code = 1


class OptionError(ElegantError):
    """An option, a game's name or a combination of them that makes no sense."""

    code = 2


class DataError(ElegantError):
    """Data that is missing, misnamed, malformed, too little, or not what a game takes."""

    code = 3


class NoSplitError(DataError):
    """Data that is whole but has no split of that name."""


class CheckpointError(ElegantError):
    """A checkpoint or a model file that is missing, damaged or foreign."""

    code = 4


class DivergenceError(ElegantError):
    """Training that produces nothing finite any more."""

    code = 5


class ResourceError(ElegantError):
    """No space, no memory, no permission, no such device."""

    code = 6


class RunInUseError(ElegantError):
    """A run directory that another process holds, or that already holds a run."""

    code = 7


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that there is no memory, as Python, torch, CUDA or the loader of libraries say it."""
    said = f"{type(error).__name__} {error}"
    return isinstance(error, MemoryError) or any(word in said for word in NO_MEMORY)


def plain(text: str) -> str:
    """A text with whatever a terminal would obey, or could not show, escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a misspelt word: `" Did you mean 'dcgan'?"`, or the list of what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.55)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" There is: {', '.join(names)}." if names else ""
