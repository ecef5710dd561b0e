"""The behaviours of Media Intelligence that no published page settles, each one a switch."""

from dataclasses import dataclass
from typing import Literal

from assetwatch_sandbox.media_intelligence.answers import Refusal
from assetwatch_sandbox.standin import Switches


@dataclass(frozen=True)
class MediaIntelligenceSwitches(Switches):
    """Behaviours that a test or a demo may change while the stand-in runs; each default is the likeliest reading."""

    unknown_asset_status: Literal[400, 404] = 404
    """HTTP status for an asset nobody registered, with the invented code 10404 [assumed]."""
    product_error_form: Literal["top_level", "wrapped"] = "top_level"
    """Whether code and message are the body, or sit under `responseError`: the guide does not show which."""
    gateway_error_form: Literal["nested", "nested_details", "response_error", "flat", "timestamped"] = "nested"
    """The envelope of a gateway refusal: the published one, or one of those seen on the same platform."""
    gateway_body: Literal["by_accept", "json", "xml", "text", "html"] = "by_accept"
    """How a refusal is written; by_accept is XML unless the caller's Accept names JSON (third-party report)."""
    error_code_as_integer: bool = False
    """`errorCode` is listed as an integer and shown as a quoted string; the default is what is shown."""
    missing_content_type_is_400: bool = True
    """Content-Type is required even on GET; that its absence is the gateway's 400/100 is [assumed]."""
    request_id: bool = True
    """Whether answers carry `x-ncp-request-id` (third-party report: may be present)."""
    refuse_with: Refusal | None = None
    """Answer every well-signed call with this published error; None answers normally."""
    rate_limit_per_s: int = 0
    """Calls answered in one second of the stand-in's clock before 429; 0 is no limit (none is published)."""
    rate_limit_refusal: Literal["quota_exceeded", "throttle_limited", "rate_limited"] = "rate_limited"
    """Which of the three published 429 answers the limit gives."""
    retry_after_s: int | None = None
    """`Retry-After` on a 429; None sends none (none is published)."""
    list_upload_status: bool = False
    """Whether the items of a list carry `uploadStatus` [assumed not]."""
    image_duration: Literal["absent", "zero"] = "absent"
    """`durationMs` in the metadata of an image: left out, or 0 [assumed]."""
    list_name_field: Literal["assetName", "name"] = "assetName"
    """The member that names an asset in a list [assumed]."""
    only_upload_status: bool = False
    """Leave out every optional member of an import-status result (a newer edition requires none)."""
    analyze_message_field: Literal["analyzeStatusMessage", "analysisStatusMessage"] = "analyzeStatusMessage"
    """The reason text: the first name stands in the guide's table, the second in its example."""
