"""The schema as its descriptors say it: every file, service, method, message and enum of ours."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_tools import protoc

from support.documents import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.descriptor import (
        Descriptor,
        EnumDescriptor,
        FieldDescriptor,
        FileDescriptor,
        MethodDescriptor,
        ServiceDescriptor,
    )

GENERATED = ROOT / "generated"


INTERNAL = GENERATED / "assetwatch/internal"
"""What replicas say to each other and keep in etcd; no part of the schema."""


def _files() -> Iterator[FileDescriptor]:
    for path in sorted(set(GENERATED.glob("assetwatch/**/*_pb2.py")) - set(INTERNAL.rglob("*_pb2.py"))):
        name = ".".join(Path(path).relative_to(GENERATED).with_suffix("").parts)
        yield importlib.import_module(name).DESCRIPTOR


FILES: tuple[FileDescriptor, ...] = tuple(_files())


def services(files: Sequence[FileDescriptor] = FILES) -> Iterator[ServiceDescriptor]:
    """Yield every service."""
    for file in files:
        yield from file.services_by_name.values()


def methods(files: Sequence[FileDescriptor] = FILES) -> Iterator[MethodDescriptor]:
    """Yield every method, those of a service in its order."""
    for service in services(files):
        yield from service.methods


def messages(files: Sequence[FileDescriptor] = FILES) -> Iterator[Descriptor]:
    """Yield every message, those within others too; what stands for an entry of a map is none."""
    for file in files:
        for message in file.message_types_by_name.values():
            yield from _with_nested(message)


def _with_nested(message: Descriptor) -> Iterator[Descriptor]:
    if message.GetOptions().map_entry:
        return
    yield message
    for nested in message.nested_types:
        yield from _with_nested(nested)


def fields(files: Sequence[FileDescriptor] = FILES) -> Iterator[FieldDescriptor]:
    """Yield every field."""
    for message in messages(files):
        yield from message.fields


def enums(files: Sequence[FileDescriptor] = FILES) -> Iterator[EnumDescriptor]:
    """Yield every enum, those within messages too."""
    for file in files:
        yield from file.enum_types_by_name.values()
    for message in messages(files):
        yield from message.enum_types


def compiled(text: str, folder: Path) -> Sequence[FileDescriptor]:
    """Compile a schema of one file, which may import what ours does."""
    (folder / "made_up.proto").write_text(text)
    out = folder / "made_up.binpb"
    paths = [f"-I{folder}", f"-I{ROOT / 'proto'}", f"-I{Path(grpc_tools.__file__).parent / '_proto'}"]
    assert protoc.main(["protoc", *paths, f"--descriptor_set_out={out}", "--include_imports", "made_up.proto"]) == 0
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.Add(file)
    return [pool.FindFileByName("made_up.proto")]
