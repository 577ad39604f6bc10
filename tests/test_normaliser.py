"""The digit normaliser: what a person draws or photographs becomes what MNIST would hold."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tasks.normaliser import BlankError, normalise, read

SEVEN = [(0.2, 0.1), (0.8, 0.1), (0.45, 0.9)]


def drawing(
    *,
    side=400,
    scale=1.0,
    at=(0.0, 0.0),
    pen=24,
    ink: int | tuple[int, ...] = 0,
    ground: int | tuple[int, ...] = 255,
    mode="L",
):
    """A seven drawn with a round pen on a square picture."""
    picture = Image.new(mode, (side, side), ground)
    draw = ImageDraw.Draw(picture)
    points = [(at[0] + x * side * scale, at[1] + y * side * scale) for x, y in SEVEN]
    draw.line(points, fill=ink, width=pen, joint="curve")
    for x, y in points:
        draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=ink)
    return picture


def likeness(first, second):
    """The cosine between two pictures, 0..1, at the best shift of one pixel or none."""
    best = 0.0
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            moved = np.roll(second.astype(float), (dy, dx), (0, 1))
            product = np.sum(first.astype(float) * moved)
            best = max(best, product / np.linalg.norm(first) / np.linalg.norm(moved))
    return best


@pytest.fixture(scope="module")
def seven():
    return normalise(drawing())


def test_gives_white_ink_on_black_in_28_by_28(seven):
    assert seven.shape == (28, 28)
    assert seven.dtype == np.uint8
    assert seven.max() == 255
    assert seven[0].max() == seven[-1].max() == 0


def test_the_longer_side_takes_20_pixels(seven):
    rows = np.flatnonzero(seven.max(axis=1) > 40)
    assert rows[-1] - rows[0] + 1 == pytest.approx(20, abs=1)


def test_the_centre_of_mass_is_in_the_middle(seven):
    weights = seven.astype(float)
    y, x = np.mgrid[:28, :28] + 0.5
    assert (weights * x).sum() / weights.sum() == pytest.approx(14, abs=0.6)
    assert (weights * y).sum() / weights.sum() == pytest.approx(14, abs=0.6)


SAME = {
    "light on dark": drawing(ink=255, ground=0),
    "grey on grey": drawing(ink=90, ground=150),
    "large picture": drawing(side=1600, pen=96),
    "tiny picture": drawing(side=28, pen=2),
    "small in the corner": drawing(scale=0.25, at=(290, 290), pen=6),
    "at the border": drawing(at=(-60, -20)),
    "thin pen": drawing(pen=4),
    "thick pen": drawing(pen=50),
    "red on green of the same lightness": drawing(
        mode="RGB", ink=(200, 0, 0), ground=(0, 102, 0), pen=24
    ),
    "black on transparent": drawing(mode="RGBA", ink=(0, 0, 0, 255), ground=(0, 0, 0, 0)),
    "white on transparent": drawing(mode="RGBA", ink=(255,) * 4, ground=(255, 255, 255, 0)),
    "opaque RGBA": drawing(mode="RGBA", ink=(0, 0, 0, 255), ground=(255,) * 4),
    "wide picture": Image.new("L", (1200, 400), 255),
}
SAME["wide picture"].paste(drawing(), (700, 0))


@pytest.mark.parametrize("name", SAME)
def test_the_same_digit_looks_the_same(name, seven):
    assert likeness(seven, normalise(SAME[name])) > 0.85


def photographed(picture, seed=0, rules=False, desk=False):
    """The picture on paper in uneven light, with grain, through a JPEG."""
    ink = 1 - np.asarray(picture, float) / 255
    height, width = ink.shape
    y, x = np.mgrid[:height, :width] / height
    light = 0.8 - 0.3 * x + 0.1 * y
    if rules:
        light[::30] *= 0.75
    if desk:
        light[:, : width // 12] = 0.1
    grey = light * (1 - 0.7 * ink) + np.random.default_rng(seed).normal(0, 0.02, ink.shape)
    buffer = io.BytesIO()
    paper = Image.fromarray((grey.clip(0, 1) * 255).astype(np.uint8))
    paper.save(buffer, "JPEG", quality=60)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize(
    "circumstances", [{}, {"rules": True}, {"desk": True}], ids=["plain", "ruled", "desk"]
)
def test_paper_in_uneven_light_gives_the_ink_alone(circumstances, seven):
    photo = photographed(drawing(scale=0.5, at=(120, 120), pen=14), **circumstances)
    assert likeness(seven, normalise(photo)) > 0.85


def test_a_bar_apart_from_the_body_is_kept():
    picture = Image.new("L", (300, 300), 255)
    draw = ImageDraw.Draw(picture)
    draw.line((100, 60, 200, 55), fill=0, width=12)
    draw.arc((90, 110, 210, 240), -90, 120, fill=0, width=12)
    rows = np.flatnonzero(normalise(picture).max(axis=1) > 40)
    assert np.any(np.diff(rows) > 1), "the gap between bar and body is still there"


def test_specks_do_not_move_the_digit(seven):
    picture = drawing(scale=0.5, at=(150, 150), pen=14)
    draw = ImageDraw.Draw(picture)
    for x, y in ((12, 20), (380, 30), (20, 370)):
        draw.ellipse((x, y, x + 3, y + 3), fill=0)
    assert likeness(seven, normalise(picture)) > 0.85


BLANK = {
    "white": Image.new("L", (280, 280), 255),
    "black": Image.new("L", (280, 280), 0),
    "transparent": Image.new("RGBA", (280, 280), (0, 0, 0, 0)),
    "one pixel": Image.new("L", (1, 1), 7),
    "one row": Image.new("L", (300, 1), 7),
    "paper": photographed(Image.new("L", (400, 400), 255)),
    "gradient": Image.linear_gradient("L"),
}


@pytest.mark.parametrize("name", BLANK)
def test_a_picture_without_ink_is_blank(name):
    with pytest.raises(BlankError):
        normalise(BLANK[name])


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (2, 2), (3, 700), (5000, 3), (29, 31)])
def test_any_size_is_answered(size):
    grey = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    with contextlib.suppress(BlankError):
        assert normalise(Image.fromarray(grey)).shape == (28, 28)


@pytest.mark.parametrize("rules", ["lines", "squares", "slanting lines"])
def test_ruled_paper_as_dark_as_the_ink_is_no_ink(seven, rules):
    page = drawing(scale=0.5, at=(90, 110), pen=14, ink=60, ground=230)
    draw = ImageDraw.Draw(page)
    for at in (60, 210, 345):
        rise = 6 if rules == "slanting lines" else 0
        draw.line([(0, at), (400, at + rise)], fill=80, width=3)
        if rules == "squares":
            draw.line([(at, 0), (at, 400)], fill=80, width=3)
    assert likeness(seven, normalise(page)) > 0.85


def in_print(form):
    """A photo of a seven within printed lines that are as dark as its ink."""
    page = drawing(scale=0.4, at=(125, 105), pen=12, ink=70, ground=225)
    draw = ImageDraw.Draw(page)
    if form == "cell":
        for at in (22, 378):
            draw.line([(at, 0), (at - 8, 400)], fill=80, width=20 if at < 100 else 4)
            draw.line([(0, at), (400, at - 6)], fill=80, width=4)
    elif form == "boxes":
        for at in (-92, 108, 308):
            draw.rectangle((at, 110, at + 200, 290), outline=80, width=4)
    elif form == "touched cell":
        left, _, right, _ = page.point(lambda value: 255 - value).point(lambda v: v > 100).getbbox()
        draw.line([(right + 1, 0), (right + 5, 400)], fill=80, width=16)
        draw.line([(left - 120, 0), (left - 116, 400)], fill=80, width=4)
        for at in (40, 340):
            draw.line([(0, at), (400, at)], fill=80, width=4)
    values = np.asarray(page, float) + np.random.default_rng(0).normal(0, 4, (400, 400))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("form", ["cell", "boxes", "touched cell"])
def test_a_digit_in_printed_lines_stands_alone(seven, form):
    reading = read(in_print(form))
    assert likeness(seven, reading.whole.pixels) > 0.85
    assert not reading.pieces


def test_a_round_digit_on_paper_is_no_box():
    """A zero's four flat sides meet, yet each is bent."""
    page = Image.new("L", (400, 400), 225)
    ImageDraw.Draw(page).ellipse((90, 90, 310, 310), outline=60, width=12)
    values = np.asarray(page, float) + np.random.default_rng(0).normal(0, 4, (400, 400))
    zero = read(Image.fromarray(values.clip(0, 255).astype(np.uint8)))
    left, top, right, bottom = zero.whole.box
    assert min(right - left, bottom - top) > 210
    assert zero.whole.pixels[14, 4:10].max() > 200


