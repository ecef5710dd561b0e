"""Removes our credentials from texts of an upstream, which may echo what it was sent in an answer of any kind.

`Reading` cleans whatever is read of an answer, value or error; `Transport` cleans the errors of its calls. Knows the
types that adapters return, and nothing of what their texts mean.
"""

from __future__ import annotations

import copy
import html
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus

from pydantic import BaseModel, SecretStr

from assetwatchd.model.errors import UpstreamError
from assetwatchd.model.texts import CUT
from assetwatchd.model.values import Observation
from assetwatchd.upstream.answers import Unchanged, Unreadable

T = TypeVar("T")

MASK = "***"
SHORT = 6
"""Characters. A shorter secret is a part of many words, and is blotted out only where it stands by itself."""
LONG = 16
"""A secret of so many characters is no word of ours and no part of an id, so it may be blotted out among those, too."""
WHY = "why"
UNREADABLE = "unreadable"
"""So are named, in whatever is made of an answer, the members in our words: what is wrong with it, and what is lost."""
LATEST = 16
"""So many of the tokens and signatures that were sent last are known, beside those of calls under way."""


class Secrets:
    """The secrets of one source: those of its settings, and those that were had or made since, the latest of them.

    published: texts that stay as they are, though a secret may be the same: words of the vendor's documents, and ours.
    """

    def __init__(self, known: Iterable[str] = (), *, published: Iterable[str] = ()) -> None:
        self._known = tuple(filter(None, known))
        self._published = frozenset(published)
        self._latest: deque[str] = deque(maxlen=LATEST)
        self._under_way: list[str] = []
        self._cleaner: Cleaner | None = None

    @classmethod
    def of(cls, settings: BaseModel) -> Secrets:
        """Return those that stand in settings, wherever in them."""
        return cls(_secrets_in(settings))

    def spare(self, published: Iterable[str]) -> None:
        """Exempt words: a text that is exactly one of these stays as it is."""
        self._published |= frozenset(published)
        self._cleaner = None

    def keep(self, text: str) -> None:
        """Add one that is kept for good: for what is derived from the settings, as the header of HTTP Basic."""
        self._known += (text,)
        self._cleaner = None

    def add(self, *texts: str) -> None:
        """Add some that were had or made; only the latest LATEST are kept."""
        if new := [text for text in texts if text and text not in self._latest]:
            self._latest.extend(new)
            self._cleaner = None

    @contextmanager
    def sent(self, text: str) -> Iterator[None]:
        """Keep one for as long as the block lasts, in which a call is made with it, however many others are added."""
        # Beside the latest: a slow call sees hundreds of signatures made for others before its own answer is read.
        self._under_way.append(text)
        self._cleaner = None
        try:
            yield
        finally:
            self._under_way.remove(text)
            self.add(text)

    @property
    def cleaner(self) -> Cleaner:
        """Return the cleaner for the secrets known by now, made anew only when they change; it can be pickled."""
        if self._cleaner is None:
            self._cleaner = Cleaner((*self._known, *self._latest, *self._under_way), self._published)
        return self._cleaner

    @contextmanager
    def redacting_errors(self) -> Iterator[None]:
        """Remove secrets from an UpstreamError that is raised inside."""
        try:
            yield
        except UpstreamError as error:
            if (clean := self.cleaner.error(error)) is error:
                raise
            raise clean from None  # not `from error`: its text would be in the traceback


