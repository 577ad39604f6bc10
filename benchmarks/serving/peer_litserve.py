"""LitServe: a LitAPI that takes JSON with base64, as its examples for pictures do.

python peer_litserve.py PORT WORKERS
"""

from __future__ import annotations

import base64
import sys
from typing import Any

import litserve
from work import work


class Classifier(litserve.LitAPI):
    """One API for all models; each worker loads them."""

    def setup(self, device: str) -> None:
        """Once a worker."""
        self.work = work()

    # Without a type: by one LitServe would look for the request elsewhere than in the JSON.
    def decode_request(self, request) -> tuple[list[bytes], str]:  # noqa: ANN001
        """The pictures and the model's name."""
        return [base64.b64decode(text) for text in request["images"]], request["model"]

    def predict(self, inputs: tuple[list[bytes], str]) -> dict[str, Any]:
        """The answer."""
        return self.work.answer(*inputs)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """As it is."""
        return output


if __name__ == "__main__":
    port, workers = int(sys.argv[1]), int(sys.argv[2])
    server = litserve.LitServer(Classifier(), accelerator="cpu", workers_per_device=workers)
    server.run(host="127.0.0.1", port=port, generate_client_file=False)
