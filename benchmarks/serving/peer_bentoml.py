"""BentoML: a service with a worker a process; one picture as the root input, several as files.

bentoml serve peer_bentoml:Classifier --port PORT
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType
from work import work

Picture = Annotated[Path, ContentType("image/*")]


@bentoml.service(workers=int(os.environ["WORKERS"]))
class Classifier:
    """Each worker loads all models."""

    def __init__(self) -> None:
        self.answer = work().answer

    @bentoml.api
    def digits(self, picture: Picture, /) -> dict[str, Any]:
        """The answer for one digit."""
        return self.answer([picture.read_bytes()], "digits")

    @bentoml.api
    def faces(self, picture: Picture, /) -> dict[str, Any]:
        """The answer for one face."""
        return self.answer([picture.read_bytes()], os.environ["FACE_MODEL"])

    @bentoml.api
    def many(self, file: list[Path]) -> dict[str, Any]:
        """The answer for several digits."""
        return self.answer([each.read_bytes() for each in file], "digits")
