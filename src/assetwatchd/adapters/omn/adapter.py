"""OMN: polled by POST, many assets a call, two independent states an asset; XML, or JSON in forms that are [assumed].

Source: the status call as published with release 5.x, and the vendor's developer guide, releases 5.12 to 6.4.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack

from assetwatchd import logins, texts, xml
from assetwatchd.adapters.omn.tokens import tokens_for
from assetwatchd.answers import NOTHING_KNOWN, digest, unless_known
from assetwatchd.credentials import with_token
from assetwatchd.details import OmnDetail
from assetwatchd.errors import BadAnswer, Refused, UpstreamError
from assetwatchd.jsonbody import HTML_TYPES, bounded, decode, list_of, object_of, reason_in, text_of
from assetwatchd.model import Facet, Failure, FailureKind, Observation, State
from assetwatchd.reading import Reading
from assetwatchd.transport import Reply, Transport, raise_for_status
from assetwatchd.upstream import Capabilities, listed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence

    from lxml.etree import _Element as Element

    from assetwatchd.answers import Answer, Known
    from assetwatchd.config import OmnSource
    from assetwatchd.upstream import Notice

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# 1. Facts --------------------------------------------------------------------------------------------------------

STATUS_PATH = "/api/core/v1/dam/assets/status"
QUERY_PATH = "/api/core/v1/dam/assets/query"
ACCEPT = {"xml": "application/xml", "json": "application/json", "json_compact": "application/json+compact"}
XML_TYPES = frozenset({"application/xml", "text/xml"})
ID = re.compile(r"tid:(?=\S)[^\x00-\x1f\x7f]+|id:(?:0|[1-9][0-9]{0,18})")
PROBE_TID = "00000000-0000-0000-0000-00000000000"  # of the published shape, 35 characters, and nobody's
OK, NOT_FOUND = 200, 404

IMPORT_STATES = {
    "pending": State.PENDING,
    "running": State.PROCESSING,
    "available": State.AVAILABLE,
    "incomplete": State.FAILED,
}
OBJECT_STATES = {
    "import incomplete": State.PROCESSING,
    "available": State.AVAILABLE,
    "locked": State.AVAILABLE,
    "marked for deletion": State.DELETING,
}
PUBLISHED = frozenset({*IMPORT_STATES, *OBJECT_STATES, "import", "object"})
ANSWERS, ERRORS = frozenset({"assets", "pim", "tids"}), frozenset({"response", "issues"})
"""Members of an answer in JSON, and of an error document [assumed]."""
ERROR_DOCUMENT = "HTTP 200 with an error document"
LOCKED = "locked"
INCOMPLETE = "incomplete"

COMBINED = (
    # ImportState, ObjectState -> state; None matches anything, the first match wins
    (None, "marked for deletion", State.DELETING),
    ("incomplete", None, State.FAILED),
    ("pending", None, State.PENDING),
    ("running", None, State.PROCESSING),
    ("available", "locked", State.AVAILABLE),
    ("available", "import incomplete", State.PROCESSING),
    ("available", "available", State.AVAILABLE),
)
"""How the two states are rolled up [assumed policy]; anything unlisted is UNKNOWN."""

# 2. Wire ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset of an answer: both ids, and its items by key."""

    tid: str
    id: str
    items: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> bytes:
        """What tells this asset, as it was read, from others."""
        return digest(repr((self.tid, self.id, self.items)).encode())


def request(form: str, values: Sequence[str]) -> bytes:
    """Make the body that asks by `tid` or by `id`; never both, for where there are tids, ids are ignored."""
    return json.dumps({f"{form}s": values}).encode()


def assets_of(reply: Reply, form: str) -> list[Asset] | None:
    """Read the answer of the status call: in the form its content type names, else in the one asked for.

    None is OMN's own 404: it lacks all of the assets, or [assumed] at least one. A 404 of anything else, say of a
    proxy, tells nothing of them. Raises: UpstreamError.
    """
    if reply.status == NOT_FOUND and reason_of(reply):
        return None
    if reply.status != OK:
        raise refusal(reply)
    if is_xml(reply, form=form):
        return _assets_in_xml(xml.parse(reply.body))
    return _assets_in_json(decode(reply))


