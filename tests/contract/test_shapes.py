"""Images of any height, width and number of channels: every game that takes images builds, trains and draws them."""

import numpy as np
import pytest
import torch

from elegan import zoo
from elegan.data.batches import Batches
from elegan.data.source import Source, image_field, label_field
from elegan.errors import OptionError
from elegan.spec import Spec
from elegan.tasks.generate import draw
from elegan.training.loop import Loop
from tests.contract.checks import SOURCES

SHAPES = ((3, 24, 40), (1, 28, 20), (2, 17, 30), (4, 31, 9), (5, 16, 16))


def source(game: str, *shape: int) -> Source:
    """Twelve images of noise, with labels; or two sets of them."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, *shape), dtype=np.uint8)
    if game == "cyclegan":
        spec = Spec(a=image_field(pixels, stream="a"), b=image_field(pixels, stream="b"))
        return Source("pair", spec, {"a": pixels, "b": 255 - pixels}, "")
    labels = np.arange(12) % 3
    spec = Spec(real=image_field(pixels, classes=3), label=label_field(labels, ("a", "b", "c")))
    return Source("images", spec, {"real": pixels, "label": labels}, "")


def takes_images(name: str) -> bool:
    accepts = zoo.game_class(name).accepts
    return not (accepts(SOURCES["images"].spec) and accepts(SOURCES["unpaired"].spec))


GAMES = [name for name in zoo.names() if takes_images(name)]
NETS = [  # nets that no preset `tiny` is made of
    ("dcgan", dict(kernel=5, stem=True, base=7, slope=0.2)),
    ("gan", dict(net="conv")),
    ("cgan", dict(condition="channels")),
    ("r3gan", dict(widths=(16, 8, 4), conditional=True)),
    ("sngan", dict(n_critic=1)),
    ("cyclegan", dict(layers=1, blocks=2, identity=0.0)),
]
CASES = [*((name, {}) for name in GAMES), *NETS]


def trained(name: str, options: dict, shape: tuple[int, ...]) -> None:
    """Build a game, make every turn of two steps, and see that what it makes has the shape of the data."""
    data = source(name, *shape)
    torch.manual_seed(0)
    game = zoo.build(name, data.spec, **zoo.settings(name, "tiny", options).options)
    loop = Loop(game, Batches(data, rows=4))
    before = [p.detach().clone() for p in game.parameters()]
    for _ in range(2):
        terms = loop.step().terms
    loop.examine_last()
    assert "bad" not in terms
    moved = [bool((p != was).any()) for p, was in zip(game.parameters(), before, strict=True)]
    assert sum(moved) > 0.8 * len(moved)
    game.eval()
    made = [draw(game, 3)] if "generation" in game.tasks else []
    made += [getattr(game, m)(torch.zeros(3, *shape)) for m in ("reconstruct", "translate") if hasattr(game, m)]
    assert made
    for images in made:
        assert images.shape == (3, *shape)
        assert images.isfinite().all()


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{'-'.join(o)}".rstrip("-") for n, o in CASES])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_a_game_takes_images_of_any_shape(name, options, shape):
    trained(name, options, shape)


@pytest.mark.parametrize("name", sorted({*GAMES} - {"cyclegan"}))
def test_a_game_takes_images_of_next_to_nothing(name):
    trained(name, {}, (1, 1, 3))


def test_the_smallest_images_of_cyclegan_are_what_it_says():
    for layers, least in ((0, 5), (1, 6), (2, 12), (3, 24)):
        trained("cyclegan", dict(layers=layers), (1, least, least + 3))
        with pytest.raises(OptionError, match=f"layers={layers} needs images of {least} pixels"):
            trained("cyclegan", dict(layers=layers), (1, 40, least - 1))
