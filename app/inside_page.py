"""The page that looks inside a network, and what its scripts ask for."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from flask import Response, current_app, jsonify, render_template, request
from numpy.typing import NDArray
from PIL import Image

from app.answers import Result
from app.body import whole_body
from app.errors import BadParameter
from app.explain import data_url
from app.inside import Inside, Layer, inside
from app.models import Model, models
from app.pages import pages
from app.predict import Options, Upload, predict, work
from tasks.base import Pixels, as_pixels

DRAWN = "draw.html"  # the page of tasks whose pictures are drawn


@pages.get("/inside")
def look_inside() -> str:
    """The page: the layers of a model, which `?model=` names, without a picture as yet."""
    model = _model(request.args.get("model", current_app.config["DEFAULT_MODEL"]))
    within = inside(model)
    return render_template(
        "inside.html",
        card=model.card,
        spec=model.spec,
        is_drawn=model.task.page == DRAWN,
        names=list(models().ready),
        columns=within.columns,
        layers=_layers(within, np.zeros(model.spec.shape, np.uint8)),
    )


@pages.post("/inside/<name>")
def layers(name: str) -> Response:
    """What the body, a picture, shows, with the maps of each convolution for its first subject."""
    model = _model(name)
    config = current_app.config
    options = Options(
        max_pixels=config["MAX_PIXELS"],
        max_seconds=config["MAX_SECONDS"],
        max_wait=config["MAX_WAIT"],
        seen=True,
    )
    within = inside(model)
    (result,) = predict(model, [Upload(whole_body())], options)
    assert isinstance(result, Result)  # one that fails is raised
    part = result.parts[0]
    pixels = _pixels(str(part.seen), model)
    answer = {
        "label": part.label,
        "score": part.score,
        "verdict": result.verdict,
        "predictions": [{"label": each.label, "score": each.score} for each in part.predictions],
        "seen": part.seen,
        "layers": [
            {"maps": _sheet(layer.maps), "highest": float(layer.maps.max())}
            for layer in _layers(within, pixels)
        ],
    }
    return jsonify(results=[answer])


@pages.get("/inside/<name>/<int:layer>/<int:channel>")
def kernels(name: str, layer: int, channel: int) -> Response:
    """The filter of a map: a kernel for each of its inputs."""
    filters = inside(_model(name)).filters
    if layer >= len(filters) or channel >= len(filters[layer]):
        raise BadParameter("There is no such map. Load the page again.")
    response = jsonify(kernels=filters[layer][channel].round(4).tolist())
    response.cache_control.max_age = 3600
    return response


def _model(name: str) -> Model:
    return models().get(name)


def _layers(within: Inside, pixels: Pixels) -> list[Layer]:
    with work(light=True):
        return within.layers(pixels)


def _pixels(seen: str, model: Model) -> Pixels:
    """The network's input from the PNG that shows it."""
    content = base64.b64decode(seen.partition(",")[2])
    return as_pixels(Image.open(io.BytesIO(content)), model.spec.shape[0])


def _sheet(maps: NDArray[np.float32]) -> str:
    """The maps (C, H, W) side by side in a square, grey, the layer's highest value white."""
    count, height, width = maps.shape
    wide = math.ceil(math.sqrt(count))
    high = math.ceil(count / wide)
    cells = np.zeros((wide * high, height, width), np.uint8)
    cells[:count] = (255 * maps / max(float(maps.max()), 1e-6)).clip(0, 255).round()
    rows: Any = cells.reshape(high, wide, height, width).transpose(0, 2, 1, 3)
    return data_url(Image.fromarray(rows.reshape(high * height, wide * width)))