def is_xml(reply: Reply, *, form: str) -> bool:
    """Tell whether to read an answer as XML. Raises: BadAnswer for HTML."""
    if reply.content_type in HTML_TYPES:
        raise BadAnswer(f"HTTP {reply.status}: an HTML page where an OMN document should be")
    if reply.content_type in XML_TYPES:
        return True
    return form == "xml" and "json" not in reply.content_type


def ids_of(reply: Reply, assets_max: int) -> frozenset[str]:
    """Read the answer of the query call. Raises: UpstreamError, whatever else it is."""
    if reply.status != OK:
        raise refusal(reply)
    if is_xml(reply, form="json"):
        raise logins.refusal(ERROR_DOCUMENT, reason_of(reply) or "no list of tids")
    document = object_of(decode(reply), "the answer")
    if reason := _error_in(document):
        raise logins.refusal(ERROR_DOCUMENT, reason)
    tids = list_of(document.get("tids"), "tids")
    if not all(isinstance(tid, str) and tid for tid in tids):
        raise BadAnswer("tids holds something that is no tid")
    return listed(frozenset(f"tid:{tid}" for tid in tids), assets_max)


def refusal(reply: Reply) -> UpstreamError:
    """Tell what an answer other than 200 means; the reason is quoted when there is an error document."""
    reason = reason_of(reply)
    try:
        raise_for_status(reply)
    except UpstreamError as exc:
        return type(exc)(str(exc), said=reason, retry_after_s=exc.retry_after_s, doubts_token=exc.doubts_token)
    if reason:
        error = Refused if logins.NOT_TAKEN.search(reason) else BadAnswer
        return error(f"HTTP {reply.status}", said=reason)
    return BadAnswer(f"HTTP {reply.status}: not an answer of OMN; check base_url")


def reason_of(reply: Reply) -> str:
    """Read the reason out of an error document, whose root is `response`; empty for anything else.

    How one looks in JSON is not published: it is told by its members [assumed] and not quoted.
    """
    try:
        if "json" in reply.content_type:
            body = decode(reply)
            told = isinstance(body, dict) and not ERRORS.isdisjoint(body)
            return "an error document in JSON" if told else ""
        root = xml.parse(reply.body)
    except BadAnswer:
        return ""
    return _reason_in(root) if xml.name(root) == "response" else ""


def _reason_in(root: Element) -> str:
    items = _items(root)
    reason = items.get("errorMessage") or items.get("description") or "no reason given"
    notes = [f"{name} {items[key]}" for name, key in (("code", "code"), ("support id", "supportId")) if key in items]
    return bounded(f"{reason} ({', '.join(notes)})" if notes else reason)


def _assets_in_xml(root: Element) -> list[Asset]:
    if xml.name(root) == "response":
        raise logins.refusal(ERROR_DOCUMENT, _reason_in(root))
    lists = [child for child in root if xml.name(child) == "assets"]
    if xml.name(root) != "pim" or not lists:
        raise BadAnswer("not the published answer: no pim document with assets")
    found = [asset for each in lists for asset in each if xml.name(asset) == "asset"]
    return [Asset(asset.get("tid", ""), asset.get("id", ""), _items(asset)) for asset in found]


def _items(element: Element) -> dict[str, str]:
    """Return every itm below element by its key, whatever their order; the first of a key counts.

    An itm is read with all that is in it; one inside another is not read again by itself.
    """
    items: dict[str, str] = {}
    left = list(reversed(element))
    while left:
        each = left.pop()
        if xml.name(each) == "itm":
            items.setdefault(each.get("key", ""), "".join(each.itertext()).strip())
        else:
            left += reversed(each)
    return items


def _assets_in_json(body: Any) -> list[Asset]:
    document = object_of(body, "the answer")
    if reason := _error_in(document):
        raise logins.refusal(ERROR_DOCUMENT, reason)
    document = object_of(document.get("pim", document), "pim")
    if "assets" not in document:
        raise BadAnswer("not the published answer: no assets")
    return [
        Asset(text_of(asset["tid"]), text_of(asset.get("id")), _json_items(asset.get("meta")))
        for asset in _holding_tid(document["assets"])
    ]


