"""A constructor's signature is its configuration: read it, parse it, check it. Nothing here imports torch.

A game's options are the keyword-only arguments of its constructor. They are read twice: from the file's text
(`read_game`, for help pages and lists, without running the file) and from the class itself (`of_callable`, when a game
is built).
"""

import ast
import inspect
import io
import tokenize
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from elegan.errors import OptionError, nearest

LARGEST = 1e18  # of a number: one that a machine still counts to
TYPES = {"bool": bool, "int": int, "float": float, "str": str, "tuple": tuple, "None": None, "Literal": Literal}


@dataclass(frozen=True)
class Option:
    """One option: its name, its type (bool, int, float, str, Literal, None, flat tuples of these), default and help."""

    name: str
    type: Any
    default: Any
    help: str = ""

    @property
    def flag(self) -> str:
        return f"-{self.name}" if len(self.name) == 1 else "--" + self.name.replace("_", "-")

    @property
    def type_name(self) -> str:
        return type_name(self.type)


@dataclass(frozen=True)
class GameFile:
    """What a file of the zoo says of its game, read without running it."""

    name: str
    path: Path
    class_name: str
    title: str
    doc: str
    tasks: tuple[str, ...]
    options: tuple[Option, ...]
    sample_options: tuple[Option, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def defaults(self) -> dict[str, Any]:
        return {option.name: option.default for option in self.options}


def type_name(kind: Any) -> str:
    """A type in a person's words: `int`, also for `int | None`; `clip|gp`; `int,…`."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(type_name(part) for part in get_args(kind) if part is not NoneType)
    if get_origin(kind) is Literal:
        return "|".join(str(value) for value in get_args(kind))
    if get_origin(kind) is tuple:
        return f"{type_name(get_args(kind)[0])},…"
    return "none" if kind in (None, NoneType) else kind.__name__


def parse(text: str, kind: Any, where: str) -> Any:
    """The value a flag's text means for a type, e.g. `"64,32"` for `tuple[int, ...]`.

    Raises `OptionError` naming `where` if it means none.
    """
    for part in get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,):
        value = _parse_one(text.strip(), part)
        if value is not _NOTHING:
            return value
    raise OptionError(f"{where}: {text!r} is not {_article(kind)}.{_hint(text, kind)}")


_NOTHING = object()
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _parse_one(text: str, kind: Any) -> Any:
    if get_origin(kind) is tuple:
        values = [_parse_one(part.strip(), get_args(kind)[0]) for part in text.split(",") if part.strip()]
        return _NOTHING if _NOTHING in values else tuple(values)
    if get_origin(kind) is Literal:
        return next((value for value in get_args(kind) if str(value) == text), _NOTHING)
    if kind is bool:
        return _WORDS.get(text.lower(), _NOTHING)
    if kind in (None, NoneType):
        return None if text.lower() == "none" else _NOTHING
    try:
        return kind(text)
    except ValueError:
        return _NOTHING


def _article(kind: Any) -> str:
    return f"one of {type_name(kind)}" if get_origin(kind) is Literal else f"a value of type {type_name(kind)}"


def _hint(text: Any, kind: Any) -> str:
    hint = nearest(str(text), map(str, get_args(kind))) if get_origin(kind) is Literal else ""
    return hint if "Did you mean" in hint else ""  # all there are stand in the message already


def check(options: Iterable[Option], values: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Complete `values` by the defaults, strictly: no unknown name, no `"5"` for 5, no True for 1, no NaN.

    A number may be negative only where its default is. Raises `OptionError` in one line.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    known = {option.name: option for option in options}
    check_names(known, values, owner)
    result = {}
    for name, option in known.items():
        value = values.get(name, option.default)
        try:
            value = TypeAdapter(option.type, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(value)
        except ValidationError:
            hint = _hint(value, option.type)
            raise OptionError(f"{owner}: {option.flag} {value!r} is not {_article(option.type)}.{hint}") from None
        if _lowest(value) < 0 <= _lowest(option.default):
            raise OptionError(f"{owner}: {option.flag} {value!r} is negative; it must be 0 or more.")
        if not all(abs(number) < LARGEST for number in _numbers(value)):
            raise OptionError(f"{owner}: {option.flag} {value!r} is too large.")
        result[name] = value
    return result


def check_names(known: Iterable[str], values: Iterable[str], owner: str) -> None:
    """Raise `OptionError` for a name that is not known, with the nearest that is."""
    names = list(known)
    for name in values:
        if name not in names:
            raise OptionError(f"{owner} has no option {name!r}.{nearest(name, names)}")


def _lowest(value: Any) -> float:
    return min(_numbers(value), default=0.0)


def _numbers(value: Any) -> list[float]:
    return [v for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, (int, float))]


@cache
def of_callable(function: Callable[..., Any]) -> tuple[Option, ...]:
    """The keyword-only arguments of a function or constructor, without their help."""
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    return tuple(Option(p.name, hints[p.name], p.default) for p in named)


@cache
def read_game(path: Path) -> GameFile:
    """Read a game's file: the first class in it that derives from `Game`, its options and their comments.

    Raises `SyntaxError` or `ValueError` naming the file if a signature is not made of literals.
    """
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, filename=str(path))
    doc = ast.get_docstring(tree) or ""
    comments = _comments(text)
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and any(_name(b) == "Game" for b in n.bases)]
    if not classes:
        raise ValueError(f"{path.name} defines no class derived from Game")
    game = classes[0]
    methods = {n.name: n for n in game.body if isinstance(n, ast.FunctionDef)}
    try:
        options = _arguments(methods.get("__init__"), comments)
        sample_options = _arguments(methods.get("sample"), comments)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    return GameFile(
        name=path.stem.replace("_", "-"),
        path=path,
        class_name=game.name,
        title=doc.split("\n", 1)[0].rstrip("."),
        doc=doc,
        tasks=_assigned(game.body, "tasks", ("generation",)),
        options=options,
        sample_options=sample_options,
        recipe=_assigned(game.body, "recipe", {}),
        presets=_assigned(tree.body, "presets", {}),
    )


@cache
def read_record(path: Path, name: str) -> tuple[Option, ...]:
    """Read the fields of a dataclass in a file as options: their types, defaults, and comments as help."""
    text = path.read_text(encoding="utf-8")
    comments = _comments(text)
    body = next(n for n in ast.parse(text).body if isinstance(n, ast.ClassDef) and n.name == name).body
    return tuple(
        Option(n.target.id, _annotation(n.annotation), _literal(n.value), comments.get(n.lineno, ""))
        for n in body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and n.value is not None
    )


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _comments(text: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {t.start[0]: t.string.lstrip("# ").strip() for t in tokens if t.type == tokenize.COMMENT}


def _arguments(function: ast.FunctionDef | None, comments: Mapping[int, str]) -> tuple[Option, ...]:
    if function is None:
        return ()
    found = []
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if argument.annotation is None or default is None:
            raise ValueError(f"option {argument.arg!r} needs a type and a default")
        lines = range(argument.lineno, (default.end_lineno or argument.lineno) + 1)
        help_line = " ".join(comments[line] for line in lines if line in comments)
        found.append(Option(argument.arg, _annotation(argument.annotation), _literal(default), help_line))
    return tuple(found)


def _annotation(node: ast.expr) -> Any:
    allowed = (ast.Name, ast.Subscript, ast.Constant, ast.BinOp, ast.BitOr, ast.Tuple, ast.Load)
    for part in ast.walk(node):
        if not isinstance(part, allowed) or (isinstance(part, ast.Name) and part.id not in TYPES):
            raise ValueError(f"the type {ast.unparse(node)!r} is not made of {', '.join(TYPES)}")
    code = compile(ast.Expression(body=node), "<annotation>", "eval")
    return eval(code, {"__builtins__": {}}, dict(TYPES))  # names were checked above: only the types of TYPES can occur


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and _name(node.func) == "dict" and not node.args:
        return {keyword.arg: _literal(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(k): _literal(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"{ast.unparse(node)!r} is not a literal") from None


def _assigned(body: Iterable[ast.stmt], name: str, default: Any) -> Any:
    for node in body:
        if isinstance(node, ast.Assign) and any(_name(target) == name for target in node.targets):
            return _literal(node.value)
    return default
