"""The device's front: its listeners, and the checks every request passes, each refused in the XML triple."""

import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Literal, NamedTuple

from aiohttp import web

from assetwatch_sandbox.oracle_sbc.doors import Doors, context_from
from assetwatch_sandbox.oracle_sbc.sessions import ADMIN, OPERATOR, Sessions
from assetwatch_sandbox.oracle_sbc.switches import OracleSbcSwitches
from assetwatch_sandbox.oracle_sbc.triple import error_triple
from assetwatch_sandbox.standin import Standin

Call = Callable[[web.Request], Awaitable[web.Response]]
Access = Literal["anyone", "admin", "by_switch"]

XML = "application/xml"
FORM = "application/x-www-form-urlencoded"
LATEST_VERSION = "v1.2"
OTHER_VERSIONS = ("v1.0", "v1.1")
VERSIONS = frozenset({LATEST_VERSION, *OTHER_VERSIONS})
ASYNC_STATUS = "/rest/{version}/admin/asyncstatus"
TOKEN = "/rest/{version}/auth/token"  # noqa: S105 - a path, not a token
SUPPORTED_VERSIONS = "/rest/api/supportedversions"
# 401, 423 and 426 in published words; the others are ours.
TEXTS = MappingProxyType(
    {
        400: "Malformed or missing information.",
        401: "Client not authorized.",
        403: "Administrator access is required.",
        404: "Resource not found.",
        405: "Method not allowed.",
        406: "Only application/xml can be produced.",
        415: "Unsupported media type.",
        423: "User does not have the lock.",
        426: "Client must connect with HTTPS.",
    }
)


class Resource(NamedTuple):
    """One path: what each method does, who may call it, and the media types its body may have."""

    path: str
    methods: Mapping[str, Call]
    access: Access = "admin"
    body_types: frozenset[str] = frozenset({XML})


class Front(Standin[OracleSbcSwitches]):
    """The checks between the network and the device's calls.

    ssl_context serves HTTPS where the switch `tls` is on; without one the two path switches say where to load it from.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        switches: Mapping[str, object] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(clock=clock, switches=switches)
        self.sessions = Sessions(clock, lambda: self.switches)
        self._ssl_context = ssl_context
        self._listener = self._doors = Doors()

    @property
    def credentials(self) -> Mapping[str, str]:
        """The administrator, who may read the status, a user who may not, and the latest version."""
        return MappingProxyType(
            {
                "username": ADMIN.name,
                "password": ADMIN.password,
                "user_username": OPERATOR.name,
                "user_password": OPERATOR.password,
                "version": LATEST_VERSION,
            }
        )

    @property
    def plain_url(self) -> str:
        """Base URL of the plain port; with `tls` all it answers is 426. Raises: RuntimeError before a start."""
        return self._doors.plain_url

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; with `tls`, port is that of HTTPS and the plain port is found.

        Raises: OSError or ssl.SSLError when the certificate cannot be loaded, ValueError when none was given.
        """
        if not self.running:
            self._doors.context = self._context() if self.switches.tls else None
            await super().start(host, port)

    def resource(self, resource: Resource) -> web.RouteDef:
        """Return the route of a resource behind the checks."""

        async def checked(request: web.Request) -> web.Response:
            status = self._refusal(request, resource)
            if status is not None:
                return self.refuse(request, status, allowed=resource.methods)
            return await resource.methods[request.method](request)

        return web.route("*", resource.path, checked)

    async def no_such_resource(self, request: web.Request) -> web.Response:
        """Refuse a path the device does not have."""
        return self.refuse(request, 426 if self._is_too_plain(request) else 404)

    def refuse(self, request: web.Request, status: int, *, allowed: Iterable[str] = ()) -> web.Response:
        """Answer an error as the triple; a 404 may list the URLs that would do."""
        origin = request.url.origin()
        known = (LATEST_VERSION, *OTHER_VERSIONS) if status == HTTPStatus.NOT_FOUND else ()
        urls = [f"{origin}/rest/{version}" for version in known]
        headers = {"Allow": ", ".join(allowed)} if status == HTTPStatus.METHOD_NOT_ALLOWED else {}
        body = error_triple(TEXTS[status], self.switches, urls=urls)
        return web.Response(status=status, body=body, content_type=XML, headers=headers)

    def answer(self, body: bytes, status: int = 200) -> web.Response:
        """Answer a triple."""
        return web.Response(status=status, body=body, content_type=XML)

    def _refusal(self, request: web.Request, resource: Resource) -> int | None:
        if self._is_too_plain(request):
            return 426
        if request.match_info.get("version", LATEST_VERSION) not in VERSIONS:
            return 404
        if self._needs_token(resource) and (status := self._unauthorised(request)) is not None:
            return status
        return self._misuse(request, resource)

    def _misuse(self, request: web.Request, resource: Resource) -> int | None:
        """Return the status of a wrong verb, an Accept without XML, or a body of another type; None for neither."""
        if request.method not in resource.methods:
            return 405
        if not _accepts_xml(request.headers.get("Accept", XML)):
            return 406
        foreign = request.can_read_body and request.content_type not in resource.body_types
        return self.switches.wrong_type_status if foreign else None

    def _needs_token(self, resource: Resource) -> bool:
        return self.switches.versions_need_token if resource.access == "by_switch" else resource.access == "admin"

    def _unauthorised(self, request: web.Request) -> int | None:
        user = self.sessions.use(bearer(request))
        if user is None:
            return 401
        return None if user.is_admin else 403

    def _is_too_plain(self, request: web.Request) -> bool:
        return not request.secure and (self._doors.serves_tls or self.switches.plain_http_426)

    def _context(self) -> ssl.SSLContext:
        return self._ssl_context or context_from(self.switches.tls_certificate, self.switches.tls_key)


def bearer(request: web.Request) -> str:
    """Return the token of the Authorization header, empty where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _accepts_xml(accept: str) -> bool:
    wanted = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return bool(wanted & {XML, "application/*", "*/*"})
