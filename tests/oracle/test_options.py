"""Options: read from a file's text, parsed from a flag's text, checked strictly; each against what was written down."""

import inspect
import math
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elegan import options, zoo
from elegan.errors import OptionError
from elegan.options import Option, check, of_callable, parse, read_game, type_name

GAME = '''
"""Title of the game, and more. And a second sentence.

Paper.
"""
from elegan.game import Game

class Helper:
    def __init__(self, *, not_this: int = 1): ...

class ThisOne(Game):
    tasks = ("generation", "translation")
    recipe = dict(batch=8, steps=10_000, half_life_images=0)

    def __init__(
        self,
        spec,
        *,
        flat: bool = False,               # a switch
        count: int = -3,                  # how many, # with a sign
        rate: float = 2e-4,
        name: str = "a # b",              # text
        kind: Literal["x", "y-z",
                      "w"] = "y-z",       # one of some
        sizes: tuple[int, ...] = (4, 2),  # sizes
        maybe: int | None = None,         # or not
        level: Literal[1, 2] = 1,         # a number
    ):
        super().__init__(spec)

    def sample(self, n, *, label: int | None = None, truncation: float = 0.5):  # cut off
        ...

class Second(Game):
    def __init__(self, spec, *, other: int = 1): ...

presets = {"fast": dict(rate=1e-2, sizes=(1,), batch=4), "tiny": {"count": 1}, "plain": dict()}
'''


def write(folder: Path, text: str, name: str = "my_game.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# ---- reading a file


def test_a_file_is_read_without_being_run(tmp_path):
    game = read_game(write(tmp_path, "raise SystemExit('was run')\n" + GAME.lstrip()))
    assert game.class_name == "ThisOne"
    game = read_game(write(tmp_path, GAME.lstrip(), "other_game.py"))
    assert (game.name, game.class_name) == ("other-game", "ThisOne")
    assert game.title == "Title of the game, and more. And a second sentence"
    assert game.doc.endswith("Paper.")
    assert game.tasks == ("generation", "translation")
    assert game.recipe == {"batch": 8, "steps": 10_000, "half_life_images": 0}
    assert game.presets == {"fast": {"rate": 1e-2, "sizes": (1,), "batch": 4}, "tiny": {"count": 1}, "plain": {}}
    assert game.options == (
        Option("flat", bool, False, "a switch"),
        Option("count", int, -3, "how many, # with a sign"),
        Option("rate", float, 2e-4, ""),
        Option("name", str, "a # b", "text"),
        Option("kind", Literal["x", "y-z", "w"], "y-z", "one of some"),
        Option("sizes", tuple[int, ...], (4, 2), "sizes"),
        Option("maybe", int | None, None, "or not"),
        Option("level", Literal[1, 2], 1, "a number"),
    )
    assert game.sample_options == (
        Option("label", int | None, None, "cut off"),
        Option("truncation", float, 0.5, "cut off"),
    )
    assert game.defaults()["sizes"] == (4, 2)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("x: int = 1 + 1", "'1 + 1' is not a literal"),
        ("x: int = open('/etc/passwd')", "is not a literal"),
        ("x: int", "'x' needs a type and a default"),
        ("x = 1", "'x' needs a type and a default"),
        ("x: dict = 1", "the type 'dict' is not made of"),
        ("x: list[int] = 1", "the type 'list[int]' is not made of"),
        ("x: __import__('os').system('true') = 1", "is not made of"),
        ("x: int.__class__ = 1", "is not made of"),
        ("x: 'int' | (lambda: 1) = 1", "is not made of"),
    ],
)
def test_a_signature_that_is_not_made_of_literals_is_refused(tmp_path, body, words):
    path = write(tmp_path, f"class G(Game):\n    def __init__(self, spec, *, {body}): ...\n")
    with pytest.raises(ValueError, match=r"my_game\.py") as caught:
        read_game(path)
    assert words in str(caught.value)


def test_a_file_without_a_game_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"my_game\.py defines no class derived from Game"):
        read_game(write(tmp_path, "class G: ..."))
    with pytest.raises(SyntaxError):
        read_game(write(tmp_path, "class G(Game:", "broken.py"))


def test_a_game_without_options_has_none(tmp_path):
    game = read_game(write(tmp_path, "import x\nclass G(x.Game): ..."))
    assert (game.options, game.sample_options, game.presets, game.recipe) == ((), (), {}, {})
    assert game.tasks == ("generation",)
    assert game.title == ""


