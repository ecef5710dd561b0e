"""The behaviours of Pieces OS that are not documented, one switch each."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field

from assetwatch_sandbox.standin import Switches

HttpError = Annotated[int, Field(ge=400, le=599)]


@dataclasses.dataclass(frozen=True)
class PiecesSwitches(Switches):
    """Every [assumed] behaviour of the assets API and its streams."""

    # Server and user
    version: str = "12.3.5"
    """Text of /.well-known/version, `major.minor.patch[-label]`."""
    health_with_id: bool = True
    """Health is `ok:<uuid>`; without, a bare `ok`."""
    signed_in: bool = True
    """GET /user and POST /connect name a user."""
    application_required: bool = False
    """Asset operations without an application id of POST /connect are refused with 401 text."""

    # Answers
    deleted_get: Literal["gone", "tombstone"] = "gone"
    """GET of an asset deleted earlier: 410 text, or 200 with `deleted` set."""
    unknown_delete_status: HttpError = 500
    """Deleting an unknown id."""
    unknown_formats_status: HttpError = 500
    """Listing the formats of an unknown id."""
    refused_seed_status: HttpError = 500
    """Creating from a seed that breaks its rules (draft is documented as 500)."""
    malformed_status: HttpError = 500
    """A body that is not JSON of the expected shape."""
    missing_body: Literal["default", "refused"] = "default"
    """GET related or recommended whose body was dropped on the way: a default answer, or `malformed_status`."""
    identifiers_with_reference: bool = False
    """Identifier lists carry each asset flattened beside its id."""
    filters_join: Literal["AND", "OR"] = "AND"
    """How filters are joined when their `type` is absent or UNKNOWN."""
    search_casing: bool = True
    """Whether POST search heeds upper and lower case when the body does not say."""

    # Streams
    frame_updated: Literal["never", "changes", "always"] = "changes"
    """Which identifiers frames carry `updated`, a field only client 5.0.1 knows; `always` means the first one too."""
    frame_ids_max: Annotated[int, Field(ge=1)] = 1
    """At most so many changes that wait together share one frame."""
    frame_copies: Annotated[int, Field(ge=1, le=100)] = 1
    """Every change frame is sent this often (many events for one asset are seen in practice)."""
    frames_newest_first: bool = False
    """Changes that wait together are sent in reverse order."""
    pseudo_in_streams: bool = False
    """Assets the user did not save are in the streams too."""
    tombstone: Literal["flag", "timestamp"] = "flag"
    """`deleted` of an identifiers frame: true, or a timestamp object as in an asset."""
    assets_tombstone: Literal["timestamp", "mechanism"] = "timestamp"
    """How an Assets frame shows a deletion: `deleted` is set, or the mechanism is DELETED."""
    empty_first_frame: Literal["empty", "none"] = "empty"
    """How a stream of assets or ids begins for an account without any: an empty frame, or silence until a change."""
    first_frame_forgets: bool = False
    """The identifiers stream begins with an empty frame whatever there is, as of a server that is not ready yet."""
    assets_first_frame: bool = True
    """The two Assets streams begin with all assets, as the identifiers stream does."""
