"""gunicorn's defaults for Glimpse; the command line and GUNICORN_CMD_ARGS win over them."""

import os

bind = os.environ.get("GLIMPSE_BIND", "127.0.0.1:8000")
workers = min(os.cpu_count() or 1, 4)
threads = 8  # a slow client holds a thread, not the worker
preload_app = True  # models are loaded once, and shared
timeout = 60
graceful_timeout = 30