@pytest.mark.parametrize("name", zoo.names())
def test_the_text_and_the_class_say_the_same(name):
    """The two readers are independent: one parses the file, one asks Python."""
    read = [(o.name, o.type, o.default) for o in zoo.describe(name).options]
    assert read == [(o.name, o.type, o.default) for o in of_callable(zoo.game_class(name).__init__)]
    signature = inspect.signature(zoo.game_class(name).__init__).parameters.values()
    assert [(n, d) for n, _, d in read] == [(p.name, p.default) for p in signature if p.kind is p.KEYWORD_ONLY]
    assert all(option.help for option in zoo.describe(name).options), "each has a comment behind it"


# ---- the text of a flag


def flag(text: str, kind):
    return parse(text, kind, "--x")


@given(st.integers())
def test_integers_parse_back(value):
    assert flag(str(value), int) == value
    assert flag(f" {value} ", int | None) == value


@given(st.floats(allow_nan=False))
def test_floats_parse_back(value):
    assert flag(repr(value), float) == value
    assert isinstance(flag(repr(value), float | None), float)


@given(st.lists(st.integers(), max_size=5))
def test_tuples_parse_back(values):
    assert flag(",".join(map(str, values)), tuple[int, ...]) == tuple(values)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("yes", bool, True), ("TRUE", bool, True), ("on", bool, True), ("no", bool, False), ("off", bool, False),
        ("False", bool, False), ("none", int | None, None), ("None", str | None, "None"), ("5", int | None, 5),
        ("b", Literal["a", "b"], "b"), ("2", Literal[1, 2], 2), ("64, 32", tuple[int, ...], (64, 32)),
        ("64", tuple[int, ...], (64,)), ("1e-3,2", tuple[float, ...], (1e-3, 2.0)),
        ("a,b", tuple[str, ...], ("a", "b")),
        ("3", int | float, 3), ("3.5", int | float, 3.5), ("1_000", int, 1000),
    ],
)  # fmt: skip
def test_text_parses(text, kind, value):
    got = flag(text, kind)
    if text == "None":  # a union takes the first that fits
        assert got in ("None", None)
        return
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("5.0", int, "--x: '5.0' is not a value of type int"),
        ("five", int | None, "--x: 'five' is not a value of type int"),
        ("", int, "is not a value of type int"),
        ("maybe", bool, "is not a value of type bool"),
        ("1", bool, "is not a value of type bool"),
        ("1e-3x", float, "is not a value of type float"),
        ("64,x", tuple[int, ...], "is not a value of type int,…"),
        ("hing", Literal["hinge", "minimax"], "is not one of hinge|minimax. Did you mean 'hinge'?"),
        ("zzz", Literal["hinge", "minimax"], "is not one of hinge|minimax."),
        ("3", Literal[1, 2], "is not one of 1|2"),
    ],
)
def test_text_that_means_nothing_is_refused_in_one_line(text, kind, words):
    with pytest.raises(OptionError) as caught:
        flag(text, kind)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_types_in_words():
    assert type_name(int | None) == "int"
    assert type_name(Literal["a", 2]) == "a|2"
    assert type_name(tuple[float, ...]) == "float,…"
    assert type_name(int | float) == "int or float"
    assert type_name(None) == "none"
    assert Option("half_life", int, 1).flag == "--half-life"
    assert Option("n", int, 1).flag == "-n"


# ---- values

OPTIONS = (
    Option("count", int, 3),
    Option("rate", float, 1e-3),
    Option("shift", float, -1.0),
    Option("flat", bool, False),
    Option("kind", Literal["hinge", "minimax"], "hinge"),
    Option("sizes", tuple[int, ...], (4, 2)),
    Option("maybe", int | None, None),
    Option("name", str, ""),
)


def test_defaults_complete_what_is_given():
    assert check(OPTIONS, {"rate": 0.5, "sizes": (1,), "maybe": 7, "shift": -2.0}, "mine") == {
        "count": 3, "rate": 0.5, "shift": -2.0, "flat": False, "kind": "hinge", "sizes": (1,), "maybe": 7, "name": "",
    }  # fmt: skip
    assert list(check(OPTIONS, {}, "mine")) == [option.name for option in OPTIONS]


