"""What a caller reads of an error says what to do about it."""

from __future__ import annotations

import re

import pytest

from assetwatchd.model import errors

pytestmark = pytest.mark.unit

TEXTS = [
    errors.SourceNotFound("x", ["a"]),
    errors.ResumeTokenExpired(requested=1, oldest=2, current=3),
    errors.ServerDraining(retry_after_s=1),
    errors.TooManyNames("one caller", subject="x", limit=1, retry_after_s=1),
    errors.TooManyAssets("x", 1),
    errors.TooManyReads("x", "y", 1),
    errors.RetryTooSoon("x", retry_after_s=5),
    errors.BatchTooLarge(limit=2, fit=1),
    errors.SourceKindMismatch("x", kind="a", wanted="b"),
    errors.ContentTooLarge("x", setting="s", limit=1),
    errors.MetadataTooLarge(2, limit=1),
    errors.RequestTooSlow(10),
]
NOTHING_TO_DO = {errors.AssetGone, errors.PiecesRefused}
"""It is so: the upstream says it, and the texts of these say that."""
ELSEWHERE = {errors.InvalidRequest, errors.SourceUnreachable}
"""The text is that of the rule, or of the upstream's trouble, which RetryInfo says how long to wait for."""
ADVICE = re.compile(r"; (ask|close|connect|name|raise|send|there are|try|wait|watch)\b")


@pytest.mark.parametrize("error", TEXTS, ids=lambda error: type(error).__name__)
def test_a_text_says_what_to_do(error: errors.CallError) -> None:
    """After what is wrong."""
    assert ADVICE.search(str(error)), str(error)


def test_no_text_is_left_out() -> None:
    """Each error that makes its own text is among them, or is named here with the reason."""
    own = {cls for cls in errors.CallError.__subclasses__() if "__init__" in vars(cls)}
    given = {errors.TooManyStreams}  # whoever raises it gives the text
    assert own == {type(error) for error in TEXTS} | NOTHING_TO_DO | ELSEWHERE | given
