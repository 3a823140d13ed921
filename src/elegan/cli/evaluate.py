"""`elegan evaluate RUN`, `elegan evaluate A --against B`: scores with their protocol."""

import os
from collections.abc import Sequence

from elegan.cli.parser import REQUIRED, Verb
from elegan.data.form import form_options
from elegan.errors import OptionError
from elegan.options import Option

VERB = Verb(
    "evaluate",
    "Score a run, a folder, a file of arrays or saved statistics, and say what was compared with what.\n\n"
    "Metrics: fd, fd-infinity, kid, kid-subsets, is, is-splits, precision-recall (with density and coverage), "
    "sliced-wasserstein, mind, mmd, modes, stacked-modes, memorisation, diversity, two-sample, cas, gap; or all; "
    "and restoration, of images in pairs.\n"
    "Embedders: pixels, digits-cnn, fashion-cnn, efflite0, vgg16, inception:FILE, or a .onnx or .pt2 file.",
    (Option("what", str, REQUIRED, "directory of a run; or data by name or path; or a file of statistics"),),
    {
        "What is compared": (
            Option("against", str | None, None, "the reference: data or statistics; of a run by default its own data"),
            Option("split", str | None, None, "of the reference: train or test; by default test if there is one"),
            Option("n", int | None, None, "how many samples; by default 10,000 of a run, and all of data"),
            Option("checkpoint", str, "newest", "of a run: newest or best"),
            Option("seed", int, 0, "of drawing, subsets and resamples"),
        ),
        "Data": form_options(),
        "How": (
            Option("metrics", str | None, None, "names, separated by commas; by default the usual ones of such data"),
            Option("embedder", str | None, None, "features to compare in; by default those that suit the reference"),
            Option("save", str | None, None, "write the statistics of WHAT to this .safetensors file, for later"),
            Option("out", str | None, None, "directory for scores.jsonl and pictures; by default the run's"),
        ),
        "By people": (
            Option("people", bool, False, "a page on this machine where people tell real samples from drawn ones"),
            Option("style", str, "one", "one: a sample at a time, real or not; two: which of two is real"),
            Option("questions", int, 50, "how many"),
            Option("port", int, 0, "of the page; 0 takes a free one"),
        ),
    },
)  # fmt: skip


PEOPLE = ("style", "questions", "port")


def main(tokens: Sequence[str]) -> int:
    typed = VERB.parse(tokens)
    if typed is None:
        return 0
    from elegan import api
    from elegan.cli.progress import Steps

    what = typed.pop("what")
    if typed.pop("people", False):
        for name in ("metrics", "embedder", "save", "n"):
            if name in typed:
                raise OptionError(f"{'-' if name == 'n' else '--'}{name} is not for --people.")
        found = api.ask(what, ready=invite, **typed)
        if not found.scores:
            print("nobody answered, so nothing is scored.")
    elif odd := [name for name in PEOPLE if name in typed]:
        raise OptionError(f"--{odd[0]} is for --people.")
    else:
        with Steps() as steps:
            found = api.evaluate(what, progress=steps, **typed)
    if int(os.environ.get("RANK", "0")) > 0:  # the first of several processes speaks for all
        return 0
    if found.scores:
        print(found)
    for path in found.files:
        print(f"wrote {path}")
    return 0


def invite(url: str) -> None:
    """Say where the page is."""
    print(f"open {url} in a browser; stop with Ctrl-C, and the answers are scored", flush=True)
