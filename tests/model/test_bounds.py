"""Of an observation as much is kept as is within bounds, whatever it is made of, and it says when that is not all."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from assetwatch.v1 import asset_status_pb2 as status_pb
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.model import bounds
from assetwatchd.model.details import OmnDetail, OracleSbcDetail, UsdSearchAttempt, UsdSearchDetail, UsdSearchPlugin
from assetwatchd.model.texts import CUT
from assetwatchd.model.values import Facet, Failure, FailureKind, Observation, State
from assetwatchd.rpc.convert import ProtobufEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit

LONG = st.sampled_from(
    ["", "a", "ä" * 7, "x" * 5_000, "y" * (bounds.TEXT_LENGTH_MAX + 1), "z" * 10 * bounds.TEXT_LENGTH_MAX]
)
COUNTS = st.sampled_from([0, 1, 3, 100, 3 * bounds.VALUES_MAX])


@st.composite
def details(draw: st.DrawFn) -> Any:
    text, count = draw(LONG), draw(COUNTS)
    many = {f"{number} {text[:100]}": text for number in range(count)}
    attempt = UsdSearchAttempt(draw(LONG), exception=draw(LONG))
    plugin = UsdSearchPlugin(draw(LONG), text, history=(attempt,) * count)
    return draw(
        st.sampled_from(
            [
                UsdSearchDetail(
                    "ok", plugins=(plugin,) * draw(st.integers(0, 5)), metadata={"a": [{"": text}] * count, text: 1}
                ),
                OmnDetail("a", "1", text, text, {text: text, **many}),
                OracleSbcDetail(text, text, text, text),
                None,
            ]
        )
    )


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    facet = Facet(draw(LONG), State.FAILED, draw(LONG), draw(LONG))
    failure = Failure(FailureKind.PERMANENT, draw(LONG), draw(LONG))
    return Observation("id", State.FAILED, (facet,) * draw(COUNTS), failure, detail=draw(details()))


def values(value: Any) -> Iterator[Any]:
    """Every text, number and the like in a value."""
    if is_dataclass(value):
        for member in fields(value):
            yield from values(getattr(value, member.name))
    elif isinstance(value, dict):
        for pair in value.items():
            yield from values(pair)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from values(item)
    else:
        yield value


@settings(max_examples=50, deadline=None)
@given(observations())
def test_what_is_kept_is_within_bounds(observation: Observation) -> None:
    """However much there is of whatever, texts and their number are bounded, and only what was too much is cut."""
    kept = bounds.within(observation)
    held = [*values(kept.facets), *values(kept.failure), *values(kept.detail)]
    texts = [value for value in held if isinstance(value, str)]
    assert max(map(len, texts), default=0) <= bounds.TEXT_LENGTH_MAX
    assert sum(map(len, texts)) <= bounds.TEXTS_LENGTH_MAX + bounds.TEXT_LENGTH_MAX
    assert len(held) <= bounds.VALUES_MAX + 10  # the last item is taken whole
    assert (kept.state, kept.asset_id) == (observation.state, observation.asset_id)
    assert kept.cut == (kept != observation)
    assert bounds.within(kept) == kept or kept.cut


@pytest.mark.parametrize("length", [bounds.TEXT_LENGTH_MAX, bounds.TEXT_LENGTH_MAX + 1])
def test_a_text_that_is_cut_says_so(length: int) -> None:
    """It ends with an ellipsis; one that just fits is whole."""
    kept = bounds.within(Observation("id", State.AVAILABLE, detail=OracleSbcDetail(additional_info="x" * length)))
    assert isinstance(kept.detail, OracleSbcDetail)
    assert kept.cut == (length > bounds.TEXT_LENGTH_MAX)
    assert kept.detail.additional_info.endswith(CUT) == kept.cut


def test_the_newest_attempts_are_kept() -> None:
    """A history has them first, and it is the end of a list that is left out."""
    history = tuple(UsdSearchAttempt(str(number)) for number in range(10 * bounds.VALUES_MAX))
    plugin = UsdSearchPlugin("a", "in_sync", history=history)
    kept = bounds.within(Observation("id", State.AVAILABLE, detail=UsdSearchDetail("ok", plugins=(plugin,))))
    assert isinstance(kept.detail, UsdSearchDetail)
    newest = kept.detail.plugins[0].history
    assert len(newest) > 100
    assert newest == history[: len(newest)]


@pytest.mark.parametrize("count", [1, 10 * bounds.VALUES_MAX])
def test_clients_are_told(count: int) -> None:
    """The status says whether it lacks something."""
    facets = tuple(Facet(str(number), State.AVAILABLE, "ok") for number in range(count))
    kept = bounds.within(Observation("id", State.AVAILABLE, facets))
    status = status_pb.AssetStatus.FromString(ProtobufEncoder().content("s", kept))
    assert status.cut == (count > 1)


def test_the_schema_tells_the_bounds() -> None:
    """What it says of `cut` are the numbers that hold."""
    proto = " ".join((Path(__file__).parents[2] / "proto/assetwatch/v1/asset_status.proto").read_text().split())
    told = proto.replace("// ", "").partition("is kept: ")[2].partition(".")[0]
    texts = f"texts of {bounds.TEXT_LENGTH_MAX:,} characters, {bounds.TEXTS_LENGTH_MAX:,} in all"
    assert told == f"{bounds.VALUES_MAX:,} values, {texts}"
