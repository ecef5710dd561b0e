"""NAVER Cloud Media Intelligence: the registration of an asset, polled over signed GETs.

Source: the API guide of Media Intelligence (formerly Media AI Understanding), the API Gateway guide for signatures and
refusals, and a community SDK for what neither says. Analysis and summaries are other calls, which are not made.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, TypeVar, TypeVarTuple, Unpack
from urllib.parse import quote

from assetwatchd.model import texts
from assetwatchd.model.details import MediaIntelligenceDetail, MediaIntelligenceMedia
from assetwatchd.model.errors import AssetRejected, BadAnswer, Refused, Throttled, Unreachable, UpstreamError
from assetwatchd.model.values import Facet, Failure, FailureKind, Observation, State
from assetwatchd.upstream.answers import NOTHING_KNOWN, Unchanged, kept
from assetwatchd.upstream.bodies import jsonbody
from assetwatchd.upstream.bodies.lenient import NUMBER_MAX, Members
from assetwatchd.upstream.bodies.reading import Reading
from assetwatchd.upstream.http.transport import Reply, Transport, raise_for_status, retry_after_s
from assetwatchd.upstream.paging import Page, Pages
from assetwatchd.upstream.port import Capabilities, Listed, Notice, check_count
from assetwatchd.upstream.redaction import MASK

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence

    from assetwatchd.settings.schema import MediaIntelligenceSource
    from assetwatchd.upstream.answers import Answer, Known

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# 1. Facts -------------------------------------------------------------------------------------------------------------

ASSETS = "/api/v1/workspaces/{workspace}/projects/{project}/assets"
STATUS = ASSETS + "/{asset}/import-status"
PAGE = ASSETS + "?pageNum={number}&pageSize={size}"

STATE = "uploadStatus"
STATES = {
    "IN_PROGRESS": State.PROCESSING,
    "COMPLETED": State.AVAILABLE,
    "FAILED": State.FAILED,
    "FILE_NOT_EXIST": State.FAILED,
    "INVALID_METADATA": State.FAILED,
}
"""Of STATE, published; anything else is UNKNOWN."""

FAILURES = {
    "FAILED": FailureKind.RETRYABLE,  # the copy broke off
    "FILE_NOT_EXIST": FailureKind.PERMANENT,  # its source is not in the bucket
    "INVALID_METADATA": FailureKind.PERMANENT,  # resolution, length or format is not supported
}

PUBLISHED = frozenset({*STATES, "registration"})

SIGNATURE_HEADER = "x-ncp-apigw-signature-v2"
SIGNATURE_FORM = re.compile(r"(?:[A-Za-z0-9+/]|%[0-9A-Fa-f]{2}|\\/){43}(?:=|%3[Dd])?")
"""A signature holds for minutes, in which more are made than are known by themselves (LATEST of `redaction`): in the
words of an error whatever looks like one is blotted out."""
SUCCESS_CODE = "0"
INVALID_REQUEST_CODE = "10001"
"""The one published product code that cannot mean that the asset is unknown; which code does is not published."""
PERMISSION_DENIED_CODE = "210"
"""Of the two codes on HTTP 401, the one that a fresh signature does not help."""

REFUSALS: dict[tuple[int, str], tuple[type[UpstreamError], str]] = {
    (400, "100"): (BadAnswer, "Bad Request Exception"),
    (401, "200"): (Refused, "Authentication Failed: wrong keys, or a clock more than five minutes off"),
    (401, "210"): (Refused, "Permission Denied"),
    (404, "300"): (BadAnswer, "Not Found Exception: the gateway has no such call; correct base_url"),
    (413, "430"): (BadAnswer, "Request Entity Too Large"),
    (429, "400"): (Throttled, "Quota Exceeded"),
    (429, "410"): (Throttled, "Throttle Limited"),
    (429, "420"): (Throttled, "Rate Limited"),
    (503, "500"): (Unreachable, "Endpoint Error"),
    (504, "510"): (Unreachable, "Endpoint Timeout"),
    (500, "900"): (Unreachable, "Unexpected Error"),
}
"""The gateway's table, published: (HTTP status, errorCode). The two are not parallel, so both are compared."""

