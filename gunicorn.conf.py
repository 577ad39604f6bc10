"""The settings that `gunicorn wsgi:app` reads by itself; an installed package uses the same."""

from app.gunicorn_settings import *  # noqa: F403
