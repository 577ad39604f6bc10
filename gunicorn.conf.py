"""The settings that `gunicorn wsgi:app` reads by itself; an installed package uses the same."""

import importlib

from app import gunicorn_settings

importlib.reload(gunicorn_settings)  # as they are now, where gunicorn is told to load them again
from app.gunicorn_settings import *  # noqa: E402, F403