class Cleaner:
    """Blots out secrets, in each form in which one may stand in a text."""

    def __init__(self, secrets: tuple[str, ...], published: frozenset[str]) -> None:
        self._secrets = secrets
        self._published = published

    def __reduce__(self) -> tuple[object, ...]:
        return Cleaner, (self._secrets, self._published)

    @cached_property
    def _all(self) -> list[str]:
        # The longest first: a form that is a part of another would otherwise leave the rest of that one readable.
        forms = {form for secret in self._secrets for form in _forms(secret)}
        return sorted(forms, key=lambda form: (-len(form), form))

    @cached_property
    def _forms(self) -> list[str]:
        return [form for form in self._all if len(form) >= SHORT]

    @cached_property
    def _long(self) -> list[str]:
        return [form for form in self._all if len(form) >= LONG]

    @cached_property
    def _short(self) -> re.Pattern[str] | None:
        short = [_by_itself(form) for form in self._all if len(form) < SHORT]
        return re.compile("|".join(short)) if short else None

    def text(self, text: str) -> str:
        """Return a text of an upstream without secrets."""
        if text in self._published:
            return text
        text = self._without(text, self._forms)
        if self._short is not None:
            text = self._short.sub(MASK, text)
        return self._without_beginning(text) if text.endswith(CUT) else text

    def error(self, error: UpstreamError) -> UpstreamError:
        """Return an error without secrets: any of them in what the upstream said, the LONG ones in all of its text.

        A secret that is also one of our words stays in these: there, to blot it out would be to tell it.
        """
        said = self.text(error.said)
        ours = str(error).removesuffix(error.said)
        text = self._without(ours, self._long) + said
        if text == str(error):
            return error
        clean = copy.copy(error)
        clean.args, clean.said = (text,), said
        return clean

    def value(self, value: T) -> T:
        """Return whatever was read of an answer without secrets; the same object if there are none in it.

        Ids, which come in sets, and our own words (WHY) lose LONG secrets alone: a short one may be a part of either.
        The id that an answer is about is the one that was asked for, and stays.
        """
        if not self._secrets:
            return value
        texts: list[str] = []
        _collect(value, texts)
        if not texts or not self._hold(texts):
            return value
        return self._freed(value)  # type: ignore[no-any-return]  # of the same type

    def _hold(self, texts: list[str]) -> bool:
        """Return whether there may be something to redact, at the price of one search per form.

        Nearly all answers hold no secret, and are neither walked through again nor copied.
        """
        joined = "\0".join(texts)  # NUL is in no form, so nothing matches across two texts
        if any(form in joined for form in self._forms) or f"{CUT}\0" in f"{joined}\0":
            return True
        return self._short is not None and self._short.search(joined) is not None

    def _freed(self, value: Any) -> Any:  # noqa: ANN401 - of the same type as value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self._freed(name): self._freed(member) for name, member in value.items()}
        if isinstance(value, set | frozenset):
            return type(value)(self._without(item, self._long) if isinstance(item, str) else item for item in value)
        if isinstance(value, list | tuple):
            items = [self._freed(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        if names := _said(type(value)):
            return replace(value, **{name: self._member(name, getattr(value, name)) for name in names})
        return value

    def _member(self, name: str, member: Any) -> Any:  # noqa: ANN401 - same
        if name == WHY:
            return self._without(member, self._long)
        if name == UNREADABLE and isinstance(member, tuple):
            return tuple(self._without(each, self._long) for each in member)
        return self._freed(member)

    def _without(self, text: str, forms: Iterable[str]) -> str:
        for form in forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def _without_beginning(self, text: str) -> str:
        """Redact the beginning of a secret at the end of a text that was cut, where no whole form matches."""
        whole = text.removesuffix(CUT)
        for form in self._forms:
            at = whole.find(form[:SHORT], max(0, len(whole) - len(form)))
            while at >= 0:
                if form.startswith(whole[at:]):
                    return whole[:at] + MASK + CUT
                at = whole.find(form[:SHORT], at + 1)
        return text


NOTHING_SECRET = Secrets()


def _secrets_in(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _secrets_in(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from _secrets_in(member)


@lru_cache(maxsize=4 * LATEST)
def _forms(secret: str) -> frozenset[str]:
    """Return how a secret may be written: as it is, on one line, and escaped as in a URL, JSON, XML or HTML."""
    # An upstream escapes what it echoes for where it puts it: HTML, JSON (with or without \/), a URL in either case of
    # hex digits. Texts are put on one line before they are told, and base64 may stand without its padding.
    plain = {secret, " ".join(secret.split()), secret.rstrip("=")}
    escaped: set[str] = set()
    for text in plain:
        percent = (quote(text, safe=""), quote_plus(text, safe=""), quote(text))
        escaped.update(percent, (_lower(each) for each in percent))
        escaped.update(
            (html.escape(text), html.escape(text, quote=False), html.escape(text).replace("&#x27;", "&apos;"))
        )
        for written in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
            escaped.update((written, written.replace("/", "\\/")))
    return frozenset(form for form in plain | escaped if form)


def _lower(percent: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), percent)


def _by_itself(form: str) -> str:
    """Make the expression for a short secret that is not a part of a word."""
    return rf"(?:(?<![^\W_])|(?<=%[0-9A-Fa-f]{{2}})){re.escape(form)}(?![^\W_])"


def _collect(value: Any, texts: list[str]) -> None:  # noqa: ANN401 - its type is told by comparison, which is quicker
    """Append every text in a value, however deep."""
    kind = type(value)
    if kind is str:
        texts.append(value)
    elif kind is frozenset or kind is set:
        texts.extend(item for item in value if type(item) is str)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, texts)
    elif isinstance(value, Mapping):
        for name, member in value.items():
            _collect(name, texts)
            _collect(member, texts)
    else:
        for name in _said(kind):
            _collect(getattr(value, name), texts)


def _said(kind: type[object]) -> tuple[str, ...]:
    """Name the members of a dataclass that an upstream had a say in; nothing of any other type."""
    if kind not in _NAMES:
        _NAMES[kind] = tuple(member.name for member in fields(kind)) if is_dataclass(kind) else ()
    return _NAMES[kind]


_NAMES: dict[type[object], tuple[str, ...]] = {
    Observation: ("facets", "failure", "detail"),
    Unchanged: (),
    Unreadable: (WHY,),
}
