"""A data set and a recipe so small that whole runs take a second."""

from __future__ import annotations

import numpy as np

LABELS = ["dark", "light"]
RECIPE = """
name = "{name}"
description = "Dark pictures and light ones."
task = "image"
epochs = 2
batch_size = 16
{more}

[data]
name = "arrays"
size = 16
classes = ["dark", "light"]
validation = 20
test = 20

[network]
name = "vgg"
widths = [4, 8]
depths = [1, 1]

[optimiser]
name = "Adam"
lr = 0.01
"""


def write_data(folder):
    """Writes 100 pictures of two classes into `folder`, as the recipe asks for them."""
    random = np.random.default_rng(0)
    labels = np.arange(100) % 2
    pictures = random.integers(0, 160, (100, 16, 16)) + 95 * labels[:, None, None]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "train_data.npy", pictures.astype(np.uint8))
    np.save(folder / "train_labels.npy", labels)
    return folder


def write_recipe(file, name="shades", more=""):
    """Writes the recipe, with `more` of its own keys, into `file`."""
    file.write_text(RECIPE.format(name=name, more=more), encoding="utf-8")
    return file
