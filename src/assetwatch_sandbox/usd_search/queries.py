"""Query parameters, read and refused as the service's framework does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aiohttp import web

    from assetwatch_sandbox.standin import JSON

TRUE_WORDS = {"true", "1", "yes", "on", "t", "y"}
FALSE_WORDS = {"false", "0", "no", "off", "f", "n"}


class Invalid(Exception):
    """A query parameter was refused; carries one item of the `detail` list."""

    def __init__(self, item: Mapping[str, JSON]) -> None:
        super().__init__(item["msg"])
        self.item = item


def required(request: web.Request, name: str) -> str:
    """Return a parameter that must be there. Raises: Invalid."""
    if name not in request.query:
        raise Invalid({"type": "missing", "loc": ["query", name], "msg": "Field required", "input": None})
    return request.query[name]


def choices(request: web.Request, name: str, known: Collection[str]) -> list[str]:
    """Return the values of a parameter that may be repeated. Raises: Invalid for one that is not known."""
    given = request.query.getall(name, [])
    for value in given:
        if value not in known:
            text = "Input should be " + " or ".join(f"'{choice}'" for choice in known)
            raise Invalid({"type": "enum", "loc": ["query", name], "msg": text, "input": value})
    return given


def flag(request: web.Request, name: str, *, default: bool, lenient: bool) -> bool:
    """Return a boolean; a lenient one may be spelt in several ways. Raises: Invalid."""
    given = request.query.get(name)
    if given is None:
        return default
    word = given.lower() if lenient else given
    if word in (TRUE_WORDS if lenient else {"true"}):
        return True
    if word in (FALSE_WORDS if lenient else {"false"}):
        return False
    text = "Input should be a valid boolean, unable to interpret input"
    raise Invalid({"type": "bool_parsing", "loc": ["query", name], "msg": text, "input": given})
