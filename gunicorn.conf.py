"""The settings that `gunicorn wsgi:app` reads by itself; an installed package uses the same."""

from importlib import reload

from app import gunicorn_settings

reload(gunicorn_settings)  # as they are now, where gunicorn is told to load its settings again
from app.gunicorn_settings import *  # noqa: E402, F403
