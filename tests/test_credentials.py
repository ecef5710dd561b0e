"""Tokens from where the settings say, and texts freed of secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from assetwatchd.config import BearerAuth
from assetwatchd.credentials import bearer_token, kept_secret, without_secrets
from assetwatchd.errors import Refused, Throttled

if TYPE_CHECKING:
    from pathlib import Path


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


def test_longest_secret_goes_first() -> None:
    """A secret that holds another is blotted out whole; an empty one blots out nothing."""
    assert without_secrets("token abc-def, abc", ["abc", "abc-def", ""]) == "token ***, ***"


def test_error_keeps_its_class_and_seconds() -> None:
    """Blotting changes the text alone, and cuts off the cause that would show it."""
    with pytest.raises(Throttled) as caught, kept_secret(lambda: ["abc"]):
        raise Throttled("no abc", retry_after_s=3)
    assert (str(caught.value), caught.value.retry_after_s, caught.value.__cause__) == ("no ***", 3, None)
    assert caught.value.__suppress_context__


def test_clean_error_passes_untouched() -> None:
    """An error without a secret is the very one that was raised."""
    error = Refused("no")
    with pytest.raises(Refused) as caught, kept_secret(lambda: ["abc"]):
        raise error
    assert caught.value is error
