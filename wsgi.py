"""The WSGI entry point, for gunicorn (`wsgi:app`) and hosts that look for `application`."""

from app import create_app

app = application = create_app()
