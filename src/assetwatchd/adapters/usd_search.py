"""USD Search: polled JSON over HTTP, one asset a call, one state a plugin.

Source: the vendor's generated client 1.3.0, its published API description 1.4.0 and its open-source server 1.4.0.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple, TypeVar, TypeVarTuple, Unpack
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

from assetwatchd.model import texts
from assetwatchd.model.details import UsdSearchAttempt, UsdSearchDetail, UsdSearchPlugin
from assetwatchd.model.errors import AssetRejected, BadAnswer, Unreachable, UpstreamError
from assetwatchd.model.values import Facet, Failure, FailureKind, Observation, State
from assetwatchd.settings.schema import ApiKeyAuth, BasicAuth, BearerAuth, never_storage
from assetwatchd.upstream import logins
from assetwatchd.upstream.answers import NOTHING_KNOWN, unless_known
from assetwatchd.upstream.bodies import lenient
from assetwatchd.upstream.bodies.jsonbody import (
    bounded,
    decode,
    list_of,
    object_in,
    object_of,
    reason_in,
    state_of,
    text_of,
)
from assetwatchd.upstream.bodies.lenient import Members
from assetwatchd.upstream.bodies.reading import Reading
from assetwatchd.upstream.credentials import GivenTokens, basic, with_token
from assetwatchd.upstream.http.transport import Reply, Transport, raise_for_status
from assetwatchd.upstream.port import Capabilities

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
    from datetime import datetime, tzinfo

    from pydantic import JsonValue

    from assetwatchd.settings.schema import UsdSearchSource
    from assetwatchd.upstream import answers
    from assetwatchd.upstream.port import Listed, Notice

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# 1. Facts --------------------------------------------------------------------------------------------------------

STATUS_PATH = "/info/indexing/asset/status"
STORAGE_PATH = "/info/backend/storage"  # the cheapest call: without check_availability it asks no backend

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://.")
PATH = re.compile(r"/[^/\\]")  # of a local file system; what begins with two slashes names another host (RFC 3986, 4.2)
STEP = re.compile(r"(?:\.|%2e){1,2}", re.IGNORECASE)  # out of a folder that was allowed
SEPARATOR = re.compile(r"[/\\]|%2f|%5c", re.IGNORECASE)
NOT_STORAGE = frozenset(
    "data dict ftp ftps git gopher jar ldap ldaps scp sftp ssh telnet tftp ws wss".split()  # noqa: SIM905 - as a text
)
"""Schemes that libraries fetch by, and that no storage of USD Search has; allowed_ids may name one all the same."""
OK = 200
FILE_THERE = "ok"  # asset_status; its other published value is file_not_found
FILE_GONE = "file_not_found"
GAVE_UP = "failed_retries_exhausted"
ATTEMPTS = {None: "none", "ok": "ok", "queued": "queued", "processing": "processing"}
FAILED = "failed"  # any other word of a history is the reason of a failure; the list of reasons is open

READING = (
    # indexing_status, newest attempt, that attempt was for the current version of the file -> state; first match wins
    ("in_sync", "none", None, State.AVAILABLE),
    ("in_sync", "ok", None, State.AVAILABLE),
    ("in_sync", None, None, State.FAILED),
    ("failed_indexing", None, None, State.FAILED),
    ("out_of_sync_and_failed_indexing", None, None, State.FAILED),
    ("out_of_sync", "queued", None, State.PENDING),
    ("out_of_sync", "processing", None, State.PROCESSING),
    ("out_of_sync", "ok", True, State.PROCESSING),
    ("out_of_sync", "ok", False, State.OUT_OF_SYNC),
    ("out_of_sync", FAILED, True, State.FAILED),
    ("out_of_sync", FAILED, False, State.OUT_OF_SYNC),
    ("out_of_sync", "none", None, State.OUT_OF_SYNC),
    ("not_found", None, None, State.PENDING),
)
"""How a plugin of a file that is there is read; None matches anything, anything unlisted is UNKNOWN.

The server stores the hash after every attempt that returned, also with an error: in_sync is not success. It stores it
a little after the history, so out_of_sync beside an attempt for the current version is short-lived: finishing.
"""

PUBLISHED = frozenset(
    {FILE_THERE, FILE_GONE, GAVE_UP, *filter(None, ATTEMPTS)}
    | {status for status, *_ in READING}
    | {f"{status}/{attempt}" for status, *_ in READING for attempt in (*filter(None, ATTEMPTS), GAVE_UP)}
)
OPEN = frozenset(status for status, attempt, _, _ in READING if attempt is not None)
"""With these it is the newest attempt that decides."""

TERMINAL = frozenset({"in_sync", "failed_indexing"})
"""With these a failure stands until the file changes or someone queues it again."""

ROLL_UP = (State.FAILED, State.PROCESSING, State.PENDING, State.OUT_OF_SYNC, State.UNKNOWN, State.AVAILABLE)
"""The first of these that any plugin has is the asset's state [assumed policy]."""

