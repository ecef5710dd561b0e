"""OMN: polled by POST, many assets a call, two independent states an asset; XML, or JSON in forms that are [assumed].

Source: the status call as published with release 5.x, and the vendor's developer guide, releases 5.12 to 6.4.
"""

from __future__ import annotations

import json
import re
import time
from codecs import BOM_UTF8
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple, Unpack

from assetwatchd.adapters.omn.tokens import tokens_for
from assetwatchd.model import texts
from assetwatchd.model.details import OmnDetail
from assetwatchd.model.errors import BadAnswer, Refused, UpstreamError
from assetwatchd.model.values import Facet, Failure, FailureKind, Observation, State
from assetwatchd.upstream import logins
from assetwatchd.upstream.answers import NOTHING_KNOWN, Unreadable, digest, unless_known
from assetwatchd.upstream.bodies import lenient, xml
from assetwatchd.upstream.bodies.jsonbody import bounded, decode, list_of, object_of, reason_in
from assetwatchd.upstream.bodies.lenient import Members
from assetwatchd.upstream.bodies.oddtext import REPLACEMENT
from assetwatchd.upstream.bodies.reading import Reading
from assetwatchd.upstream.credentials import with_token
from assetwatchd.upstream.http.transport import Reply, Transport, raise_for_status
from assetwatchd.upstream.port import Capabilities, Listed, listed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence

    from lxml.etree import _Element as Element
    from pydantic import JsonValue

    from assetwatchd.settings.schema import OmnSource
    from assetwatchd.upstream.answers import Answer, Known
    from assetwatchd.upstream.port import Notice

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

IMPORT, OBJECT = "ImportState", "ObjectState"
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
ROOTS = frozenset({"pim", "response"})
"""Roots of an answer in XML, and of an error document."""
REASON = "errorMessage"
"""The item that says what went wrong; [assumed] also in an answer of no assets, which then says nothing of them."""
ERROR_DOCUMENT = "HTTP 200 with an error document"
BARE: dict[type, str] = {
    list: "HTTP 200 with a list in place of an answer",
    str: "HTTP 200 with a text in place of an answer",
}
"""What in JSON may tell of an error though it is no document."""
JSON, BEGIN_BYTES = (b"{", b"["), 256
"""So begins JSON, after at most so much white space."""
NAME_LENGTH = 80
"""Of a document's root, in an error."""
TOTALS = ("total", "totalCount", "totalHits", "totalElements", "totalResults")
CUT_SHORT = ("hasMore", "more", "truncated", "incomplete")
NEXT = ("next", "nextPage", "nextLink", "nextCursor", "nextToken", "nextPageToken", "continuationToken")
PAGES = ("totalPages", "totalPage", "pageCount")
"""Members by which a list may say that it is not whole [assumed]; there is no call for the rest."""
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

ITEM_LISTS = ("itm", "itms")
CONTENT = ("value", "content", "$")
NAMELESS = "the answer leaves the asset out, but holds one whose id cannot be read"
ANOTHER = "the answer leaves the asset out, but holds one that was not asked for"

# 2. Wire ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset of an answer: both ids, empty where they cannot be read, and its items by key. unreadable: as there."""

    tid: str = ""
    id: str = ""
    items: Mapping[str, str] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()

    @property
    def digest(self) -> bytes:
        """Return the digest of this asset as it was read."""
        return digest(repr((self.tid, self.id, self.items, self.unreadable)).encode())

    @property
    def lack(self) -> str:
        """Say what of its state cannot be read, where the state depends on it; empty when nothing is amiss."""
        states = [self.items.get(name, "") for name in (IMPORT, OBJECT)]
        missing = [name for name, state in zip((IMPORT, OBJECT), states, strict=True) if not state]
        if not missing or combine(*states) is not State.UNKNOWN:
            return ""
        return f"the answer has no {' and no '.join(missing)} that could be read"


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
    # A document of OMN may call itself HTML; an HTML page that is none must be told as a page, not as bad XML.
    if reply.content_type in logins.HTML_TYPES:
        return _assets_in_html(reply)
    if is_xml(reply, form=form):
        return _assets_in_xml(parsed(reply))
    return _assets_in_json(decode(reply))


def is_xml(reply: Reply, *, form: str) -> bool:
    """Tell whether to read an answer as XML; what begins as JSON is none, whatever it is called."""
    if reply.body[:BEGIN_BYTES].removeprefix(BOM_UTF8).lstrip().startswith(JSON):
        return False
    return reply.content_type in XML_TYPES or (form == "xml" and "json" not in reply.content_type)


def parsed(reply: Reply) -> Element:
    """Read an answer as XML. Raises: BadAnswer."""
    return xml.parse(reply.body, reply.headers.get("Content-Type", ""))


