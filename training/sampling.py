"""Which pictures of a training part an epoch takes, in which order and how often."""

from __future__ import annotations

import torch
from torch import Tensor

from training.augmentation import Augmentation
from training.datasets import Part

FEWEST = 20  # pictures of a class: a smaller one is always topped up


def sample_indices(labels: Tensor, sampler: str, generator: torch.Generator) -> Tensor:
    """Indices (N,) of an epoch over `labels`: each once for "shuffled"; for "balanced" sampled
    with replacement, each class as often as any other.
    """
    if sampler == "shuffled":
        return torch.randperm(len(labels), generator=generator)
    weights = 1 / labels.bincount().clamp_min(1).double()
    return torch.multinomial(weights[labels], len(labels), replacement=True, generator=generator)


def topped_up(
    part: Part, share: float, augmentation: Augmentation, generator: torch.Generator
) -> Part:
    """`part` and changed copies of the pictures of each class that holds less than `share` of the
    largest one, or fewer than 20, as many as it lacks.

    Pictures that are not in memory are repeated instead: the training changes them each time.
    """
    counts = part.labels.bincount()
    largest = int(counts.max())
    wanted = max(int(share * largest), min(FEWEST, largest))
    chosen = [torch.arange(0)]
    for label in counts.nonzero().flatten().tolist():
        places = (part.labels == label).nonzero().flatten()
        lacking = max(0, wanted - len(places))
        chosen.append(places[torch.randint(len(places), (lacking,), generator=generator)])
    copies = torch.cat(chosen)
    if not len(copies):
        return part
    repeated = part.subset(torch.cat([torch.arange(len(part)), copies]))
    if not part.in_memory:
        return repeated
    changed = augmentation(part.batch(copies).float() / 255, generator)
    pictures = torch.cat([part.pictures, (changed * 255).round().byte()])
    return Part(pictures, repeated.labels, repeated.shares)
