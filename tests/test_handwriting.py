"""Made-up handwriting: digits as MNIST holds them, in forms that it lacks."""

from __future__ import annotations

import torch

from training.handwriting import FORMS, SEGMENTS, STROKES, write


def test_every_digit_has_several_forms_of_strokes():
    assert sorted(FORMS) == list(range(10))
    for forms in FORMS.values():
        assert len(forms) >= 5
        assert all(1 <= len(form) <= STROKES for form in forms)
        assert all(2 <= len(stroke) <= SEGMENTS for form in forms for stroke in form)


def test_writes_as_many_of_each_digit():
    pictures, labels = write(40, seed=1)
    assert pictures.shape == (40, 1, 28, 28)
    assert pictures.dtype == torch.uint8
    assert labels.bincount().tolist() == [4] * 10


def test_digits_are_scaled_and_centred_as_mnist_is():
    pictures, _ = write(200, seed=2)
    ink = pictures[:, 0].float()
    mass = ink.sum((1, 2))
    axis = torch.arange(28) + 0.5
    for centre in ((ink.sum(1) * axis).sum(1) / mass, (ink.sum(2) * axis).sum(1) / mass):
        assert (centre - 14).abs().max() < 1.5
    longer = torch.maximum((ink > 127).any(1).sum(1), (ink > 127).any(2).sum(1))
    assert longer.min() >= 18
    assert longer.max() <= 21


def test_the_same_seed_writes_the_same_digits_and_no_two_are_alike():
    first, _ = write(60, seed=3)
    again, _ = write(60, seed=3)
    other, _ = write(60, seed=4)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(torch.unique(first.flatten(1), dim=0)) == 60


def test_writing_nothing_is_allowed():
    pictures, labels = write(0, seed=1)
    assert len(pictures) == len(labels) == 0
