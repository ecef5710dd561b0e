"""The shape of the settings, derived from their types: which names and types may stand where. Knows no values."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Union, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterable

Shape = tuple[object, ...]
"""The types one place may have: models, mappings, tuples and scalars, without unions and annotations."""


def _container(part: object) -> object:
    """Return dict for dict[str, int], tuple for tuple[str, ...], None for a plain type."""
    return get_origin(part)  # its published type has neither, so callers could not compare it


def shape_of(annotation: object) -> Shape:
    """Flatten an annotation: unions become several types, Annotated and None go."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return shape_of(get_args(annotation)[0])
    if origin in {Union, UnionType}:
        return tuple(part for argument in get_args(annotation) for part in shape_of(argument))
    return () if annotation is type(None) else (annotation,)


def models(shape: Shape, kind: object = None) -> list[type[BaseModel]]:
    """List the models of a shape; only those of that kind, when there are any."""
    found = [part for part in shape if isinstance(part, type) and issubclass(part, BaseModel)]
    return [model for model in found if kind in _tags(model)] or found


def _tags(model: type[BaseModel]) -> tuple[object, ...]:
    field = model.model_fields.get("kind")
    return get_args(field.annotation) if field else ()


def kinds(shape: Shape) -> list[str]:
    """List the kinds a tagged union knows."""
    return [str(tag) for model in models(shape) for tag in _tags(model)]


def names(shape: Shape, kind: object = None) -> list[str]:
    """List the names that may stand below a place, in order; empty where any may, or none."""
    return list(dict.fromkeys(name for model in models(shape, kind) for name in model.model_fields))


def below(shape: Shape, name: str, kind: object = None) -> Shape:
    """Return the shape under a name; empty when there is no such name."""
    fields = [model.model_fields.get(name) for model in models(shape, kind)]
    found = [part for field in fields if field for part in shape_of(field.annotation)]
    values = [get_args(part)[1] for part in shape if _container(part) is dict]
    return (*found, *(part for value in values for part in shape_of(value)))


def is_free(shape: Shape) -> bool:
    """Return whether the place is a mapping of the user's own names."""
    return any(_container(part) is dict and get_args(part)[1] is object for part in shape)


def is_compound(shape: Shape) -> bool:
    """Return whether the place takes a mapping or a list, never a plain text."""
    return bool(shape) and (bool(models(shape)) or all(_container(part) in {dict, tuple} for part in shape))


def is_path(shape: Shape) -> bool:
    """Return whether the place takes the path of a file."""
    return Path in shape


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that looks most like this one, if any does."""
    matches = difflib.get_close_matches(name.lower().replace("-", "_"), list(known), n=1)
    return matches[0] if matches else None


def kind_in(data: object) -> object:
    """Return the kind a mapping says it is, or None."""
    return data.get("kind") if isinstance(data, Mapping) else None
