"""What the status codes of Pieces OS mean, whoever asked; pure. What follows from one belongs to who asked.

Source: the vendor's client 5.0.1, which tells of 200, 410 and 500 only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatchd.model.errors import BadAnswer

if TYPE_CHECKING:
    from assetwatchd.upstream.http.transport import Reply

OK = 200
GONE = 410
"""Of an asset deleted earlier and of one that never was, alike; the body is text."""
CLIENT_ERRORS_FROM = 400
FAILED = 500
"""Of a draft, a list or a search it cannot do: the body is text; without text the server itself is broken [assumed]."""
NOT_REFUSALS = frozenset({401, 403, 429})
"""They mean the same with every kind of upstream."""


def is_refusal(reply: Reply) -> bool:
    """Return whether the server speaks about the call, and not about itself."""
    if reply.status == FAILED:
        return reply.content_type == "text/plain"
    return FAILED > reply.status >= CLIENT_ERRORS_FROM and reply.status not in NOT_REFUSALS


def undocumented(status: int) -> BadAnswer:
    """Make the error of a status that Pieces OS does not answer with, so that something else may listen there."""
    return BadAnswer(f"HTTP {status}, which no document mentions here; correct base_url")