REASONS_MAX = 20
"""Of the reasons of a refusal, and of the steps of a path in one, no more are looked at: an error is one line."""

ESCAPED_MAX = 3
"""So often may the url that an answer echoes be percent-encoded: by us, by what stands between, and in the id."""

METADATA_DEPTH_MAX = 8
"""The published metadata is two deep; what is far deeper cannot be sent on as protobuf."""

# 2. Wire ---------------------------------------------------------------------------------------------------------


class Attempt(NamedTuple):
    """PluginItemStatus: one entry of a plugin's history; the time as it came."""

    status: str
    hash_value: str = ""
    processing_timestamp: JsonValue = None
    exception: str = ""


class Plugin(NamedTuple):
    """PluginInfo; the history is newest first."""

    indexing_status: str
    indexed_asset_hash: str = ""
    history: tuple[Attempt, ...] = ()


class Storage(NamedTuple):
    """AssetStorageBackendInfo: the state of the file itself."""

    asset_status: str
    storage_asset_hash: str = ""
    metadata: Mapping[str, JsonValue] | None = None


class Answer(NamedTuple):
    """The answer of the status call. unreadable: as in details. url: which asset it says that it is about, if any."""

    storage: Storage
    plugins: Mapping[str, Plugin]
    unreadable: tuple[str, ...] = ()
    url: str = ""


def unasked(asset_id: str, allowed: Sequence[str]) -> str | None:
    """Say why the server is not asked about an id, which it would fetch with credentials that are not the caller's."""
    scheme = SCHEME.match(asset_id)
    if scheme is None and not PATH.match(asset_id):
        return "should be a storage URL such as s3://bucket/path/file.usd, or an absolute path"
    if scheme and never_storage(scheme[1]):
        return f"should be a storage URL such as s3://bucket/path/file.usd; {scheme[1].lower()}: is never asked for"
    if any(STEP.fullmatch(step) for step in SEPARATOR.split(asset_id)):
        return "goes up or stays in a folder; leave out the steps . and .."
    if allowed:
        begins = any(within(asset_id, prefix) for prefix in allowed)
        return None if begins else f"is none of those allowed here, which begin with {' or '.join(allowed)}"
    if scheme and scheme[1].lower() in NOT_STORAGE:
        return f"should be a storage URL such as s3://bucket/path/file.usd; {scheme[1].lower()}: is not in allowed_ids"
    return None


def within(asset_id: str, prefix: str) -> bool:
    """Return whether an id is what a prefix names, or below it; a scheme is the same in any case."""
    # With a slash at the end of both, so that s3://bucket does not let in s3://bucket-of-others.
    whole = prefix if prefix.endswith(("/", ":")) else f"{prefix}/"
    return f"{_folded(asset_id)}/".startswith(_folded(whole))


def _folded(url: str) -> str:
    scheme, colon, rest = url.partition(":")
    return url if "/" in scheme else f"{scheme.lower()}{colon}{rest}"


def status_path(asset_id: str, *, metadata: bool) -> str:
    """Return path and query of the status call, the storage URL percent-encoded whole."""
    wanted = "true" if metadata else "false"
    return f"{STATUS_PATH}?url={quote(asset_id, safe='')}&return_asset_metadata={wanted}"


def headers_of(auth: BasicAuth | BearerAuth | ApiKeyAuth | None, token: str) -> Mapping[str, str]:
    """Make the headers of a call; token: of a bearer.

    The published description declares none on the status call, so the vendor's generated client sends none; a
    protected deployment wants one all the same.
    """
    if auth is None:
        return {}
    if isinstance(auth, BasicAuth):
        return {"Authorization": f"Basic {basic(auth.username, auth.password)}"}
    if isinstance(auth, BearerAuth):
        return {"Authorization": f"Bearer {token}"}
    return {"x-api-key": auth.key.get_secret_value()}