def test_the_bar_of_a_tight_crop_is_no_ruled_line():
    """A four whose crossbar goes from side to side."""
    four = Image.new("L", (300, 400), 255)
    draw = ImageDraw.Draw(four)
    draw.line([(160, 0), (0, 250), (300, 250)], fill=0, width=26)
    draw.line([(200, 120), (200, 400)], fill=0, width=26)
    whole = normalise(four)
    rows = (whole > 128).sum(1)
    assert rows.max() > 12  # the crossbar is there


def test_a_small_picture_of_a_digit_is_not_grain():
    small = drawing(side=400, pen=44).resize((28, 28), Image.Resampling.BOX)
    noisy = np.asarray(small, float) + np.random.default_rng(0).normal(0, 6, (28, 28))
    picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    assert likeness(normalise(drawing()), normalise(picture)) > 0.85


def test_the_pale_part_of_a_stroke_belongs_to_it(seven):
    """A pen that runs dry: the lower half has a third of the ink."""
    values = np.asarray(drawing(ink=40, ground=240), float)
    values[220:] = 240 - (240 - values[220:]) * 0.34
    assert likeness(seven, normalise(Image.fromarray(values.astype(np.uint8)))) > 0.8


def test_a_digit_of_mnists_form_is_left_as_it_is():
    """A four in two pieces that is wider than high: nothing looks for a number in it."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[6:15, 4:7] = pixels[14:17, 4:16] = pixels[6:22, 21:24] = 255
    reading = read(Image.fromarray(pixels))
    assert (reading.whole.pixels == pixels).all()
    assert reading.whole.box == (4, 6, 24, 22)
    assert not reading.pieces


def on_a_desk(sheet, *, desk, tilt, size=(500, 640), at=(90, 130)):
    """A grainy photo of a sheet on a desk."""
    photo = Image.new("L", size, desk)
    mask = Image.new("L", sheet.size, 255).rotate(tilt, expand=True)
    photo.paste(sheet.rotate(tilt, expand=True), at, mask)
    values = np.asarray(photo, float) + np.random.default_rng(0).normal(0, 4, photo.size[::-1])
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("tilt", [0, 9])
@pytest.mark.parametrize(("paper", "desk"), [(220, 60), (240, 150), (110, 220)])
def test_a_sheet_on_a_desk_is_no_digit(seven, paper, desk, tilt):
    sheet = drawing(side=280, scale=0.6, at=(60, 50), pen=10, ink=20, ground=paper)
    likely = normalise(
        drawing(side=280, scale=0.6, at=(60, 50), pen=10).rotate(tilt, fillcolor=255)
    )
    assert likeness(likely, normalise(on_a_desk(sheet, desk=desk, tilt=tilt))) > 0.9


def test_a_thick_digit_with_small_holes_is_no_sheet():
    eight = Image.new("L", (400, 400), 30)
    draw = ImageDraw.Draw(eight)
    draw.rectangle((120, 60, 280, 340), fill=230)
    for top in (120, 220):
        draw.rectangle((180, top, 220, top + 50), fill=30)
    rows = (normalise(eight) > 128).sum(axis=1)
    assert rows.max() > 8  # not the holes


@pytest.mark.parametrize("pen", [4, 16, 24])
@pytest.mark.parametrize("count", [12, 14, 16])
def test_a_row_of_many_digits_is_not_grain(count, pen):
    """However dense its strokes are."""
    row = Image.new("L", (count * 115 + 20, 240), 255)
    draw = ImageDraw.Draw(row)
    for digit in range(count):
        points = [(20 + digit * 115 + x * 100, 20 + y * 200) for x, y in SEVEN]
        draw.line(points, fill=0, width=pen)
    assert len(read(row).pieces) == count


def test_grain_in_a_long_picture_stays_blank():
    grain = np.random.default_rng(1).normal(128, 40, (160, 1200)).clip(0, 255)
    with pytest.raises(BlankError):
        read(Image.fromarray(grain.astype(np.uint8)))


def test_a_patch_of_light_is_no_sheet(seven):
    page = np.asarray(drawing(scale=0.3, at=(250, 200), pen=8, ink=60, ground=255), float) / 255
    axis = np.linspace(-1, 1, 400) ** 2
    light = 235 - 70 * (axis[:, None] + axis[None, :])
    grain = np.random.default_rng(2).normal(0, 3, page.shape)
    picture = Image.fromarray((page * light + grain).clip(0, 255).astype(np.uint8))
    assert likeness(seven, normalise(picture)) > 0.8
