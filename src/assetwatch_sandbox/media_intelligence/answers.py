"""Every answer Media Intelligence and the gateway before it can give, as status and body."""

import datetime as dt
from http import HTTPStatus
from typing import Literal, NamedTuple, get_args
from xml.sax.saxutils import escape

GatewayRefusal = Literal[
    "bad_request",
    "authentication_failed",
    "permission_denied",
    "not_found",
    "request_entity_too_large",
    "quota_exceeded",
    "throttle_limited",
    "rate_limited",
    "endpoint_error",
    "endpoint_timeout",
    "unexpected_error",
]
ProductError = Literal[
    "invalid_request",
    "select_asset",
    "select_bucket",
    "too_many_assets",
    "base_project",
    "asset_not_found",
]
Refusal = GatewayRefusal | ProductError


class Row(NamedTuple):
    """One row of an error table: HTTP status, code in the body, message."""

    status: int
    code: str
    message: str


# Published, "API Gateway" error table: HTTP status and code are not parallel.
GATEWAY: dict[GatewayRefusal, Row] = {
    "bad_request": Row(400, "100", "Bad Request Exception"),
    "authentication_failed": Row(401, "200", "Authentication Failed"),
    "permission_denied": Row(401, "210", "Permission Denied"),
    "not_found": Row(404, "300", "Not Found Exception"),
    "request_entity_too_large": Row(413, "430", "Request Entity Too Large"),
    "quota_exceeded": Row(429, "400", "Quota Exceeded"),
    "throttle_limited": Row(429, "410", "Throttle Limited"),
    "rate_limited": Row(429, "420", "Rate Limited"),
    "endpoint_error": Row(503, "500", "Endpoint Error"),
    "endpoint_timeout": Row(504, "510", "Endpoint Timeout"),
    "unexpected_error": Row(500, "900", "Unexpected Error"),
}
# Published as far as it is known: the guide's table goes on. The rest of 10027's text is unknown; 10404 is invented.
PRODUCT: dict[ProductError, Row] = {
    "invalid_request": Row(400, "10001", "Invalid Request."),
    "select_asset": Row(400, "10014", "Select the asset you want to analyze."),
    "select_bucket": Row(400, "10016", "Select the bucket to integrate (folder selection not available)."),
    "too_many_assets": Row(400, "10023", "You can request up to 10 assets at a time."),
    "base_project": Row(400, "10027", "The base project n"),
    "asset_not_found": Row(404, "10404", "Asset not found."),
}
PRODUCT_ERRORS = frozenset(get_args(ProductError))


def success(result: dict[str, object]) -> dict[str, object]:
    """Return the envelope of every good answer: code is the string "0"."""
    return {"code": "0", "message": "success", "result": result}


def product_error(row: Row, form: str) -> dict[str, object]:
    """Return a product error, bare or under `responseError`."""
    body: dict[str, object] = {"code": row.code, "message": row.message}
    return {"responseError": body} if form == "wrapped" else body


def gateway_error(row: Row, form: str, *, code_as_integer: bool, now_s: float) -> dict[str, object]:
    """Return a gateway refusal in one of the envelopes seen on the platform; now_s is epoch seconds."""
    code = int(row.code) if code_as_integer else row.code
    flat: dict[str, object] = {"errorCode": code, "message": row.message}
    match form:
        case "nested_details":
            return {"error": {**flat, "details": row.message}}
        case "response_error":
            return {"responseError": {"returnCode": code, "returnMessage": row.message}}
        case "flat":
            return flat
        case "timestamped":
            at = dt.datetime.fromtimestamp(now_s, dt.UTC).isoformat(timespec="milliseconds")
            phrase = HTTPStatus(row.status).phrase
            return {"timestamp": at, "status": row.status, "error": phrase, "message": row.message}
        case _:
            return {"error": flat}


def as_xml(body: dict[str, object]) -> str:
    """Write a refusal as XML; element names follow the JSON members [assumed]."""
    # A document has one root, so a body with several members gets one of its own.
    root = body if len(body) == 1 else {"error": body}
    return '<?xml version="1.0" encoding="UTF-8"?>' + "".join(_element(name, value) for name, value in root.items())


def _element(name: str, value: object) -> str:
    if isinstance(value, dict):
        return f"<{name}>{''.join(_element(member, inner) for member, inner in value.items())}</{name}>"
    return f"<{name}>{escape(str(value))}</{name}>"
