"""Whatever an upstream answers, reading it takes steps in proportion to its length, and what comes of it is bounded."""

from __future__ import annotations

import itertools
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.model import bounds
from assetwatchd.model.errors import UpstreamError
from assetwatchd.model.values import Observation
from assetwatchd.rpc.convert import ProtobufEncoder
from assetwatchd.upstream.http.transport import Reply
from support.hostile import JSON, SHAPES, XML, Shape
from support.hostile_reads import READS
from support.steps import counted

if TYPE_CHECKING:
    from collections.abc import Callable

BYTES = 24 * 1024
"""Of the smallest body; the largest is four times as long."""
GROWTH_MAX = 2.3
"""What twice the length may take, where 2 is linear and 4 quadratic."""
STEPS_A_BYTE_MAX = 8
"""What a byte may take. Where depth, not length, multiplies the work, growth alone would not show it."""
FIXED_STEPS = 2000
"""What any answer takes: below it growth says nothing."""
ENCODED_BYTES_MAX = 3 * bounds.TEXTS_LENGTH_MAX
"""Of what comes of an answer in these shapes, whose characters are a byte each; lengths and numbers are the rest."""


def steps_of(read: Callable[[Reply], object], reply: Reply) -> tuple[int, object]:
    """Return the steps it takes to read and encode an answer, and what came of it."""
    with counted(FIXED_STEPS + STEPS_A_BYTE_MAX * len(reply.body)) as steps:
        try:
            found = read(reply)
        except UpstreamError as error:
            found = error
        observations = found if isinstance(found, list) else [found]
        encoded = [ProtobufEncoder().content("s", each) for each in observations if isinstance(each, Observation)]
    assert sum(map(len, encoded)) <= ENCODED_BYTES_MAX
    return steps.count, found


def grows_in_proportion(read: Callable[[Reply], object], reply: Callable[[int], Reply]) -> None:
    """Assert it for three sizes, each twice the one before."""
    counts = [steps_of(read, reply(BYTES << doubled))[0] for doubled in range(3)]
    for one, twice in itertools.pairwise(counts):
        assert twice <= max(FIXED_STEPS, GROWTH_MAX * one), counts


def of(shape: Shape) -> Callable[[int], Reply]:
    return lambda size: Reply(shape.status, {"Content-Type": shape.content_type}, shape.make(size))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_hostile_shape(shape: Shape) -> None:
    """Each of the shapes, read by each of the ways in which answers of its kind are read."""
    for read in READS[shape.kind]:
        grows_in_proportion(read, of(shape))


# Shapes that nobody thought of ----------------------------------------------------------------------------------------

MEMBERS = {
    kind: tuple(names.split())
    for kind, names in {
        "usd_search": "plugins_statuses storage_backend_info asset_status metadata indexing_status detail error details"
        " plugin_status_history status exception processing_timestamp hash_value loc msg backends a",
        "omn": "pim assets asset tid id meta itm itms key value content $ tids response issues a",
        "pieces": "id iterable formats bytes value classification generic name updated synced deleted indices a",
        "media_intelligence": "code result content assetId videoId totalCount totalPage uploadStatus metaData error"
        " responseError errorCode a",
    }.items()
}
NAMES = {
    "omn": ("pim", "assets", "asset", "itm", "response", "a"),
    "oracle_sbc": (
        *("response", "data", "operationState", "operation", "status", "additionalInfo", "messages", "message"),
        *("accessToken", "a"),
    ),
}


def values(kind: str) -> st.SearchStrategy[Any]:
    """JSON of the members that are read of a kind."""
    scalars = st.sampled_from([None, True, 0, 1.5, "", "ok", "x" * 50, "1", "queued", 10**20])
    names = st.sampled_from(MEMBERS[kind])
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
        max_leaves=12,
    )


@st.composite
def json_shapes(draw: st.DrawFn, kind: str) -> Callable[[int], bytes]:
    """Some members on the way to a list, or an object, that an item fills again and again."""
    path = draw(st.lists(st.sampled_from(MEMBERS[kind]), max_size=5))
    item = json.dumps(draw(values(kind)))
    beside = json.dumps(draw(st.dictionaries(st.sampled_from(MEMBERS[kind]), values(kind), max_size=3)))[1:-1]
    opening = "".join(f'{{{beside}{"," if beside else ""}"{name}":' for name in path)
    in_object = draw(st.booleans())

    def make(size: int) -> bytes:
        count = size // (len(item) + 9)
        items = ",".join(f'"{number:06}":{item}' if in_object else item for number in range(count))
        return f"{opening}{'{' if in_object else '['}{items}{'}' if in_object else ']'}{'}' * len(path)}".encode()

    return make


@st.composite
def xml_shapes(draw: st.DrawFn, kind: str) -> Callable[[int], bytes]:
    """Some elements on the way to where an element with others in it is repeated, under namespaces of the root."""
    path = [NAMES[kind][0] if kind == "omn" else "response", *draw(st.lists(st.sampled_from(NAMES[kind]), max_size=4))]
    within = draw(st.lists(st.sampled_from(NAMES[kind]), min_size=1, max_size=100))
    attributes = draw(st.sampled_from(["", ' key="a"', ' tid="a" id="1"', ' xmlns:z="y"']))
    text = draw(st.sampled_from(["", "x", "x " * 100, "&amp;"]))
    declared = draw(st.integers(0, 50))
    item = "".join(f"<{name}{attributes}>" for name in within) + text + "".join(f"</{n}>" for n in reversed(within))

    def make(size: int) -> bytes:
        namespaces = "".join(f' xmlns:a{number}="b"' for number in range(size * declared // 2000))
        opening = f"<{path[0]}{namespaces}>" + "".join(f"<{name}>" for name in path[1:])
        closing = "".join(f"</{name}>" for name in reversed(path))
        return (opening + item * max(1, size // len(item)) + closing).encode()

    return make


@pytest.mark.parametrize("kind", MEMBERS)
@settings(max_examples=15, deadline=None)
@given(data=st.data(), status=st.sampled_from([200, 400, 401, 404, 422, 500]))
def test_any_json(kind: str, data: st.DataObject, status: int) -> None:
    """Generated JSON, out of the members that are read of the kind."""
    make = data.draw(json_shapes(kind))
    for read in READS[kind]:
        grows_in_proportion(read, lambda size: Reply(status, {"Content-Type": JSON}, make(size)))


@pytest.mark.parametrize("kind", NAMES)
@settings(max_examples=15, deadline=None)
@given(data=st.data(), status=st.sampled_from([200, 404, 500]))
def test_any_xml(kind: str, data: st.DataObject, status: int) -> None:
    """Generated XML, out of the elements that are read of the kind."""
    make = data.draw(xml_shapes(kind))
    for read in READS[kind]:
        grows_in_proportion(read, lambda size: Reply(status, {"Content-Type": XML}, make(size)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_comes_of_it_can_be_handed_over(shape: Shape) -> None:
    """What a process that reads hands back, or raises, can be pickled, and is bounded however long the answer."""
    reply = of(shape)(4 * BYTES)
    for read in READS[shape.kind]:
        _, found = steps_of(read, reply)
        handed_over = pickle.dumps(found)
        assert len(handed_over) <= max(ENCODED_BYTES_MAX, len(reply.body))
