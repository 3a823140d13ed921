"""`elegan data list|fetch|inspect|clean|prepare|augment`: what there is, what is wrong with it, and making it ready."""

from collections.abc import Sequence
from typing import Any

from elegan.cli.parser import REQUIRED, Verb
from elegan.data.form import form_options
from elegan.errors import OptionError, nearest
from elegan.options import Option

DATA = Option("data", str, REQUIRED, "data by name or path")
VERBS = {
    "list": "the data that has a name, and what is packed in the cache",
    "fetch": "bring data of a name whose checksum is known to $ELEGAN_DATA, and check it",
    "inspect": "counts, sizes, classes, faults, duplicates, outliers; a page to look at",
    "clean": "a list of samples better left out, each with its reason, to be looked through",
    "prepare": "pack any source once into a memory-mapped, checksummed store",
    "augment": "a sheet that shows what an --augment does to the data",
}


def main(tokens: Sequence[str]) -> int:
    if not tokens or tokens[0] in ("-h", "--help"):
        print("Usage: elegan data WHAT …      elegan data WHAT --help\n")
        print("\n".join(f"  {name:8} {line}" for name, line in VERBS.items()))
        return 0
    what, rest = tokens[0], tokens[1:]
    if what not in VERBS:
        raise OptionError(f"data has no verb {what!r}.{nearest(what, VERBS)}")
    return globals()[f"{what}_data"](rest)


def list_data(tokens: Sequence[str]) -> int:
    if _parsed("list", (), {}, tokens) is None:
        return 0
    from elegan.data.sources import known_data, packed_data

    for name, about in known_data().items():
        print(f"{name:16} {about}")
    if packed := packed_data():
        print(f"\npacked in {packed[0].path.parent} (delete what you like):")
    for store in packed:
        print(f"  {store.path.name}  {store.megabytes:9,.1f} MB  {store.about}")
    return 0


def fetch_data(tokens: Sequence[str]) -> int:
    typed = _parsed("fetch", (Option("name", str, REQUIRED, "cifar10 or cifar100"),), {}, tokens)
    if typed is None:
        return 0
    from elegan.cli.progress import Steps
    from elegan.data.fetch import fetch

    with Steps() as steps:
        path = fetch(typed["name"], steps)
    print(path)
    return 0


def inspect_data(tokens: Sequence[str]) -> int:
    out = Option("out", str, "inspection", "directory for the page and report.json")
    typed = _parsed("inspect", (DATA,), {"Options": (out,), "Data": form_options()}, tokens)
    if typed is None:
        return 0
    from elegan import api
    from elegan.cli.progress import Steps

    out_given = typed.pop("out", out.default)
    with Steps() as steps:
        found = api.inspect(typed.pop("data"), out=out_given, progress=steps, **typed)
    print(found)
    print(f"\nlook at {out_given}/index.html; all names stand in {out_given}/report.json")
    return found.severity


def clean_data(tokens: Sequence[str]) -> int:
    from elegan.data.curation.clean import RULES, threshold_options

    groups = {
        "Options": (
            Option("out", str, "quarantine.csv", "the list to write; with --move, to read"),
            Option("rules", str | None, None, f"separated by commas; by default all of {', '.join(RULES)}"),
            Option("embedder", str | None, None, "features to tell classes apart; by default those that suit the data"),
            Option("move", str | None, None, "move the files on the list out of the folder, into this directory"),
            Option("restore", str | None, None, "put back what was moved into this directory"),
        ),
        "Thresholds": threshold_options(),
        "Data": form_options(),
    }
    typed = _parsed("clean", (DATA,), groups, tokens)
    if typed is None:
        return 0
    from elegan import api
    from elegan.cli.progress import Steps

    data, out = typed.pop("data"), typed.pop("out", "quarantine.csv")
    if place := typed.pop("restore", None):
        print(f"{api.put_back(data, place):,} files are back in {data}")
    elif place := typed.pop("move", None):
        count, shared = api.set_aside(data, out, place, **typed)
        kept = f"; {len(shared):,} samples share a file with one that stays, and stay" if shared else ""
        print(f"{count:,} files moved to {place}{kept}. Put them back with: elegan data clean {data} --restore {place}")
    else:
        with Steps() as steps:
            print(api.clean(data, out=out, progress=steps, **typed))
        print(f"\nwrote {out}; its pictures: {out.removesuffix('.csv')}.html. Delete the lines of those to keep, then:")
        print(f"  elegan train … {data} --without {out}")
    return 0


def prepare_data(tokens: Sequence[str]) -> int:
    out = Option("out", str, REQUIRED, "new directory of the store")
    typed = _parsed("prepare", (DATA, out), {"Data": form_options()}, tokens)
    if typed is None:
        return 0
    from elegan import api
    from elegan.cli.progress import Steps

    with Steps() as steps:
        made = api.prepare(typed.pop("data"), typed.pop("out"), progress=steps, **typed)
    print(made)
    return 0


def augment_data(tokens: Sequence[str]) -> int:
    how = (
        Option("augment", str, "", "light, diffaugment, ada, full, or names; by default each augmentation in a row"),
        Option("strength", float | None, None, "the probability of each; by default what a training begins with"),
        Option("draws", int, 9, "pictures of each image"),
        Option("seed", int, 0, "of all randomness"),
        Option("out", str, "augmented.png", "the picture to write"),
    )
    typed = _parsed("augment", (DATA,), {"Augmentation": how, "Data": form_options()}, tokens)
    if typed is None:
        return 0
    from elegan import api

    print(f"look at {api.augment(typed.pop('data'), **typed)}")
    return 0


def _parsed(what: str, arguments: Sequence[Option], groups: Any, tokens: Sequence[str]) -> dict[str, Any] | None:
    return Verb(f"data {what}", f"{VERBS[what].capitalize()}.", arguments, groups).parse(tokens)