WORDS = ("message", "returnMessage", "details", "error")
"""Members of an error body that are for people, where they are text."""

CODE_FORM = re.compile(r"\d{1,9}")
NUMBER_FORM = re.compile(r"0|[1-9][0-9]{0,18}")
"""An asset's id, text in a path and a number in answers: asked for by anything else, no server knows it."""
WORKSPACE_FORM = re.compile(r"[^/]{3,63}")
PROBE_PATH = STATUS.format(workspace="assetwatch-probe", project="0", asset="0")
"""The status of an asset that cannot be: asked when there is no project to list."""


# 2. Wire --------------------------------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """The code of an error body, as text, and whether it is the gateway's or the product's; empty when unreadable.

    words: all else that it says.
    """

    code: str
    gateway: bool
    words: tuple[str, ...] = ()

    def beside(self, text: str) -> str:
        """Return what it says beside what the text does."""
        said = (word for word in self.words if word.strip(". ").casefold() not in text.casefold())
        return jsonbody.bounded(": ".join(SIGNATURE_FORM.sub(MASK, word) for word in said))


def sign(method: str, path: str, *, access_key: str, secret: str, at: float) -> dict[str, str]:
    """Sign one request; return the three headers it wants.

    path is what is sent, still percent-encoded, with its query; at is seconds since 1970, within 300 s of the
    gateway's clock. Host, body and other headers are not covered.
    Source: signature v2, API Gateway guide; the published vectors are tests/golden/media_intelligence/sign.json.
    """
    # The order of the parts and each line break are the vendor's: anything else is another signature, refused with 401.
    timestamp = str(int(at * 1000))
    message = f"{method} {path}\n{timestamp}\n{access_key}"
    digest = hmac.digest(secret.encode(), message.encode(), hashlib.sha256)
    return {
        "x-ncp-apigw-timestamp": timestamp,
        "x-ncp-iam-access-key": access_key,
        SIGNATURE_HEADER: base64.b64encode(digest).decode(),
    }


def result_of(reply: Reply) -> Members:
    """Return the `result` of an answer with code "0". Raises: BadAnswer."""
    try:
        body = jsonbody.object_in(reply)
    except BadAnswer:
        if reply.status == HTTPStatus.OK:
            raise
        raise BadAnswer(f"HTTP {reply.status}: not an answer of Media Intelligence; check base_url") from None
    # HTTP 200 does not mean success here: the product tells refusals by a code in the body.
    code = jsonbody.text_of(body.get("code"))
    if reply.status != HTTPStatus.OK or code != SUCCESS_CODE:
        raise _refusal_in_success(reply) or _coded(BadAnswer, reply, code)
    return Members(jsonbody.object_of(body.get("result"), "result"))


def number_in(members: Members) -> int | None:
    """Read an asset's id: assetId, or videoId on the deprecated calls; an answer about one asset need not have it."""
    number = members.whole_number("assetId")
    return members.whole_number("videoId") if number is None else number


def page_of(reply: Reply, number: int, size: int) -> Page:
    """Read the number-th page of so many assets each; its totals are published for the deprecated call alone.

    No content at all is an empty list where the total says that there is nothing, and an unreadable one elsewhere.
    Raises: BadAnswer, and what the gateway's refusals mean.
    """
    raise_refusal(reply)
    result = result_of(reply)
    total, pages = result.whole_number("totalCount"), result.whole_number("totalPage")
    given = result.given.get("content")
    content = jsonbody.list_of([] if given is None and total == 0 else given, "content")
    found = [number_in(item) for item in result.objects("content")]
    numbers = frozenset(each for each in found if each is not None)
    is_last = len(content) < size if pages is None else number >= pages
    return Page(numbers, len(content) - len(found) + found.count(None), total, pages, is_last)


