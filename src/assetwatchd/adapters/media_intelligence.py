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
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assetwatchd import jsonbody, texts
from assetwatchd.answers import NOTHING_KNOWN, Unchanged, kept
from assetwatchd.details import MediaData, MediaIntelligenceDetail
from assetwatchd.errors import AssetRejected, BadAnswer, Refused, Throttled, Unreachable, UpstreamError
from assetwatchd.model import Facet, Failure, FailureKind, Observation, State
from assetwatchd.reading import Reading
from assetwatchd.transport import Reply, Transport, raise_for_status, retry_after_s
from assetwatchd.upstream import Capabilities, Notice, check_count

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from assetwatchd.answers import Answer, Known
    from assetwatchd.config import MediaIntelligenceSource

M = TypeVar("M", bound=BaseModel)
Totals: TypeAlias = tuple[int | None, int | None]
"""How many assets and pages a list says that it has."""

# 1. Facts -------------------------------------------------------------------------------------------------------------

ASSETS = "/api/v1/workspaces/{workspace}/projects/{project}/assets"
STATUS = ASSETS + "/{asset}/import-status"
PAGE = ASSETS + "?pageNum={number}&pageSize={size}"

STATES = {
    "IN_PROGRESS": State.PROCESSING,
    "COMPLETED": State.AVAILABLE,
    "FAILED": State.FAILED,
    "FILE_NOT_EXIST": State.FAILED,
    "INVALID_METADATA": State.FAILED,
}
"""`uploadStatus`, published; anything else is UNKNOWN."""

FAILURES = {
    "FAILED": FailureKind.RETRYABLE,  # the copy broke off
    "FILE_NOT_EXIST": FailureKind.PERMANENT,  # its source is not in the bucket
    "INVALID_METADATA": FailureKind.PERMANENT,  # resolution, length or format is not supported
}

PUBLISHED = frozenset({*STATES, "registration"})

SIGNATURE_HEADER = "x-ncp-apigw-signature-v2"
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

CODE_FORM = re.compile(r"\d{1,9}")
WORKSPACE_FORM = re.compile(r"[^/]{3,63}")
PROBE_PATH = STATUS.format(workspace="assetwatch-probe", project="0", asset="0")
"""The status of an asset that cannot be: asked when there is no project to list."""
PAGES_MAX = 100_000
"""At 1000 a page, 100 million assets; a longer list is not read."""


# 2. Wire --------------------------------------------------------------------------------------------------------------

Count = Annotated[int, Field(ge=0, lt=2**63)]


class Wire(BaseModel):
    """Base of the models: only what is read here; null is as good as absent."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Numbered(Wire):
    """Whatever carries an asset's id: assetId, or videoId on the deprecated calls."""

    asset: Count | None = Field(default=None, alias="assetId")
    video: Count | None = Field(default=None, alias="videoId")

    @property
    def number(self) -> int | None:
        """The id under either name."""
        return self.video if self.asset is None else self.asset


class MetaData(Wire):
    """Technical data of a medium; images have no duration."""

    resolution: str | None = None
    duration_ms: Count | None = Field(default=None, alias="durationMs")
    size: Count | None = None
    format: str | None = None


class ImportStatus(Numbered):
    """`result` of a status call; only uploadStatus is sure to be there."""

    upload_status: str = Field(alias="uploadStatus")
    upload_result: str | None = Field(default=None, alias="uploadResult")
    meta_data: MetaData | None = Field(default=None, alias="metaData")


class Page(Wire):
    """`result` of a list call; its totals are published for the deprecated call alone."""

    content: Annotated[list[Numbered], Field(fail_fast=True)]
    total_count: Count | None = Field(default=None, alias="totalCount")
    total_page: Count | None = Field(default=None, alias="totalPage")

    @property
    def totals(self) -> Totals:
        """What it says of the whole list, which is the same on all pages of one."""
        return self.total_count, self.total_page

    def is_last(self, number: int, size: int) -> bool:
        """Tell whether no page follows this one, the number-th of so many assets each. Raises: BadAnswer."""
        if self.total_page is None:
            return len(self.content) < size
        if number < self.total_page and not self.content:
            raise BadAnswer("an empty page amid a list")
        return number >= self.total_page

    def numbers(self) -> frozenset[int]:
        """Return the ids on this page. Raises: BadAnswer when one is missing or there twice."""
        numbers = frozenset(item.number for item in self.content if item.number is not None)
        if len(numbers) != len(self.content):
            raise BadAnswer("a list with an asset that is listed twice or has no id")
        return numbers


class Part(NamedTuple):
    """What is used of a page: its ids, the totals of its list, and whether no other page follows."""

    numbers: frozenset[int]
    totals: Totals
    is_last: bool


