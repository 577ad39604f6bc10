"""The same work for a picture in other servers, each written as its own documentation has it.

    uvicorn benchmarks.peers:api
    bentoml serve benchmarks.peers:Bento
    torchserve --start …                  # `handle`, packed by torch-model-archiver
    python -m benchmarks.peers litserve PORT WORKERS
    python -m benchmarks.peers ray PORT WORKERS
    python -m benchmarks.peers limit MODEL PICTURES SECONDS  # a loop without a server

Every answer is {"results": [{"label", "score", "predictions"}]}, as Glimpse's.
"""

from __future__ import annotations

import base64
import os
import sys
import time
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np


@lru_cache
def models() -> Any:
    """Glimpse's models, loaded and warm."""
    from app import create_app

    return create_app().extensions["models"]


def answer(contents: list[bytes], name: str) -> dict[str, Any]:
    """What Glimpse does with pictures of a digit or a face each, without its HTTP and batching."""
    from tasks.decode import decode

    model = models().get(name)
    found = [
        model.task.find(decode(each, 20_000_000), model.spec, whole=True)[0] for each in contents
    ]
    results = []
    count = len(model.card.labels)
    for probabilities in model.network(np.stack([each.pixels for each in found])):
        scores = probabilities[:count] / probabilities[:count].sum()  # without “none”
        ranked = [
            {"label": model.card.labels[index], "score": round(float(scores[index]), 9)}
            for index in np.argsort(-scores)
        ]
        results.append({**ranked[0], "predictions": ranked})
    return {"results": results}


if find_spec("fastapi"):
    from fastapi import FastAPI, Request
    from fastapi.concurrency import run_in_threadpool

    api = FastAPI(on_startup=[models])

    @api.post("/predict")
    async def predict(request: Request, model: str) -> dict[str, Any]:
        """FastAPI: the picture is the body; the work is in its thread pool."""
        return await run_in_threadpool(answer, [await request.body()], model)


if find_spec("litserve"):
    import litserve

    class Lit(litserve.LitAPI):
        """LitServe: JSON with base64, as its examples for pictures have it."""

        def setup(self, device: str) -> None:
            """Loads the models, once a worker."""
            models()

        # Without a type: by one LitServe would look for the request elsewhere than in the JSON.
        def decode_request(self, request) -> tuple[bytes, str]:  # noqa: ANN001
            """The picture and the model's name."""
            return base64.b64decode(request["image"]), request["model"]

        def predict(self, inputs: tuple[bytes, str]) -> dict[str, Any]:
            """The answer."""
            return answer([inputs[0]], inputs[1])

        def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
            """The answer as it is."""
            return output


def run_litserve(port: int, workers: int) -> None:
    server = litserve.LitServer(Lit(), accelerator="cpu", workers_per_device=workers)
    server.run(host="127.0.0.1", port=port, generate_client_file=False)


def run_ray(port: int, workers: int) -> None:
    """Ray Serve: a replica a worker, called with Starlette's requests."""
    import ray
    from ray import serve

    class Classifier:
        def __init__(self) -> None:
            from benchmarks import peers  # Ray sends the class alone to its workers

            peers.models()
            self.answer = peers.answer

        async def __call__(self, request: Any) -> dict[str, Any]:
            return self.answer([await request.body()], request.query_params["model"])

    ray.init(num_cpus=workers, include_dashboard=False, _temp_dir=os.environ["TMPDIR"])
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    deployment = serve.deployment(Classifier).options(num_replicas=workers)
    serve.run(deployment.bind(), blocking=True)


if find_spec("bentoml"):
    import bentoml
    from bentoml.validators import ContentType

    Picture = Annotated[Path, ContentType("image/*")]

    @bentoml.service(workers=int(os.environ["WORKERS"]))
    class Bento:
        """BentoML: a route a model."""

        def __init__(self) -> None:
            models()

        @bentoml.api
        def digits(self, picture: Picture, /) -> dict[str, Any]:
            """The answer for one digit."""
            return answer([picture.read_bytes()], "digits")

        @bentoml.api
        def emotions(self, picture: Picture, /) -> dict[str, Any]:
            """The answer for one face."""
            return answer([picture.read_bytes()], "emotions")


def handle(data: list[dict[str, bytes]] | None, context: Any) -> list[dict[str, Any]]:
    """TorchServe's entry point; its first call, when a worker starts, has no data."""
    models()
    pictures = [bytes(*request.values()) for request in data or []]
    return [answer([each], context.model_name) for each in pictures]


def limit(model: str, count: int, seconds: float) -> float:
    """Pictures a second of one process, `count` at a time."""
    name = {"digits": "digit.png", "emotions": "face.png"}[model]
    contents = [Path(os.environ["PICTURES"], name).read_bytes()] * count
    answer(contents, model)
    done, began = 0, time.perf_counter()
    while time.perf_counter() < began + seconds:
        answer(contents, model)
        done += count
    return done / (time.perf_counter() - began)


if __name__ == "__main__":
    if sys.argv[1] == "limit":
        print(limit(sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
    else:
        run = {"litserve": run_litserve, "ray": run_ray}[sys.argv[1]]
        run(int(sys.argv[2]), int(sys.argv[3]))
