"""The API gateway before the product: signature, rate limit, and every form a refusal is written in."""

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

from aiohttp import web

from assetwatch_sandbox.media_intelligence.answers import (
    GATEWAY,
    PRODUCT,
    PRODUCT_ERRORS,
    GatewayRefusal,
    ProductError,
    as_xml,
    gateway_error,
    product_error,
    success,
)
from assetwatch_sandbox.media_intelligence.signature import is_signed
from assetwatch_sandbox.media_intelligence.switches import MediaIntelligenceSwitches
from assetwatch_sandbox.standin import Standin

Call = Callable[[web.Request], Awaitable[web.Response]]

CREDENTIALS = MappingProxyType({"access_key": "AK_TEST", "secret_key": "SK_TEST"})
TOO_MANY_REQUESTS = 429


class Gateway(Standin[MediaIntelligenceSwitches]):
    """The checks that every call passes before the product sees it."""

    _second = 0
    _calls_in_second = 0

    @property
    def credentials(self) -> Mapping[str, str]:
        """The one key pair the gateway knows: access_key and secret_key."""
        return CREDENTIALS

    def guard(self, call: Call) -> Call:
        """Return the call behind the gateway's checks."""

        async def guarded(request: web.Request) -> web.Response:
            refusal = self._refusal(request)
            answer = await call(request) if refusal is None else self._refuse(request, refusal)
            if self.switches.request_id:
                answer.headers["x-ncp-request-id"] = str(uuid.uuid4())
            return answer

        return guarded

    async def no_such_call(self, request: web.Request) -> web.Response:
        """Refuse a path or method the gateway has no route for; that this precedes the signature is [assumed]."""
        return self.refuse(request, "not_found")

    async def read_object(self, request: web.Request) -> dict[str, Any] | None:
        """Return the JSON object of a request's body, or None when it holds none."""
        try:
            body = json.loads(await request.read())
        except ValueError:
            return None
        return body if isinstance(body, dict) else None

    def success(self, result: dict[str, object]) -> web.Response:
        """Answer 200 in the product's envelope."""
        return web.json_response(success(result))

    def product_error(self, error: ProductError) -> web.Response:
        """Answer with an error of the product's own table."""
        row = PRODUCT[error]
        status = self.switches.unknown_asset_status if error == "asset_not_found" else row.status
        return web.json_response(product_error(row, self.switches.product_error_form), status=status)

    def refuse(self, request: web.Request, refusal: GatewayRefusal) -> web.Response:
        """Answer with a refusal of the gateway's table, in the envelope and format the switches say."""
        row, switches = GATEWAY[refusal], self.switches
        body = gateway_error(
            row, switches.gateway_error_form, code_as_integer=switches.error_code_as_integer, now_s=self.clock()
        )
        retry_after = switches.retry_after_s if row.status == TOO_MANY_REQUESTS else None
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        text, content_type = _write(body, row.message, self._format(request))
        return web.Response(status=row.status, text=text, content_type=content_type, headers=headers)

    def _refuse(self, request: web.Request, refusal: str) -> web.Response:
        if refusal in PRODUCT_ERRORS:
            return self.product_error(cast("ProductError", refusal))
        return self.refuse(request, cast("GatewayRefusal", refusal))

    def _refusal(self, request: web.Request) -> str | None:
        keys = {CREDENTIALS["access_key"]: CREDENTIALS["secret_key"]}
        if not is_signed(request.headers, request.method, request.raw_path, keys=keys, now_s=self.clock()):
            return "authentication_failed"
        if self._is_over_limit():
            return self.switches.rate_limit_refusal
        if self.switches.missing_content_type_is_400 and "Content-Type" not in request.headers:
            return "bad_request"
        return self.switches.refuse_with

    def _is_over_limit(self) -> bool:
        second = int(self.clock())
        self._calls_in_second = self._calls_in_second + 1 if second == self._second else 1
        self._second = second
        return 0 < self.switches.rate_limit_per_s < self._calls_in_second

    def _format(self, request: web.Request) -> str:
        if self.switches.gateway_body != "by_accept":
            return self.switches.gateway_body
        return "json" if "json" in request.headers.get("Accept", "").lower() else "xml"


def _write(body: dict[str, object], message: str, form: str) -> tuple[str, str]:
    match form:
        case "xml":
            return as_xml(body), "application/xml"
        case "text":
            return message, "text/plain"
        case "html":
            return f"<html><head><title>{message}</title></head><body><h1>{message}</h1></body></html>", "text/html"
        case _:
            return json.dumps(body), "application/json"