class Fault(NamedTuple):
    """The code of an error body, as text, and whether it is the gateway's or the product's; empty when unreadable."""

    code: str
    gateway: bool


def sign(method: str, path: str, *, access_key: str, secret: str, at: float) -> dict[str, str]:
    """Sign one request; return the three headers it wants.

    path is what is sent, still percent-encoded, with its query; at is seconds since 1970, within 300 s of the
    gateway's clock. Host, body and other headers are not covered.
    Source: signature v2, API Gateway guide; the published vectors are tests/golden/media_intelligence/sign.json.
    """
    timestamp = str(int(at * 1000))
    message = f"{method} {path}\n{timestamp}\n{access_key}"
    digest = hmac.digest(secret.encode(), message.encode(), hashlib.sha256)
    return {
        "x-ncp-apigw-timestamp": timestamp,
        "x-ncp-iam-access-key": access_key,
        SIGNATURE_HEADER: base64.b64encode(digest).decode(),
    }


def decode(model: type[M], reply: Reply) -> M:
    """Read the `result` of an answer with code "0". Raises: BadAnswer."""
    body = jsonbody.object_of(jsonbody.decode(reply), "the answer")
    code = jsonbody.text_of(body.get("code"))
    if reply.status != HTTPStatus.OK or code != SUCCESS_CODE:
        raise _refusal_in_success(reply) or BadAnswer(_coded(reply, code))
    try:
        return model.model_validate(body.get("result"))
    except ValidationError as exc:
        raise BadAnswer(model.__name__, said=jsonbody.first_problem(exc, whole="result")) from None


def part_of(reply: Reply, number: int, size: int) -> Part:
    """Read the number-th page of so many assets each. Raises: BadAnswer, and what the gateway's refusals mean."""
    raise_refusal(reply)
    page = decode(Page, reply)
    return Part(page.numbers(), page.totals, page.is_last(number, size))


def fault_of(reply: Reply) -> Fault:
    """Find the code of an error body in any of the shapes that occur; refusals are not always JSON."""
    try:
        body = jsonbody.decode(reply)
    except BadAnswer:
        return Fault("", gateway=False)
    holders = [body, *(body.get(name) for name in ("error", "responseError"))] if isinstance(body, dict) else []
    for holder in holders:
        for name in ("errorCode", "returnCode", "code"):
            if isinstance(holder, dict) and (code := jsonbody.text_of(holder.get(name))):
                return Fault(code, gateway=name != "code")
    return Fault("", gateway=False)


def raise_refusal(reply: Reply) -> None:
    """Raise what the gateway's table or the bare status says; return for answers that the product gave."""
    fault = fault_of(reply) if reply.status != HTTPStatus.OK else Fault("", gateway=False)
    known = REFUSALS.get((reply.status, fault.code)) if fault.gateway else None
    if known is not None:
        error, text = known
        raise error(f"HTTP {reply.status}, code {fault.code}: {text}", retry_after_s=retry_after_s(reply))
    raise_for_status(reply)


def _refusal_in_success(reply: Reply) -> UpstreamError | None:
    """Tell what a refusal of the gateway means that comes with HTTP 200, by its code alone; None for anything else."""
    fault = fault_of(reply)
    for (_, code), (error, text) in REFUSALS.items():
        if reply.status == HTTPStatus.OK and fault.gateway and code == fault.code:
            return error(f"HTTP {reply.status}, code {code}: {text}", retry_after_s=retry_after_s(reply))
    return None


def _coded(reply: Reply, code: str) -> str:
    """Tell status and code; text in place of a number may be anything, so it is not repeated."""
    return f"HTTP {reply.status} with code {code if CODE_FORM.fullmatch(code) else 'unknown'}"


def is_worth_signing_again(reply: Reply) -> bool:
    """Tell whether a fresh timestamp may help: on any 401 but a denied permission."""
    return reply.status == HTTPStatus.UNAUTHORIZED and fault_of(reply).code != PERMISSION_DENIED_CODE


# 3. Normalise ---------------------------------------------------------------------------------------------------------


class AssetPath(NamedTuple):
    """Where an asset lives; its id is text in a path and a number in an answer. A project's has an empty asset."""

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
        decode(ImportStatus, reply)


def read(reply: Reply, path: AssetPath) -> Observation | None:
    """Read the answer to a status call; None when the asset may be unknown, which a list of its project can tell.

    Raises: AssetRejected, BadAnswer, and what the gateway's refusals mean.
    """
    code = fault_of(reply).code
    if reply.status == HTTPStatus.NOT_FOUND or (
        reply.status == HTTPStatus.BAD_REQUEST and code not in ("", INVALID_REQUEST_CODE)
    ):
        return None
    raise_refusal(reply)
    if code not in ("", SUCCESS_CODE):
        raise _refusal_in_success(reply) or AssetRejected(_coded(reply, code))
    status = decode(ImportStatus, reply)
    if status.number is not None and not path.is_numbered(status.number):
        raise BadAnswer("the answer is about another asset")
    return normalise(status, path)


