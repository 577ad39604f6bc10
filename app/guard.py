"""Keys, rate limits, CORS, proxies and security headers. All but the headers are off by default."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
import uuid
from collections.abc import Callable, Sequence
from ipaddress import IPv6Address, IPv6Network, ip_address
from math import ceil
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, current_app, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from app.errors import TooManyRequests, Unauthorised

if TYPE_CHECKING:
    from limits import RateLimitItem

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
GUARDED = (
    "/api/predict",
    "/api/reports",
    "/v2/models/",
    "/models/",
    "/inside/",
)  # the costly routes: keys and rate limits apply to these
RESOURCES: list[str | re.Pattern[str]] = [
    r"/api/.*",
    r"/v2/.*",
    r"/models/.*",
]  # what pages of other origins may call
MOST_RATE = 100_000  # the times of so many requests of a client are kept
FRAMING = re.compile(r"\*|https?://(?:\*\.)?[A-Za-z0-9.-]+(?::[0-9]+)?")
DIGEST = re.compile(r"[0-9a-f]{64}")


def register(app: Flask) -> None:
    """Makes `app` guard its requests by its settings; raises `ValueError` for an invalid one."""
    _trust_proxy(app, app.config["PROXY"])
    app.before_request(_name_request)
    if app.config["RATE_LIMIT"]:  # before the keys, so that wrong ones count
        app.before_request(_rate_check(app.config["RATE_LIMIT"], app.config["RATE_STORAGE"]))
    if app.config["API_KEYS"]:
        app.before_request(_key_check(app.config["API_KEYS"]))
    for origin in app.config["EMBED_ORIGINS"].replace(",", " ").split():
        if not FRAMING.fullmatch(origin):
            raise ValueError(
                f"GLIMPSE_EMBED_ORIGINS holds {origin!r}; it must be origins such as "
                "https://example.org, separated by commas, or *"
            )
    if app.config["CORS_ORIGINS"]:
        from flask_cors import CORS  # noqa: PLC0415

        origins = list(map(_origin, app.config["CORS_ORIGINS"].replace(",", " ").split()))
        exposed = ["Retry-After", "X-Request-ID"]
        CORS(app, resources=RESOURCES, origins=origins, expose_headers=exposed)
    app.after_request(_add_headers)


def embeddable(response: Response, setting: str) -> Response:
    """The response, which pages of the origins in `setting` may show in a frame."""
    origins = " ".join(setting.replace(",", " ").split()) or "'none'"
    policy = HEADERS["Content-Security-Policy"]
    response.headers["Content-Security-Policy"] = policy.replace(
        "frame-ancestors 'none'", f"frame-ancestors {origins}"
    )
    return response


def _origin(setting: str) -> str | re.Pattern[str]:
    """What flask-cors compares: `*` alone is every origin, within one it is a part of a name."""
    if setting == "*":
        return setting
    # Only as a pattern of our own: flask-cors takes any text with such a character for one.
    return re.compile(
        re.escape(setting.rstrip("/")).replace(r"\*", "[a-z0-9-]+") + r"\Z", re.IGNORECASE
    )


def _trust_proxy(app: Flask, proxy: str) -> None:
    if proxy == "forwarded":
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)  # type: ignore[method-assign]
    elif proxy == "real-ip":
        inner = app.wsgi_app

        def with_real_ip(environ: dict[str, Any], start_response: Any) -> Any:
            environ["REMOTE_ADDR"] = environ.get("HTTP_X_REAL_IP", environ.get("REMOTE_ADDR", ""))
            return inner(environ, start_response)

        app.wsgi_app = with_real_ip  # type: ignore[method-assign]


def _name_request() -> None:
    """Keeps the request id that a proxy gave, if it is well-formed, or creates one."""
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _add_headers(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if "request_id" in g:
        response.headers["X-Request-ID"] = g.request_id
    return response


def _is_guarded() -> bool:
    return request.method in ("POST", "DELETE") and request.path.startswith(GUARDED)


def digests_in(setting: str, name: str) -> list[str]:
    """The digests of keys in the setting `name`; raises `ValueError` for one that is none."""
    digests = setting.replace(",", " ").lower().split()
    if not all(map(DIGEST.fullmatch, digests)):
        raise ValueError(
            f"{name} must hold SHA-256 digests, 64 hexadecimal digits each; "
            "python -m app key creates a key and its digest"
        )
    return digests


def digest_of(key: str, digests: Sequence[str]) -> str | None:
    """The one of `digests` that is of `key`; None if it is of no key there."""
    given = hashlib.sha256(key.strip().encode()).hexdigest()
    # All are compared, each in constant time, so that timing reveals nothing about a key.
    found = [digest for digest in digests if hmac.compare_digest(given, digest)]
    return found[0] if found else None


def _key_check(setting: str) -> Callable[[], None]:
    """Accepts requests with a key whose SHA-256 is among the setting's digests."""
    digests = digests_in(setting, "GLIMPSE_API_KEYS")

    def check() -> None:
        if not _is_guarded():
            return
        if digest_of(_key(), digests) is None:
            raise Unauthorised

    return check


def _key() -> str:
    """The key that the request gives."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "")


def sender() -> str:
    """Whose requests belong together: those of a key where keys are required, else those of an
    address.
    """
    if current_app.config["API_KEYS"]:
        return f"key {hashlib.sha256(_key().strip().encode()).hexdigest()}"
    return f"address {client_of(request.remote_addr or 'unknown')}"


def client_of(address: str) -> str:
    """Whose requests are counted together: an IPv6 client has a whole network of 64 bits."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(IPv6Network((int(found) >> 64 << 64, 64)))
    return address


def _rate_check(rate: str, storage: str) -> Callable[[], None]:
    """Limits the rate of requests from each client address."""
    from limits import parse  # noqa: PLC0415
    from limits.errors import ConfigurationError  # noqa: PLC0415

    try:
        limit = parse(rate)
        if not 0 < limit.amount <= MOST_RATE:
            raise ValueError(limit)
    except ValueError as error:
        raise ValueError(
            f"GLIMPSE_RATE_LIMIT is {rate!r}; it must look like “60 per minute”, with a number "
            f"from 1 to {MOST_RATE}"
        ) from error
    try:
        hit = counter(limit, storage)
    except (ConfigurationError, ImportError, ValueError) as error:
        raise ValueError(
            f"GLIMPSE_RATE_STORAGE is {storage!r}; it must be shared://, memory://, or "
            f"redis://host:port with the package redis installed ({error})"
        ) from error

    def check() -> None:
        client = client_of(request.remote_addr or "unknown")
        if _is_guarded() and (wait := hit(client)):
            raise TooManyRequests(client, limit, ceil(wait))

    return check


def counter(limit: RateLimitItem, storage: str) -> Callable[[str], float]:
    """What counts a client's request: it returns 0, or the seconds to wait at the limit."""
    from limits.storage import storage_from_string  # noqa: PLC0415
    from limits.strategies import MovingWindowRateLimiter  # noqa: PLC0415

    from app.rates import SharedRates  # noqa: PLC0415

    if storage == "shared://":
        return SharedRates(limit).hit
    limiter = MovingWindowRateLimiter(storage_from_string(storage))

    def hit(client: str) -> float:
        if limiter.hit(limit, client):
            return 0
        return max(1, limiter.get_window_stats(limit, client).reset_time - time.time())

    return hit
