"""`elegan data list|inspect|clean|prepare|augment`: what there is, what is wrong with it, and making it ready."""

from collections.abc import Sequence
from typing import Any

from elegan.cli.parser import REQUIRED, Verb
from elegan.data.form import form_options
from elegan.errors import OptionError, nearest
from elegan.options import Option

DATA = Option("data", str, REQUIRED, "data by name or path")
VERBS = {
    "list": "the data that has a name, and what is packed in the cache",
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


def _parsed(what: str, arguments: Sequence[Option], groups: Any, tokens: Sequence[str]) -> dict[str, Any] | None:
    return Verb(f"data {what}", f"{VERBS[what].capitalize()}.", arguments, groups).parse(tokens)
