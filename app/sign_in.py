"""The owner's sign-in: a key, a signed cookie, tokens against forged forms, few guesses."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from flask import request
from itsdangerous import BadData, URLSafeTimedSerializer
from limits import parse
from werkzeug.wrappers import Response

from app.errors import TooManyRequests
from app.guard import client_of, counter, digest_of, digests_in
from tasks.problems import Problem

if TYPE_CHECKING:
    from reports import Database

# The prefix has browsers refuse it from other hosts of the domain, and without `Secure`.
COOKIE = "__Host-glimpse-review"
LASTS = 12 * 3600  # seconds
TRIES = parse("10 per 10 minutes")  # of a client
ALL_TRIES = parse("100 per 10 minutes")  # of all together


class ForgedForm(Problem):
    """A form that this page did not make for this browser, or made for an older session."""

    status, slug, title = 403, "forged-form", "Form refused"

    def __init__(self) -> None:
        super().__init__(
            "This form is of an older session, or not of this page. Load the page anew, then send "
            "it again."
        )


class SignedOut(Problem):
    """A request of one who is not signed in."""

    status, slug, title = 401, "signed-out", "Signed out"

    def __init__(self) -> None:
        super().__init__("You are signed out. Load the page anew to sign in.")


@dataclass(frozen=True)
class Session:
    """What the cookie holds: the key that signed in, or "" before that, and a number used once."""

    key: str
    round: str  # all of a key's sessions from one signing out to the next
    nonce: str

    @classmethod
    def begin(cls, key: str = "", round_: str = "") -> Session:
        """A session that no other browser can know."""
        return cls(key, round_, secrets.token_urlsafe(16))


class SignIn:
    """Who may sign in with which keys. To be created before the server forks its workers."""

    def __init__(self, setting: str, storage: str, database: Callable[[], Database]) -> None:
        """The database keeps what signs the cookies; raises `ValueError` for an invalid setting."""
        self.digests = digests_in(setting, "GLIMPSE_REVIEW_KEYS")
        self.database = database
        self.tries, self.all_tries = counter(TRIES, storage), counter(ALL_TRIES, storage)

    def session(self) -> Session:
        """The request's; a new one, not signed in, for a cookie that is forged, old or missing."""
        try:
            found = Session(*self._serializer().loads(request.cookies.get(COOKIE, ""), LASTS))
        except (BadData, TypeError):  # or of another version
            return Session.begin()
        if found.key and (
            found.key not in map(self._name, self.digests)  # it was taken out of the settings
            or found.round != self._round(found.key)  # it was signed out
        ):
            return Session.begin()
        return found

    def has_cookie(self) -> bool:
        """Whether the browser has kept the cookie that came with the form."""
        return COOKIE in request.cookies

    def admit(self, key: str) -> Session | None:
        """The session that `key` opens, a new one whatever was before; None for a wrong key.

        Raises `TooManyRequests` for a client that has tried too often, or after too many tries of
        all clients together.
        """
        client = client_of(request.remote_addr or "unknown")
        if wait := self.tries(f"review {client}"):
            raise TooManyRequests(client, TRIES, ceil(wait))
        if wait := self.all_tries("review"):
            raise TooManyRequests("all clients", ALL_TRIES, ceil(wait))
        digest = digest_of(key, self.digests)
        if digest is None:
            return None
        name = self._name(digest)
        return Session.begin(name, self._round(name))

    def end(self, session: Session) -> None:
        """Ends all sessions of the session's key, in whatever browser."""
        self.database().set_note(f"review {session.key}", secrets.token_urlsafe(16))

    def _round(self, key: str) -> str:
        return self.database().note(f"review {key}") or ""

    def keep(self, session: Session, response: Response) -> None:
        """Gives the browser the session's cookie."""
        response.set_cookie(
            COOKIE,
            self._serializer().dumps([session.key, session.round, session.nonce]),
            max_age=LASTS,
            secure=True,
            httponly=True,
            samesite="Strict",
        )

    def forget(self, response: Response) -> None:
        """Takes the cookie from the browser."""
        response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="Strict")

    def token(self, session: Session) -> str:
        """What a form of the session sends along, another each time.

        So the length of compressed pages tells nothing about it.
        """
        salt = secrets.token_urlsafe(12)
        return f"{salt}.{self._signature(session, salt)}"

    def check_form(self, session: Session) -> None:
        """Raises `ForgedForm` unless the request's form is of this session."""
        # Pages send no referrer, so a browser's Origin is null. An old browser has only the token.
        comes_from = request.headers.get("Sec-Fetch-Site", "same-origin")
        salt, _, signature = request.form.get("token", "").partition(".")
        expected = self._signature(session, salt)
        if comes_from != "same-origin" or not hmac.compare_digest(
            signature.encode(), expected.encode()
        ):
            raise ForgedForm

    def _signature(self, session: Session, salt: str) -> str:
        return self._hash(f"form {session.nonce} {salt}")

    def _name(self, digest: str) -> str:
        """How a cookie names a key: it tells nothing about it."""
        return self._hash(f"key {digest}")[:16]

    def _hash(self, text: str) -> str:
        return hmac.new(
            self.database().secret_for("review"), text.encode(), hashlib.sha256
        ).hexdigest()

    def _serializer(self) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(self.database().secret_for("review"), salt=COOKIE)
