"""Settings: each a default here, and an environment variable GLIMPSE_<NAME> that replaces it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from model_store import ROOT

DEFAULTS: dict[str, int | str] = {
    "MAX_BYTES": 16 * 1024 * 1024,  # of a request's body
    "MAX_PIXELS": 50_000_000,  # of a picture, width × height
    "MAX_PIXELS_IN_ALL": 200_000_000,  # of a request's different pictures
    "MAX_IMAGES": 100,  # of a request
    "MAX_SECONDS": 20,  # of work on a request's pictures
    "MAX_WAIT": 30,  # seconds that a request with much work may wait for others
    "MAX_HELD": 128 * 1024 * 1024,  # bytes of all requests' bodies in a worker
    "ARRIVAL_SECONDS": 60,  # in which a request must arrive, and its answer be taken; gunicorn's
    "MODEL_STORE": str(ROOT),  # the folder of model folders
    "DEFAULT_MODEL": "digits",  # for requests that name none
    "FACE_MODEL": "emotions",  # the model of the page /faces
    "TRIAL": "",  # versions that are tried, such as digits@VERSION:10% or digits@VERSION:shadow
    "ENGINE": "auto",  # what runs the models: torch, onnx, or auto for the best that is installed
    "API_KEYS": "",  # SHA-256 digests of the keys that predictions require
    "REVIEW_KEYS": "",  # SHA-256 digests of the keys that the page /review requires
    "RATE_LIMIT": "",  # predictions for each client address, such as "60 per minute"
    "RATE_STORAGE": "shared://",  # where they are counted: by all workers, or redis://host:port
    "CORS_ORIGINS": "",  # origins of pages elsewhere whose scripts may call the API
    "EMBED_ORIGINS": "",  # origins of pages elsewhere that may show /embed in a frame
    "REPORTS": "",  # the URL of a database for what people report about answers
    "REPORTS_EACH": 200,  # reports of one client that are kept at a time
    "TRACES": "",  # the address of an OpenTelemetry collector
    "PROXY": "none",  # where a client's address comes from: the others trust a proxy's header
}
CHOICES = {"ENGINE": ("auto", "torch", "onnx"), "PROXY": ("none", "forwarded", "real-ip")}


def settings(environment: Mapping[str, str] = os.environ) -> dict[str, int | str]:
    """Every setting, from `environment` or its default; raises `ValueError` for an invalid one."""
    values = dict(DEFAULTS)
    for name, default in DEFAULTS.items():
        given = environment.get(f"GLIMPSE_{name}")
        if given is None:
            continue
        if isinstance(default, int):
            if not (given.isascii() and given.isdigit() and 0 < int(given) < 2**40):
                raise ValueError(f"GLIMPSE_{name} is {given!r}; it must be a whole number above 0")
            values[name] = int(given)
        else:
            values[name] = given
        if given not in CHOICES.get(name, [given]):
            known = ", ".join(CHOICES[name])
            raise ValueError(f"GLIMPSE_{name} is {given!r}; it must be one of {known}")
    return values