def normalise(status: ImportStatus, path: AssetPath) -> Observation:
    """Make an observation; uploadResult is for people and is not read."""
    native, message = status.upload_status, status.upload_result or ""
    state = STATES.get(native, State.UNKNOWN)
    kind = FAILURES.get(native)
    return Observation(
        "/".join(path),
        state,
        facets=(Facet("registration", state, native, message),),
        failure=None if kind is None else Failure(kind, native, message),
        detail=MediaIntelligenceDetail(
            workspace=path.workspace,
            project_id=path.project,
            asset_id=status.number or 0,
            upload_status=native,
            upload_result=message,
            media=_media(status.meta_data),
        ),
    )


def _media(wire: MetaData | None) -> MediaData | None:
    if wire is None or wire == MetaData():
        return None
    return MediaData(wire.resolution or "", wire.duration_ms or 0, wire.size or 0, wire.format or "")


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
        if AssetPath.parse(asset_id):
            return texts.unfit(asset_id)
        return "is not WORKSPACE/PROJECT/ASSET, the workspace 3 to 63 characters long, e.g. my-workspace/1234/5678"

    async def probe(self) -> None:
        """List one asset of the first project, or ask for one that cannot be: any signed, readable answer will do."""
        if self._settings.projects:
            await self._part(_project(self._settings.projects[0]), 1, size=1)
            return
        await self._reading.read(await self._get(PROBE_PATH), sign_of_life)

    async def observe(self, asset_ids: Sequence[str], known: Known = NOTHING_KNOWN) -> Sequence[Answer]:
        """Read the registration of each asset."""
        return [await self._read(asset_id, known) for asset_id in asset_ids]

    async def enumerate(self) -> frozenset[str]:
        """List the assets of every configured project, page by page."""
        found: set[str] = set()
        for project in dict.fromkeys(self._settings.projects):
            async for number in self._numbers(_project(project), already=len(found)):
                found.add(f"{project}/{number}")
        return frozenset(found)

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
        reply = await self._get(path.fill(STATUS))
        read = await self._reading.read(reply, answer, path, known)
        if read is not None:
            return read
        if any([path.is_numbered(number) async for number in self._numbers(path)]):
            raise AssetRejected("its project lists the asset, yet its status cannot be had")
        return Observation(asset_id, State.MISSING)

    async def _numbers(self, project: AssetPath, *, already: int = 0) -> AsyncIterator[int]:
        """Yield the numbers of all assets of a project, beside so many that are listed already.

        Raises: BadAnswer when the list changes between its pages, or is of more assets than are taken.
        """
        size = self._settings.page_size
        seen: set[int] = set()
        totals: Totals | None = None
        for page_number in range(1, PAGES_MAX + 1):
            part = await self._part(project, page_number, size=size)
            totals = totals or part.totals
            if part.totals != totals or not seen.isdisjoint(part.numbers):
                raise BadAnswer("the list changed while its pages were read")
            seen |= part.numbers
            check_count(already + len(seen), self._settings.assets_max)
            for number in part.numbers:
                yield number
            if part.is_last:
                break
        else:
            raise BadAnswer(f"a list of more than {PAGES_MAX} pages")
        if totals[0] not in (None, len(seen)):
            raise BadAnswer(f"a list of {totals[0]} assets that holds {len(seen)}")

    async def _part(self, project: AssetPath, number: int, *, size: int) -> Part:
        reply = await self._get(project.fill(PAGE, number=number, size=size))
        return await self._reading.read(reply, part_of, number, size)

    async def _get(self, path: str) -> Reply:
        reply = await self._signed(path)
        again = await self._reading.read(reply, is_worth_signing_again)
        return await self._signed(path) if again else reply

    async def _signed(self, path: str) -> Reply:
        settings = self._settings
        signature = sign(
            "GET",
            self._transport.base.raw_path.rstrip("/") + path,
            access_key=settings.access_key,
            secret=settings.secret_key.get_secret_value(),
            at=self._clock(),
        )
        self._transport.secrets.add(signature[SIGNATURE_HEADER])
        headers = {**signature, "Content-Type": "application/json", "Accept": "application/json"}
        return await self._transport.raw("GET", path, headers=headers)


def _project(name: str) -> AssetPath:
    workspace, _, project = name.partition("/")
    return AssetPath(workspace, project, "")
