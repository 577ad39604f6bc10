"""Augmentation: what each option does to a batch, and that it is repeatable."""

from __future__ import annotations

import pytest
import torch

from training.augmentation import Augmentation


@pytest.fixture
def batch():
    """Sixteen pictures of an upright bar."""
    pictures = torch.zeros(16, 1, 28, 28)
    pictures[:, :, 6:22, 12:16] = 1.0
    return pictures


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


OPTIONS = {
    "rotation": 20.0,
    "shift": 3.0,
    "scale": 0.3,
    "aspect": 0.4,
    "shear": 0.4,
    "elastic": 1.0,
    "thickness": 1.0,
    "contrast": 0.5,
    "blur": 1.0,
    "noise": 0.2,
}


def test_without_options_nothing_changes(batch):
    assert torch.equal(Augmentation()(batch, generator()), batch)


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_changes_each_picture_its_own_way(batch, option):
    batch = batch * 0.8 + 0.1 if option == "contrast" else batch
    changed = Augmentation(**{option: OPTIONS[option]})(batch, generator())
    assert changed.shape == batch.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert len(torch.unique(changed.flatten(1), dim=0)) == len(batch)


def test_the_same_seed_gives_the_same_pictures(batch):
    augment = Augmentation(**OPTIONS)
    assert torch.equal(augment(batch, generator(3)), augment(batch, generator(3)))
    assert not torch.equal(augment(batch, generator(3)), augment(batch, generator(4)))


def test_the_batch_given_is_left_as_it_was(batch):
    before = batch.clone()
    Augmentation(**OPTIONS)(batch, generator())
    assert torch.equal(batch, before)


def test_a_shift_moves_at_most_so_many_pixels(batch):
    columns = (torch.arange(28) + 0.5).view(1, 1, 1, 28)
    moved = Augmentation(shift=2.0)(batch, generator())
    centre = (moved * columns).sum((1, 2, 3)) / moved.sum((1, 2, 3))
    assert (centre - 14).abs().max() <= 2.01
    assert (centre - 14).abs().max() > 0.5


def test_scale_keeps_the_aspect_and_aspect_the_area(batch):
    def sides(pictures):
        return (pictures > 0.5).any(2).sum(2).float(), (pictures > 0.5).any(3).sum(2).float()

    width, height = sides(Augmentation(scale=0.5)(batch, generator()))
    assert torch.allclose(height / width, torch.tensor(4.0), rtol=0.35)
    area = Augmentation(aspect=0.5)(batch, generator()).sum((1, 2, 3))
    assert torch.allclose(area, batch[0].sum(), rtol=0.1)


def test_thickness_both_grows_and_wears_strokes(batch):
    ink = Augmentation(thickness=1.0)(batch, generator()).sum((1, 2, 3))
    assert (ink > batch[0].sum()).any()
    assert (ink < batch[0].sum()).any()


def test_some_pictures_lose_what_a_small_face_has_not(batch):
    stripes = torch.zeros(64, 1, 48, 48)
    stripes[:, :, :, ::2] = 1.0
    changed = Augmentation(shrink=4.0)(stripes, generator(1)).std((1, 2, 3))
    kept = changed > 0.45
    assert 16 < kept.sum() < 48
    assert (changed[~kept] < 0.4).all()


def test_light_changes_greys_from_side_to_side_but_not_black_and_white():
    grey = torch.full((32, 1, 28, 28), 0.5)
    lit = Augmentation(light=0.5)(grey, generator())
    assert (lit[:, :, :, :9].mean((1, 2, 3)) - lit[:, :, :, -9:].mean((1, 2, 3))).abs().max() > 0.1
    assert lit.mean() == pytest.approx(0.5, abs=0.05)
    assert len(torch.unique(lit.flatten(1), dim=0)) == 32
    ends = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 28, 28)
    assert torch.allclose(Augmentation(light=0.5)(ends, generator()), ends, atol=0.03)
