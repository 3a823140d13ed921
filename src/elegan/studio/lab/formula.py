"""Formulas of random numbers, such as `cos(2*pi*t) + 0.1*g`: Python's grammar, and a list of what may be in it.

Nothing is run but what stands in the tables below, on arrays of float64; a formula can loop over nothing and name
nothing else, so that one from a stranger's link costs a fraction of a second and does no harm.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np

from elegan.errors import DataError

DEEPEST = 40  # operations within operations
CONSTANTS = {"pi": np.pi, "e": np.e}
VARIABLES = ("t", "s", "g")

Sum = Callable[[Any, Any], Any]
OPERATORS: dict[type[ast.operator], Sum] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
    ast.Mod: np.mod,
}
COMPARISONS: dict[type[ast.cmpop], Sum] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {  # name -> fewest arguments, most, what it computes
    "sin": (1, 1, np.sin),
    "cos": (1, 1, np.cos),
    "tan": (1, 1, np.tan),
    "exp": (1, 1, np.exp),
    "log": (1, 1, np.log),
    "sqrt": (1, 1, np.sqrt),
    "abs": (1, 1, np.abs),
    "floor": (1, 1, np.floor),
    "round": (1, 1, np.round),
    "sign": (1, 1, np.sign),
    "min": (2, 9, lambda *those: reduce(np.minimum, those)),
    "max": (2, 9, lambda *those: reduce(np.maximum, those)),
    "where": (3, 3, lambda chosen, one, other: np.where(chosen != 0, one, other)),
}


def evaluate(name: str, text: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """What a formula gives for each row of `values`, float64 (N,); not finite where it has no value.

    name: what the formula is for, as it is called in errors. values: t, s and g, (N,) each.
    Raises `DataError` naming the formula and the spot for whatever is no formula of these.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        spot = f" near letter {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise DataError(
            f"the formula {name} = {text.strip()!r} does not read{spot}: write it as cos(2*pi*t)."
        ) from None
    with np.errstate(all="ignore"):
        found = _Formula(name, text.strip(), {**CONSTANTS, **values}).value(tree)
    return np.broadcast_to(np.asarray(found, np.float64), next(iter(values.values())).shape)


class _Formula:
    """A formula under computation."""

    def __init__(self, name: str, text: str, known: Mapping[str, Any]):
        self.name, self.text, self.known = name, text, known

    def value(self, node: ast.expr, depth: int = 0) -> Any:
        if depth > DEEPEST:
            raise self._fault(node, "is nested too deeply")
        match node:
            case ast.Constant(value=bool() | str() | bytes() | complex() | None):
                raise self._fault(node, "is no number")
            case ast.Constant(value=int() | float() as number):
                return np.float64(number)
            case ast.Name(id=name) if name in self.known:
                return self.known[name]
            case ast.Name(id=name):
                raise self._fault(node, f"is no name here; there are {', '.join((*VARIABLES, *CONSTANTS))}")
            case ast.UnaryOp(op=ast.USub(), operand=one):
                return -self.value(one, depth + 1)
            case ast.UnaryOp(op=ast.UAdd(), operand=one):
                return self.value(one, depth + 1)
            case ast.BinOp(op=ast.BitXor()):
                raise self._fault(node, "has a ^; write ** for powers")
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return OPERATORS[type(op)](self.value(left, depth + 1), self.value(right, depth + 1))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in COMPARISONS:
                found = COMPARISONS[type(op)](self.value(left, depth + 1), self.value(right, depth + 1))
                return np.asarray(found, np.float64)
            case ast.Call(func=ast.Name(id=name), args=given, keywords=[]) if name in FUNCTIONS:
                fewest, most, function = FUNCTIONS[name]
                if not fewest <= len(given) <= most:
                    raise self._fault(node, f"needs {fewest} argument{'s' * (fewest > 1)}, not {len(given)}")
                return function(*(self.value(one, depth + 1) for one in given))
            case ast.Call():
                raise self._fault(node, f"is no function here; there are {', '.join(FUNCTIONS)}")
        raise self._fault(node, "is nothing a formula may hold: use numbers, names, + - * / ** % and functions")

    def _fault(self, node: ast.expr, what: str) -> DataError:
        spot = ast.get_source_segment(self.text, node) or self.text
        return DataError(f"the formula {self.name} = {self.text!r}: {spot!r} at letter {node.col_offset + 1} {what}.")
