"""Typed details per kind of upstream; the members are named as in the schema's detail messages, which they fill.

unreadable: members of the answer that could not be read, named by their places in it; the state is none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class UsdSearchAttempt:
    """One attempt of a plugin; the time is the upstream's text."""

    status: str
    hash_value: str = ""
    processing_timestamp: str = ""
    exception: str = ""


@dataclass(frozen=True, slots=True)
class UsdSearchPlugin:
    """One plugin's view; history newest first."""

    name: str
    indexing_status: str
    indexed_asset_hash: str = ""
    history: tuple[UsdSearchAttempt, ...] = ()


@dataclass(frozen=True, slots=True)
class UsdSearchDetail:
    """USD Search: the file's state and every plugin's."""

    asset_status: str
    storage_asset_hash: str = ""
    plugins: tuple[UsdSearchPlugin, ...] = ()
    metadata: Mapping[str, object] | None = None
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OmnDetail:
    """OMN: both ids, both native states, every other item of the asset."""

    tid: str
    id: str
    import_state: str = ""
    object_state: str = ""
    meta: Mapping[str, str] | None = None
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PiecesFormat:
    """One format of a Pieces asset, without its content."""

    id: str
    role: str = ""
    generic: str = ""
    specific: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PiecesDetail:
    """Pieces OS: the times and formats its status is derived from."""

    name: str = ""
    creator: str = ""
    mechanism: str = ""
    pseudo: bool = False
    create_time: datetime | None = None
    update_time: datetime | None = None
    sync_time: datetime | None = None
    delete_time: datetime | None = None
    formats: tuple[PiecesFormat, ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MediaIntelligenceMedia:
    """A medium's technical data."""

    resolution: str = ""
    duration_ms: int = 0
    size_bytes: int = 0
    format: str = ""


@dataclass(frozen=True, slots=True)
class MediaIntelligenceDetail:
    """Media Intelligence: the registration as answered."""

    workspace: str
    project_id: str
    asset_id: int = 0
    upload_status: str = ""
    upload_result: str = ""
    media: MediaIntelligenceMedia | None = None
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OracleSbcDetail:
    """Oracle SBC: the one slot; additional_info is XML text."""

    operation: str = ""
    status: str = ""
    message: str = ""
    additional_info: str = ""
    unreadable: tuple[str, ...] = ()


Detail: TypeAlias = UsdSearchDetail | OmnDetail | PiecesDetail | MediaIntelligenceDetail | OracleSbcDetail
