"""Credentials on their way to an upstream: a token from where the settings say, and texts freed of secrets."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from assetwatchd.descriptors import missed
from assetwatchd.errors import Refused, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from assetwatchd.config import BearerAuth

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


@contextmanager
def kept_secret(secrets: Callable[[], Iterable[str]]) -> Iterator[None]:
    """Blot every secret out of the text of an UpstreamError raised inside; secrets is asked for them only then."""
    try:
        yield
    except UpstreamError as exc:
        if (text := without_secrets(str(exc), secrets())) == str(exc):
            raise
        raise type(exc)(text, retry_after_s=exc.retry_after_s) from None


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return text with every secret in it blotted out: an upstream may echo what it was sent."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _token_in(path: Path) -> str:
    try:
        with missed(), path.open("rb") as file:
            token = file.read(TOKEN_BYTES_MAX + 1).strip()
    except OSError as exc:
        raise Refused(f"token_file {path} cannot be read: {exc.strerror}") from None
    if not token or len(token) > TOKEN_BYTES_MAX or not all(0x21 <= byte <= 0x7E for byte in token):  # noqa: PLR2004 - visible ASCII
        raise Refused(f"token_file {path} does not hold a token: one line of visible ASCII")
    return token.decode("ascii")
