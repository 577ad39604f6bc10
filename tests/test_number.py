"""Digits side by side are read as a number, and one digit in pieces as one digit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from browser.strokes import HANDS, placed
from PIL import Image, ImageDraw
from samples import encode

from app import create_app
from tasks.digit import readings

SIDE = 120


@pytest.fixture(scope="module")
def reader():
    """A client of the app with the shipped models."""
    return create_app().test_client()


def drawn(number, hand="plain", gap=0.0, height=300):
    """A picture of a number; `gap` is between the digits' squares, in squares."""
    step = SIDE * (1 + gap)
    picture = Image.new("L", (round(step * len(number)) + 80, height), 255)
    pen = ImageDraw.Draw(picture)
    for place, digit in enumerate(number):
        for stroke in placed(HANDS[hand][int(digit)], 40 + step * place, 90, SIDE):
            pen.line(stroke, fill=0, width=11, joint="curve")
            for x, y in stroke:
                pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=0)
    return picture


def result(reader, picture, query=""):
    response = reader.post(f"/api/predict{query}", data=encode(picture), content_type="image/png")
    assert response.status_code == 200
    return response.get_json()["results"][0]


@pytest.mark.parametrize("hand", HANDS)
@pytest.mark.parametrize("number", ["2026", "10", "31415", "867", "90", "1234567890"])
def test_a_number_is_read_from_left_to_right(reader, number, hand):
    told = result(reader, drawn(number, hand))
    assert told["label"] == number
    assert [subject["label"] for subject in told["subjects"]] == list(number)
    product = math.prod(subject["score"] for subject in told["subjects"])
    assert product - 1e-6 <= told["score"] <= product + 0.1
    lefts = [subject["box"]["x"] for subject in told["subjects"]]
    assert lefts == sorted(lefts)
    scores = [reading["score"] for reading in told["predictions"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 10
    assert sum(scores) == pytest.approx(1)


@pytest.mark.parametrize("ground", [(0, 255), (255, 30)], ids=["light on dark", "grey"])
def test_a_number_may_be_of_any_colour_and_size(reader, ground):
    picture = drawn("4096", gap=0.5).point(lambda value: ground[0] if value > 127 else ground[1])
    assert result(reader, picture.resize((1800, 700)))["label"] == "4096"


def test_boxes_lie_round_the_digits(reader):
    told = result(reader, drawn("38", gap=1.0))
    for place, subject in enumerate(told["subjects"]):
        box = subject["box"]
        assert 40 + 240 * place <= box["x"] + box["width"] / 2 <= 160 + 240 * place
        assert abs(box["height"] - SIDE) < 25
        assert abs(box["y"] - 90) < 15


@pytest.mark.parametrize("hand", HANDS)
@pytest.mark.parametrize("digit", range(10))
def test_a_digit_is_one_subject(reader, digit, hand):
    told = result(reader, drawn(str(digit), hand))
    (subject,) = told["subjects"]
    assert subject["label"] == told["label"] == str(digit)
    assert subject["predictions"] == told["predictions"]


def test_a_digit_in_pieces_is_one_digit(reader):
    picture = Image.new("L", (280, 280), 255)
    pen = ImageDraw.Draw(picture)
    pen.line([(90, 60), (80, 150), (150, 150)], fill=0, width=16, joint="curve")
    pen.line([(175, 50), (172, 230)], fill=0, width=16)
    told = result(reader, picture)
    assert told["label"] == "4"
    assert len(told["subjects"]) == 1


def test_two_lines_are_told(reader):
    picture = Image.new("L", (280, 560), 255)
    for top in (0, 280):
        picture.paste(drawn("3", height=280).resize((280, 280)), (0, top))
    told = result(reader, picture)
    assert len(told["subjects"]) == 1
    assert told["verdict"] == "none"
    both = Image.new("L", (320, 480), 255)
    both.paste(drawn("12", height=300), (0, -30))
    both.paste(drawn("34", height=270).crop((0, 60, 320, 270)), (0, 240))
    assert result(reader, both)["verdict"] == "none"


@pytest.mark.parametrize("digit", "23456789")
@pytest.mark.parametrize("gap", [22, 70])
def test_a_stick_beside_a_digit_is_a_one(reader, digit, gap):
    """Together no wider than a digit, and the network may be sure of the whole."""
    picture = drawn(digit)
    left, top, _, bottom = picture.point(lambda value: 255 - value).getbbox()
    wider = Image.new("L", (picture.width + gap, picture.height), 255)
    wider.paste(picture, (gap, 0))
    ImageDraw.Draw(wider).line([(left - 6, top), (left - 6, bottom)], fill=0, width=11)
    told = result(reader, wider)
    assert told["label"] == f"1{digit}"


def marked(number, mark):
    """A number with something round, under or beside it."""
    picture = drawn(number)
    pen, (left, top, right, bottom) = (
        ImageDraw.Draw(picture),
        picture.point(lambda value: 255 - value).getbbox(),
    )
    middle = (top + bottom) // 2
    if mark == "circle":
        side = max(right - left, bottom - top) * 0.72
        x, y = (left + right) // 2, (top + bottom) // 2
        pen.ellipse((x - side, y - side, x + side, y + side), outline=0, width=8)
    elif mark == "box":
        pen.rectangle((left - 24, top - 24, right + 24, bottom + 24), outline=0, width=4)
    elif mark == "underline":
        pen.line([(left - 10, bottom + 24), (right + 10, bottom + 24)], fill=0, width=9)
    elif mark == "minus":
        pen.line([(left - 44, middle), (left - 18, middle)], fill=0, width=11)
    elif mark == "point":
        pen.ellipse((right + 14, bottom - 14, right + 28, bottom), fill=0)
    return picture


@pytest.mark.parametrize("mark", ["circle", "box", "underline"])
@pytest.mark.parametrize("number", ["5", "7", "38"])
def test_what_is_round_or_under_a_number_is_not_read(reader, number, mark):
    told = result(reader, marked(number, mark))
    assert told["label"] == number
    assert told["verdict"] == "sure"


@pytest.mark.parametrize("mark", ["minus", "point"])
@pytest.mark.parametrize("number", ["5", "38"])
def test_a_sign_beside_a_number_is_told(reader, number, mark):
    assert result(reader, drawn(number))["verdict"] == "sure"
    told = result(reader, marked(number, mark))
    assert told["label"] == number
    assert told["verdict"] == "none"


def test_a_sign_further_away_is_told(reader):
    picture = drawn("5")
    wider = Image.new("L", (picture.width + 200, picture.height), 255)
    wider.paste(picture, (200, 0))
    ImageDraw.Draw(wider).line([(90, 150), (150, 150)], fill=0, width=11)
    told = result(reader, wider)
    assert told["label"] == "5"
    assert told["verdict"] == "none"


def penned(*strokes, width=14):
    """Strokes drawn as the pad draws them, on 280 pixels."""
    picture = Image.new("L", (280, 280), 255)
    pen = ImageDraw.Draw(picture)
    for stroke in strokes:
        pen.line(stroke, fill=0, width=width, joint="curve")
        for x, y in stroke:
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=0)
    return picture


SEVEN = [(60, 40), (150, 40), (95, 230)]


@pytest.mark.parametrize("width", [6, 14])
def test_a_tap_beside_a_large_digit_is_a_point(reader, width):
    """It has a hundredth of the digit's ink."""
    eight = [(100 + 70 * math.sin(2 * a), 135 - 100 * math.cos(a)) for a in np.linspace(0, 6.3, 60)]
    for digit, label in ((eight, "8"), (SEVEN, "7")):
        assert result(reader, penned(digit, width=width))["verdict"] == "sure"
        told = result(reader, penned(digit, [(215, 228)], width=width))
        assert (told["label"], told["verdict"]) == (label, "none")


def test_a_sign_almost_half_as_high_as_the_digit_is_told(reader):
    plus = [[(20, 135), (80, 135)], [(50, 95), (50, 175)]]
    seven = [(x + 70, y) for x, y in SEVEN]
    told = result(reader, penned(*plus, seven))
    assert (told["label"], told["verdict"]) == ("7", "none")


@pytest.mark.parametrize("round_it", ["ellipse", "rectangle"])
def test_a_one_in_a_narrow_frame_is_no_slashed_zero(reader, round_it):
    picture = penned([(140, 80), (136, 190)])
    getattr(ImageDraw.Draw(picture), round_it)((90, 30, 190, 240), outline=0, width=8)
    told = result(reader, picture)
    assert (told["label"], told["verdict"]) == ("1", "sure")


def loop(x, y, width, height):
    turn = np.linspace(0, 2 * math.pi, 30)
    return list(zip(x + width * np.sin(turn), y - height * np.cos(turn), strict=True))


def test_an_eight_of_two_loops_is_one_digit_of_a_number(reader):
    seven = [(20, 50), (90, 50), (50, 220)]
    told = result(reader, penned(seven, loop(170, 105, 22, 24), loop(170, 170, 27, 30), width=8))
    assert told["label"] == "78"


def test_the_low_angle_of_an_open_four_is_no_sign(reader):
    angle = [(20, 70), (34, 112), (66, 112)]
    two = [(130, 95), (160, 70), (190, 95), (130, 190), (200, 190)]
    assert result(reader, penned(angle, [(78, 62), (76, 192)], two, width=8))["label"] == "42"


def test_top_k_counts_the_readings_too(reader):
    told = result(reader, drawn("27"), "?top_k=2")
    assert len(told["predictions"]) == 2
    assert {len(subject["predictions"]) for subject in told["subjects"]} == {2}


def test_each_digit_shows_what_the_network_saw(reader):
    told = result(reader, drawn("27"), "?seen=true")
    assert len({subject["seen"] for subject in told["subjects"]} | {told["seen"]}) == 3


def test_readings_are_the_likeliest_products():
    scores = np.array([[0.9, 0.1], [0.4, 0.6]])
    found = readings(["0", "1"], scores)
    assert [(each.label, each.score) for each in found] == [
        ("01", pytest.approx(0.54)),
        ("00", pytest.approx(0.36)),
        ("11", pytest.approx(0.06)),
        ("10", pytest.approx(0.04)),
    ]
