"""Glimpse's Flask application: pictures in, predictions out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Flask


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """The application with its models loaded; `config` replaces settings from the environment."""
    # `python -m app check` has to run where Flask is not installed yet.
    from app.factory import build  # noqa: PLC0415

    return build(config)
