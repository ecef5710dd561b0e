"""Tokens from where the settings say, and another one when an answer puts one in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from assetwatchd.model.errors import BadAnswer, Refused, Throttled, Unreachable, UpstreamError, VersionUnsupported
from assetwatchd.settings.schema import BearerAuth
from assetwatchd.upstream.credentials import bearer_token, with_token

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


def auth_by(path: Path) -> BearerAuth:
    return BearerAuth(kind="bearer", token_file=path)


def test_given_token() -> None:
    """A token in the settings is sent as it is."""
    assert bearer_token(BearerAuth.model_validate({"kind": "bearer", "token": "abc"})) == "abc"


def test_token_file_is_read_at_each_use(tmp_path: Path) -> None:
    """A token renewed under us is sent from the next call on; the line's end is not part of it."""
    path = tmp_path / "token"
    path.write_text("first\n")
    assert bearer_token(auth_by(path)) == "first"
    path.write_text("second")
    assert bearer_token(auth_by(path)) == "second"


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"secret words", b"secret\r\nX-Evil: 1", b"secr\xc3\xa9t", b"s" * 70_000]
)
def test_unusable_token_file(tmp_path: Path, content: bytes) -> None:
    """A file that holds no token is Refused, naming the file and nothing that is in it."""
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(Refused, match="does not hold a token") as caught:
        bearer_token(auth_by(path))
    assert str(path) in str(caught.value)
    assert "secr" not in str(caught.value).replace(str(path), "")


def test_absent_token_file(tmp_path: Path) -> None:
    """A file that is not there is Refused: the source's condition, not a crash."""
    with pytest.raises(Refused, match="cannot be read: No such file"):
        bearer_token(auth_by(tmp_path / "token"))


class Counted:
    """Tokens that count up; all of them are to be had, or only so many."""

    def __init__(self, count: int) -> None:
        self.given = 0
        self._count = count

    async def current(self) -> str:
        """Return the one there is."""
        return str(self.given)

    def forget(self, token: str) -> bool:
        """Go over to the next."""
        self.given += token == str(self.given) and self.given < self._count
        return token != str(self.given)


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (Refused("no"), ["0", "1"]),
        (BadAnswer("what?", doubts_token=True), ["0", "1"]),
        (BadAnswer("what?"), ["0"]),
        (VersionUnsupported("old"), ["0"]),
        (Unreachable("gone"), ["0"]),
        (Throttled("slow down"), ["0"]),
    ],
)
async def test_what_puts_a_token_in_doubt(error: UpstreamError, asked: list[str]) -> None:
    """It is tried with one more token, not two; what says nothing of it is not tried again."""
    tried: list[str] = []

    async def ask(token: str) -> None:
        tried.append(token)
        raise error

    with pytest.raises(type(error)):
        await with_token(Counted(9), ask)
    assert tried == asked


async def test_no_other_token_is_to_be_had() -> None:
    """Then nothing is tried again, and the first error is the answer."""
    tried: list[str] = []

    async def ask(token: str) -> None:
        tried.append(token)
        raise Refused("no")

    with pytest.raises(Refused):
        await with_token(Counted(0), ask)
    assert tried == ["0"]
