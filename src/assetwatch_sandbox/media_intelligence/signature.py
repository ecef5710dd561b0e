"""Signature v2 of the API gateway, as the gateway checks it."""

import base64
import hashlib
import hmac
from collections.abc import Mapping

TIMESTAMP_HEADER = "x-ncp-apigw-timestamp"
ACCESS_KEY_HEADER = "x-ncp-iam-access-key"
SIGNATURE_HEADER = "x-ncp-apigw-signature-v2"
SKEW_MAX_S = 300.0
"""A timestamp further than this from the gateway's clock is refused (published)."""


def sign(method: str, raw_path: str, *, timestamp: str, access_key: str, secret_key: str) -> str:
    """Return the signature of one request.

    raw_path is the path and query exactly as sent, still percent-encoded; timestamp is the header's text, in
    milliseconds since 1970. Host, body and other headers are not covered.
    """
    text = f"{method.upper()} {raw_path}\n{timestamp}\n{access_key}"
    digest = hmac.new(secret_key.encode(), text.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def is_signed(headers: Mapping[str, str], method: str, raw_path: str, *, keys: Mapping[str, str], now_s: float) -> bool:
    """Tell whether the three headers fit the request; keys maps access keys to secret keys, now_s is epoch seconds."""
    timestamp, access_key = headers.get(TIMESTAMP_HEADER, ""), headers.get(ACCESS_KEY_HEADER, "")
    secret_key = keys.get(access_key)
    if secret_key is None or not _is_current(timestamp, now_s):
        return False
    expected = sign(method, raw_path, timestamp=timestamp, access_key=access_key, secret_key=secret_key)
    return hmac.compare_digest(expected.encode(), headers.get(SIGNATURE_HEADER, "").encode())


def _is_current(timestamp: str, now_s: float) -> bool:
    if not (timestamp.isascii() and timestamp.isdigit()):
        return False
    return abs(int(timestamp) / 1000 - now_s) <= SKEW_MAX_S
