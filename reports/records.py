"""What people report, as it goes into the database and comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

Kind = Literal["report", "unsure"]  # unsure: an answer that the visitor agreed to keep
Status = Literal["new", "accepted", "rejected"]
KINDS: Final = ("report", "unsure")
STATUSES: Final = ("new", "accepted", "rejected")


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What a report says of an answer.

    `predicted`, `score` (0..1), `verdict` and `entropy` (nats) are what the model says to
    `picture`, a PNG of what its network saw. `said` is the label or word that is right, or none for
    “none of these”.
    """

    kind: Kind
    model: str
    version: str
    task: str
    predicted: str
    score: float
    verdict: str
    entropy: float
    said: str | None
    picture: bytes


@dataclass(frozen=True, kw_only=True)
class Sent(Answered):
    """A report as it is sent in.

    `answer` names the answer that it is about. `whole` is the whole picture, a PNG or JPEG, and
    `whole_name` its file's name as the client gave it: never a path to write to.
    """

    answer: str
    whole: bytes | None = None
    whole_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What has become of a report: its number, the code that withdraws it, what is kept of it,
    and whether it is new or had been sent before.
    """

    id: int
    code: str
    has_whole: bool
    is_new: bool


@dataclass(frozen=True, kw_only=True)
class Report(Answered):
    """A report for review, without who sent it.

    `likeness` is the picture's difference hash, 64 bits: near copies differ in few of them.
    `label` is what review decided, none for “none of these”.
    """

    id: int
    created: datetime
    has_whole: bool
    whole_name: str | None
    likeness: int
    status: Status
    label: str | None
    reviewed: datetime | None


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What a report's place among others depends on; see `Report`."""

    id: int
    kind: Kind
    predicted: str
    said: str | None
    likeness: int
    status: Status
    label: str | None


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some reports, and where the next page begins, none after the last."""

    reports: list[Report]
    after: str | None


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A report that review accepted: a PNG of what the network saw, and its label, none for
    “none of these”. Reports of the same sender have the same `reporter`.
    """

    id: int
    picture: bytes
    label: str | None
    reporter: str
    created: datetime
    version: str


@dataclass(frozen=True, kw_only=True)
class Count:
    """How many reports there are of a model's version, a kind and a status."""

    model: str
    version: str
    kind: Kind
    status: Status
    count: int


class Away(Exception):
    """The database cannot be used now; the text says why, `wait` when to try again, in seconds."""

    def __init__(self, reason: str, wait: int) -> None:
        super().__init__(reason)
        self.wait = wait


class TooMany(Exception):
    """The sender has sent as many reports as are taken from one."""


class Differs(Exception):
    """The sender has reported the same answer otherwise."""