def _error_in(document: dict[str, Any]) -> str:
    """Return the reason in a document that tells an error in place of an answer; empty for an answer."""
    if not ANSWERS.isdisjoint(document):
        return ""
    told = "an error document in JSON" if not ERRORS.isdisjoint(document) else ""
    return reason_in(document.get("response")) or reason_in(document) or told


def _holding_tid(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the outermost objects with a tid, however they are listed: the forms are not published."""
    level = [value]
    while level:
        objects = [item for item in level if isinstance(item, dict)]
        yield from (item for item in objects if "tid" in item)
        level = [item for each in level if isinstance(each, list) for item in each]
        level += [item for each in objects if "tid" not in each for item in each.values()]


def _json_items(meta: Any) -> dict[str, str]:
    """Read items as an object (compact), or as a list under itm or itms with key and value, content or $."""
    if not isinstance(meta, dict):
        return {}
    pairs = [pair for name in ("itm", "itms") for pair in _listed(meta.get(name)) if isinstance(pair, dict)]
    folded = {key: text_of(value) for key, value in meta.items() if not isinstance(value, (dict, list))}
    return folded | {
        text_of(pair.get("key")): text_of(
            next((pair[name] for name in ("value", "content", "$") if name in pair), None)
        )
        for pair in pairs
    }


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# 3. Normalise ----------------------------------------------------------------------------------------------------


def read(reply: Reply, form: str, asset_ids: Sequence[str], known: Known) -> list[Answer] | None:
    """Read the answer of the status call about these assets; None is OMN's own 404. Raises: UpstreamError."""
    assets = assets_of(reply, form)
    return None if assets is None else normalise(asset_ids, assets, known)


def normalise(asset_ids: Sequence[str], assets: Iterable[Asset], known: Known = NOTHING_KNOWN) -> list[Answer]:
    """Make one observation for each asset asked for, in that order; what the answer lacks is MISSING."""
    found: dict[str, Asset] = {}
    for asset in assets:
        found[f"tid:{asset.tid}"] = found[f"id:{asset.id}"] = asset
    return [_answer(asset_id, found.get(asset_id), known) for asset_id in asset_ids]


def _answer(asset_id: str, asset: Asset | None, known: Known) -> Answer:
    if asset is None:
        return Observation(asset_id, State.MISSING)
    return unless_known(asset_id, asset.digest, known, lambda: observation(asset_id, asset))


def observation(asset_id: str, asset: Asset) -> Observation:
    """Read one asset. An incomplete import usually leaves a file that can be used, so its failure is DEGRADED."""
    imported, held = asset.items.get("ImportState", ""), asset.items.get("ObjectState", "")
    state = combine(imported, held)
    return Observation(
        asset_id,
        state,
        facets=facets(imported, held),
        failure=Failure(FailureKind.DEGRADED, imported) if state is State.FAILED else None,
        locked=held == LOCKED,
        detail=_detail(asset),
    )


def combine(import_state: str, object_state: str) -> State:
    """Look both states up in COMBINED."""
    for imported, held, state in COMBINED:
        if imported in (None, import_state) and held in (None, object_state):
            return state
    return State.UNKNOWN


def facets(import_state: str, object_state: str) -> tuple[Facet, Facet]:
    """Make the two facets; a check-in that is not finished has failed when the import has."""
    held = OBJECT_STATES.get(object_state, State.UNKNOWN)
    if held is State.PROCESSING and import_state == INCOMPLETE:
        held = State.FAILED
    return (
        Facet("import", IMPORT_STATES.get(import_state, State.UNKNOWN), import_state),
        Facet("object", held, object_state),
    )


def _detail(asset: Asset) -> OmnDetail:
    others = {key: value for key, value in asset.items.items() if key not in ("ImportState", "ObjectState")}
    return OmnDetail(
        asset.tid, asset.id, asset.items.get("ImportState", ""), asset.items.get("ObjectState", ""), others or None
    )


# 4. Upstream -----------------------------------------------------------------------------------------------------


class Omn:
    """One OMN installation; clock gives epoch seconds for tokens. Raises: ConfigError for an unusable signing key."""

    def __init__(self, source: str, settings: OmnSource, *, clock: Callable[[], float] = time.time) -> None:
        xml.load()
        self.capabilities = Capabilities(batch_max=settings.batch_size, enumerates=True)
        self._settings = settings
        self._transport = Transport(source, settings)
        self._transport.secrets.spare(PUBLISHED)
        self._reading = Reading(self._transport.secrets)
        self._tokens = tokens_for(settings, self._transport, self._reading, clock=clock)
        self._leaves_out = False

    def check(self, asset_id: str) -> str | None:
        """An id is `tid:` and opaque text, or `id:` and a number."""
        return (
            texts.unfit(asset_id)
            if ID.fullmatch(asset_id)
            else "should be tid: and a technical id, or id: and a number of digits"
        )

    async def probe(self) -> None:
        """Ask for an asset that nobody has; there is no cheaper call that wants credentials."""
        await self._statuses("tid", [f"tid:{PROBE_TID}"])

    async def observe(self, asset_ids: Sequence[str], known: Known = NOTHING_KNOWN) -> Sequence[Answer]:
        """Read up to batch_max assets; two calls when some are named by tid and some by id."""
        found: dict[str, Answer] = {}
        for form in ("tid", "id"):
            if asked := [asset_id for asset_id in asset_ids if asset_id.startswith(f"{form}:")]:
                found.update((answer.asset_id, answer) for answer in await self._find(form, asked, known))
        return [found[asset_id] for asset_id in asset_ids]

    async def enumerate(self) -> frozenset[str]:
        """List what the configured query finds."""
        query = json.dumps(self._settings.query).encode()
        return await self._ask(QUERY_PATH, query, "json", ids_of, self._settings.assets_max)

    def notices(self) -> AsyncGenerator[Notice]:
        """Raise: there is nothing that pushes."""
        raise NotImplementedError

    async def close(self) -> None:
        """Give back connections."""
        await self._transport.close()
        await self._reading.close()

    async def _find(self, form: str, asset_ids: Sequence[str], known: Known) -> Sequence[Answer]:
        """Read assets by tid or id.

        Whether one unknown id fails a whole call is not published. So a 404 for several is asked again in halves, until
        an answer that left something out has shown that this server does not do that.
        """
        found = await self._statuses(form, asset_ids, known)
        if found is not None:
            self._leaves_out = self._leaves_out or any(_is_missing(answer) for answer in found)
            return found
        if len(asset_ids) == 1 or self._leaves_out:
            return [Observation(asset_id, State.MISSING) for asset_id in asset_ids]
        half = len(asset_ids) // 2
        first = await self._find(form, asset_ids[:half], known)
        return [*first, *await self._find(form, asset_ids[half:], known)]

    async def _statuses(
        self, form: str, asset_ids: Sequence[str], known: Known = NOTHING_KNOWN
    ) -> Sequence[Answer] | None:
        """Make the status call for assets that are all named in one form; None is OMN's 404."""
        body, answer = request(form, [asset_id.partition(":")[2] for asset_id in asset_ids]), self._settings.answer
        return await self._ask(STATUS_PATH, body, answer, read, answer, asset_ids, known)

    async def _ask(self, path: str, body: bytes, form: str, read: Callable[[Reply, Unpack[Ts]], T], *given: *Ts) -> T:
        """Make one call and read its answer; a token that seems dead is replaced once, where that is possible."""

        async def ask(token: str) -> T:
            return await self._reading.read(await self._send(path, body, token, form=form), read, *given)

        return await with_token(self._tokens, ask)

    async def _send(self, path: str, body: bytes, token: str, *, form: str) -> Reply:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": ACCEPT[form]}
        return await self._transport.raw("POST", path, headers=headers, body=body, idempotent=True)


def _is_missing(answer: Answer) -> bool:
    return isinstance(answer, Observation) and answer.state is State.MISSING