def answer_of(reply: Reply) -> Answer:
    """Read the answer of the status call. Raises: UpstreamError, whatever else it is."""
    if reply.status != OK:
        raise refusal(reply)
    document = decode(reply)
    try:
        return _answer_in(document)
    except BadAnswer:
        if reason := reason_in(document):
            raise logins.refusal(f"HTTP {OK} with an error document", reason) from None
        raise


def _answer_in(document: JsonValue) -> Answer:
    answer = Members(object_of(document, "the answer"))
    object_of(answer.given.get("storage_backend_info"), "storage_backend_info")
    storage = answer.object("storage_backend_info")
    status = state_of(storage.given, "asset_status")
    plugins = dict(_plugins(answer, decide=status == FILE_THERE))
    file = Storage(status, storage.text("storage_asset_hash"), _metadata(storage))
    url = answer.given.get("url")
    return Answer(file, plugins, tuple(answer.lost), url if isinstance(url, str) else "")


def is_about(url: str, asset_id: str) -> bool:
    """Return whether an answer that echoes this url may be about this asset, which it may write in another way.

    In local-filesystem mode the server turns paths into s3: URLs and back, by folders that only it knows: where one has
    another scheme, or none, the last step is compared alone. A version after ? or # may be left out, or added: Nucleus
    has ?&CHECKPOINT, S3 ?versionId.
    """
    (scheme, told), (asked_scheme, asked) = _plain(url), _plain(asset_id)
    if scheme != asked_scheme:
        told, asked = told.rpartition("/")[2], asked.rpartition("/")[2]
    short, long = sorted((told, asked), key=len)
    return long.startswith(short) and (not told or long[len(short) :][:1] in ("", "?", "#"))


def _plain(url: str) -> tuple[str, str]:
    """Return the scheme of a URL, and of the rest what two ways to write it share.

    That is without escapes, with no doubled or last slash, and the host in lower case.
    """
    for _ in range(ESCAPED_MAX):
        url = unquote(url)
    url = unicodedata.normalize("NFC", url.replace("+", " ").strip())
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/") if mark else ("", "", url)
    return (scheme.lower() if mark else ""), "/".join(filter(None, (host.lower() + slash + path).split("/")))


def _plugins(answer: Members, *, decide: bool) -> Iterator[tuple[str, Plugin]]:
    """Read every plugin; where they do not decide the state, one that cannot be read is lost alone.

    Raises: BadAnswer.
    """
    if decide:
        object_of(answer.given.get("plugins_statuses"), "plugins_statuses")
    plugins = answer.object("plugins_statuses")
    for name in plugins.given:
        try:
            yield name, _plugin(plugins, name)
        except BadAnswer:
            if decide:
                raise
            plugins.lose(name)


def _plugin(plugins: Members, name: str) -> Plugin:
    """Read one plugin. Its newest attempt may be part of its state, those before are not. Raises: BadAnswer."""
    object_of(plugins.given[name], f"the plugin {bounded(name, 80)}")
    plugin = plugins.object(name)
    indexing = state_of(plugin.given, "indexing_status")
    history = plugin.given.get("plugin_status_history")
    if indexing in OPEN and history is not None and (told := list_of(history, "plugin_status_history")):
        state_of(object_of(told[0], "plugin_status_history.0"), "status")
    attempts = [_attempt(each) for each in plugin.objects("plugin_status_history")]
    read = tuple(each for each in attempts if each is not None)
    return Plugin(indexing, plugin.text("indexed_asset_hash"), read)


def _attempt(attempt: Members) -> Attempt | None:
    """Read an attempt, its time as it came; without a status it is lost."""
    status, stamp = attempt.given.get("status"), attempt.given.get("processing_timestamp")
    if not isinstance(status, str):
        attempt.lose("status")
        return None
    if isinstance(stamp, (dict, list)):
        attempt.lose("processing_timestamp")
    return Attempt(status, attempt.text("hash_value"), stamp, attempt.message("exception"))


def _metadata(storage: Members) -> Mapping[str, JsonValue] | None:
    """Read the metadata as it came, whatever is in it; what is too deep is lost."""
    metadata = storage.object("metadata").given
    if _depth(metadata) > METADATA_DEPTH_MAX:
        storage.lose("metadata")
        return None
    return metadata or None


def backends(reply: Reply) -> dict[str, JsonValue]:
    """Read the list of storage backends, by base URI. Raises: UpstreamError, whatever else it is."""
    if reply.status != OK:
        raise refusal(reply)
    document = object_in(reply)
    try:
        return object_of(document.get("backends"), "backends")
    except BadAnswer:
        if reason := reason_in(document):
            raise logins.refusal(f"HTTP {OK} with an error document", reason) from None
        raise


