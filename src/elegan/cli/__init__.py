"""The command line. Each verb is a thin file that turns flags into one call of `elegan.api`; nothing below prints."""

import contextlib
import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from elegan.errors import ElegantError, OptionError, ResourceError, nearest, out_of_memory, plain
from elegan.run.signals import Stopped, stoppable

VERBS = {
    "train": "train a game on data; alone, the best recipe on the bundled digits",
    "resume": "go on with a run where it stopped",
    "sample": "draw samples from a run",
    "evaluate": "score a run, a folder or an array against a reference",
    "compare": "scores, curves and grids of several runs side by side",
    "apply": "ask a run for its own task on your files: translate",
    "edit": "move through what a run has learned: interpolate",
    "convert": "take the weights out of model files of other programs, running nothing of them",
    "data": "list, inspect, clean or prepare data; show what augmentation does",
    "zoo": "list the games, or show one",
    "studio": "open the lab in a browser: see two networks fight",
    "doctor": "say what this machine is and what elegan would use of it",
}

HELP = """elegan: generative adversarial networks, whole and elegant.

Usage: elegan VERB [ARGUMENTS]      elegan VERB --help

{verbs}

Try:   elegan train                       (handwritten digits, about a minute)
       elegan train r3gan ring            (points in the plane)
       elegan train dcgan photos/ --size 64
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status: 0, or what `elegan.errors` says; 1 for an error nobody foresaw.

    Whatever goes wrong is one line on stderr. With ELEGAN_DEBUG=1 the traceback stands before it.
    """
    tokens = list(sys.argv[1:] if argv is None else argv)
    _take_streams()
    with warnings.catch_warnings(), stoppable():
        warnings.showwarning = _say_warning
        try:
            code = _dispatch(tokens)
            if sys.stdout is not None:
                sys.stdout.flush()  # at its end the interpreter would say in its own words what goes wrong there
            return code
        except ElegantError as error:
            return _fail(str(error), error.code) if _speaks(error) else error.code
        except Stopped as error:
            return _fail(f"stopped by {error.name}, with nothing to save.", 143)
        except KeyboardInterrupt:
            return _fail("interrupted.", 130)
        except BrokenPipeError:
            _drop_stdout()
            return 0  # as in `elegan zoo list | head -1`
        except OSError as error:
            place = error.filename or ("stdout" if _drop_stdout() else "the system")
            return _fail(f"{place}: {error.strerror or error}.", 6)
        except Exception as error:
            said = str(error).strip().split("\n", 1)[0]
            if out_of_memory(error):
                return _fail("out of memory: try a smaller --batch, more --shards, or a smaller --width.", 6)
            if "home directory" in said:  # as pathlib says it
                return _fail("no home directory is known here: set HOME, and write paths without ~.", 6)
            name = type(error).__name__ + (": " if said else "")
            return _fail(f"{name}{said[:500]} (unforeseen; ELEGAN_DEBUG=1 shows where).", 1)


def _dispatch(tokens: list[str]) -> int:
    if not tokens or tokens[0] in ("-h", "--help", "help"):
        print(HELP.format(verbs="\n".join(f"  {name:8} {line}" for name, line in VERBS.items())), end="")
        return 0
    if tokens[0] in ("-V", "--version", "version"):
        from elegan import __version__

        print(f"elegan {__version__}")
        return 0
    if tokens[0] not in VERBS:
        raise OptionError(f"no verb {tokens[0]!r}.{nearest(tokens[0], VERBS)}")
    try:
        os.getcwd()
    except OSError:
        raise ResourceError("the current directory is gone: change to one that is there.") from None
    return importlib.import_module(f"elegan.cli.{tokens[0]}").main(tokens[1:])


def _speaks(error: ElegantError) -> bool:
    """Whether this of several processes is to say what ends them all; see `elegan.training.meeting`."""
    rank = os.environ.get("RANK", "0")
    alike = isinstance(error, OptionError)  # the same command line for all
    return str(getattr(error, "speaker", "0" if alike else rank)) == rank


def _take_streams() -> None:
    """See to it that what is printed can be: whatever the encoding of a terminal lacks is escaped, and no file opened
    later gets the number of a stream that is closed, and with it what libraries tell their users."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the least number that is free


def _drop_stdout() -> bool:
    """Drop what was printed if nobody takes it, or the interpreter would try again at its end; whether that was so."""
    if sys.stdout is None:
        return True
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return True
    return False


def _fail(line: str, code: int) -> int:
    _drop_stdout()
    shown = traceback.format_exc() if os.environ.get("ELEGAN_DEBUG", "") not in ("", "0") else ""
    _say(shown + "elegan: " + plain(" ".join(line.split())))
    return code


def _say_warning(message: Warning | str, *_: Any) -> None:
    _say("elegan: warning: " + plain(" ".join(str(message).split())))


def _say(text: str) -> None:
    """Write to stderr at once, so that it stays whole beside other processes. It may be closed."""
    with contextlib.suppress(OSError):
        if sys.stderr is not None:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
