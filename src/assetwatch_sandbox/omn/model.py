"""The assets of an OMN installation, their directories, and how an asset lives."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import random

    from assetwatch_sandbox.standin import JSON

FIRST_ID = 70_412
DIRECTORY = "/MAM/campaign/spring"
FAILURE_CHANCE = 0.15
DELETION_CHANCE = 0.15
LOCK_CHANCE = 0.5


def iso_utc(at: float) -> str:
    """Write epoch seconds as OMN does: ISO 8601, UTC, milliseconds, Z."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class NativeAsset(BaseModel):
    """An asset as a script gives it: states any text, `modified` ISO 8601, `meta` items added to the answer."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    tid: str | None = None
    id: int | None = Field(default=None, ge=0)
    import_state: str | None = Field(default=None, alias="ImportState")
    object_state: str | None = Field(default=None, alias="ObjectState")
    modified: datetime | None = None
    path: str | None = Field(default=None, pattern="^/")
    file_type: str | None = Field(default=None, alias="fileType")
    meta: dict[str, str] | None = None


@dataclasses.dataclass
class Asset:
    """One asset; modified is epoch seconds, path the directory it lies in."""

    tid: str
    id: int
    modified: float
    import_state: str = "available"
    object_state: str = "available"
    path: str = DIRECTORY
    file_type: str = "IMG"
    extra: dict[str, str] = dataclasses.field(default_factory=dict)

    def meta(self) -> dict[str, str]:
        """Return what the status call says of it, by key."""
        return {"ImportState": self.import_state, "ObjectState": self.object_state, **self.extra}

    def native(self) -> dict[str, JSON]:
        """Return it in the form a script gives it."""
        return {
            "tid": self.tid,
            "id": self.id,
            "ImportState": self.import_state,
            "ObjectState": self.object_state,
            "modified": iso_utc(self.modified),
            "path": self.path,
            "fileType": self.file_type,
            "meta": dict(self.extra),
        }

    def apply(self, native: NativeAsset, at: float) -> None:
        """Change it as a script says; at is its modification time (epoch seconds) unless that is given."""
        self.import_state = native.import_state or self.import_state
        self.object_state = native.object_state or self.object_state
        self.path = native.path or self.path
        self.file_type = native.file_type or self.file_type
        self.extra.update(native.meta or {})
        self.modified = at if native.modified is None else epoch(native.modified)

    def step(self, rng: random.Random) -> bool:
        """Move one step along its life; False when the step is that it goes for good."""
        state = (self.import_state, self.object_state)
        match state:
            case (_, "marked for deletion"):
                return False
            case ("pending", _):
                self._set("running", "import incomplete")
            case ("running", _) if rng.random() < FAILURE_CHANCE:
                self._set("incomplete", "import incomplete")
            case ("running", _):
                self._set("available", "available")
            case ("available", "locked") if rng.random() < LOCK_CHANCE:
                self._set("running", "import incomplete")
            case ("available", "available"):
                self._idle(rng.random())
            case ("available", _):
                self._set("available", "available")
            case _:
                self._set("pending", "import incomplete")
        return True

    def _idle(self, dice: float) -> None:
        if dice < DELETION_CHANCE:
            self._set("available", "marked for deletion")
        else:
            self._set("available", "locked")

    def _set(self, import_state: str, object_state: str) -> None:
        self.import_state, self.object_state = import_state, object_state


def epoch(at: datetime) -> float:
    """Return epoch seconds; a time without a zone is UTC."""
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def parse_time(text: JSON) -> float:
    """Read an ISO 8601 time as epoch seconds. Raises: ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"not a time: {text!r}")  # noqa: TRY004 - answered as 400, like all of them
    return epoch(datetime.fromisoformat(text))


def made_up_tid(rng: random.Random) -> str:
    """Make a tid of the published shape: like a GUID, but the last group has 11 characters."""
    digits = f"{rng.getrandbits(124):031X}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def directory_keys(path: str) -> tuple[int, str]:
    """Return the id and the tid that a directory of this path has."""
    digest = hashlib.sha256(path.encode()).hexdigest()
    return int(digest[:6], 16), f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:31]}"


def ancestors(path: str) -> list[str]:
    """List a directory and all that hold it, innermost first."""
    parts = [part for part in path.split("/") if part]
    return ["/" + "/".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
