"""The tests that a new version of a model passes before it takes the place of the old one.

Both versions answer the same pictures, so that only those count which one of them gets right and
the other one wrong: `lost`, which the old version alone gets right, and `won`, which the new one
alone does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Paired:
    """How many of `count` pictures both versions get right, `before` and `after`; of these, how
    many the new one has `won` and `lost`.
    """

    count: int
    before: int
    after: int
    won: int
    lost: int

    @classmethod
    def of(cls, old: Mask, new: Mask) -> Paired:
        """By which pictures (N,) each version gets right."""
        counts = (old.sum(), new.sum(), (new & ~old).sum(), (old & ~new).sum())
        return cls(len(old), *map(int, counts))

    @property
    def p_better(self) -> float:
        """McNemar's exact test, one-sided: how likely a version that is no better would win as
        many as this one of the pictures on which both differ, or more.
        """
        differing = self.won + self.lost
        ways: int = sum(math.comb(differing, won) for won in range(self.won, differing + 1))
        return ways / (1 << differing)

    @property
    def p_worse(self) -> float:
        """The same test of the other direction."""
        return Paired(self.count, self.after, self.before, self.lost, self.won).p_better

    def p_loses(self, share: float) -> float:
        """Tango's score test for paired shares (1998), one-sided: how likely a version that gets
        that `share` of the pictures less right, or more, would do as well as this one.

        A small value says that the new version is not worse by `share`, above 0 and below 1.
        """
        n, lost, won = self.count, self.lost, self.won
        # The most likely share that the new version wins, if it loses that share on the whole.
        b = (2 * n - lost + won) * share - lost - won
        root = math.sqrt(b * b + 8 * n * won * share * (1 - share))
        wins = (root - b) / (4 * n)
        deviation = math.sqrt(n * (2 * wins + share * (1 - share)))
        return NormalDist().cdf((lost - won - n * share) / deviation)

    def most_lost(self, level: float) -> float:
        """The upper limit, one-sided at `level`, of the share of pictures that the new version gets
        less right: the smallest share for which `p_loses` is not above `level`; at most 1.
        """
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            if middle <= (self.lost - self.won) / self.count or self.p_loses(middle) > level:
                low = middle
            else:
                high = middle
        return high


def fewest_won(level: float) -> int:
    """How many pictures a version has to win, losing none, to be better at `level`."""
    return math.ceil(math.log2(1 / level))


def fewest_pictures(most_loss: float, level: float) -> int:
    """How many pictures there must be, even if both versions are right on the same ones, to show
    at `level` that the new one is not worse by `most_loss`.
    """
    deviations = NormalDist().inv_cdf(1 - level)
    return math.ceil(deviations**2 * (1 - most_loss) / most_loss)
