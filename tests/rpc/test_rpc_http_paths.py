"""The path of each call for JSON over HTTP: there is one, no two are alike, and nothing of a request is lost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pieces_pb
from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1 import server_service_pb2 as server_pb
from assetwatch.v1 import source_service_pb2 as source_pb
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit

FILES = (pb.DESCRIPTOR, source_pb.DESCRIPTOR, server_pb.DESCRIPTOR, pieces_pb.DESCRIPTOR)
METHODS = [
    method
    for file in FILES
    for service in file.services_by_name.values()
    for method in service.methods_by_name.values()
]
ONE_TEXT = {"google.protobuf.Duration", "google.protobuf.Timestamp", "google.protobuf.FieldMask"}
"""Messages that JSON, and so a query, writes as one text."""


def rule(method: MethodDescriptor) -> tuple[str, str, str]:
    """Return a method's verb, path, and what of its request is the body."""
    http: Any = method.GetOptions().Extensions[annotations_pb2.http]
    verb = http.WhichOneof("pattern")
    assert verb, f"{method.full_name} has no google.api.http"
    return verb, getattr(http, verb), http.body


def variables(path: str) -> list[str]:
    """Return the fields that a path holds."""
    return re.findall(r"\{([\w.]+)\}", path)


def leaves(message: Descriptor, above: str = "") -> Iterator[tuple[str, FieldDescriptor]]:
    """Yield what a query has to say for a message, by its names."""
    for field in message.fields:
        inner = field.message_type
        if inner is None or inner.full_name in ONE_TEXT or field.is_repeated:
            yield above + field.name, field
        else:
            yield from leaves(inner, f"{above}{field.name}.")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_call_has_a_path_that_holds_its_request(method: MethodDescriptor) -> None:
    """Variables are texts of the request; the rest is the body, or can all be said in a query."""
    verb, path, body = rule(method)
    fields = dict(leaves(method.input_type))
    for name in variables(path):
        assert fields[name].type == FieldDescriptor.TYPE_STRING
        assert not fields[name].is_repeated
    if verb in {"get", "delete"}:
        assert not body
        lost = [name for name, field in fields.items() if field.is_repeated and field.message_type is not None]
        assert not lost, f"no query can say {lost}"
    else:
        assert body == "*", "what is neither in the path nor in the body would be lost"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_paths_are_of_one_style(method: MethodDescriptor) -> None:
    """Below the version; words and verbs in camelCase; what changes something is never a GET."""
    verb, path, _ = rule(method)
    words, _, custom = path.removeprefix(
        "/pieces" if method.containing_service.file is pieces_pb.DESCRIPTOR else ""
    ).partition(":")
    nothing, version, *segments = words.split("/")
    assert (nothing, version) == ("", "v1")
    assert all(re.fullmatch(r"[a-z][A-Za-z]*|\{[\w.]+\}", segment) for segment in segments)
    assert re.fullmatch("([a-z][A-Za-z]*)?", custom)
    assert verb != "get" or not re.match("Create|Delete|Draft|Retry", method.name)


def test_no_two_calls_have_one_path() -> None:
    """The name of a variable tells no two apart, nor does what it may hold: none holds a colon or a slash."""
    shapes = [(verb, re.sub(r"\{[\w.]+\}", "{}", path)) for verb, path, _ in map(rule, METHODS)]
    assert len(set(shapes)) == len(shapes) == 24
