"""Explains in words what is wrong with the settings: a line per problem, its path and what to do, and never a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from assetwatchd.settings.addresses import FORMS
from assetwatchd.settings.schema import Settings
from assetwatchd.settings.shape import Shape, below, kind_in, kinds, models, names, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError

Origins = dict[tuple[str, ...], str]
"""Which variable, secret file or flag gave the value at a path."""

TEXTS = {
    "missing": "missing",
    "model_type": "should be names and values",
    "model_attributes_type": "should be names and values",
    "dict_type": "should be names and values",
    "tuple_type": "should be a list",
    "string_type": "should be text; put it in quotes",
}


def explain(error: ValidationError, data: Mapping[str, object], origins: Origins) -> Iterator[str]:
    """Yield a line a problem: dotted path, what is wrong, the nearest right name, what gave it if not the file."""
    for details in error.errors(include_url=False, include_input=False):
        path, shape = _place(details["loc"])
        text = _text(details, path, shape, data)
        if details["type"].startswith("union_tag"):
            path = (*path, "kind")
        origin = _origin(path, origins, whole=details["type"] == "extra_forbidden")
        yield f"{'.'.join(path)}: {text}{f' (from {origin})' if origin else ''}"


def _place(loc: tuple[int | str, ...]) -> tuple[tuple[str, ...], Shape]:
    """Return the path as the user wrote it, without the tags of unions, and the shape of what holds its last name."""
    shape: Shape = (Settings,)
    holder: Shape = ()
    path: list[str] = []
    for step in map(str, loc):
        if len(models(shape)) > 1:
            shape = tuple(models(shape, step))
        elif step != "[key]":
            path.append(step)
            holder, shape = shape, below(shape, step)
    return tuple(path), holder


def _text(details: Mapping[str, Any], path: tuple[str, ...], holder: Shape, data: Mapping[str, object]) -> str:
    known = names(holder)
    match details["type"]:
        case "extra_forbidden":
            near = nearest(path[-1], known)
            return f"unknown name; did you mean {near}?" if near else f"unknown name; there are {', '.join(known)}"
        case "union_tag_invalid":
            tags = kinds(below(holder, path[-1]))
            near = nearest(str(kind_in(_at(data, path))), tags)
            return f"unknown kind; did you mean {near}?" if near else f"unknown kind; there are {', '.join(tags)}"
        case "union_tag_not_found":
            return _kindless(path, holder, data)
        case "string_pattern_mismatch" if path[:1] == ("sources",) and len(path) == 2:  # noqa: PLR2004 - sources.NAME
            return "a source's name has lower case letters, digits and hyphens only"
        case "string_pattern_mismatch" if path == ("server", "listen"):
            return f"should be HOST:PORT, {FORMS}"
    told: str = TEXTS.get(details["type"], details["msg"])
    return told.removeprefix("Value error, ").replace("Input should", "should")


def _kindless(path: tuple[str, ...], holder: Shape, data: Mapping[str, object]) -> str:
    beside = _at(data, path[:-1])
    whole = [name for name in beside if kind_in(beside[name])] if isinstance(beside, Mapping) else []
    near = nearest(path[-1], [name.replace("-", "_") for name in whole]) if path[:1] == ("sources",) else None
    if near and len(path) == 2:  # noqa: PLR2004 - sources.NAME
        return f"missing; did you mean the source {near.replace('_', '-')}?"
    return f"missing; one of {', '.join(kinds(below(holder, path[-1])))}"


def _at(data: object, path: tuple[str, ...]) -> object:
    for name in path:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def _origin(path: tuple[str, ...], origins: Origins, *, whole: bool) -> str | None:
    for given, origin in origins.items():
        if given == path[: len(given)] or (whole and path == given[: len(path)]):
            return origin
    return None
