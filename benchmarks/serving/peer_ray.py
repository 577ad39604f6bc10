"""Ray Serve: a deployment with a replica a worker, called with Starlette's requests.

python peer_ray.py PORT WORKERS
"""

from __future__ import annotations

import os
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from work import work


@serve.deployment
class Classifier:
    """Each replica loads all models."""

    def __init__(self) -> None:
        self.answer = work().answer

    async def __call__(self, request: Request) -> dict[str, Any]:
        """The answer for a picture as the body, or for a form's files."""
        model = request.query_params["model"]
        if request.headers["content-type"].startswith("multipart/"):
            async with request.form() as form:
                return self.answer([await each.read() for each in form.getlist("file")], model)
        return self.answer([await request.body()], model)


if __name__ == "__main__":
    port, workers = int(sys.argv[1]), int(sys.argv[2])
    ray.init(num_cpus=workers, include_dashboard=False, _temp_dir=os.environ["TMPDIR"])
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Classifier.options(num_replicas=workers).bind(), blocking=True)
