"""The schema as its descriptors say it: every file, service, method, message and enum of ours."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from support.documents import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import (
        Descriptor,
        EnumDescriptor,
        FileDescriptor,
        MethodDescriptor,
        ServiceDescriptor,
    )

GENERATED = ROOT / "generated"


def _files() -> Iterator[FileDescriptor]:
    for path in sorted(GENERATED.glob("assetwatch/**/*_pb2.py")):
        name = ".".join(Path(path).relative_to(GENERATED).with_suffix("").parts)
        yield importlib.import_module(name).DESCRIPTOR


FILES: tuple[FileDescriptor, ...] = tuple(_files())


def services() -> Iterator[ServiceDescriptor]:
    """Yield every service."""
    for file in FILES:
        yield from file.services_by_name.values()


def methods() -> Iterator[MethodDescriptor]:
    """Yield every method, those of a service in its order."""
    for service in services():
        yield from service.methods


def messages() -> Iterator[Descriptor]:
    """Yield every message, those within others too; what stands for an entry of a map is none."""
    for file in FILES:
        for message in file.message_types_by_name.values():
            yield from _with_nested(message)


def _with_nested(message: Descriptor) -> Iterator[Descriptor]:
    if message.GetOptions().map_entry:
        return
    yield message
    for nested in message.nested_types:
        yield from _with_nested(nested)


def enums() -> Iterator[EnumDescriptor]:
    """Yield every enum, those within messages too."""
    for file in FILES:
        yield from file.enum_types_by_name.values()
    for message in messages():
        yield from message.enum_types
