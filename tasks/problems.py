"""Problems: errors that are reported to clients as RFC 9457 defines; here those of pictures."""

from __future__ import annotations

from collections.abc import Mapping


class Problem(Exception):
    """An error that is reported to the client; `detail` is a sentence that says what to do."""

    status = 500
    slug = "internal"
    title = "Internal error"

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}

    @property
    def type(self) -> str:
        """The URI that names this kind of problem."""
        return f"urn:glimpse:problem:{self.slug}"


class UnreadableImage(Problem):
    """Bytes that are not a picture, or a damaged one."""

    status, slug, title = 400, "unreadable-image", "Unreadable image"


class TooLarge(Problem):
    """Too many bytes, pixels or pictures."""

    status, slug, title = 413, "too-large", "Too large"


class UnsupportedMediaType(Problem):
    """A content type or a picture format that is not supported."""

    status, slug, title = 415, "unsupported-media-type", "Unsupported media type"


class NothingToClassify(Problem):
    """A readable picture with nothing in it that the model classifies."""

    status, slug, title = 422, "nothing-to-classify", "Nothing to classify"


class NotReady(Problem):
    """Something that is known and cannot be used now."""

    status, slug, title = 503, "not-ready", "Not ready"


class Busy(Problem):
    """More work, or larger pictures, than can be served now; ``Retry-After`` says when to ask."""

    status, slug, title = 503, "busy", "Busy"


def blank_picture() -> NothingToClassify:
    """The problem of a blank picture."""
    return NothingToClassify(
        "The picture is blank: no strokes were found. Draw a digit, or send a picture in which the "
        "digit stands out from its background."
    )
