"""Oracle Session Border Controller: its last asynchronous operation, polled XML behind a short-lived token.

Source: the vendor's REST guides for releases 8.2 to 10.1, and a third-party client tested on 8.3 for what they leave
out. A device has one slot, which anybody's operation overwrites: equal answers do not prove one operation.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from assetwatchd.model.details import OracleSbcDetail
from assetwatchd.model.errors import AssetRejected, BadAnswer
from assetwatchd.model.values import Facet, Failure, FailureKind, Observation, State
from assetwatchd.upstream import logins
from assetwatchd.upstream.answers import NOTHING_KNOWN, unless_known
from assetwatchd.upstream.bodies import xml
from assetwatchd.upstream.bodies.jsonbody import bounded
from assetwatchd.upstream.bodies.reading import Reading
from assetwatchd.upstream.credentials import TOKEN_BYTES_MAX, basic, with_token
from assetwatchd.upstream.http.transport import Reply, Transport, raise_for_status
from assetwatchd.upstream.port import Capabilities, Listed, Notice

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence

    from lxml.etree import _Element as Element

    from assetwatchd.model.errors import UpstreamError
    from assetwatchd.settings.schema import OracleSbcSource
    from assetwatchd.upstream.answers import Answer, Known

# 1. Facts -------------------------------------------------------------------------------------------------------------

ASSET_ID = "last-operation"
STATUS_PATH = "/rest/{version}/admin/asyncstatus"
TOKEN_PATH = "/rest/{version}/auth/token"  # noqa: S105 - a path
VERSIONS_PATH = "/rest/api/supportedversions"
"""The one path without a version; with one it is answered 404."""

TOKEN_AGE_S_MAX = 480.0
"""A token lives ten minutes, counted from its issue [assumed]; it is renewed two minutes before."""

SUCCESS = "success"
FAILING = re.compile(r"fail|error", re.IGNORECASE)
"""That there is a failing status is published, its spelling is not [assumed]."""
RUNNING = frozenset({"inprogress", "running", "pending", "processing", "started", "executing", "working", "queued"})
"""Letters of the statuses that mean progress; none is published [assumed]."""
IDLE = "idle"
"""Our word for a slot without an operation: nothing has run since boot."""
PUBLISHED = frozenset({SUCCESS, IDLE, "operation", *RUNNING})

STATE_ELEMENT = "operationState"
NATIVE_ELEMENTS = ("operation", "status")
INFO_ELEMENT = "additionalInfo"
KNOWN_ELEMENTS = frozenset({STATE_ELEMENT, INFO_ELEMENT, *NATIVE_ELEMENTS})

ERRORS = frozenset({"response", "error", "errors", "fault"})
"""Roots of documents that tell an error where an answer should be; none is published [assumed]."""

OK = 200
UNAUTHORISED = 401
NOT_FOUND = 404
REFUSALS = {
    400: "malformed or missing information",
    404: "the device does not support this version; correct version",
    406: "the device does not make XML; correct base_url",
    426: "the device needs https; correct base_url",
}
"""Published refusals beside 401 and 403, which are credentials'."""

VERSION_FORM = re.compile(r"v(\d{1,6})\.(\d{1,6})")
TOKEN_FORM = re.compile(rf"[!-~]{{1,{TOKEN_BYTES_MAX}}}")


# 2. Wire --------------------------------------------------------------------------------------------------------------


class Operation(NamedTuple):
    """The content of the slot. message is every text found beside the state, however its element is called."""

    operation: str = ""
    status: str = ""
    message: str = ""
    additional_info: str = ""


def decode(reply: Reply) -> Element:
    """Return the <data> of a 200, the one part of the triple data, messages and links that holds the answer.

    Raises: BadAnswer.
    """
    if reply.status != OK:
        text = f"HTTP {reply.status}: {REFUSALS.get(reply.status, 'not an answer to this call')}"
        raise BadAnswer(text, said=reason_of(reply))
    root = xml.parse(reply.body, reply.headers.get("Content-Type", ""))
    data = _child(root, "data") if xml.name(root) == "response" else None
    if data is None:
        raise _instead(root)
    return data


def reason_of(reply: Reply) -> str:
    """Read what a refusal says of itself in /response/messages; empty for anything else."""
    try:
        root = xml.parse(reply.body, reply.headers.get("Content-Type", ""))
    except BadAnswer:
        return ""
    return bounded("; ".join(filter(None, _messages(root)))) if xml.name(root) == "response" else ""


