"""Which pictures of a training part an epoch takes, in which order and how often."""

from __future__ import annotations

import torch
from torch import Tensor

from training.augmentation import Augmentation
from training.datasets import Part


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
    largest one, as many as it lacks.
    """
    counts = part.labels.bincount()
    wanted = int(share * int(counts.max()))
    chosen = [torch.arange(0)]
    for label in counts.nonzero().flatten().tolist():
        places = (part.labels == label).nonzero().flatten()
        lacking = max(0, wanted - len(places))
        chosen.append(places[torch.randint(len(places), (lacking,), generator=generator)])
    copied = part.subset(torch.cat(chosen))
    if not len(copied):
        return part
    changed = augmentation(copied.pictures.float() / 255, generator)
    shares = None
    if part.shares is not None and copied.shares is not None:
        shares = torch.cat([part.shares, copied.shares])
    return Part(
        torch.cat([part.pictures, (changed * 255).round().byte()]),
        torch.cat([part.labels, copied.labels]),
        shares,
    )