def refusal(reply: Reply) -> UpstreamError:
    """Tell what an answer other than 200 means: 400 and 422 are about this one asset, 501 is a backend that is down."""
    text, reason = f"HTTP {reply.status}", _reason(reply)
    if reply.status in (400, 414, 422):
        return AssetRejected(text, said=reason, doubts_token=bool(logins.NOT_TAKEN.search(reason)))
    if reply.status == 501:  # noqa: PLR2004 - told above
        return Unreachable(text, said=reason)
    try:
        raise_for_status(reply)
    except UpstreamError as exc:
        return exc
    return BadAnswer(text, said=reason)


def _reason(reply: Reply) -> str:
    """Read {"error", "details"} or {"detail": text or [{"loc", "msg"}]}, as far as it goes."""
    try:
        body = decode(reply)
    except BadAnswer:
        return "no reason given"
    document = body if isinstance(body, dict) else {}
    items = document.get("detail")
    told = [document.get("error"), document.get("details"), items]
    if isinstance(items, list):
        first = [item for item in items[:REASONS_MAX] if isinstance(item, dict)]
        told += [part for item in first for part in (_path(item.get("loc")), item.get("msg"))]
    return bounded(": ".join(filter(None, map(text_of, told)))) or "no reason given"


def _path(loc: JsonValue) -> str:
    return ".".join(map(text_of, loc[:REASONS_MAX])) if isinstance(loc, list) else ""


def _depth(value: object) -> int:
    """Return how deep objects and lists are nested, at most one more than METADATA_DEPTH_MAX."""
    depth, level = 0, [value]
    while depth <= METADATA_DEPTH_MAX and (level := [item for item in level if isinstance(item, (dict, list))]):
        depth += 1
        level = [member for item in level for member in (item.values() if isinstance(item, dict) else item)]
    return depth


# 3. Normalise ----------------------------------------------------------------------------------------------------


def read(reply: Reply, asset_id: str, known: answers.Known, zone: tzinfo) -> answers.Answer:
    """Read the answer of the status call. Raises: UpstreamError, whatever else it is."""
    return unless_known(asset_id, reply.digest, known, lambda: normalise(asset_id, answer_of(reply), zone=zone))


def normalise(asset_id: str, answer: Answer, *, zone: tzinfo) -> Observation:
    """Make the observation of one asset; zone is that of the server's local times.

    Raises: BadAnswer for an answer about another one, say out of a cache that does not look at the query.
    """
    if not is_about(answer.url, asset_id):
        raise BadAnswer("the answer is about another asset")
    facets = tuple(facet(name, plugin, answer.storage, zone=zone) for name, plugin in answer.plugins.items())
    state = roll_up(answer.storage, facets)
    gone = state is State.MISSING
    return Observation(
        asset_id,
        state,
        facets=facets,
        failure=_failure(answer.plugins.values(), facets) if state is State.FAILED else None,
        change_time=None if gone else max((each.change_time for each in facets if each.change_time), default=None),
        detail=_detail(answer),
    )


def roll_up(storage: Storage, facets: Sequence[Facet]) -> State:
    """Return the asset's state: the file's first, then the plugins' by ROLL_UP."""
    if storage.asset_status == FILE_GONE:
        return State.MISSING
    if storage.asset_status != FILE_THERE:
        return State.UNKNOWN
    if not facets:
        return State.UNSUPPORTED
    return min((each.state for each in facets), key=ROLL_UP.index)


def facet(name: str, plugin: Plugin, storage: Storage, *, zone: tzinfo) -> Facet:
    """Read one plugin; native is indexing_status, then a slash and the newest attempt's status when there is one."""
    newest = _newest(plugin)
    return Facet(
        name,
        plugin_state(plugin, storage),
        plugin.indexing_status if newest is None else f"{plugin.indexing_status}/{newest.status}",
        message=newest.exception if newest else "",
        change_time=moment(newest.processing_timestamp, zone=zone) if newest else None,
    )


def plugin_state(plugin: Plugin, storage: Storage) -> State:
    """Look a plugin up in READING."""
    if storage.asset_status == FILE_GONE:
        return State.MISSING
    if storage.asset_status != FILE_THERE:
        return State.UNKNOWN
    newest = _newest(plugin)
    attempt = ATTEMPTS.get(newest.status if newest else None, FAILED)
    hashed = newest.hash_value if newest else ""
    current = bool(hashed) and hashed == storage.storage_asset_hash
    for status, wanted, of_current, state in READING:
        if status == plugin.indexing_status and wanted in (None, attempt) and of_current in (None, current):
            return state
    return State.UNKNOWN


