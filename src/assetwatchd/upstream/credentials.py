"""Credentials for calls: a token from where the settings say, and another one when that seems to be refused.

Knows no kind of upstream: what an answer says of a token is in the error (`UpstreamError.doubts_token`).
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Protocol, TypeVar

from assetwatchd.model.errors import Refused, UpstreamError
from assetwatchd.runtime.descriptors import missed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from pydantic import SecretStr

    from assetwatchd.settings.schema import BearerAuth
    from assetwatchd.upstream.redaction import Secrets

T = TypeVar("T")

TOKEN_BYTES_MAX = 64 * 1024
"""A token file beyond this holds something else."""


def bearer_token(auth: BearerAuth) -> str:
    """Return the token, reading token_file anew each time, so that it can be renewed under us.

    Raises: Refused when the file cannot be read or holds no token; the text tells which file, never what is in it.
    OutOfDescriptors when no file at all can be opened.
    """
    if auth.token is not None:
        return auth.token.get_secret_value()
    assert auth.token_file is not None  # noqa: S101 - the settings hold one of the two
    return _token_in(auth.token_file)


def basic(username: str, password: SecretStr) -> str:
    """Return what HTTP Basic sends, which is as good as the password."""
    return base64.b64encode(f"{username}:{password.get_secret_value()}".encode()).decode()


class Tokens(Protocol):
    """A source of tokens for calls."""

    async def current(self) -> str:
        """Return a token to send now. Raises: UpstreamError."""
        ...

    def forget(self, token: str) -> bool:
        """Note that a token seems to be refused; return whether another one can be had at once."""
        ...


async def with_token(tokens: Tokens, ask: Callable[[str], Awaitable[T]]) -> T:
    """Ask with the token there is, and once more with another when the answer puts that one in doubt.

    It does in many ways: 401 and 403, a redirect to a login page or that page itself, a document that tells an error.
    """
    # Once more, and not in a loop: a second refusal is not due to the token's age, and accounts are locked by tries.
    token = await tokens.current()
    try:
        return await ask(token)
    except UpstreamError as error:
        if not error.doubts_token or not tokens.forget(token):
            raise
    return await ask(await tokens.current())


class GivenTokens:
    """A token from the settings or a file."""

    def __init__(self, auth: BearerAuth, secrets: Secrets) -> None:
        self._auth = auth
        self._secrets = secrets

    async def current(self) -> str:
        """Return the token; a file is read at each call."""
        token = bearer_token(self._auth)
        self._secrets.add(token)
        return token

    def forget(self, token: str) -> bool:
        """Tell whether the file holds another one by now."""
        return bearer_token(self._auth) != token


def _token_in(path: Path) -> str:
    try:
        # Unbuffered, since this is done at each call: one read of a bounded size, and no buffer for it.
        with missed(), path.open("rb", buffering=0) as file:
            token = file.read(TOKEN_BYTES_MAX + 1).strip()
    except OSError as exc:
        raise Refused(f"token_file {path} cannot be read: {exc.strerror}") from None
    if not token or len(token) > TOKEN_BYTES_MAX or not all(0x21 <= byte <= 0x7E for byte in token):  # noqa: PLR2004 - visible ASCII
        raise Refused(f"token_file {path} does not hold a token: one line of visible ASCII")
    return token.decode("ascii")
