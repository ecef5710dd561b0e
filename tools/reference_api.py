"""The reference of the API: services, messages and enums of a package, from the schema and its comments."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, text_format

from buf.validate import validate_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROTO = Path("proto")
HEAD = """# API: {package}

The comments of the schema, which are the contract. Written by `make reference` from [{folder}](../../{folder}).
"""
PACKAGE_OF_FILE, MESSAGE_OF_FILE, ENUM_OF_FILE, SERVICE_OF_FILE = 2, 4, 5, 6
FIELD_OF_MESSAGE, NESTED_OF_MESSAGE, ENUM_OF_MESSAGE, ONEOF_OF_MESSAGE = 2, 3, 4, 8
METHOD_OF_SERVICE = VALUE_OF_ENUM = 2
"""Numbers of descriptor.proto, which the path to a comment is made of."""
CODE = re.compile(r"(^```.*?^```$)", flags=re.DOTALL | re.MULTILINE)
Field = descriptor_pb2.FieldDescriptorProto


def page(package: str) -> str:
    """Return the page of one package: first its services, then what they take and give."""
    files = [file for file in schema().file if file.package == package]
    services = [part for file in files for part in _services(file)]
    types = sorted((part for file in files for part in _types(file)), key=lambda part: part.partition("\n")[0])
    folder = PROTO / package.replace(".", "/")
    head = HEAD.format(package=package, folder=folder)
    rules = [f"{words}\n" for file in files if (words := comments(file).get((PACKAGE_OF_FILE,)))]
    return "\n".join([head, *rules, *services, "## Messages and enums\n", *types]).rstrip() + "\n"


def schema() -> descriptor_pb2.FileDescriptorSet:
    """Compile the schema, its comments kept."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "schema.binpb")
        files = sorted(map(str, PROTO.glob("assetwatch/**/*.proto")))
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"--descriptor_set_out={out}"]
        subprocess.run([*command, "--include_source_info", *files], timeout=60, check=True)
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def _services(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    said = comments(file)
    for number, service in enumerate(file.service):
        yield f"## {service.name}\n\n{said[SERVICE_OF_FILE, number]}\n"
        for place, method in enumerate(service.method):
            takes, gives = (_link(name, file) for name in (method.input_type, method.output_type))
            takes, gives = _streamed(takes, method.client_streaming), _streamed(gives, method.server_streaming)
            words = said[SERVICE_OF_FILE, number, METHOD_OF_SERVICE, place]
            yield f"### {method.name}\n\nTakes {takes}, gives {gives}.{_path(method)}\n\n{words}\n"


def _path(method: descriptor_pb2.MethodDescriptorProto) -> str:
    """Tell where a gateway offers it as JSON over HTTP."""
    http = method.options.Extensions[annotations_pb2.http]
    verb = http.WhichOneof("pattern")
    return f" JSON over HTTP: `{verb.upper()} {getattr(http, verb)}`." if verb else ""


def _streamed(link: str, streaming: bool) -> str:  # noqa: FBT001 - as the descriptor says it
    return f"a stream of {link}" if streaming else link


def _types(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    said = comments(file)
    for number, message in enumerate(file.message_type):
        yield from _message(message, (MESSAGE_OF_FILE, number), said, file, above="")
    for number, enum in enumerate(file.enum_type):
        yield _enum(enum, (ENUM_OF_FILE, number), said, above="")


def _message(
    message: descriptor_pb2.DescriptorProto,
    path: tuple[int, ...],
    said: Mapping[tuple[int, ...], str],
    file: descriptor_pb2.FileDescriptorProto,
    *,
    above: str,
) -> Iterator[str]:
    """Tell of a message and those within it."""
    if message.options.map_entry:
        return
    name = f"{above}{message.name}"
    rows = [
        f"| `{field.name}` | {_type(field, message, file)} | {_one_line(said[*path, FIELD_OF_MESSAGE, place], field)} |"
        for place, field in enumerate(message.field)
    ]
    table = "\n".join(["\n| Field | Type | Means |\n| --- | --- | --- |", *rows]) + "\n" if rows else ""
    yield f"### {name}\n\n{said[path]}\n{table}"
    for place, nested in enumerate(message.nested_type):
        yield from _message(nested, (*path, NESTED_OF_MESSAGE, place), said, file, above=f"{name}.")
    for place, enum in enumerate(message.enum_type):
        yield _enum(enum, (*path, ENUM_OF_MESSAGE, place), said, above=f"{name}.")


def _enum(
    enum: descriptor_pb2.EnumDescriptorProto, path: tuple[int, ...], said: Mapping[tuple[int, ...], str], *, above: str
) -> str:
    rows = [
        f"| `{value.name}` | {value.number} | {_one_line(said[*path, VALUE_OF_ENUM, place])} |"
        for place, value in enumerate(enum.value)
    ]
    table = "\n".join(["| Value | Number | Means |\n| --- | --- | --- |", *rows])
    return f"### {above}{enum.name}\n\n{said[path]}\n\n{table}\n"


def _type(field: Field, message: descriptor_pb2.DescriptorProto, file: descriptor_pb2.FileDescriptorProto) -> str:
    """Name a field's type, with a link if the page has it, and how often it comes."""
    inner = (each for each in message.nested_type if field.type_name.endswith(f".{message.name}.{each.name}"))
    entry = next(inner, None)
    if entry is not None and entry.options.map_entry:
        return f"map of {_type(entry.field[0], entry, file)} to {_type(entry.field[1], entry, file)}"
    plain = f"`{Field.Type.Name(field.type).removeprefix('TYPE_').lower()}`"
    named = _link(field.type_name, file) if field.type_name else plain
    if field.label == Field.LABEL_REPEATED:
        return f"list of {named}"
    if field.proto3_optional:
        return f"{named}, optional"
    if field.HasField("oneof_index"):
        return f"{named}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return named


def _link(full: str, file: descriptor_pb2.FileDescriptorProto) -> str:
    """Link to where a type is told of; those of Google are known by their names."""
    name = full.removeprefix(".")
    if not name.startswith("assetwatch."):
        return f"`{name}`"
    package, short = re.fullmatch(r"(assetwatch(?:\.\w+)*\.v\d+)\.(.*)", name).groups()  # type: ignore[union-attr]  # the schema's packages are named so
    page_of = "" if package == file.package else {"assetwatch.v1": "api.md"}[package]
    return f"[{short}]({page_of}#{short.lower().replace('.', '')})"


def comments(file: descriptor_pb2.FileDescriptorProto) -> dict[tuple[int, ...], str]:
    """Return every comment by the path to what it is about; buf's lint sees to it that there is one."""
    return {tuple(each.path): _markdown(each.leading_comments) for each in file.source_code_info.location}


def _markdown(comment: str) -> str:
    """Take a comment as the Markdown that it is, with links to pages that it names, and headings below those of RPCs.

    In a comment a heading is a line in bold: comments of protos have no headings (AIP-192).
    """
    text = "\n".join(line.removeprefix(" ") for line in comment.rstrip().split("\n"))
    parts = enumerate(re.split(CODE, text))  # prose, block, prose, ...
    return "".join(part if number % 2 else _prose(part) for number, part in parts)


def _prose(text: str) -> str:
    """Write what is no block of code."""
    text = re.sub(r"^\*\*(.+)\*\*$", r"#### \1", text.replace("<", "&lt;"), flags=re.MULTILINE)
    return re.sub(r"\bdocs/([\w-]+)\.md\b", r"[docs/\1.md](../\1.md)", text)


def _one_line(text: str, field: Field | None = None) -> str:
    """Make a cell of a table of it, with the rules of a request's field; what is indented has its own lines."""
    cell = re.sub(r"\n {2,}(\S+) +", r"<br>`\1` ", text)
    cell = re.sub(r"\s*\n\s*", " ", cell).replace("|", "\\|")
    if field is None or not field.options.HasExtension(validate_pb2.field):
        return cell
    rules = text_format.MessageToString(field.options.Extensions[validate_pb2.field], as_one_line=True)
    return f"{cell}<br>Rules: `{rules.strip().replace('|', chr(92) + '|')}`"
