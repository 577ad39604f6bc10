"""The pages' files: named by their content, so that browsers keep them, and sent compressed."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import re
from dataclasses import dataclass
from pathlib import Path

from flask import Flask, Response, abort, request

from app.texts import LANGUAGES

YEAR = 365 * 24 * 3600
WORTH_IT = 1024  # bytes; to compress less saves nothing
COMPRESSED = ("text/html", "text/css", "text/javascript", "image/svg+xml", "application/json")
KINDS = {".js": "text/javascript", ".webmanifest": "application/manifest+json"}
WORKER = "js/service_worker.js"
NAME = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Asset:
    """A file: its bytes, the same compressed (or none), and its content type."""

    content: bytes
    compressed: bytes | None
    kind: str

    @classmethod
    def read(cls, file: Path) -> Asset:
        """The file's content."""
        content = file.read_bytes()
        kind = KINDS.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "text/plain"
        small = gzip.compress(content, mtime=0) if kind in COMPRESSED else content
        return cls(content, small if len(small) < len(content) else None, kind)


def register(app: Flask) -> None:
    """Makes `app` serve its static folder under a name that changes with its content.

    One name for all of them: a script finds those that it imports beside it. Under `/static` they
    are found without a name.
    """
    root = Path(app.static_folder or "")
    files = sorted(file for file in root.rglob("*") if file.is_file())
    assets = {file.relative_to(root).as_posix(): Asset.read(file) for file in files}
    digest = hashlib.sha256()
    for path, asset in assets.items():
        digest.update(path.encode() + hashlib.sha256(asset.content).digest())
    name = digest.hexdigest()[:12]

    def worker() -> Response:
        """What browsers run beside the pages, under the address that its scope begins with."""
        head = f"const VERSION = {name!r}, LANGUAGES = {list(LANGUAGES)};\n"
        response = Response(head.encode() + assets[WORKER].content, mimetype=KINDS[".js"])
        response.cache_control.no_cache = True
        return response

    @app.url_defaults
    def add_name(endpoint: str, values: dict[str, str]) -> None:
        if endpoint == "static":
            values["filename"] = f"{name}/{values['filename']}"

    def serve(filename: str) -> Response:
        first, _, rest = filename.partition("/")
        # A page that is older than the server finds the files that there are now.
        asset = assets.get(rest if NAME.fullmatch(first) else filename)
        if asset is None:
            abort(404)
        response = Response(asset.content, mimetype=asset.kind)
        if asset.compressed:
            response.vary.add("Accept-Encoding")
            if _takes_gzip():
                response.data = asset.compressed
                response.content_encoding = "gzip"
        if first == name:
            response.headers["Cache-Control"] = f"public, max-age={YEAR}, immutable"
        else:
            response.cache_control.no_cache = True
            response.add_etag()
            response.make_conditional(request)
        return response

    app.view_functions["static"] = serve
    app.add_url_rule("/static/<path:filename>", "static.plain", serve)
    app.add_url_rule("/sw.js", "static.worker", worker)
    app.after_request(_compress)


def _takes_gzip() -> bool:
    return request.accept_encodings["gzip"] > 0


def _compress(response: Response) -> Response:
    """Compresses a page. It holds nothing secret that its length could tell."""
    if response.mimetype != "text/html" or response.content_encoding or not response.is_sequence:
        return response
    response.vary.add("Accept-Encoding")
    if _takes_gzip() and len(response.data) >= WORTH_IT:
        response.data = gzip.compress(response.data, 6, mtime=0)
        response.content_encoding = "gzip"
    return response