def fault_of(reply: Reply) -> Fault:
    """Find the code of an error body in any of the shapes that occur, and its words; refusals are not always JSON."""
    try:
        body = jsonbody.decode(reply)
    except BadAnswer:
        return Fault("", gateway=False)
    holders = [body, *(body.get(name) for name in ("error", "responseError"))] if isinstance(body, dict) else []
    objects = [holder for holder in holders if isinstance(holder, dict)]
    words = dict.fromkeys(filter(None, (jsonbody.text_of(each.get(name)) for each in objects for name in WORDS)))
    for holder in objects:
        for name in ("errorCode", "returnCode", "code"):
            if code := jsonbody.text_of(holder.get(name)):
                return Fault(code, gateway=name != "code", words=tuple(words))
    return Fault("", gateway=False, words=tuple(words))


def raise_refusal(reply: Reply) -> None:
    """Raise what the gateway's table or the bare status says; return for answers that the product gave."""
    fault = fault_of(reply) if reply.status != HTTPStatus.OK else Fault("", gateway=False)
    known = REFUSALS.get((reply.status, fault.code)) if fault.gateway else None
    if known is not None:
        raise _refusal(reply, fault, *known)
    try:
        raise_for_status(reply)
    except UpstreamError as exc:
        said = fault.beside(str(exc))
        raise type(exc)(str(exc), said=said, retry_after_s=exc.retry_after_s, doubts_token=exc.doubts_token) from None


def _refusal(reply: Reply, fault: Fault, error: type[UpstreamError], meaning: str) -> UpstreamError:
    text = f"HTTP {reply.status}, code {fault.code}: {meaning}"
    return error(text, said=fault.beside(text), retry_after_s=retry_after_s(reply))


def _refusal_in_success(reply: Reply) -> UpstreamError | None:
    """Tell what a refusal of the gateway means that comes with HTTP 200, by its code alone; None for anything else."""
    fault = fault_of(reply)
    for (_, code), known in REFUSALS.items():
        if reply.status == HTTPStatus.OK and fault.gateway and code == fault.code:
            return _refusal(reply, fault, *known)
    return None


def _coded(error: type[UpstreamError], reply: Reply, code: str) -> UpstreamError:
    """Tell status and code; text in place of a number may be anything, so it is told as theirs, with their words."""
    is_number = CODE_FORM.fullmatch(code) is not None
    told = f"HTTP {reply.status} with code {code if is_number else 'unknown'}"
    words = (*(() if is_number else (code,)), *fault_of(reply).words)
    return error(told, said=Fault(code, gateway=False, words=words).beside(told))


def is_worth_signing_again(reply: Reply) -> bool:
    """Tell whether a fresh timestamp may help: on any 401 but a denied permission."""
    return reply.status == HTTPStatus.UNAUTHORIZED and fault_of(reply).code != PERMISSION_DENIED_CODE


# 3. Normalise ---------------------------------------------------------------------------------------------------------


class AssetPath(NamedTuple):
    """The path of an asset, whose id is text here and a number in answers; that of a project has an empty asset."""

    workspace: str
    project: str
    asset: str

    @classmethod
    def parse(cls, asset_id: str) -> AssetPath | None:
        """Read `workspace/project/asset`; None when it is not of that form."""
        parts = asset_id.split("/")
        if len(parts) == len(cls._fields) and WORKSPACE_FORM.fullmatch(parts[0]) and {"", ".", ".."}.isdisjoint(parts):
            return cls(*parts)
        return None

    def fill(self, template: str, **more: int) -> str:
        """Make a path, its names percent-encoded: what is sent is what is signed."""
        return template.format(**{name: quote(text, safe="") for name, text in self._asdict().items()}, **more)

    def is_numbered(self, number: int) -> bool:
        """Tell whether this is the asset with that number."""
        return self.asset.lstrip("0") == str(number).lstrip("0")


