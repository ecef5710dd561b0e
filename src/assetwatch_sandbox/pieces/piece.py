"""One asset as the stand-in keeps it: the native fields that `put` takes and `get` gives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, PlainSerializer, model_validator

Mechanism = Literal["UNKNOWN", "MANUAL", "RECOMMENDED", "AUTOMATIC", "INTERNAL", "DELETED", "EXTERNAL_AGENT"]
Generic = Literal["UNKNOWN", "CODE", "TEXT", "IMAGE", "VIDEO", "EXTERNAL_RESOURCE_REFERENCE", "FILE"]

LANGUAGES = {
    "bash": "sh",
    "c#": "cs",
    "c++": "cpp",
    "go": "go",
    "javascript": "js",
    "markdown": "md",
    "python": "py",
    "ruby": "rb",
    "rust": "rs",
    "shell": "sh",
    "text": "txt",
    "typescript": "ts",
}
TEXT_EXTS = frozenset({"txt", "text", "md", "markdown", "log", "csv", "rtf"})
IMAGE_EXTS = frozenset({"png", "jpg", "jpeg", "gif", "bmp", "webp", "tif", "tiff", "ico"})
VIDEO_EXTS = frozenset({"mp4", "webm", "ogv", "qt"})
FILE_EXTS = frozenset({"pdf", "zip", "gz", "bin", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "exe", "dmg"})

MILLISECOND = timedelta(milliseconds=1)


def to_millisecond(moment: datetime) -> datetime:
    """Cut to the precision the server writes, in UTC."""
    moment = moment.astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def iso(moment: datetime) -> str:
    """Write a moment as the server does: `2026-03-04T10:15:00.000Z`."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


Moment = Annotated[AwareDatetime, AfterValidator(to_millisecond), PlainSerializer(iso, when_used="json")]


def is_asset_id(text: str) -> bool:
    """Tell whether the text is a UUID of 36 characters."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def generic_of(ext: str) -> Generic:
    """Name the generic classification of a specific one."""
    if ext in TEXT_EXTS:
        return "TEXT"
    if ext in IMAGE_EXTS:
        return "IMAGE"
    if ext in VIDEO_EXTS:
        return "VIDEO"
    return "FILE" if ext in FILE_EXTS else "CODE"


class Piece(BaseModel):
    """An asset with its one format.

    With carrier `bytes`, each character of content (U+0000 to U+00FF) is one byte.
    `language` may be given instead of `ext`; `generic` follows from `ext` unless given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    created: Moment
    updated: Moment
    synced: Moment | None = None
    deleted: Moment | None = None
    name: str | None = None
    content: str = ""
    ext: str = "txt"
    generic: Generic
    form: Literal["fragment", "file"] = "fragment"
    carrier: Literal["string", "bytes"] = "string"
    mechanism: Mechanism = "MANUAL"
    pseudo: bool = False
    favorited: bool = False
    discovered: bool = False
    curated: bool = False
    demo: bool = False
    tags: tuple[str, ...] = ()
    websites: tuple[str, ...] = ()
    persons: tuple[str, ...] = ()
    description: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _classify(cls, fields: dict[str, object]) -> dict[str, object]:
        language = fields.get("language")
        fields = {name: value for name, value in fields.items() if name != "language"}
        if isinstance(language, str):
            fields.setdefault("ext", LANGUAGES.get(language.lower(), language))
        if fields.get("generic") is None:
            fields["generic"] = generic_of(str(fields.get("ext", "txt")))
        return fields

    @property
    def raw(self) -> bytes:
        """The content as bytes. Raises: UnicodeEncodeError for a bytes carrier with a character beyond U+00FF."""
        return self.content.encode("utf-8" if self.carrier == "string" else "latin-1")

    def native(self) -> dict[str, object]:
        """Give the fields back as JSON, in the form they are taken."""
        return self.model_dump(mode="json")

    def changed(self, native: dict[str, object], *, now: datetime) -> Piece:
        """Apply native fields; anything but a sync to the cloud moves `updated`, always forwards.

        Raises: ValueError.
        """
        fields = {**self.native(), **native}
        if not {"ext", "language"}.isdisjoint(native):
            fields["generic"] = native.get("generic")
        if "language" in native and "ext" not in native:
            del fields["ext"]
        if "updated" not in native and set(native) != {"synced"}:
            fields["updated"] = max(to_millisecond(now), self.updated + MILLISECOND)
        return Piece.model_validate(fields)


def new_piece(asset_id: str, native: dict[str, object], *, now: datetime) -> Piece:
    """Make an asset of native fields. Raises: ValueError."""
    if not is_asset_id(asset_id):
        raise ValueError("a Pieces asset id is a UUID of 36 characters")
    created = native.get("created", now)
    return Piece.model_validate({"created": created, "updated": created, **native, "id": asset_id})