def moment(stamp: JsonValue, *, zone: tzinfo) -> datetime | None:
    """Read a time: ISO-like text, local to zone unless it names one, or seconds since 1970; None if unreadable."""
    return lenient.time(stamp, zone)


def _newest(plugin: Plugin) -> Attempt | None:
    return plugin.history[0] if plugin.history else None


def _failure(plugins: Collection[Plugin], facets: Sequence[Facet]) -> Failure:
    """Tell of the failed plugins the first that will not be retried, else the first."""
    failures = [failure_of(plugin) for plugin, each in zip(plugins, facets, strict=True) if each.state is State.FAILED]
    return next((failure for failure in failures if failure.kind is FailureKind.PERMANENT), failures[0])


def failure_of(plugin: Plugin) -> Failure:
    """Read a failed plugin: out of sync it will be tried again, unless its attempts are used up."""
    newest = _newest(plugin)
    code = newest.status if newest and newest.status != "ok" else plugin.indexing_status
    final = plugin.indexing_status in TERMINAL or (plugin.indexing_status, code) == ("out_of_sync", GAVE_UP)
    kind = FailureKind.PERMANENT if final else FailureKind.RETRYABLE
    return Failure(kind, code, newest.exception if newest else "")


def _detail(answer: Answer) -> UsdSearchDetail:
    return UsdSearchDetail(
        answer.storage.asset_status,
        answer.storage.storage_asset_hash,
        plugins=tuple(_plugin_detail(name, plugin) for name, plugin in answer.plugins.items()),
        metadata=answer.storage.metadata,
        unreadable=answer.unreadable,
    )


def _plugin_detail(name: str, plugin: Plugin) -> UsdSearchPlugin:
    history = tuple(
        UsdSearchAttempt(each.status, each.hash_value, text_of(each.processing_timestamp), each.exception)
        for each in plugin.history
    )
    return UsdSearchPlugin(name, plugin.indexing_status, plugin.indexed_asset_hash, history)


# 4. Upstream -----------------------------------------------------------------------------------------------------


class UsdSearch:
    """One USD Search deployment."""

    capabilities = Capabilities(batch_max=1)

    def __init__(self, source: str, settings: UsdSearchSource) -> None:
        self._settings = settings
        self._zone = ZoneInfo(settings.timezone)
        self._transport = Transport(source, settings)
        self._reading = Reading(self._transport.secrets)
        self._transport.secrets.spare(PUBLISHED)
        auth, secrets = settings.auth, self._transport.secrets
        self._tokens = GivenTokens(auth, secrets) if isinstance(auth, BearerAuth) else None
        if isinstance(auth, BasicAuth):
            secrets.keep(basic(auth.username, auth.password))

    def check(self, asset_id: str) -> str | None:
        """Say why asset_id is neither a storage URL nor an absolute path (local-filesystem mode), or not allowed."""
        return texts.unfit(asset_id) or unasked(asset_id, self._settings.allowed_ids)

    async def probe(self) -> None:
        """Ask for the list of storage backends."""
        await self._ask(STORAGE_PATH, backends)

    async def observe(self, asset_ids: Sequence[str], known: answers.Known = NOTHING_KNOWN) -> Sequence[answers.Answer]:
        """Read one asset; batch_max is 1."""
        return [await self._observe(asset_id, known) for asset_id in asset_ids]

    async def enumerate(self) -> Listed:
        """Raise: there is no list of all assets; the search knows indexed ones alone."""
        raise NotImplementedError

    def notices(self) -> AsyncGenerator[Notice]:
        """Raise: there is nothing that pushes."""
        raise NotImplementedError

    async def close(self) -> None:
        """Give back connections."""
        await self._transport.close()
        await self._reading.close()

    async def _observe(self, asset_id: str, known: answers.Known) -> answers.Answer:
        path = status_path(asset_id, metadata=self._settings.asset_metadata)
        return await self._ask(path, read, asset_id, known, self._zone)

    async def _ask(self, path: str, read: Callable[[Reply, Unpack[Ts]], T], *given: *Ts) -> T:
        async def ask(token: str) -> T:
            headers = {"Accept": "application/json", **headers_of(self._settings.auth, token)}
            return await self._reading.read(await self._transport.raw("GET", path, headers=headers), read, *given)

        return await ask("") if self._tokens is None else await with_token(self._tokens, ask)