def _instead(root: Element) -> UpstreamError:
    """Tell what a document without data is: an error document, if its root may be one of those and has any text."""
    if xml.name(root) in ERRORS and (reason := bounded(_text(root))):
        return logins.refusal(f"HTTP {OK} with an error document", reason)
    return BadAnswer("XML without /response/data; correct base_url")


def decode_operation(reply: Reply) -> Operation:
    """Read the slot.

    Raises: BadAnswer when in place of an operation there are messages, which are the call's; Refused for such a text
    about credentials.
    """
    data = decode(reply)
    state, info = _child(data, STATE_ELEMENT), _child(data, INFO_ELEMENT)
    beside = (*data, *(() if state is None else state))
    texts = [_text(each) for each in beside if xml.name(each) not in KNOWN_ELEMENTS]
    operation, status = (_text(_child(data, STATE_ELEMENT, name)) for name in NATIVE_ELEMENTS)
    message = "; ".join(filter(None, [*texts, *_messages(data.getparent())]))
    in_place = state is None and message and not any(texts)
    if in_place or (state is None and logins.NOT_TAKEN.search(bounded(message))):
        raise logins.refusal(f"HTTP {OK} with an error document", bounded(message))
    return Operation(
        operation=operation,
        status=status,
        message=message,
        additional_info="" if info is None else xml.content(info),
    )


def decode_token(reply: Reply) -> str:
    """Read /response/data/accessToken. Raises: BadAnswer."""
    token = _text(_child(decode(reply), "accessToken"))
    if not TOKEN_FORM.fullmatch(token):
        raise BadAnswer("an answer without a usable accessToken")
    return token


def decode_latest_version(reply: Reply) -> str:
    """Read the latest of the supported versions. Raises: BadAnswer."""
    listed = [text for each in decode(reply).iter() if VERSION_FORM.fullmatch(text := (each.text or "").strip())]
    if not listed:
        raise BadAnswer("a list of supported versions without any")
    return max(listed, key=lambda version: [int(part) for part in version[1:].split(".")])


def _messages(response: Element | None) -> Iterator[str]:
    """Yield the items of /response/messages: an object in 8.2, an array later; links among them are none."""
    messages = None if response is None else _child(response, "messages")
    if messages is not None:
        yield (messages.text or "").strip()
        yield from (_text(each) for each in messages if xml.name(each) != "link")


def _child(parent: Element, *names: str) -> Element | None:
    """Return the first descendant along names, in whatever namespace."""
    found: Element | None = parent
    for name in names:
        found = None if found is None else next((each for each in found if xml.name(each) == name), None)
    return found


def _text(element: Element | None) -> str:
    return "" if element is None else " ".join("".join(element.itertext()).split())


# 3. Normalise ---------------------------------------------------------------------------------------------------------


def read(reply: Reply, known: Known = NOTHING_KNOWN) -> Answer:
    """Read the answer to a status call. Raises: BadAnswer."""
    return unless_known(ASSET_ID, reply.digest, known, lambda: normalise(decode_operation(reply)))


def normalise(slot: Operation) -> Observation:
    """Make an observation of the slot; whether the same work would succeed when tried again, it does not say."""
    state = state_of(slot)
    native = IDLE if slot == Operation() else slot.status
    failure = Failure(FailureKind.RETRYABLE, slot.status, slot.message) if state is State.FAILED else None
    return Observation(
        ASSET_ID,
        state,
        facets=(Facet("operation", state, native, slot.message),),
        failure=failure,
        detail=OracleSbcDetail(slot.operation, slot.status, slot.message, slot.additional_info),
    )


def state_of(slot: Operation) -> State:
    """Judge by the status word first; a text inside <data> is a failure's, unless the word says otherwise."""
    word = re.sub(r"[^a-z]", "", slot.status.lower())
    if word == SUCCESS:
        return State.AVAILABLE
    if word in RUNNING:
        return State.PROCESSING
    return State.FAILED if slot.message or FAILING.search(slot.status) else State.UNKNOWN


# 4. Upstream ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Token:
    """A token and when it was asked for, in seconds since 1970."""

    text: str = field(repr=False)
    asked_at: float

    def is_young(self, now: float) -> bool:
        """Tell whether it can still be used; one from the future, after a clock was set back, cannot."""
        return 0 <= now - self.asked_at < TOKEN_AGE_S_MAX


