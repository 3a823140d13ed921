"""Pictures: every image where it should be, the right channels, and marks that say they were generated."""

import csv
import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

import elegan
from elegan.data.source import image_field, vector_field
from elegan.errors import ResourceError, RunInUseError
from elegan.exporting.provenance import SOURCE_TYPE, save_png
from elegan.exporting.samples import GridListener, Samples, wanted_at
from elegan.view.plane import HEAD, SIDE, Window, font, framed, panel, points
from elegan.view.plane import MARGIN as EDGE
from elegan.view.sheet import MARGIN, SMALL, image, seen, sheet

FACTS = {"game": "dcgan", "data": 'a "b" <c> & ü.npz', "step": 7, "seed": 3}


def pictures(n: int, channels: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (n, channels, height, width), dtype=np.uint8)


# ---- the sheet


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("n", "columns"), [(1, None), (5, 2), (6, 3), (7, None), (12, 12), (3, 8)])
@pytest.mark.parametrize(("height", "width"), [(8, 6), (SMALL, SMALL), (10, SMALL + 6)])
def test_every_image_is_where_it_should_be(channels, n, columns, height, width):
    images = pictures(n, channels, height, width)
    made = sheet(images, columns)
    assert made.mode == {1: "L", 3: "RGB"}[channels]
    scale = 2 if max(height, width) < SMALL else 1
    pixels = np.asarray(made).reshape(made.height, made.width, channels)
    covered = np.zeros(pixels.shape[:2], bool)
    down, across = height * scale + MARGIN, width * scale + MARGIN
    wide = columns or (pixels.shape[1] - MARGIN) // across
    assert pixels.shape[1] == MARGIN + wide * across
    assert pixels.shape[0] == MARGIN + -(-n // wide) * down
    for k in range(n):
        top, left = MARGIN + k // wide * down, MARGIN + k % wide * across
        place = np.s_[top : top + height * scale, left : left + width * scale]
        for c in range(channels):
            assert (pixels[place][..., c] == np.kron(images[k, c], np.ones((scale, scale), np.uint8))).all()
        covered[place] = True
    assert (pixels[~covered] == 255).all(), "the rest is white"


def test_a_sheet_left_to_itself_is_about_square():
    for n in (1, 4, 9, 10, 64, 100):
        made = sheet(pictures(n, 1, 8, 8))
        assert 0.5 < made.height / made.width <= 1.01 or n < 4
    assert sheet(pictures(64, 1, 28, 28)).size == (8 * 58 + 2, 8 * 58 + 2)


@pytest.mark.parametrize(("channels", "shown"), [(2, 1), (4, 3), (5, 3), (13, 3)])
def test_of_bands_without_a_meaning_the_first_are_shown(channels, shown):
    images = pictures(2, channels, 80, 70)
    assert (seen(images) == images[:, :shown]).all()
    assert image(images[0]).mode == sheet(images).mode == {1: "L", 3: "RGB"}[shown]
    left = np.asarray(image(images[0])).reshape(80, 70, shown)
    assert (left == images[0, :shown].transpose(1, 2, 0)).all()
    assert (np.asarray(sheet(images, 2)).reshape(84, 146, shown)[2:82, 2:72] == left).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_shown_over_a_chequered_ground(mode):
    images = pictures(1, len(mode), 80, 70)
    size = (84, 74, len(mode) - 1)
    images[0, -1, :40], images[0, -1, 40:60], images[0, -1, 60:] = 0, 255, 51
    made = np.asarray(sheet(images, 1, mode=mode)).reshape(size)[2:-2, 2:-2].astype(float)
    colours = images[0, :-1].transpose(1, 2, 0)
    y, x = np.indices((80, 70)) // 8
    ground = np.where((y + x) % 2, 204, 255)[..., None]
    assert (made[:40] == ground[:40]).all()
    assert (made[40:60] == colours[40:60]).all()
    assert abs(made[60:] - (0.2 * colours[60:] + 0.8 * ground[60:])).max() <= 0.51
    assert (np.asarray(image(images[0], mode)).reshape(made.shape) == made).all()
    assert sheet(images, mode=mode).mode == mode.removesuffix("A")


@pytest.mark.parametrize("channels", [1, 3])
def test_names_stand_before_their_rows(channels):
    images = pictures(6, channels, 20, 20)
    bare, named = sheet(images, 3), sheet(images, 3, ["ox", "a long name"])
    assert named.mode == bare.mode
    room = named.width - bare.width
    assert room > font(13).getlength("a long name")
    pixels = np.asarray(named.convert("L"))
    assert (np.asarray(named)[:, room:] == np.asarray(bare)).all()
    dark = [(pixels[k * 42 + 2 : k * 42 + 42, :room] < 128).sum() for k in range(2)]
    assert 0 < dark[0] < dark[1]


# ---- the plane


def colours(picture) -> tuple[np.ndarray, np.ndarray]:
    """Where a picture is clearly blue, and where it is clearly orange."""
    pixels = np.asarray(picture).astype(int)
    red, blue = pixels[..., 0], pixels[..., 2]
    return (blue - red > 40), (red - blue > 130)


def test_points_are_drawn_where_they_are_over_real_ones():
    window = Window(-1.0, 10.0, 4.0)  # x from −1 to 3, y from 10 to 14
    spots = np.array([[0.0, 13.0], [2.5, 10.5], [99.0, 0.0], [np.nan, 11.0]])
    for blue_or_orange, given in enumerate([(np.zeros((0, 2)), spots), (spots, None)]):
        found = colours(panel(window, *given))[blue_or_orange]
        y, x = np.nonzero(found)
        upper = y < SIDE / 2
        assert abs(np.mean(x[upper]) + 0.5 - SIDE / 4) < 0.6
        assert abs(np.mean(y[upper]) + 0.5 - SIDE / 4) < 0.6
        assert abs(np.mean(x[~upper]) + 0.5 - SIDE * 7 / 8) < 0.6
        assert abs(np.mean(y[~upper]) + 0.5 - SIDE * 7 / 8) < 0.6
        assert 10 < len(y) < 90, "two dots, no more"
    both = panel(window, spots[:1], spots)
    red, _, blue = both[SIDE // 4, SIDE // 4].astype(int)
    assert red - blue > 80, "drawn over real"
    assert colours(both)[0][SIDE * 7 // 8, SIDE * 7 // 8]


def test_axes_are_equal_and_fixed_by_the_real_points():
    real = np.array([[0.0, 0.0], [10.0, 4.0]])
    window = Window.around(real, room=0.1)
    assert (window.left, window.low, window.side) == pytest.approx((-1.0, -4.0, 12.0))
    far = points(np.array([[500.0, 0.0]]), real)
    assert (np.asarray(far)[HEAD:] == np.asarray(points(np.array([[0.0, 800.0]]), real))[HEAD:]).all()
    assert far.size == (SIDE + 2 * EDGE, SIDE + HEAD + EDGE)
    assert Window.around(np.ones((5, 2))).side > 0
    assert Window.around(np.concatenate([real, [[np.nan, 0.0], [0.0, np.inf]]]), room=0.1) == window
    assert np.isfinite(Window.around(np.full((3, 2), np.inf)).side)
    assert colours(points(np.zeros((1, 2))))[1][HEAD:].any()


def test_a_surface_is_orange_where_drawn_blue_where_real_and_has_a_line_between():
    window = Window(0.0, 0.0, 1.0)
    where = window.places()
    assert where[0] == pytest.approx((0.5 / 64, 1 - 0.5 / 64))
    assert where[-1] == pytest.approx((1 - 0.5 / 64, 0.5 / 64))
    nothing = np.zeros((0, 2))
    seen = panel(window, nothing, surface=1 / (1 + np.exp(-20 * (where[:, 1] - 0.75)))).astype(int)  # real above 0.75
    warm = seen[..., 0] - seen[..., 2]
    line = seen.max(2) < 190
    rows = np.nonzero(line.any(1))[0]
    assert abs(rows - SIDE / 4).max() <= 2, "where it is undecided"
    assert line[rows].all(1).any(), "from side to side"
    assert (warm[: SIDE // 4 - 10] < -10).all()
    assert (warm[SIDE // 4 + 10 :] > 10).all()
    assert (np.diff(warm[[5, 60, 110, 130, 180, 400], 7]) >= 0).all()
    for even, colour in ((0.0, (250, 204, 160)), (1.0, (150, 195, 230)), (0.5, (252, 252, 250))):
        plain = panel(window, nothing, surface=np.full(len(where), even))
        assert (plain == plain[0, 0]).all(), "no line where all is alike"
        assert abs(plain[0, 0].astype(int) - colour).max() <= 1


def test_arrows_point_where_things_are_pulled():
    window = Window(-1.0, -1.0, 2.0)
    feet, ways = np.array([[0.0, 0.0], [0.5, 0.5]]), np.array([[0.0, 1e-3], [0.0, 0.0]])
    bare, shown = panel(window, feet), panel(window, feet, arrows=(feet, ways))
    y, x = np.nonzero((bare != shown).any(2))
    assert abs(np.mean(x) - SIDE / 2) < 1, "straight up, from the first alone"
    assert y.max() <= SIDE / 2 + 2
    assert abs(y.min() - (SIDE / 2 - SIDE / 7)) < 3
    assert (panel(window, feet, arrows=(feet, 0 * ways)) == bare).all()


def test_panels_stand_two_to_a_row_below_their_titles():
    black = np.zeros((SIDE, SIDE, 3), np.uint8)
    made = np.asarray(framed([("one", black), ("two", black + 50), ("three", black + 90)], note="a note"))
    for k, shade in enumerate((0, 50, 90)):
        top, left = HEAD + k // 2 * (HEAD + SIDE), EDGE + k % 2 * (EDGE + SIDE)
        assert (made[top : top + SIDE, left : left + SIDE] == shade).all()
        assert (made[top - HEAD + 8 : top - 8, left : left + 30] < 100).any(), "its title"
    assert (made[-HEAD:, : EDGE + 40] < 160).any(), "the note"
    assert all(mask[-HEAD:].any() for mask in colours(made)), "the legend"
    single = np.asarray(framed([("", black)], real=False, judged=False))
    assert not colours(single)[0][:HEAD].any()
    assert colours(single)[1][:HEAD].any()


# ---- marks


def check_marks(content: bytes, facts: dict) -> None:
    with Image.open(io.BytesIO(content)) as opened:
        text = dict(opened.text)
    assert text.pop("Software") == f"elegan {elegan.__version__}"
    assert text.pop("DigitalSourceType") == "trainedAlgorithmicMedia"
    packet = text.pop("XML:com.adobe.xmp")
    assert text == {f"elegan:{name}": str(value) for name, value in facts.items()}
    assert packet.startswith('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>')
    assert packet.endswith('<?xpacket end="w"?>')
    root = ET.fromstring(packet)  # well-formed, with all namespaces declared
    assert root.tag == "{adobe:ns:meta/}xmpmeta"
    (about,) = root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    kind = about.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert kind == SOURCE_TYPE == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert about.get("{http://ns.adobe.com/xap/1.0/}CreatorTool") == f"elegan {elegan.__version__}"


def test_a_saved_picture_says_what_made_it(tmp_path):
    path = save_png(image(pictures(1, 3, 8, 8)[0]), tmp_path / "x.png", FACTS)
    check_marks(path.read_bytes(), FACTS)
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"], "nothing else is left"


# ---- samples


@pytest.fixture
def some():
    values = pictures(11, 3, 6, 5)
    return Samples(values, image_field(values), FACTS, columns=4)


def test_samples_are_saved_one_by_one_and_as_a_grid(tmp_path, some):
    out = tmp_path / "deep" / "out"
    written = some.save(out)
    assert written == [out / "grid.png", *[out / f"{k:05d}.png" for k in range(11)]]
    assert sorted(out.iterdir()) == sorted(written)
    for k, path in enumerate(written[1:]):
        with Image.open(path) as opened:
            assert (np.asarray(opened).transpose(2, 0, 1) == some[k]).all()
        check_marks(path.read_bytes(), {**FACTS, "sample": k})
    with Image.open(written[0]) as grid:
        assert (np.asarray(grid) == np.asarray(sheet(some.values, 4))).all()
    check_marks(written[0].read_bytes(), FACTS)


def test_points_are_saved_as_numbers_too(tmp_path):
    values = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    made = Samples(values, vector_field(values), FACTS)
    assert [p.name for p in made.save(tmp_path / "out")] == ["grid.png", "samples.csv"]
    with (tmp_path / "out" / "samples.csv").open(newline="") as file:
        read = np.array([[float(cell) for cell in row] for row in csv.reader(file)], np.float32)
    assert (read == values).all(), "to the bit"
    wide = np.zeros((3, 5), np.float32)
    made = Samples(wide, vector_field(wide + np.arange(5, dtype=np.float32)), FACTS)
    assert [p.name for p in made.save(tmp_path / "wide")] == ["samples.csv"]
    assert made.picture() is None
    assert made._repr_png_() is None


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path, some):
    out = tmp_path / "out"
    out.mkdir()
    (out / "grid.png").write_text("mine")
    with pytest.raises(RunInUseError, match=r"out is not empty; choose another --out"):
        some.save(out)
    assert [p.read_text() for p in out.iterdir()] == ["mine"]
    with pytest.raises(ResourceError, match="choose another --out"):
        some.save(out / "grid.png" / "below")


def test_a_notebook_shows_the_grid(some):
    content = some._repr_png_()
    check_marks(content, FACTS)
    with Image.open(io.BytesIO(content)) as opened:
        assert (np.asarray(opened) == np.asarray(sheet(some.values, 4))).all()
    assert len(some) == 11
    assert repr(some) == "Samples(11 × image [3, 6, 5])"


# ---- what a run draws by itself


def test_a_run_draws_at_fixed_steps():
    steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 3_000]
    assert [step for step in range(1, 3_500) if wanted_at(step)] == steps


def test_the_last_grid_is_drawn_from_the_average_with_one_column_a_class(tmp_path, small):
    model = elegan.train(
        "cgan", small, out=tmp_path / "run", preset="tiny", steps=3, batch=8, threads=1, precision="fp32"
    )
    *early, path = sorted((tmp_path / "run" / "samples").iterdir())
    assert [p.name for p in early] == ["00000000.png", "00000001.png", "00000002.png"]
    assert path.name == "00000003.png"
    check_marks(path.read_bytes(), {"game": "cgan", "data": str(small), "step": 3, "seed": 0})
    drawn = model.sample(32, label=[k % 4 for k in range(32)])
    with Image.open(path) as opened:
        assert (np.asarray(opened) == np.asarray(sheet(drawn.values, 4))).all()
    assert opened.size == (4 * 18 + 2, 8 * 18 + 2)


def test_the_same_step_is_drawn_once(tmp_path, tiny_run):
    game = elegan.load(tiny_run).game
    (tmp_path / "grids").mkdir()
    grids = GridListener(tmp_path / "grids", FACTS, {}, seed=0)
    assert grids.draw(game, 5) == tmp_path / "grids" / "00000005.png"
    assert grids.draw(game, 5) is None
    assert grids.draw(game, 6) is not None
