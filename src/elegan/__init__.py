"""Generative adversarial networks, whole and elegant.

    import elegan
    model = elegan.train("dcgan", "digits", steps=2000)
    model.sample(64)

Names are imported when first used, so that `import elegan` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "train": "elegan.api",
    "resume": "elegan.api",
    "load": "elegan.api",
    "sample": "elegan.api",
    "apply": "elegan.api",
    "ask": "elegan.api",
    "convert": "elegan.api",
    "evaluate": "elegan.api",
    "compare": "elegan.api",
    "page": "elegan.api",
    "prepare": "elegan.api",
    "inspect": "elegan.api",
    "clean": "elegan.api",
    "set_aside": "elegan.api",
    "put_back": "elegan.api",
    "Model": "elegan.api",
    "Samples": "elegan.exporting.samples",
    "open_data": "elegan.data.sources",
    "Batches": "elegan.data.batches",
    "Game": "elegan.game",
    "Turn": "elegan.game",
    "Phase": "elegan.game",
    "Adam": "elegan.game",
    "RMSprop": "elegan.game",
    "SGD": "elegan.game",
    "Spec": "elegan.spec",
    "Field": "elegan.spec",
    "ElegantError": "elegan.errors",
}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from elegan.api import Model as Model
    from elegan.api import apply as apply
    from elegan.api import ask as ask
    from elegan.api import clean as clean
    from elegan.api import compare as compare
    from elegan.api import convert as convert
    from elegan.api import evaluate as evaluate
    from elegan.api import inspect as inspect
    from elegan.api import load as load
    from elegan.api import page as page
    from elegan.api import prepare as prepare
    from elegan.api import put_back as put_back
    from elegan.api import resume as resume
    from elegan.api import sample as sample
    from elegan.api import set_aside as set_aside
    from elegan.api import train as train
    from elegan.data.batches import Batches as Batches
    from elegan.data.sources import open_data as open_data
    from elegan.errors import ElegantError as ElegantError
    from elegan.exporting.samples import Samples as Samples
    from elegan.game import SGD as SGD
    from elegan.game import Adam as Adam
    from elegan.game import Game as Game
    from elegan.game import Phase as Phase
    from elegan.game import RMSprop as RMSprop
    from elegan.game import Turn as Turn
    from elegan.spec import Field as Field
    from elegan.spec import Spec as Spec


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'elegan' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
