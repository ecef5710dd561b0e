"""Detects refused credentials where no status code tells them: login pages, and words of error documents.

Gateways and filters before an upstream answer in its place, each in its own way, and in no published one. So this is a
heuristic over words; it knows no kind of upstream, and decides nothing about retries.
"""

from __future__ import annotations

import re

from assetwatchd.model.errors import BadAnswer, Refused, UpstreamError

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
HEAD_BYTES = 16 * 1024
"""So much of a page is looked at."""
PAGE = re.compile(rb"<!doctype\s{1,9}html|<html[\s>]", re.IGNORECASE)
PART = re.compile(rb"<(?:head|title|meta|body|script|noscript|form|center|h1)[\s>]", re.IGNORECASE)
"""A page may do without the tags that it begins with: one of these alone makes one of what calls itself HTML."""
FRAGMENT = re.compile(
    rb"<(?:div|p|span|a|table|h[1-6]|input|label|section|main|ul|b|strong|iframe)[\s>/]", re.IGNORECASE
)
"""Of what says that it is HTML, a piece of a page may begin with one of these; no published answer does."""
PREAMBLE_BYTES = 1024
"""An XML declaration, comments and a document type may stand before a page begins."""
JSON = (b"{", b"[", b'"')
"""So begins a document that is no page, though a text in it may quote one."""
LOGIN = re.compile(
    r"(?<![a-z])(?:log[\s_-]?[io]n|sign[\s_-]?[io]n(?![a-z])|passwor[dt]|credentials?|unauthori[sz]ed|single[\s_-]sign"
    r"|authenticat|session[\s_-](?:has[\s_-])?(?:expired|timed)|sso(?![a-z])|saml|oauth|openid|oidc|keycloak|anmeld)",
    re.IGNORECASE,
)
"""Words of a login page, and of the address of one."""
LOGIN_ADDRESS = re.compile(
    r"(?<![a-z])(?:auth[nz]?|authori[sz]e|idp|adfs|cas|realms|accounts?)(?![a-z])", re.IGNORECASE
)
"""More words of such an address, which mean nothing in a text."""
_HELD = r"(?:token|session|signature|credentials?|passwor[dt]|log[\s_-]?in|jwt|api[\s_-]?key)"
_AMISS = (
    r"(?:expired|invalid|unknown|missing|revoked|inactive|wrong|incorrect|bad|not|no|required|denied|re(?:ject|fus)ed"
    r"|ended|lapsed|timed)"
)
_BETWEEN = r"[\W_]+(?:[^\W_]+[\W_]+){0,3}"
NOT_TAKEN = re.compile(
    rf"\b(?:{_HELD}{_BETWEEN}{_AMISS}|{_AMISS}{_BETWEEN}{_HELD})\b"
    rf"|authenticat(?:e|ion|ed){_BETWEEN}(?:{_AMISS}|failed|error)\b|\b(?:not|failed to|un-?)[\s_-]*authenticate"
    r"|un-?authori[sz]ed|not[\s_-]authori[sz]ed|access\W+(?:is\W+)?denied|permission\W+denied|forbidden|not logged in"
    r"|please (?:log|sign)[\s_-]?[io]n\b",
    re.IGNORECASE,
)
"""Words of a reason that speaks of credentials: "Token expired", "invalid_token", "Client not authorized."."""


def redirect(status: int, location: str, *, retry_after_s: float | None = None) -> UpstreamError:
    """Return the error that a redirect means, as none is followed; location is empty if it leads to the same path."""
    if LOGIN.search(location) or LOGIN_ADDRESS.search(location):
        return Refused(
            f"HTTP {status}: a redirect to a login page: our credentials are not taken, or we have none",
            retry_after_s=retry_after_s,
        )
    # 301 and 308 say that the address is wrong for good; the others may lead to a login whose page says so nowhere.
    if location and status not in (301, 308):
        return BadAnswer(
            f"HTTP {status}: a redirect to another page, which is not followed: a login page, or base_url is wrong",
            retry_after_s=retry_after_s,
            doubts_token=True,
        )
    return BadAnswer(f"HTTP {status}: a redirect, which is not followed; correct base_url", retry_after_s=retry_after_s)


def page(status: int, body: bytes, *, called: bool = False) -> UpstreamError | None:
    """Return the error that an HTML page in place of an answer means; None when the body is no page.

    called: its content type says that it is HTML.
    """
    # Tags and the words looked for are ASCII: UTF-16 without its NULs reads like it, so no charset need be known.
    head = body[:HEAD_BYTES].replace(b"\0", b"").removeprefix(b"\xef\xbb\xbf")
    begin = head[:PREAMBLE_BYTES]
    if head.lstrip().startswith(JSON):
        return None
    if not (PAGE.search(begin) or _is_part(begin, called=called)):
        return None
    if LOGIN.search(head.decode(errors="replace")):
        return Refused(
            f"HTTP {status}: a login page in place of an answer: our credentials are not taken, or we have none"
        )
    return BadAnswer(
        f"HTTP {status}: an HTML page in place of an answer: a login page, an error page, or base_url is wrong",
        doubts_token=True,
    )


def _is_part(begin: bytes, *, called: bool) -> bool:
    """Return whether a piece of a page begins so; called: its content type says that it is HTML."""
    first = _after_comments(begin)
    return bool(PART.search(begin) or FRAGMENT.match(first) if called else PART.match(first))


def _after_comments(begin: bytes) -> bytes:
    return re.sub(rb"\A(?:\s|<!--.*?-->)*", b"", begin, flags=re.DOTALL)


def refusal(message: str, reason: str) -> UpstreamError:
    """Make the error for an error document in an answer that says it is well: a refusal if its reason says so."""
    if NOT_TAKEN.search(reason):
        return Refused(message, said=reason)
    return BadAnswer(message, said=reason, doubts_token=True)
