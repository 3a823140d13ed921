"""The writer with one of its precautions taken out: each sync, rename, check, clearing away, in turn."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from elegan import disk
from elegan.run import checkpoint

CALLS = {"fsync", "flush", "sync_folder", "need_room", "rmtree", "unlink"}  # become nothing
MOVES = {"rename", "replace"}  # leave the path as it is
BELIEVED = {("prune", "_read"): "Checkpoint(path, 0, {}, {})", ("write", "fault"): "''"}


class Writer(NamedTuple):
    """Both of its modules, as they are or mutated."""

    checkpoint: ModuleType
    disk: ModuleType


WRITER = Writer(checkpoint, disk)


class Taken(ast.NodeTransformer):
    """Takes the precaution of one number out. sites: what they all are, by function and source."""

    def __init__(self, number: int | None = None):
        self.number = number
        self.sites: list[str] = []
        self._function = ""

    def _site(self, node: ast.expr | ast.stmt) -> bool:
        self.sites.append(f"{self._function}: {ast.unparse(node).splitlines()[0]}")
        return len(self.sites) - 1 == self.number

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._function = node.name
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        if isinstance(node.body[-1], ast.Raise) and self._site(node):
            node.test = ast.Constant(False)
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("wb") if node.value == "xb" and self._site(node) else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in CALLS and self._site(node):
            return ast.Constant(None)
        if name in MOVES and method and self._site(node):
            assert isinstance(node.func, ast.Attribute)
            return node.func.value
        if (believed := BELIEVED.get((self._function, name))) and self._site(node):
            return ast.parse(believed, mode="eval").body
        return self.generic_visit(node)


def mutants() -> Iterator[tuple[str, Writer]]:
    """The writer without each of its precautions, and what that is."""
    for module in WRITER:
        listed = Taken()
        listed.visit(parsed(module))
        for number, site in enumerate(listed.sites):
            tree = ast.fix_missing_locations(Taken(number).visit(parsed(module)))
            below = loaded(tree, disk) if module is disk else disk
            yield site, Writer(loaded(tree if module is checkpoint else parsed(checkpoint), checkpoint, below), below)


def parsed(module: ModuleType) -> ast.Module:
    assert module.__file__ is not None
    return ast.parse(Path(module.__file__).read_text(encoding="utf-8"))


def loaded(tree: ast.Module, like: ModuleType, below: ModuleType = disk) -> ModuleType:
    """A module of another name from a tree, that imports `below` where it imports the disk."""
    made = ModuleType(f"mutant of {like.__name__}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "elegan.disk", below)
        patch.setitem(sys.modules, made.__name__, made)  # dataclasses look there
        exec(compile(tree, str(like.__file__), "exec"), vars(made))
    return made