def _assets_in_html(reply: Reply) -> list[Asset]:
    """Read what calls itself HTML, and may be a document of OMN all the same. Raises: UpstreamError."""
    try:
        body = decode(reply)
    except BadAnswer:
        return _assets_in_xml(_root_in_html(reply))
    return _assets_in_json(body)


def _root_in_html(reply: Reply) -> Element:
    try:
        root = parsed(reply)
    except BadAnswer:
        root = None
    if root is None or xml.name(root) not in ROOTS:
        raise BadAnswer(f"HTTP {reply.status}: an HTML page where an OMN document should be", doubts_token=True)
    return root


def ids_of(reply: Reply, assets_max: int) -> Listed:
    """Read the answer of the query call. Raises: UpstreamError, whatever else it is."""
    if reply.status != OK:
        raise refusal(reply)
    if is_xml(reply, form="json"):
        root = parsed(reply)
        raise logins.refusal(ERROR_DOCUMENT, _reason_in(root)) if xml.name(root) == "response" else _other_root(root)
    document = _answer_in(decode(reply))
    members = Members(document)
    nothing = document.get("tids") is None and any(members.whole_number(name) == 0 for name in TOTALS)
    tids = [] if nothing else list_of(document.get("tids"), "tids")
    return _as_long_as_it_says(listed((_asset_id(tid) for tid in tids), assets_max), len(tids), members)


def _as_long_as_it_says(found: Listed, count: int, document: Members) -> Listed:
    """Return the list, lacking what it says of itself that there is more."""
    total = max((document.whole_number(name) or 0 for name in TOTALS), default=0)
    cut = any(document.flag(name) for name in CUT_SHORT) or any(document.given.get(name) for name in NEXT)
    cut = cut or any((document.whole_number(name) or 0) > 1 for name in PAGES)
    if total <= count and not cut:
        return found
    why = (
        f"it says that it has {texts.counted(total, 'asset')}, and holds {count}"
        if total > count
        else "it says that there is more"
    )
    return replace(found, unreadable=found.unreadable + max(1, total - count), why=found.why or why)


def _asset_id(tid: JsonValue) -> str | None:
    return f"tid:{text}" if not isinstance(tid, bool) and (text := lenient.text(tid)) else None


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
        root = parsed(reply)
    except BadAnswer:
        return ""
    return _reason_in(root) if xml.name(root) == "response" else ""


def _reason_in(root: Element) -> str:
    items = _items(root)
    reason = items.get(REASON) or items.get("description") or "no reason given"
    notes = [f"{name} {items[key]}" for name, key in (("code", "code"), ("support id", "supportId")) if key in items]
    return bounded(f"{reason} ({', '.join(notes)})" if notes else reason)


def _assets_in_xml(root: Element) -> list[Asset]:
    if xml.name(root) == "response":
        raise logins.refusal(ERROR_DOCUMENT, _reason_in(root))
    lists = [child for child in root if xml.name(child) == "assets"]
    if xml.name(root) != "pim":
        raise _other_root(root)
    if not lists:
        raise BadAnswer("not the published answer: a pim document without assets")
    found = [asset for each in lists for asset in each if xml.name(asset) == "asset"]
    if not found and _items(root).get(REASON):
        raise logins.refusal(ERROR_DOCUMENT, _reason_in(root))
    return [Asset(asset.get("tid", ""), asset.get("id", ""), _items(asset)) for asset in found]


def _other_root(root: Element) -> UpstreamError:
    """Tell of a document in XML that is neither an answer nor an error document; its root's name is theirs."""
    return logins.refusal("not the published answer: the root of the document is", bounded(xml.name(root), NAME_LENGTH))


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


def _assets_in_json(body: JsonValue) -> list[Asset]:
    document = _answer_in(body)
    document = object_of(document.get("pim", document), "pim")
    if "assets" not in document:
        raise BadAnswer("not the published answer: no assets")
    found = [_asset_in_json(item) for item in _items_of(document["assets"])]
    if not found and (reason := _json_items(Members(document).object("meta")).get(REASON)):
        raise logins.refusal(ERROR_DOCUMENT, bounded(reason))
    return found


def _answer_in(body: JsonValue) -> dict[str, JsonValue]:
    """Return a document that is an answer. Raises: BadAnswer; Refused for one that speaks of credentials."""
    if reason := _error_in(body):
        raise logins.refusal(ERROR_DOCUMENT if isinstance(body, dict) else BARE[type(body)], reason)
    return object_of(body, "the answer")


