"""Accounts, tokens and the configuration lock of the device."""

import base64
import binascii
import datetime as dt
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from assetwatch_sandbox.oracle_sbc.switches import OracleSbcSwitches


class User(NamedTuple):
    """An account of the device; only an administrator may read the status."""

    name: str
    password: str
    is_admin: bool

    def __repr__(self) -> str:
        return f"User({self.name!r})"


ADMIN = User("sandbox-admin", "not-a-secret-1", is_admin=True)
OPERATOR = User("sandbox-user", "not-a-secret-2", is_admin=False)


class MalformedCredentialsError(ValueError):
    """An Authorization header that is not Basic, or not readable."""


@dataclass
class Session:
    """One token's holder and end, in epoch seconds of the stand-in's clock."""

    user: User
    expires_s: float


class Sessions:
    """All tokens and the one lock; the lock dies with the token it is bound to."""

    def __init__(self, clock: Callable[[], float], switches: Callable[[], OracleSbcSwitches]) -> None:
        self._clock = clock
        self._switches = switches
        self._sessions: dict[str, Session] = {}
        self._lock_token: str | None = None
        self._outsider: str | None = None

    def issue(self, user: User, current: str | None = None) -> str:
        """Return a new token; the lock held with the user's living current one, if any, goes over to it."""
        now_s = self._clock()
        self._sessions = {token: session for token, session in self._sessions.items() if session.expires_s > now_s}
        token = _token(user, now_s)
        self._sessions[token] = Session(user, now_s + self._switches().token_life_s)
        if current is not None:
            self._lock_token = token if self._lock_token == current else self._lock_token
            if self._switches().reissue_revokes:
                del self._sessions[current]
        return token

    def user_of(self, token: str) -> User | None:
        """Return who holds a token that has not ended, or None."""
        session = self._sessions.get(token)
        return None if session is None or session.expires_s <= self._clock() else session.user

    def use(self, token: str) -> User | None:
        """Return who holds a token, and prolong it where its life counts from the last use."""
        user = self.user_of(token)
        if user is not None and self._switches().token_life_from == "last_use":  # noqa: S105 - a moment, not a token
            self._sessions[token].expires_s = self._clock() + self._switches().token_life_s
        return user

    def lock(self, token: str) -> bool:
        """Take the lock for a token; False when someone else has it."""
        if self.lock_holder() is not None and not self.owns_lock(token):
            return False
        self._lock_token = token
        return True

    def unlock(self, token: str) -> bool:
        """Release the lock; False when the token does not hold it."""
        if not self.owns_lock(token):
            return False
        self._lock_token = None
        return True

    def owns_lock(self, token: str) -> bool:
        """Tell whether a living token holds the lock."""
        return self._outsider is None and token == self._lock_token and self.user_of(token) is not None

    def lock_holder(self) -> str | None:
        """Return the name of whoever holds the lock, or None."""
        if self._outsider is not None:
            return self._outsider
        user = None if self._lock_token is None else self.user_of(self._lock_token)
        return None if user is None else user.name

    def lock_outside(self, name: str | None) -> None:
        """Let someone at the command line take the lock, whoever had it, or release it with None."""
        self._outsider, self._lock_token = name, None

    def clear(self) -> None:
        """Forget every token and the lock, as a reboot does."""
        self._sessions.clear()
        self._outsider = self._lock_token = None


def authenticate(header: str) -> User | None:
    """Return the account a Basic header names with its right password, or None. Raises: MalformedCredentialsError."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        raise MalformedCredentialsError
    try:
        given = base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        raise MalformedCredentialsError from None
    for user in (ADMIN, OPERATOR):
        if hmac.compare_digest(given, f"{user.name}:{user.password}".encode()):
            return user
    return None


def _token(user: User, now_s: float) -> str:
    """Return a token of the look the guide's sample has: base64 of user, class, date and time, and a digest."""
    at = dt.datetime.fromtimestamp(now_s, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    text = f"{user.name},{'admin' if user.is_admin else 'user'},{at},"
    return base64.b64encode(text.encode() + secrets.token_bytes(20)).decode()