def test_a_whole_number_is_a_float():
    made = check(OPTIONS, {"rate": 2}, "mine")["rate"]
    assert made == 2.0
    assert type(made) is float


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"count": "5"}, "--count '5' is not a value of type int"),
        ({"count": True}, "--count True is not a value of type int"),
        ({"count": 5.0}, "--count 5.0 is not"),
        ({"count": None}, "--count None is not"),
        ({"count": -1}, "--count -1 is negative; it must be 0 or more"),
        ({"rate": math.nan}, "--rate nan is not a value of type float"),
        ({"rate": math.inf}, "--rate inf is not"),
        ({"rate": -math.inf}, "--rate -inf is not"),
        ({"rate": "0.1"}, "--rate '0.1' is not"),
        ({"rate": True}, "--rate True is not"),
        ({"rate": -1e-9}, "--rate -1e-09 is negative"),
        ({"flat": 1}, "--flat 1 is not a value of type bool"),
        ({"flat": "yes"}, "--flat 'yes' is not"),
        ({"kind": "hing"}, "Did you mean 'hinge'?"),
        ({"kind": None}, "--kind None is not one of"),
        ({"sizes": (1, "2")}, "is not a value of type int,…"),
        ({"sizes": (1, True)}, "is not a value of type int,…"),
        ({"sizes": (1, -2)}, "is negative"),
        ({"sizes": 4}, "--sizes 4 is not"),
        ({"sizes": {"a": 1}}, "is not a value of type int,…"),
        ({"maybe": "none"}, "--maybe 'none' is not"),
        ({"name": 5}, "--name 5 is not"),
        ({"cuont": 5}, "mine has no option 'cuont'. Did you mean 'count'?"),
        ({"zzzzz": 5}, "There is: count, flat, kind"),
    ],
)
def test_values_are_checked_strictly_in_one_line(values, words):
    with pytest.raises(OptionError, match="mine") as caught:
        check(OPTIONS, values, "mine")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- the zoo's


def test_a_preset_stands_between_defaults_and_values():
    chosen = zoo.settings("dcgan", "digits", {"width": 48}, "ring", "vector")
    file = zoo.describe("dcgan")
    preset = file.presets["digits"]
    assert chosen.preset == "digits"
    assert chosen.options["width"] == 48 != preset["width"]
    assert chosen.options["loss"] == preset["loss"] != file.defaults()["loss"]
    assert chosen.options["z_dim"] == file.defaults()["z_dim"]
    assert chosen.training["steps"] == preset["steps"] != file.recipe["steps"]
    assert "steps" not in chosen.options


@pytest.mark.parametrize(
    ("preset", "data", "kind", "chosen"),
    [
        (None, "digits", "image", "digits"),  # called like the data
        (None, "ring", "vector", "vector"),  # called like its kind
        (None, "photos/", "image", "none"),
        ("none", "digits", "image", "none"),
        ("tiny", "digits", "image", "tiny"),
    ],
)
def test_the_preset_follows_the_data(preset, data, kind, chosen):
    assert zoo.settings("r3gan", preset, {}, data, kind).preset == chosen


def test_misspelt_names_come_with_the_nearest():
    with pytest.raises(OptionError, match=r"no game named 'dcgn'\. Did you mean 'dcgan'"):
        zoo.describe("dcgn")
    with pytest.raises(OptionError, match=r"dcgan has no preset 'digit'\. Did you mean 'digits'"):
        zoo.settings("dcgan", "digit", {})
    with pytest.raises(OptionError, match=r"dcgan has no option 'widht'\. Did you mean 'width'"):
        options.check_names(zoo.describe("dcgan").defaults(), {"widht": 3}, "dcgan")


@pytest.mark.parametrize("name", ["__init__", "-init-", "../game", "wgan_gp", "", "DCGAN", "dcgan.py"])
def test_only_a_file_of_the_zoo_is_a_game(name):
    with pytest.raises(OptionError, match="no game named"):
        zoo.describe(name)


def test_a_file_dropped_in_is_a_game_and_a_broken_one_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "HERE", tmp_path)
    write(tmp_path, GAME.lstrip(), "fresh_game.py")
    write(tmp_path, "class G(Game:", "broken.py")
    write(tmp_path, "", "_private.py")
    assert zoo.names() == ["broken", "fresh-game"]
    assert zoo.describe("fresh-game").class_name == "ThisOne"
    with pytest.raises(OptionError, match="'broken' cannot be read"):
        zoo.describe("broken")


def test_no_game_takes_a_name_the_verbs_use():
    from elegan.cli import sample, train

    reserved = {option.name for option in (*train.ARGUMENTS, *train.FLAGS, *train.MACHINE)} | {"help", "version", "h"}
    drawn = {option.name for option in (*sample.ARGUMENTS, *sample.FLAGS)} | {"help", "version", "h"}
    for name in zoo.names():
        file = zoo.describe(name)
        assert not reserved & {option.name for option in file.options}, name
        assert not drawn & {option.name for option in file.sample_options}, name
        for preset, values in file.presets.items():
            known = {option.name for option in file.options} | {"batch", "steps", "half_life_images"}
            assert values.keys() <= known, (name, preset)
        assert file.recipe.keys() <= {"batch", "steps", "half_life_images"}, name


def test_reading_imports_no_torch():
    assert "torch" not in vars(options)
