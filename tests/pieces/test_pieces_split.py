"""A list taken apart while it comes."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from assetwatchd.model.errors import BadAnswer
from assetwatchd.pieces.client.json_splitter import Splitter

pytestmark = pytest.mark.unit

TRICKY: list[dict[str, Any]] = [
    {"a": '}]{["', "b": "\\", "c": '\\"', "d": "\u00e9\U0001f600", "iterable": [{"x": 1}, []]},
    {},
    {"iterable": "iterable", "e": {"iterable": [{"not": "me"}]}, "f": [[{}], {}]},
]


def split(text: str, *cuts: int, limit: int = 10_000) -> list[Any]:
    """Feed a document in parts; return its elements decoded."""
    body = text.encode()
    splitter = Splitter(limit)
    bounds = [0, *sorted(cuts), len(body)]
    parts = [splitter.feed(body[a:b]) for a, b in itertools.pairwise(bounds)]
    splitter.end()
    return [json.loads(element) for part in parts for element in part]


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("indent", [None, 2])
def test_wherever_it_is_cut(ascii_only: bool, indent: int | None) -> None:  # noqa: FBT001 - a parameter of the case
    """The elements are those of the list, wherever one part ends and the next begins."""
    document = {"schema": {"iterable": [{"no": 1}]}, "iterable": TRICKY, "indices": {"iterable": 1}, "x": [{}]}
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    size = len(text.encode())
    rng = random.Random(1)  # noqa: S311 - a scenario that repeats, not a secret
    assert split(text, *range(1, size)) == TRICKY
    for cut in range(size):
        assert split(text, cut) == TRICKY
    for _ in range(100):
        assert split(text, *rng.sample(range(size), 5)) == TRICKY


def test_what_is_no_object_is_passed_over() -> None:
    """Elements of other types name no asset."""
    assert split('{"iterable": [null, 7, "{}", [{"in": "a list"}], true, {"id": "a"}]}') == [{"id": "a"}]


def test_an_element_beyond_the_limit_is_passed_over() -> None:
    """It takes no other with it, and is not held either."""
    large = json.dumps({"id": "large", "content": "x" * 500})
    text = f'{{"iterable": [{{"id": "a"}}, {large}, {{"id": "b"}}]}}'
    assert split(text, 50, 150, 300, limit=len(large) - 1) == [{"id": "a"}, {"id": "b"}]
    assert len(split(text, 50, 150, 300, limit=len(large))) == 3


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '[{"iterable": []}]', "{}", '{"iterable": null}', '{"iterable": {}}'),
        *('{"a": {"iterable": []}}', '{"x": "iterable", "y": [{}]}'),
        *('{"iterable": [', '{"iterable": [{"id": "a"}', '{"iterable": ["a'),
    ],
)
def test_no_list_at_all(text: str) -> None:
    """What is cut short, or has no such list, is no answer."""
    with pytest.raises(BadAnswer):
        split(text)
