"""The command line. Each verb is a thin file that turns flags into one call of `elegan.api`; nothing below prints."""

import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from elegan.errors import ElegantError, OptionError, nearest, plain

VERBS = {
    "train": "train a game on data; alone, the best recipe on the bundled digits",
    "resume": "go on with a run where it stopped",
    "sample": "draw samples from a run",
    "evaluate": "score a run, a folder or an array against a reference",
    "compare": "scores, curves and grids of several runs side by side",
    "apply": "ask a run for its own task on your files: translate",
    "edit": "move through what a run has learned: interpolate",
    "data": "list, inspect, clean or prepare data; show what augmentation does",
    "zoo": "list the games, or show one",
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
    """Run one command line and return its exit status: 0, or what `elegan.errors` says."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    with warnings.catch_warnings():
        warnings.showwarning = _say_warning
        try:
            return _dispatch(tokens)
        except ElegantError as error:
            return _fail(str(error), error.code)
        except KeyboardInterrupt:
            return _fail("interrupted.", 130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            return _fail(f"{error.filename or 'the system'}: {error.strerror or error}.", 6)
        except MemoryError:
            return _fail("out of memory: try a smaller --batch, or a smaller --width.", 6)
        except RuntimeError as error:
            if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):
                return _fail("out of memory: try a smaller --batch, more --shards, or a smaller --width.", 6)
            raise


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
    return importlib.import_module(f"elegan.cli.{tokens[0]}").main(tokens[1:])


def _fail(line: str, code: int) -> int:
    if os.environ.get("ELEGAN_DEBUG"):
        traceback.print_exc()
    sys.stderr.write("elegan: " + plain(" ".join(line.split())) + "\n")  # whole, also beside other processes
    return code


def _say_warning(message: Warning | str, *_: Any) -> None:
    print("elegan: warning: " + plain(" ".join(str(message).split())), file=sys.stderr)
