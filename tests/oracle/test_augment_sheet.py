"""The sheet that shows what augmentation does: read back image by image."""

import numpy as np
import pytest
import torch

from elegan.augment import AUGMENTATIONS
from elegan.errors import OptionError
from elegan.view.augmented import augmented

torch.set_num_threads(1)

SCALE = 2  # small images are shown twice as large


def cells(picture, height, width, columns, left=0):
    """The images of a sheet, (rows, columns, C, height, width), without the margin around each."""
    values = np.asarray(picture)
    values = (values[..., None] if values.ndim == 2 else values)[:, left:]
    step_down, step_right = SCALE * height + 2, SCALE * width + 2
    return np.stack(
        [
            [values[y : y + SCALE * height : SCALE, x : x + SCALE * width : SCALE].transpose(2, 0, 1) for x in across]
            for y in range(2, len(values) - 2, step_down)
            for across in [range(2, 2 + columns * step_right, step_right)]
        ]
    )


@pytest.mark.parametrize("shape", [(1, 12, 9), (3, 10, 16)])
def test_a_sheet_shows_each_image_as_it_is_and_as_a_judge_sees_it(shape):
    rows = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    state = torch.get_rng_state()
    shown = cells(augmented(rows, "flip", draws=6, seed=3), *shape[1:], 7)
    assert torch.equal(torch.get_rng_state(), state)
    assert shown.shape == (3, 7, *shape)
    np.testing.assert_array_equal(shown[:, 0], rows)
    mirrored = (shown[:, 1:] == rows[:, None, ..., ::-1]).all((2, 3, 4))
    same = (shown[:, 1:] == rows[:, None]).all((2, 3, 4))
    assert (mirrored ^ same).all()
    assert 0 < mirrored.sum() < 18
    assert augmented(rows, "flip", draws=6, seed=3).tobytes() == augmented(rows, "flip", draws=6, seed=3).tobytes()
    assert augmented(rows, "flip", draws=6, seed=4).tobytes() != augmented(rows, "flip", draws=6, seed=3).tobytes()
    assert (cells(augmented(rows, "full", 0.0, draws=2), *shape[1:], 3) == rows[:, None]).all()
    assert (cells(augmented(rows, "ada", draws=8), *shape[1:], 9)[:, 1:] != rows[:, None]).any((2, 3, 4)).mean() > 0.7


def test_a_sheet_without_a_policy_has_a_row_for_each_augmentation():
    rows = np.random.default_rng(0).integers(0, 256, (3, 3, 10, 16), dtype=np.uint8)
    picture = augmented(rows, draws=5)
    left = picture.width - (6 * (2 * 16 + 2) + 2)
    assert left > 30, "room for the names"
    shown = cells(picture, 10, 16, 6, left)
    assert len(shown) == len(AUGMENTATIONS)
    for k, (name, row) in enumerate(zip(AUGMENTATIONS, shown, strict=True)):
        np.testing.assert_array_equal(row[0], rows[k % 3])
        assert (row[1:] != row[:1]).any(), name
    blank = (shown[list(AUGMENTATIONS).index("cutout"), 1:] == 128).all(1)  # grey, the middle of the range
    assert (blank.sum((1, 2)) >= 10).all(), "applied for certain"


def test_a_sheet_of_what_cannot_be_shown():
    with pytest.raises(ValueError, match="no images"):
        augmented(np.zeros((0, 1, 4, 4), np.uint8))
    with pytest.raises(OptionError, match="no augmentation 'flap'"):
        augmented(np.zeros((1, 1, 4, 4), np.uint8), "flap")
    for channels in (2, 4, 5):
        augmented(np.zeros((2, channels, 7, 9), np.uint8), "full", draws=1)
