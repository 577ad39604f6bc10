"""The app on Ray Serve: the same WSGI application, in as many replicas as there is work for.

`serve run deploy.ray.serve:app` serves it; docs/scale.md tells of settings and updates.
"""

from __future__ import annotations

from a2wsgi import WSGIMiddleware
from ray import serve

THREADS = 128  # as in app/gunicorn_settings.py: the app itself decides who waits


def _build() -> WSGIMiddleware:
    """The application, made in each replica; its own scheduler is for one process."""
    from app import create_app  # noqa: PLC0415

    return WSGIMiddleware(create_app().wsgi_app, workers=THREADS)


@serve.deployment(
    max_ongoing_requests=THREADS,
    # A worker is busy from one request on; a few more keep it so and are answered soon.
    autoscaling_config={"min_replicas": 1, "max_replicas": 100, "target_ongoing_requests": 4},
    ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}}},
    health_check_period_s=10,
    graceful_shutdown_timeout_s=60,
)
@serve.ingress(_build)
class Glimpse:
    """A replica: the whole app, pages and API, in a process."""


app = Glimpse.bind()
