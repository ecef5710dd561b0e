"""As much of JSON Schema as the configuration's uses: says where a document breaks it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
APPLIED = {"$ref", "anyOf", "oneOf", "type", "enum", "const", "pattern", "minimum", "maximum", "exclusiveMinimum"}
APPLIED |= {"properties", "additionalProperties", "patternProperties", "propertyNames", "required", "items"}
SAID = {"$schema", "$defs", "title", "description", "default", "format", "writeOnly", "minLength", "discriminator"}


def problems(value: Any, schema: Any, root: Any, at: str = "") -> Iterator[str]:
    """Yield what breaks the schema. Fails on a keyword it does not know, so that nothing is passed over."""
    assert set(schema) <= APPLIED | SAID, f"unknown keywords {set(schema) - APPLIED - SAID}"
    if "$ref" in schema:
        yield from problems(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, at)
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            fitting = [option for option in schema[keyword] if not list(problems(value, option, root, at))]
            if not fitting or (keyword == "oneOf" and len(fitting) > 1):
                yield f"{at}: fits {len(fitting)} of {keyword}"
    kinds = TYPES.get(schema.get("type", ""), (object,))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in (*kinds, object)):
        yield f"{at}: not {schema['type']}"
    elif isinstance(value, dict):
        yield from _names(value, schema, root, at)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from problems(item, schema.get("items", {}), root, f"{at}[{index}]")
    else:
        yield from _scalar(value, schema, at)


def _names(value: dict[str, Any], schema: Any, root: Any, at: str) -> Iterator[str]:
    known = schema.get("properties", {})
    by_pattern = schema.get("patternProperties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{at}.{name}: missing"
    for name, held in value.items():
        matching = [found for pattern, found in by_pattern.items() if re.search(pattern, name)]
        if name in known:
            yield from problems(held, known[name], root, f"{at}.{name}")
        elif matching:
            yield from problems(held, matching[0], root, f"{at}.{name}")
        elif schema.get("additionalProperties", True) is False:
            yield f"{at}.{name}: unknown"
        elif isinstance(schema.get("additionalProperties"), dict):
            yield from problems(held, schema["additionalProperties"], root, f"{at}.{name}")


def _scalar(value: Any, schema: Any, at: str) -> Iterator[str]:
    if "const" in schema and value != schema["const"]:
        yield f"{at}: not {schema['const']}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: not one of {schema['enum']}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{at}: not {schema['pattern']}"
    if isinstance(value, int | float):
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            yield f"{at}: out of range"
        if value <= schema.get("exclusiveMinimum", value - 1):
            yield f"{at}: out of range"
