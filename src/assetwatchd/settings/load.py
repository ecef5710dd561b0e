"""Reads the settings: YAML < secret files < environment < flags. Reports every problem at once, and never a value.

What the values may be is in `schema`, the words for what is wrong in `problems`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import AnyUrl, BaseModel, SecretStr, ValidationError

from assetwatchd.model.errors import ConfigError
from assetwatchd.settings.problems import Origins, explain
from assetwatchd.settings.schema import Settings
from assetwatchd.settings.shape import Shape, below, is_compound, is_free, is_path, kind_in, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

log = logging.getLogger(__name__)

PREFIX = "ASSETWATCH__"
SECRETS_DIR = "ASSETWATCH_SECRETS_DIR"
MASK = "**********"
REMEDY = "check the quotes, brackets and indentation here and in the lines above"
REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        "mapping values are not allowed": "put a text that holds a colon in quotes, and check the indentation",
        "found character": "indent with spaces, not tabs, and put a text that begins with a sign in quotes",
        "found unexpected end of stream": "close the quote or bracket that is still open",
        "found undefined alias": "put a text that begins with * in quotes",
        "could not determine a constructor": "put a text that begins with ! in quotes",
        "a name is given twice": "leave one of them",
    }
)
"""What to do about what the YAML library says, by how it begins."""
NONE: Mapping[str, object] = MappingProxyType({})

Tree = dict[str, Any]


def load(
    path: Path | None,
    *,
    overrides: Mapping[str, object] = NONE,
    env: Mapping[str, str] = os.environ,
    secrets_dir: Path | None = None,
    also: Callable[[Settings], Iterable[str]] = lambda _settings: (),
    warn: Callable[[str], object] = log.warning,
) -> Settings:
    """Read the settings, each source of them over the one before: file, secret files, environment, overrides.

    overrides: by dotted name, e.g. server.listen; None is "not given". secrets_dir: else the environment's
    ASSETWATCH_SECRETS_DIR. In both, names are joined by two underscores, and a source's hyphens may be underscores.
    also: finds problems more, in what is valid of the settings; each begins with the name of a section. warn: is told
    what is left out, as secrets of a source that is gone.
    Raises: ConfigError, one line a problem, none of which shows a value.
    """
    problems: list[str] = []
    origins: Origins = {}
    # Problems are collected and told together, so that a configuration is corrected in one go and not error by error.
    directory = secrets_dir or (Path(env[SECRETS_DIR]) if env.get(SECRETS_DIR) else None)
    written = _read_file(path) if path else {}
    layers = [
        _nested(_secret_files(directory, problems), problems, origins),
        _nested(_variables(env), problems, origins),
        _nested(_flags(overrides), problems, origins),
    ]
    try:
        data = reduce(_over, layers, written)
        for leftover in _leave_out(data, written, origins):
            warn(leftover)
        _read_compounds(data, problems, origins)
        problems += _missing_files(data, (Settings,))
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    return _validated(data, problems, origins, also)


def _validated(
    data: Tree, problems: list[str], origins: Origins, also: Callable[[Settings], Iterable[str]]
) -> Settings:
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        problems += explain(error, data, origins)
        raise ConfigError("\n".join([*problems, *_not_told(problems, _in_the_rest(data, error, also))])) from None
    if problems := [*problems, *_not_told(problems, also(settings))]:
        raise ConfigError("\n".join(problems))
    return settings


def _not_told(told: Iterable[str], texts: Iterable[str]) -> Iterator[str]:
    """Yield what is of another place than what was told already."""
    places = {text.partition(":")[0] for text in told}
    return (text for text in texts if text.partition(":")[0] not in places)


def _in_the_rest(data: Tree, error: ValidationError, also: Callable[[Settings], Iterable[str]]) -> list[str]:
    """Return what else is wrong in the sections and sources that are valid by themselves."""
    wrong = {details["loc"][:2] for details in error.errors(include_url=False, include_input=False)}
    names = {str(loc[1]) for loc in wrong if loc[0] == "sources" and len(loc) > 1}
    sections = {str(loc[0]) for loc in wrong if loc[0] != "sources" or len(loc) == 1}
    rest = {name: held for name, held in data.items() if str(name) not in sections}
    if isinstance(sources := rest.get("sources"), dict):
        rest["sources"] = {name: held for name, held in sources.items() if str(name) not in names}
    return [text for text in also(Settings.model_validate(rest)) if re.split(r"[.:]", text)[0] not in sections]


def _leave_out(data: Tree, written: Tree, origins: Origins) -> Iterator[str]:
    """Take out what is given for sources that there are not, and yield a warning for each; it was left over.

    A source that is not in the file has its kind where it has the rest; the name of its secret alone makes none.
    """
    sources = data.get("sources")
    known = written.get("sources")
    if not isinstance(sources, dict):
        return
    # Left over after a source was removed from the file: its secrets in files and variables must not keep the server
    # from starting, nor make half a source.
    there = set(known) if isinstance(known, dict) else set()
    gone = {
        name for name, held in sources.items() if name not in there and isinstance(held, dict) and "kind" not in held
    }
    data["sources"] = {name: held for name, held in sources.items() if name not in gone}
    for path, origin in list(origins.items()):
        if path[0] == "sources" and gone.intersection(path[1:2]):
            del origins[path]
            near = nearest(path[1], map(str, data["sources"]))
            yield f"{origin} is left out: no source is named {path[1]}{f'; did you mean {near}?' if near else ''}"


def schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration file; secrets are never required, as they may come from elsewhere."""
    found = Settings.model_json_schema()
    for definition in found["$defs"].values():
        secret = {name for name, field in definition.get("properties", {}).items() if field.get("format") == "password"}
        if secret & set(definition.get("required", ())):
            definition["required"] = [name for name in definition["required"] if name not in secret]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "title": "assetwatch configuration"}


