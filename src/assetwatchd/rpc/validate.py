"""Requests against the rules written in the schema; every broken rule is a field violation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import protovalidate

from assetwatchd.errors import InvalidRequest

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from protovalidate import Violation


_VALIDATOR = protovalidate.Validator()


def validate(request: Message | None) -> None:
    """Raise InvalidRequest with every violation there is; return when there is none. None: it could not be decoded."""
    if request is None:
        raise InvalidRequest(("", "the bytes are not a request of this method; is the schema the same on both sides?"))
    violations = _VALIDATOR.collect_violations(request)
    if violations:
        raise InvalidRequest(*[(_path(violation), violation.proto.message) for violation in violations])


def _path(violation: Violation) -> str:
    """Write the field's path as BadRequest wants it: assets[3].source; empty for a rule of the whole message."""
    path = ""
    for element in violation.proto.field.elements if violation.proto.field else ():
        path += f".{element.field_name}"
        if element.subscript is not None:
            path += f"[{element.subscript.value}]"
    return path.removeprefix(".")
