"""The credentials of a sandbox installation of OMN, and the behaviours that no published page settles."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Literal

from assetwatch_sandbox.standin import Switches

CREDENTIALS = MappingProxyType(
    {
        "token": "sandbox-omn-token",
        "jwt_kid": "sandbox",
        "jwt_secret": "sandbox-omn-secret-" * 4,
        "offline_token": "sandbox-omn-offline-token",
        "client_id": "omn-ui",
        "realm": "OMN",
    }
)


@dataclasses.dataclass(frozen=True)
class OmnSwitches(Switches):
    """Behaviours that may differ between OMN installations."""

    release: Literal["5.12", "6.0"] = "5.12"
    """5.12 checks tokens that the client signed itself; 6.0 those of its Keycloak realm, which it then has."""
    static_token: bool = True
    """Whether the token in the credentials is let in too, as one somebody made and handed over [assumed]."""
    jwt_expire_max_s: int = 86_400
    """The server's `jwt.expire.max`: how far off a token's exp may be; the value is [assumed]."""
    access_token_life_s: int = 3_600
    """How long a Keycloak access token lives; one hour is published."""
    rotate_offline_token: bool = False
    """Whether the token endpoint answers with a new offline token and forgets the old one [assumed]."""
    unauthorised_answer: Literal["document", "html", "empty"] = "document"
    """Body of a 401: OMN's own, or what a proxy or the Keycloak filter in front says [assumed]."""
    json_forms: bool = False
    """Whether JSON and compact JSON are answered when asked for; both forms are [assumed]. Else always XML."""
    default_form: Literal["xml", "json", "compact"] = "xml"
    """What comes without an Accept header or for */* [assumed]; other than xml only with json_forms."""
    batch_max: int | None = None
    """Most ids a status call takes, 400 beyond it; no limit is published [assumed]."""
    empty_lists: Literal["refuse", "answer"] = "refuse"
    """Whether a status call without ids is 400 [assumed] or an empty document."""
    unknown_ids: Literal["leave_out", "refuse"] = "leave_out"
    """Whether one unknown id is left out of the answer or fails the whole call with 404 [assumed]."""
    none_known: Literal["not_found", "answer"] = "not_found"
    """Whether a call of unknown ids alone is 404 or an empty document [assumed]."""
    numeric_ids: bool = True
    """Whether `ids` may be JSON numbers beside strings [assumed from sibling calls]."""
    reply_order: Literal["reversed", "asked"] = "reversed"
    """Order of the assets in an answer; none is promised [assumed]."""
    source_env: str | None = None
    """Text of a `sourceEnv` item in the document's meta; seen in some published answers."""
    schema_version: str | None = "5.6.0"
    """The schemaVersion attribute; absent on some sibling calls."""
    status_is_modification: bool = False
    """Whether a change of state moves an asset's modification time [assumed: not reliably]."""
    query_without_criteria: Literal["refuse", "all"] = "refuse"
    """Whether a query that names no criterion is 400 or lists everything [assumed]."""
    directory_is_recursive: bool = True
    """Whether a query by directory finds what lies below it, too [assumed]."""
