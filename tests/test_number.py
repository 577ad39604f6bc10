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


def test_lines_of_digits_are_not_a_number(reader):
    picture = Image.new("L", (280, 560), 255)
    for top in (0, 280):
        picture.paste(drawn("3", height=280).resize((280, 280)), (0, top))
    assert len(result(reader, picture)["subjects"]) == 1


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
