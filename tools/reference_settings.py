"""The reference of the settings: a table of each group, from the models that read the configuration."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, get_args

from assetwatchd.settings import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

HEAD = """# Settings

Everything that a configuration can hold, with its default. Written by `make reference`; `assetwatch config schema`
prints the same as a JSON schema. What happens at a limit is in [Limits](../limits.md#settings), an example of each kind
in [Configuration](../configuration.md).
"""
GROUPS: dict[str, tuple[type[BaseModel], ...]] = {
    "`server`": (schema.ServerSettings,),
    "`store`": (schema.SqliteStoreSettings, schema.MemoryStoreSettings, schema.EtcdStoreSettings),
    "`telemetry`": (schema.TelemetrySettings,),
    "`proxy`, at the top or of a source": (schema.DirectProxy, schema.EnvironmentProxy, schema.HttpProxy),
    "Every source, `sources.NAME`": (schema.SourceSettings,),
}
KINDS: tuple[type[BaseModel], ...] = get_args(get_args(schema.AnySource)[0])
AUTHS: tuple[type[BaseModel], ...] = tuple(
    getattr(schema, name) for name in schema.Settings.model_json_schema()["$defs"] if name.endswith("Auth")
)
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "exclusiveMaximum": "less than"}
SPARED = {10 * 365 * 86_400, 1_000_000_000}
"""Bounds that nobody meets: the longest time and the largest count."""


def page() -> str:
    """Return the page."""
    common = _properties(schema.SourceSettings)
    parts = [HEAD]
    for heading, models in GROUPS.items():
        parts.append(f"\n## {heading}\n")
        parts += [text for model in models for text in _section(model, {}, titled=len(models) > 1)]
    parts.append(
        "\n## A source of each kind\n\nWhat a kind has beside those of every source, or another default for.\n"
    )
    parts += [text for model in KINDS for text in _section(model, common, titled=True)]
    parts.append("\n## `auth` of a source\n\nWhich of these a kind takes stands at its `auth`.\n")
    parts += [text for model in AUTHS for text in _section(model, {}, titled=True)]
    return "".join(parts)


def _section(model: type[BaseModel], known: dict[str, Any], *, titled: bool) -> Iterator[str]:
    """Tell of one model, but for the settings that are as known elsewhere."""
    properties = _properties(model)
    if titled:
        yield f"\n### {_title(model, properties)}\n"
    yield f"\n{inspect.cleandoc(model.__doc__ or '')}\n"
    rows = [_row(name, told, model) for name, told in properties.items() if known.get(name) != told and name != "kind"]
    if rows:
        yield "\n| Setting | Value | Default | Means |\n| --- | --- | --- | --- |\n" + "".join(rows)


def _title(model: type[BaseModel], properties: dict[str, Any]) -> str:
    kind = properties.get("kind", {}).get("const")
    return f"`kind: {kind}`" if kind else model.__name__


def _properties(model: type[BaseModel]) -> dict[str, Any]:
    """Return each setting as the JSON schema has it, what a model calls it left out."""
    properties: dict[str, Any] = model.model_json_schema()["properties"]
    return {name: {key: value for key, value in told.items() if key != "title"} for name, told in properties.items()}


def _row(name: str, told: dict[str, Any], model: type[BaseModel]) -> str:
    required = model.model_fields[name].is_required()
    default = "required" if required else _default(told.get("default"))
    means = told.get("description", "").replace("|", "\\|")
    return f"| `{name}` | {_value(told)} | {default} | {means} |\n"


def _default(value: object) -> str:
    return "" if value in (None, [], "") else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _value(told: dict[str, Any]) -> str:
    """Say what can be given, in words."""
    if "oneOf" in told or "anyOf" in told:
        ways = [way for way in (told.get("oneOf") or told["anyOf"]) if way.get("type") != "null"]
        return " or ".join(dict.fromkeys(_value(way) for way in ways))
    if "$ref" in told:
        return _kind_of(told["$ref"].rpartition("/")[2])
    if "enum" in told:
        return ", ".join(f"`{value}`" for value in told["enum"])
    if told.get("type") == "array":
        return f"list of: {_value(told['items'])}"
    words = "secret" if told.get("writeOnly") else told.get("format") or told.get("type", "any")
    bounds = [f"{word} {told[key]:,}" for key, word in BOUNDS.items() if key in told and told[key] not in SPARED]
    return ", ".join([{"object": "mapping", "string": "text", "uri": "URL"}.get(words, words), *bounds])


def _kind_of(name: str) -> str:
    """Name a model by the kind that chooses it."""
    kind = _properties(getattr(schema, name)).get("kind", {}).get("const", name)
    return f"`kind: {kind}`"