def plain(value: object) -> object:
    """Turn settings into what YAML and JSON can hold; secrets are masked (no URL holds one: config refuses it)."""
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(name): plain(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [plain(held) for held in value]
    return MASK if isinstance(value, SecretStr) else str(value) if isinstance(value, Path | AnyUrl) else value


class _Loader(yaml.SafeLoader):
    """YAML without dates, which stay the text they were, and with no name given twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the parent declares it so
        # YAML 1.1 makes a date of 2024-01-01, also where a text is meant, as in the criteria of an OMN query.
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:  # noqa: FBT001, FBT002 - the parent's signature
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, "a name is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _read_file(path: Path) -> Tree:
    text = _text(path)
    try:
        data = _yaml(text)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_marked(path, error)) from None
    except yaml.reader.ReaderError as error:
        line, column = text.count("\n", 0, error.position) + 1, error.position - text.rfind("\n", 0, error.position)
        raise ConfigError(f"{path}:{line}:{column}: not YAML: a character that is not text; remove it") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError(f"{path}: not YAML: it holds something that cannot be read") from None
    if data is not None and not isinstance(data, dict):
        raise ConfigError(f"{path}: should hold names and values, not a {type(data).__name__}")
    return data or {}


def _marked(path: Path, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    problem = error.problem or "it cannot be read"
    advice = next((advice for start, advice in REMEDIES.items() if problem.startswith(start)), REMEDY)
    since = error.context_mark
    begun = (
        f" (of what begins at {since.line + 1}:{since.column + 1})" if since and mark and since.line < mark.line else ""
    )
    # What YAML quotes may be a piece of a value, and so of a secret.
    what = re.sub(r"'[^']*'", "…", problem)
    return f"{where}: not YAML: {what}{begun}; {advice}"


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _yaml(text: str) -> object:
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader


Given = tuple[str, Sequence[str], object]
"""Where a value comes from, the path it is for, and the value."""


def _flags(overrides: Mapping[str, object]) -> Iterator[Given]:
    return ((f"flag for {name}", name.split("."), value) for name, value in overrides.items() if value is not None)


def _variables(env: Mapping[str, str]) -> Iterator[Given]:
    for name in sorted(env):
        if name.startswith(PREFIX):
            yield name, _path(name.removeprefix(PREFIX)), env[name]


def _secret_files(directory: Path | None, problems: list[str]) -> Iterator[Given]:
    if directory is None:
        return
    if not directory.is_dir():
        problems.append(f"{directory}: there is no such directory of secrets")
        return
    for file in sorted(directory.iterdir()):
        if file.name.startswith(".") or not file.is_file():  # mounted secrets come with links and folders of their own
            continue
        try:
            yield f"secret file {file}", _path(file.name), _text(file).strip()
        except ConfigError as error:
            problems.append(str(error))


def _path(name: str) -> list[str]:
    head, *rest = name.lower().split("__")
    # Names of variables cannot hold hyphens, and names of sources cannot hold underscores: so one means the other.
    if head == "sources" and rest:
        rest[0] = rest[0].replace("_", "-")
    return [head, *rest]


def _nested(given: Iterable[Given], problems: list[str], origins: Origins) -> Tree:
    tree: Tree = {}
    for origin, path, value in given:
        place: Any = tree
        for name in path[:-1]:
            place = place.setdefault(name, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict) or path[-1] in place:
            problems.append(f"{'.'.join(path)}: given twice, as a whole and in part (from {origin})")
            continue
        place[path[-1]] = value
        origins[tuple(path)] = origin
    return tree


def _over(lower: Tree, upper: Tree) -> Tree:
    merged = dict(lower)
    for name, value in upper.items():
        held = merged.get(name)
        merged[name] = _over(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return merged


def _read_compounds(data: Tree, problems: list[str], origins: Origins) -> None:
    """Read lists and mappings that came as text, from a variable or a secret file, as YAML (so as JSON too)."""
    for path, origin in origins.items():
        shape: Shape = (Settings,)
        place: Any = data
        for depth, name in enumerate(path):
            if is_free(shape):
                problems.append(f"{'.'.join(path[:depth])}: give the whole of it, as JSON (from {origin})")
                break
            shape, parent, place = below(shape, name, kind_in(place)), place, place.get(name)
        else:
            if is_compound(shape) and isinstance(place, str):
                parent[path[-1]] = place = _compound(place)
            if place is _UNREADABLE:
                del parent[path[-1]]
                problems.append(f"{'.'.join(path)}: not JSON (from {origin})")


_UNREADABLE = object()


def _compound(text: str) -> object:
    try:
        return _yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return _UNREADABLE


def _missing_files(data: object, shape: Shape, path: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(data, dict):
        for name, value in data.items():
            yield from _missing_files(value, below(shape, str(name), kind_in(data)), (*path, str(name)))
    elif is_path(shape) and isinstance(data, str) and (why := _unreadable(Path(data))):
        yield f"{'.'.join(path)}: {why}"


def _unreadable(path: Path) -> str | None:
    if not path.is_file():
        return "there is no such file"
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None