class SessionTokens:
    """The token of the session that there is; log_in begins one. Who needs a token at the same time shares it."""

    def __init__(self, log_in: Callable[[], Awaitable[Token]], clock: Callable[[], float]) -> None:
        self._log_in = log_in
        self._clock = clock
        self._token: Token | None = None
        self._renewal = asyncio.Lock()

    async def current(self) -> str:
        """Return the token, a new one if need be. Raises: UpstreamError."""
        # Under a lock, so that calls at the same time log in once and share the token.
        async with self._renewal:
            if self._token is None or not self._token.is_young(self._clock()):
                self._token = await self._log_in()
            return self._token.text

    def forget(self, token: str) -> bool:
        """Let go of a token that seems dead, unless somebody has renewed it since."""
        if self._token is not None and self._token.text == token:
            self._token = None
        return True


class OracleSbc:
    """One device. clock tells seconds since 1970, for the age of the token."""

    capabilities = Capabilities()

    def __init__(self, source: str, settings: OracleSbcSource, *, clock: Callable[[], float] = time.time) -> None:
        xml.load()
        self._settings = settings
        self._transport = Transport(source, settings)
        self._basic = basic(settings.username, settings.password)
        self._transport.secrets.keep(self._basic)
        self._transport.secrets.spare(PUBLISHED)
        self._reading = Reading(self._transport.secrets)
        self._clock = clock
        self._version = settings.version
        self._tokens = SessionTokens(self._new_token, clock)

    def check(self, asset_id: str) -> str | None:
        """Say why asset_id cannot be an id of an SBC."""
        return None if asset_id == ASSET_ID else f"is not {ASSET_ID!r}, the only asset a device has"

    async def probe(self) -> None:
        """Read the slot: nothing less shows that the account is an administrator's."""
        await self._slot()

    async def observe(self, asset_ids: Sequence[str], known: Known = NOTHING_KNOWN) -> Sequence[Answer]:
        """Read the slot once."""
        if set(asset_ids) != {ASSET_ID}:
            raise AssetRejected(f"a device has no asset but {ASSET_ID}")
        return [await self._slot(known)] * len(asset_ids)

    async def enumerate(self) -> Listed:
        """Raise: a slot is not a list."""
        raise NotImplementedError

    def notices(self) -> AsyncGenerator[Notice]:
        """Raise: there is nothing that pushes."""
        raise NotImplementedError

    async def close(self) -> None:
        """Give back connections; the token ends by itself, for there is no call that ends it."""
        await self._transport.close()
        await self._reading.close()

    async def _slot(self, known: Known = NOTHING_KNOWN) -> Answer:
        """Ask with the token there is, and once more with a new one when that one seems dead."""

        async def ask(token: str) -> Answer:
            reply = await self._call("GET", STATUS_PATH, f"Bearer {token}")
            raise_for_status(reply)
            return await self._reading.read(reply, read, known)

        return await with_token(self._tokens, ask)

    async def _new_token(self) -> Token:
        asked_at = self._clock()  # before the call, so that no token is taken for younger than it is
        reply = await self._call("POST", TOKEN_PATH, f"Basic {self._basic}")
        raise_for_status(reply)
        token = await self._reading.credential(reply, decode_token)
        self._transport.secrets.add(token)
        return Token(token, asked_at)

    async def _call(self, method: str, path: str, authorization: str) -> Reply:
        """Make one call; a 404 means that the version is not supported, so one that is gets one more."""
        headers = {"Authorization": authorization, "Accept": "application/xml"}
        tried = self._version
        reply = await self._transport.raw(method, path.format(version=tried), headers=headers)
        if reply.status == NOT_FOUND:
            await self._replace_version(tried)
            reply = await self._transport.raw(method, path.format(version=self._version), headers=headers)
        return reply

    async def _replace_version(self, tried: str) -> None:
        """Take the latest version that the device supports; it tells without a token [assumed]."""
        reply = await self._transport.raw("GET", VERSIONS_PATH, headers={"Accept": "application/xml"})
        if reply.status == UNAUTHORISED:
            raise BadAnswer(f"the device does not support {tried}, nor tell what it does; correct version")
        raise_for_status(reply)
        latest = await self._reading.read(reply, decode_latest_version)
        if latest == tried:  # then the 404 is not due to the version, and the same call would end in it again
            raise BadAnswer(f"HTTP {NOT_FOUND} although the device supports {tried}")
        self._version = latest
