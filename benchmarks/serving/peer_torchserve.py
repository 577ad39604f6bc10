"""TorchServe: a custom handler, packed with each model's files by torch-model-archiver.

torchserve --start --foreground --disable-token-auth --ts-config FILE
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ts.torch_handler.base_handler import BaseHandler
from work import Work


class Classifier(BaseHandler):
    """Of one model; each of its workers loads it."""

    def initialize(self, context: Any) -> None:
        """Once a worker."""
        folder = Path(context.system_properties["model_dir"])
        self.answer = Work([folder]).answer
        self.name = folder.name
        self.initialized = True

    def handle(self, data: list[dict[str, bytes]], context: Any) -> list[dict[str, Any]]:
        """An answer a request; its parts, one or more, are pictures."""
        return [
            self.answer([bytes(part) for part in request.values()], self.name) for request in data
        ]
