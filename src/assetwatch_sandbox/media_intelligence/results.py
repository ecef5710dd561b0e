"""The `result` objects of Media Intelligence, made from what is held."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from assetwatch_sandbox.media_intelligence.assets import IMAGE_FORMATS, AssetPath, Native
from assetwatch_sandbox.media_intelligence.switches import MediaIntelligenceSwitches

T = TypeVar("T")
Switches = MediaIntelligenceSwitches
PAGE_SIZE_MAX = 1000
"""Largest page, and the size of one when the caller names none (published)."""


def import_status(path: AssetPath, asset: Native, switches: Switches, *, id_field: str) -> dict[str, object]:
    """Return the registration status; every member but `uploadStatus` may be missing."""
    if switches.only_upload_status:
        return {"uploadStatus": asset["uploadStatus"]}
    members = ("uploadStatus", "uploadResult")
    return {
        id_field: path.number,
        **{name: asset[name] for name in members if name in asset},
        **_metadata(asset, switches),
    }


def analyze_status(path: AssetPath, asset: Native, switches: Switches, *, id_field: str) -> dict[str, object]:
    """Return the analysis status; its text has one name in the guide's table and another in its example."""
    result: dict[str, object] = {id_field: path.number, "status": asset["analyzeStatus"]}
    if "analyzeMessage" in asset:
        result[switches.analyze_message_field] = asset["analyzeMessage"]
    if asset["analyzeStatus"] == "ANALYZE_COMPLETED":
        result["indexId"] = path.number + 500_000
    return result


def list_item(path: AssetPath, asset: Native, switches: Switches, *, id_field: str) -> dict[str, object]:
    """Return one member of a list's content; the deprecated twin says videoId and videoName."""
    project = path.project.project
    name_field = "videoName" if id_field == "videoId" else switches.list_name_field
    form = asset.get("metaData", {}).get("format")
    item: dict[str, object] = {
        id_field: path.number,
        name_field: asset["name"],
        "projectId": int(project) if project.isdigit() else project,
        "type": "IMAGE" if form in IMAGE_FORMATS else "VIDEO",
        **_metadata(asset, switches),
    }
    if switches.list_upload_status:
        item["uploadStatus"] = asset["uploadStatus"]
    return item


def _metadata(asset: Native, switches: Switches) -> dict[str, object]:
    """Return the member `metaData`, if the asset has it."""
    if "metaData" not in asset:
        return {}
    metadata = asset["metaData"]
    if metadata.get("format") in IMAGE_FORMATS and switches.image_duration == "zero":
        metadata = {"durationMs": 0, **metadata}
    return {"metaData": metadata}


def page_wanted(query: Mapping[str, str]) -> tuple[int, int] | None:
    """Return (page number, page size) of a list call, or None when either is missing or out of bounds."""
    number, size = query.get("pageNum", ""), query.get("pageSize", str(PAGE_SIZE_MAX))
    if not (number.isascii() and number.isdigit() and size.isascii() and size.isdigit()):
        return None
    return (int(number), int(size)) if int(number) >= 1 and 1 <= int(size) <= PAGE_SIZE_MAX else None


def slice_page(rows: Sequence[T], number: int, size: int) -> Sequence[T]:
    """Return the rows of one page, counted from 1."""
    return rows[(number - 1) * size : number * size]


def page(content: list[dict[str, object]], *, total: int, number: int, size: int) -> dict[str, object]:
    """Return a list's result: asked as pageNum, answered as pageNo."""
    pages = -(-total // size)
    return {"content": content, "totalCount": total, "totalPage": pages, "pageNo": number, "pageSize": size}