def answer(reply: Reply, path: AssetPath, known: Known) -> Answer | None:
    """Read the answer to a status call, unless it is known; None and Raises: as read."""
    asset_id, digest = "/".join(path), reply.digest
    if known.get(asset_id) == digest:
        return Unchanged(asset_id)
    observation = read(reply, path)
    return None if observation is None else kept(observation, digest)


def sign_of_life(reply: Reply) -> None:
    """Read the answer about an asset that cannot be: whatever the product says, it is there. Raises: UpstreamError."""
    raise_refusal(reply)
    if not fault_of(reply).code:
        jsonbody.state_of(result_of(reply).given, STATE)


def read(reply: Reply, path: AssetPath) -> Observation | None:
    """Read the answer to a status call; None when the asset may be unknown, which a list of its project can tell.

    Raises: AssetRejected, BadAnswer, and what the gateway's refusals mean.
    """
    # Which code means "no such asset" is not published, so an unknown one of a 400 may mean it; the list decides then.
    code = fault_of(reply).code
    if reply.status == HTTPStatus.NOT_FOUND or (
        reply.status == HTTPStatus.BAD_REQUEST and code not in ("", INVALID_REQUEST_CODE)
    ):
        return None
    raise_refusal(reply)
    if code not in ("", SUCCESS_CODE):
        raise _refusal_in_success(reply) or _coded(AssetRejected, reply, code)
    result = result_of(reply)
    number = number_in(result)
    if number is not None and not path.is_numbered(number):
        raise BadAnswer("the answer is about another asset")
    return normalise(result, path, number or 0)


def normalise(result: Members, path: AssetPath, number: int) -> Observation:
    """Make an observation; uploadResult is for people and says nothing of the state. Raises: BadAnswer."""
    native, message = jsonbody.state_of(result.given, STATE), result.message("uploadResult")
    state = STATES.get(native, State.UNKNOWN)
    kind = FAILURES.get(native)
    media = _media(result.object("metaData"))
    return Observation(
        "/".join(path),
        state,
        facets=(Facet("registration", state, native, message),),
        failure=None if kind is None else Failure(kind, native, message),
        detail=MediaIntelligenceDetail(
            workspace=path.workspace,
            project_id=path.project,
            asset_id=number,
            upload_status=native,
            upload_result=message,
            media=media,
            unreadable=tuple(result.lost),
        ),
    )


def _media(wire: Members) -> MediaIntelligenceMedia | None:
    media = MediaIntelligenceMedia(
        wire.text("resolution"), wire.number("durationMs"), wire.number("size"), wire.text("format")
    )
    return None if media == MediaIntelligenceMedia() else media


# 4. Upstream ----------------------------------------------------------------------------------------------------------


