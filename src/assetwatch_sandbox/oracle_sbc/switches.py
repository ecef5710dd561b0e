"""The behaviours of the SBC that no published page settles, each one a switch."""

from dataclasses import dataclass
from typing import Literal

from assetwatch_sandbox.standin import Switches


@dataclass(frozen=True)
class OracleSbcSwitches(Switches):
    """Behaviours that a test or a demo may change while the stand-in runs; each default is the likeliest reading."""

    running_status: str = "inProgress"
    """`status` while an operation runs; the spelling is [assumed]."""
    failed_status: str = "failed"
    """`status` of a failed operation; that there is one is published, the spelling is [assumed]."""
    error_element: str = "message"
    """Element of a failed operation's text inside `<data>`; the place is published, the name [assumed]."""
    empty_slot: Literal["empty_data", "empty_operation_state"] = "empty_data"
    """How a slot looks in which nothing ran since boot [assumed]."""
    messages_form: Literal["one", "many", "nested", "bare", "none"] = "one"
    """An error's text in `<messages>`: one or many `<message>`, `<text>` inside it, no item, or left out [assumed]."""
    wrong_type_status: Literal[415, 400] = 415
    """The refusal of a body that is not XML [assumed]."""
    error_links: bool = True
    """Whether a 404 lists valid URLs as `<link>` items in its messages (optional in the guides)."""
    token_life_s: float = 600.0
    """Published: ten minutes."""
    token_life_from: Literal["issue", "last_use"] = "issue"  # noqa: S105 - a moment, not a token
    """What the ten minutes are counted from; issue is [assumed]."""
    reissue_revokes: bool = False
    """Whether a re-request ends the old token at once; [assumed] it lives on to its own end."""
    versions_need_token: bool = False
    """Whether supportedversions asks for a token; [assumed] not, else a wrong version could not be put right."""
    absolute_link: bool = True
    """Whether a 202 links an absolute URL (third-party client) or a path."""
    lock_needed_for: str = "activate,restore,save"
    """Actions answered 423 without the lock: those that change the configuration; the list is [assumed]."""
    operation_duration_s: float = 5.0
    """How long an operation started over REST runs, by the stand-in's clock."""
    operation_outcome: Literal["success", "failed"] = "success"
    """How it ends."""
    failure_text: str = "Operation failed"
    """What a failing one says."""
    tls: bool = False
    """From the next start on: serve HTTPS, and answer 426 on a plain listener beside it."""
    tls_certificate: str = ""
    """Path of the certificate chain, PEM; picked up at the next start only, as on the device."""
    tls_key: str = ""
    """Path of its private key, PEM."""
    plain_http_426: bool = False
    """Answer 426 to all plain HTTP, as the device does; off, so that a demo needs no certificate."""
