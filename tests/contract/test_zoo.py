"""The contract, held by every game of the zoo unasked: a file dropped in is covered with nothing else touched."""

import ast
import re
from dataclasses import replace

import pytest
import torch

from elegan import api, options, zoo
from elegan.game import Game
from elegan.spec import Spec
from tests.contract import checks
from tests.contract.checks import SOURCES, Case

COMMON = ("images", "vectors", "unpaired")  # what every game that takes it is tried on
RARE = ("series", "tokens", "audio")  # what a game is tried on that takes nothing common


def small(name: str, kind: str) -> dict:
    """A game's options at its smallest: its preset for that kind of data if it is not the first, or `tiny`, or none."""
    presets = zoo.describe(name).presets
    preset = kind if kind in presets and kind != "image" else "tiny" if "tiny" in presets else "none"
    return zoo.settings(name, preset, {}).options


def cases() -> list[Case]:
    """Each game, built small, on each kind of data it says it can take."""
    found = []
    for name in zoo.names():
        game = zoo.game_class(name)
        fitting = [s for s in COMMON if not game.accepts(SOURCES[s].spec)]
        fitting = fitting or [s for s in RARE if not game.accepts(SOURCES[s].spec)][:1]
        found += [Case(f"{name}-{s}", game, SOURCES[s], small(name, SOURCES[s].spec.kind)) for s in fitting]
    return found


CASES = cases()
every_name = pytest.mark.parametrize("name", zoo.names())


@every_name
def test_some_data_here_fits(name):
    assert any(case.name.rpartition("-")[0] == name for case in CASES), f"no data in checks.SOURCES that {name} accepts"


@pytest.mark.parametrize("rule", checks.CONTRACT, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_contract(case, rule, tmp_path):
    rule(case, tmp_path)


# -- flags and presets ------------------------------------------------------------------------------------------------

SETTINGS = {"batch", "steps", "half_life_images"}  # of the training verb, which a game or a preset may set
VERB = {o.name for o in options.of_callable(api.train)} - {"listeners", "progress"}
RESERVED = VERB | {"game", "data", "run", "n", "out", "label", "help", "version", "listeners", "progress"}
RESERVED_OF_SAMPLE = {"run", "n", "seed", "out", "help", "version"}


def test_settings_exist():
    assert set(api.TRAINING) == SETTINGS <= VERB


@every_name
def test_flags_do_not_clash(name):
    file = zoo.describe(name)
    names = [option.name for option in file.options]
    own = [n for n in names if not hasattr(Game, n) and n not in {*vars(torch.nn.Module()), *Game.__annotations__}]
    assert sorted({*names} & RESERVED) == []
    assert names == own, "an option would shadow an attribute of Game or nn.Module"
    flags = [o.flag for o in file.options] + ["--no-" + o.flag[2:] for o in file.options if o.type is bool]
    assert len(flags) == len(set(flags))
    assert all(re.fullmatch(r"-[a-z]|--[a-z][a-z0-9-]+", flag) for flag in flags)


@every_name
def test_flags_of_sample_do_not_clash(name):
    known = {o.name: o for o in zoo.describe(name).sample_options}
    assert sorted({*known} & RESERVED_OF_SAMPLE) == []
    if "label" in known:  # `elegan sample --label` is one number, or none
        assert (known["label"].type, known["label"].default) == (int | None, None)


@every_name
def test_options_read_as_text_are_those_of_the_signature(name):
    file, game = zoo.describe(name), zoo.game_class(name)

    def facts(found):
        return [(o.name, o.type, o.default) for o in found]

    assert facts(file.options) == facts(options.of_callable(game.__init__))
    assert facts(file.sample_options) == facts(options.of_callable(game.sample))
    assert file.tasks == game.tasks
    assert file.recipe == game.recipe
    assert options.check(file.options, {}, name) == file.defaults()


@every_name
def test_every_option_says_what_it_is(name):
    file = zoo.describe(name)
    assert [o.name for o in (*file.options, *file.sample_options) if len(o.help) < 3] == []


def large(spec: Spec) -> Spec:
    """The same data with images of the size that presets are made for."""
    sized = {n: replace(f, shape=(*f.shape[:1], 64, 64)) if f.kind == "image" else f for n, f in spec.items()}
    return Spec(**sized)


@every_name
def test_presets_build(name):
    file, game = zoo.describe(name), zoo.game_class(name)
    known = {option.name for option in file.options}
    for preset in ("none", *file.presets):
        chosen = file.presets.get(preset, {})
        assert {*chosen} <= known | SETTINGS, preset
        settings = zoo.settings(name, preset, {})  # checks every value
        numbers = {**api.TRAINING, **settings.training}
        assert {*numbers} == SETTINGS, preset
        assert all(type(n) is int and n >= (k != "half_life_images") for k, n in numbers.items()), preset
        fitting = [s for s in SOURCES.values() if not game.accepts(s.spec)]
        kept = [s for s in fitting if s.spec.kind == preset] or fitting  # a preset called like a kind of data is for it
        with torch.device("meta"):  # weights without memory: as large as they like
            built = game(large(kept[0].spec), **settings.options)
        assert sum(p.numel() for p in built.parameters()) > 0


# -- the file ---------------------------------------------------------------------------------------------------------


@every_name
def test_the_docstring_says_what_whence_and_how(name):
    file = zoo.describe(name)
    assert len(file.title) > 20
    assert re.search(r"\b\d{4}\.\d{4,5}\b|\b(19|20)\d\d\b", file.doc), "the paper's arXiv number or year"
    assert re.search(rf"^    elegan train {re.escape(name)}\b", file.doc, re.MULTILINE), "a command to try"


@every_name
def test_zoo_files_do_not_know_each_other(name):
    tree = ast.parse(zoo.describe(name).path.read_text(encoding="utf-8"))
    imported = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    imported += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    relative = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]
    assert [m for m in imported if m.startswith("elegan.zoo")] == []
    assert relative == []
    games = [n for n in tree.body if isinstance(n, ast.ClassDef) and any(ast.unparse(b) == "Game" for b in n.bases)]
    assert len(games) == 1, "one file, one public game"


def test_a_file_dropped_in_is_a_game(tmp_path, monkeypatch):
    (tmp_path / "new_game.py").write_text(
        '"""New."""\n\n\nclass NewGame(Game):\n    def __init__(self, spec, *, k: int = 1): ...\n'
    )
    monkeypatch.setattr(zoo, "HERE", tmp_path)
    assert zoo.names() == ["new-game"]
    assert zoo.describe("new-game").defaults() == {"k": 1}