class MediaIntelligence:
    """The projects that one key pair can read. clock tells seconds since 1970, for signatures."""

    capabilities = Capabilities(enumerates=True)

    def __init__(
        self, source: str, settings: MediaIntelligenceSource, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._transport = Transport(source, settings)
        self._transport.secrets.spare(PUBLISHED)
        self._reading = Reading(self._transport.secrets)
        self._clock = clock

    def check(self, asset_id: str) -> str | None:
        """Say why asset_id cannot be an id of Media Intelligence."""
        path = AssetPath.parse(asset_id)
        if path is None:
            return "is not WORKSPACE/PROJECT/ASSET, the workspace 3 to 63 characters long, e.g. my-workspace/1234/5678"
        if not NUMBER_FORM.fullmatch(path.asset) or int(path.asset) > NUMBER_MAX:
            return "should end in the number of an asset, without zeros before it, e.g. my-workspace/1234/5678"
        return texts.unfit(asset_id)

    async def probe(self) -> None:
        """List one asset of the first project, or ask for one that cannot be: any signed, readable answer will do."""
        if self._settings.projects:
            await self._page(_project(self._settings.projects[0]), 1, size=1)
            return
        await self._ask(PROBE_PATH, sign_of_life)

    async def observe(self, asset_ids: Sequence[str], known: Known = NOTHING_KNOWN) -> Sequence[Answer]:
        """Read the registration of each asset."""
        return [await self._read(asset_id, known) for asset_id in asset_ids]

    async def enumerate(self) -> Listed:
        """List the assets of every configured project, page by page."""
        found: set[str] = set()
        unreadable, why = 0, ""
        for project in dict.fromkeys(self._settings.projects):
            pages = Pages(self._settings.page_size)
            async for numbers in self._read_pages(_project(project), pages, already=len(found)):
                found.update(f"{project}/{number}" for number in numbers)
            lack = pages.lack()
            unreadable, why = unreadable + lack.unreadable, why or lack.why
        return Listed(frozenset(found), unreadable, why)

    def notices(self) -> AsyncGenerator[Notice]:
        """Raise: there is nothing that pushes."""
        raise NotImplementedError

    async def close(self) -> None:
        """Give back connections."""
        await self._transport.close()
        await self._reading.close()

    async def _read(self, asset_id: str, known: Known) -> Answer:
        path = AssetPath.parse(asset_id)
        if path is None:
            raise AssetRejected("not an id of Media Intelligence")
        read = await self._ask(path.fill(STATUS), answer, path, known)
        if read is not None:
            return read
        pages = Pages(self._settings.page_size)
        if any([path.is_numbered(number) async for part in self._read_pages(path, pages) for number in part]):
            raise AssetRejected("its project lists the asset, yet its status cannot be had")
        if pages.lack().unreadable:
            raise BadAnswer(f"its status cannot be had, nor can the list of its project be read: {pages.lack().why}")
        return Observation(asset_id, State.MISSING)

    async def _read_pages(self, project: AssetPath, pages: Pages, *, already: int = 0) -> AsyncIterator[frozenset[int]]:
        """Read all pages of a project, and yield what is on each, beside so many assets that are listed already.

        Raises: BadAnswer when it is of more assets than are taken.
        """
        while pages.number is not None:
            page = await self._page(project, pages.number, size=self._settings.page_size)
            pages.take(page)
            check_count(already + len(pages.seen), self._settings.assets_max)
            yield page.numbers

    async def _page(self, project: AssetPath, number: int, *, size: int) -> Page:
        return await self._ask(project.fill(PAGE, number=number, size=size), page_of, number, size)

    async def _ask(self, path: str, read: Callable[[Reply, Unpack[Ts]], T], *given: *Ts) -> T:
        """Make one call and read its answer; where a fresh signature may help, once more."""
        # The first signature was made before its call waited for a slot of the rate, and may have been too old (300 s).
        with self._signed(path) as headers:
            reply = await self._transport.raw("GET", path, headers=headers)
            if not await self._reading.read(reply, is_worth_signing_again):
                return await self._reading.read(reply, read, *given)
        with self._signed(path) as headers:
            return await self._reading.read(await self._transport.raw("GET", path, headers=headers), read, *given)

    @contextmanager
    def _signed(self, path: str) -> Iterator[Mapping[str, str]]:
        """Yield the headers of a call; inside, its signature is a secret."""
        settings = self._settings
        signature = sign(
            "GET",
            self._transport.base.raw_path.rstrip("/") + path,
            access_key=settings.access_key,
            secret=settings.secret_key.get_secret_value(),
            at=self._clock(),
        )
        with self._transport.secrets.sent(signature[SIGNATURE_HEADER]):
            yield {**signature, "Content-Type": "application/json", "Accept": "application/json"}


def _project(name: str) -> AssetPath:
    workspace, _, project = name.partition("/")
    return AssetPath(workspace, project, "")
