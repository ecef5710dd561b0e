"""The API improvement proposals that the schema keeps, as rules over descriptors: each yields what breaks it.

docs/adr/0033-aips.md says which were chosen, and why the others were not. https://google.aip.dev has their texts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from google.api import annotations_pb2
from google.protobuf.descriptor import FieldDescriptor

from support.schema import enums, fields, messages, methods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from google.protobuf.descriptor import Descriptor, FileDescriptor, MethodDescriptor

    Files = Sequence[FileDescriptor]
    Rule = Callable[[Files], Iterator[str]]

OPTIONS = {
    "csharp_namespace",
    "go_package",
    "java_package",
    "java_outer_classname",
    "java_multiple_files",
    "objc_class_prefix",
    "php_namespace",
    "php_metadata_namespace",
    "ruby_package",
}
VERBS = r"(BatchGet|Create|Delete|Draft|Get|List|Recommend|Retry|Search|Stream|Wait|Watch)(?=[A-Z])"
"""What an RPC's name begins with. A new verb is a decision, and is written here."""
PREPOSITION = re.compile(
    "after|at|before|between|but|by|except|for|from|in|including|into|of|over|since|to|toward|under|upon|with|within|"
    "without"
)
RESERVED = re.compile(
    "abstract|and|as|assert|async|await|break|case|catch|class|const|continue|def|default|del|delete|do|elif|else|enum|"
    "except|export|extends|final|finally|for|from|func|function|global|goto|if|implements|import|in|instanceof|"
    "interface|is|lambda|let|namespace|native|new|nil|not|null|or|package|pass|private|protected|public|raise|return|"
    "self|static|struct|super|switch|this|throw|throws|try|typeof|using|var|virtual|void|while|with|yield"
)
TIMESTAMP = "google.protobuf.Timestamp"
VIEW = re.compile(r"\w+View")


def aip_126_enums(files: Files) -> Iterator[str]:
    """Zero is UNSPECIFIED, and each value begins with its enum's name."""
    for enum in enums(files):
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper()
        if enum.values[0].number != 0 or enum.values[0].name != f"{prefix}_UNSPECIFIED":
            yield enum.full_name
        yield from (f"{enum.full_name}.{each.name}" for each in enum.values if not each.name.startswith(f"{prefix}_"))


def aip_127_http(files: Files) -> Iterator[str]:
    """Each RPC has a path for JSON over HTTP."""
    for method in methods(files):
        if method.GetOptions().Extensions[annotations_pb2.http].WhichOneof("pattern") is None:
            yield method.full_name


def aip_130_methods(files: Files) -> Iterator[str]:
    """An RPC is a verb and what it is about; its request and response are its own, named by it."""
    for method in methods(files):
        own = (method.input_type.name, method.output_type.name) == (f"{method.name}Request", f"{method.name}Response")
        if not re.match(VERBS, method.name) or not own:
            yield method.full_name


def aip_132_lists(files: Files) -> Iterator[str]:
    """What a List gives comes first in its response, and is a list."""
    for method in _named("List", files):
        first = method.output_type.fields[0]
        if not first.is_repeated or first.message_type is None:
            yield method.full_name


def aip_158_pages(files: Files) -> Iterator[str]:
    """A List has pages from the beginning: later they would be a break."""
    for method in _named("List", files):
        asked = {"page_size": FieldDescriptor.TYPE_INT32, "page_token": FieldDescriptor.TYPE_STRING}
        given = {"next_page_token": FieldDescriptor.TYPE_STRING}
        if not (_has(method.input_type, asked) and _has(method.output_type, given)):
            yield method.full_name


def aip_231_batches(files: Files) -> Iterator[str]:
    """A BatchGet names many things, and takes and gives a list that comes first."""
    for method in _named("BatchGet", files):
        lists = method.input_type.fields[0].is_repeated and method.output_type.fields[0].is_repeated
        if not (lists and method.name.endswith("s")):
            yield method.full_name


def aip_140_names(files: Files) -> Iterator[str]:
    """A field's name is lower_snake_case, holds no preposition, and is no reserved word; no flag begins with is."""
    for field in fields(files):
        words = field.name.split("_")
        snake = re.fullmatch(r"[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*", field.name)
        if not snake or any(map(PREPOSITION.fullmatch, words)) or RESERVED.fullmatch(field.name) or words[0] == "is":
            yield field.full_name


def aip_140_plurals(files: Files) -> Iterator[str]:
    """A list or map has a name in the plural."""
    for field in fields(files):
        if field.is_repeated and not field.name.endswith("s"):
            yield field.full_name


def aip_142_times(files: Files) -> Iterator[str]:
    """What ends in _time is a Timestamp, and the other way round; no name has a unit of time in a Duration's stead."""
    for field in fields(files):
        kind = field.message_type.full_name if field.message_type else ""
        named = field.name.endswith("_time")
        unit = re.search(r"_(seconds|secs|s|ms|millis|minutes|hours|timestamp|date|at)$", field.name)
        if named != (kind == TIMESTAMP) or unit:
            yield field.full_name


def aip_157_views(files: Files) -> Iterator[str]:
    """A view is an enum that says so; BASIC and FULL are among its values."""
    for field in fields(files):
        if field.name == "view" and not (field.enum_type and VIEW.fullmatch(field.enum_type.name)):
            yield field.full_name
    for enum in enums(files):
        told = {value.name.rpartition("_")[2] for value in enum.values}
        if VIEW.fullmatch(enum.name) and not {"BASIC", "FULL"} <= told:
            yield enum.full_name


def aip_191_options(files: Files) -> Iterator[str]:
    """A file names the package of each language, and lies where its own package says, which ends in a version."""
    for file in files:
        options = {field.name for field, _ in file.GetOptions().ListFields()}
        folder = file.package.replace(".", "/")
        versioned = re.fullmatch(r"[a-z]+(\.[a-z]+)*\.v\d+", file.package)
        if not options >= OPTIONS or file.name.rpartition("/")[0] != folder or not versioned:
            yield file.name


def aip_215_packages(files: Files) -> Iterator[str]:
    """A field's type is of its own package, or of Google's."""
    for message in messages(files):
        for field in message.fields:
            of = field.message_type or field.enum_type
            if of is not None and of.file.package not in {message.file.package, "google.protobuf"}:
                yield field.full_name


def aip_216_states(files: Files) -> Iterator[str]:
    """An enum of states is a State, and a field of it is a state: Status is what a call ends with."""
    for enum in enums(files):
        if enum.name.endswith("Status"):
            yield enum.full_name
    for field in fields(files):
        if field.enum_type is not None and field.enum_type.name.endswith("State") and "state" not in field.name:
            yield field.full_name


def _named(verb: str, files: Files) -> Iterator[MethodDescriptor]:
    for method in methods(files):
        if re.match(rf"{verb}[A-Z]", method.name):
            yield method


def _has(message: Descriptor, wanted: dict[str, int]) -> bool:
    return all(name in message.fields_by_name and message.fields_by_name[name].type == wanted[name] for name in wanted)


RULES: dict[str, Rule] = {name: rule for name, rule in globals().items() if name.startswith("aip_")}