def _error_in(body: JsonValue) -> str:
    """Return the reason in a document that tells an error in place of an answer; empty for an answer."""
    document = body if isinstance(body, dict) else {}
    is_assets = isinstance(body, list) and bool(body) and isinstance(body[0], dict) and _is_asset(body[0])
    if is_assets or not ANSWERS.isdisjoint(document):
        return ""
    told = "an error document in JSON" if not ERRORS.isdisjoint(document) else ""
    return reason_in(document.get("response")) or reason_in(body) or told


def _items_of(assets: JsonValue) -> Iterator[JsonValue]:
    """Yield the outermost objects that are assets, however they are listed, and what is in their place in a list.

    The forms are not published.
    """
    level = [assets]
    while level:
        objects = [item for item in level if isinstance(item, dict)]
        held = [item for each in level if isinstance(each, list) for item in each]
        yield from (item for item in objects if _is_asset(item))
        yield from (item for item in held if not isinstance(item, (dict, list)))
        held += [member for each in objects if not _is_asset(each) for member in each.values()]
        level = [item for item in held if isinstance(item, (dict, list))]


def _is_asset(item: dict[str, JsonValue]) -> bool:
    return "tid" in item or ("id" in item and "meta" in item)


def _asset_in_json(item: JsonValue) -> Asset:
    """Read an asset; an empty one of what is none."""
    if not isinstance(item, dict):
        return Asset()
    asset = Members(item)
    items = _json_items(asset.object("meta"))
    return Asset(asset.text("tid"), asset.text("id"), items, tuple(asset.lost))


def _json_items(meta: Members) -> dict[str, str]:
    """Read items as an object (compact), or as a list under itm or itms with key and value, content or $."""
    items = {name: meta.text(name) for name in meta.given if name not in ITEM_LISTS}
    for name in ITEM_LISTS:
        value = meta.given.get(name)
        if isinstance(value, (dict, list)):
            for pair in Members({name: _listed(value)}, parent=meta).objects(name):
                content = next((each for each in CONTENT if each in pair.given), "value")
                items[pair.text("key")] = pair.text(content)
        elif value is not None:
            items[name] = meta.text(name)
    return items


def _listed(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else [value]


# 3. Normalise ----------------------------------------------------------------------------------------------------


def read(reply: Reply, form: str, asset_ids: Sequence[str], known: Known) -> list[Answer] | None:
    """Read the answer of the status call about these assets; None is OMN's own 404. Raises: UpstreamError."""
    assets = assets_of(reply, form)
    return None if assets is None else normalise(asset_ids, assets, known)


def normalise(asset_ids: Sequence[str], assets: Iterable[Asset], known: Known = NOTHING_KNOWN) -> list[Answer]:
    """Make one observation for each asset asked for, in that order.

    What the answer lacks is MISSING, unless it may be one in it whose id cannot be read, or is written in another way;
    an answer to another call, out of a cache, tells nothing either.
    """
    found: dict[str, Asset] = {}
    asked, others = frozenset(asset_ids), False
    for asset in assets:
        names = [f"tid:{asset.tid}", f"id:{asset.id}"]
        others = others or asked.isdisjoint(names)
        for form, name in (("tid", asset.tid), ("id", asset.id)):
            found[f"{form}:{name}"] = asset
            if REPLACEMENT in name:
                found[f"{form}:"] = asset
    return [_answer(asset_id, found, known, lack=ANOTHER if others else "") for asset_id in asset_ids]


def _answer(asset_id: str, found: Mapping[str, Asset], known: Known, *, lack: str) -> Answer:
    """Answer for one asset. lack: why it may be there though it is not found."""
    asset = found.get(asset_id)
    if asset is None:
        nameless = asset_id[: asset_id.index(":") + 1] in found
        why = NAMELESS if nameless else lack
        return Unreadable(asset_id, why) if why else Observation(asset_id, State.MISSING)
    if asset.lack:
        return Unreadable(asset_id, asset.lack)
    return unless_known(asset_id, asset.digest, known, lambda: observation(asset_id, asset))


def observation(asset_id: str, asset: Asset) -> Observation:
    """Read one asset. An incomplete import usually leaves a file that can be used, so its failure is DEGRADED."""
    imported, held = asset.items.get(IMPORT, ""), asset.items.get(OBJECT, "")
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
    others = {key: value for key, value in asset.items.items() if key not in (IMPORT, OBJECT)}
    states = (asset.items.get(IMPORT, ""), asset.items.get(OBJECT, ""))
    return OmnDetail(asset.tid, asset.id, *states, others or None, asset.unreadable)


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
        """Say why asset_id is neither `tid:` and opaque text nor `id:` and a number."""
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

    async def enumerate(self) -> Listed:
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
        # The first half before the second: what it shows (`_leaves_out`) may spare the calls of the other.
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
