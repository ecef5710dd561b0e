"""The assets of all workspaces and projects, in the product's own words."""

import random
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Native = Mapping[str, Any]

WORKSPACE = re.compile(r"[a-z0-9-]{3,63}")  # published SDK's rule for workspace names
TEXTS = MappingProxyType(
    {
        "IN_PROGRESS": "Upload in progress",
        "COMPLETED": "Video copy completed",  # the guide's own example
        "FAILED": "Upload failed",
        "FILE_NOT_EXIST": "File does not exist",
        "INVALID_METADATA": "Unsupported resolution (supported resolutions: 360p to 1080p)",
    }
)
OUTCOMES = ("COMPLETED",) * 16 + ("FAILED", "FAILED", "FILE_NOT_EXIST", "INVALID_METADATA")
ANALYSIS_NEXT = MappingProxyType(
    {
        "BEFORE_ANALYZE": ("WAIT_ANALYZE",),
        "WAIT_ANALYZE": ("ANALYZING",),
        "ANALYZING": ("ANALYZE_COMPLETED",) * 6 + ("ANALYZE_FAIL", "ANALYZE_CANCEL"),
    }
)
VIDEO_FORMATS = ("mp4", "mkv", "mov", "webm")
IMAGE_FORMATS = ("png", "jpg", "heic")
RESOLUTIONS = ("640x360", "1280x720", "1920x1080")
FIELDS: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "uploadStatus": (str,),
        "uploadResult": (str, type(None)),
        "metaData": (dict, type(None)),
        "name": (str,),
        "analyzeStatus": (str,),
        "analyzeMessage": (str, type(None)),
    }
)


class Project(NamedTuple):
    """One project of one workspace."""

    workspace: str
    project: str


class AssetPath(NamedTuple):
    """The path of an asset, whose id is text here and a number in answers."""

    project: Project
    number: int

    def __str__(self) -> str:
        return f"{self.project.workspace}/{self.project.project}/{self.number}"


def parse_asset_id(asset_id: str) -> AssetPath:
    """Read `workspace/project/asset`. Raises: ValueError when it is not of that form."""
    workspace, _, rest = asset_id.partition("/")
    project, _, number = rest.partition("/")
    if not (WORKSPACE.fullmatch(workspace) and project and number.isascii() and number.isdigit()):
        raise ValueError(f"{asset_id!r} is not workspace/project/asset with a number for the asset")
    return AssetPath(Project(workspace, project), int(number))


def changed(held: Native | None, fields: Native, *, number: int) -> dict[str, object]:
    """Return the asset with these native fields changed; a new status brings its own text unless one is given.

    Raises: ValueError for an unknown field or one of the wrong type.
    """
    for name, value in fields.items():
        if name not in FIELDS or not isinstance(value, FIELDS[name]):
            raise ValueError(f"{name} is not a field of an asset, or not of its type; fields: {', '.join(FIELDS)}")
    held = held or {"uploadStatus": "IN_PROGRESS", "name": f"asset-{number}.mp4", "analyzeStatus": "BEFORE_ANALYZE"}
    asset = {**held, **fields}
    if "uploadResult" not in fields and asset["uploadStatus"] != held.get("uploadStatus"):
        asset.pop("uploadResult", None)
    text = TEXTS.get(asset["uploadStatus"])
    if text is not None:
        asset.setdefault("uploadResult", text)
    return {name: value for name, value in asset.items() if value is not None}


def plausible_file(rng: random.Random, number: int) -> dict[str, object]:
    """Return the name and metadata of a made-up video or image."""
    form = rng.choice(VIDEO_FORMATS * 3 + IMAGE_FORMATS)
    metadata = {"resolution": rng.choice(RESOLUTIONS), "size": rng.randrange(50_000, 9_000_000), "format": form}
    if form in VIDEO_FORMATS:
        metadata["durationMs"] = rng.randrange(1_000, 900_000)
    return {"name": f"clip-{number}.{form}", "metaData": metadata}


def next_fields(asset: Native, rng: random.Random) -> dict[str, object]:
    """Return the fields that change in one natural step: registration, then analysis, then registered anew."""
    if asset["uploadStatus"] == "IN_PROGRESS":
        return {"uploadStatus": rng.choice(OUTCOMES)}
    analysis = ANALYSIS_NEXT.get(asset["analyzeStatus"])
    if asset["uploadStatus"] == "COMPLETED" and analysis is not None:
        return {"analyzeStatus": rng.choice(analysis)}
    return {"uploadStatus": "IN_PROGRESS", "analyzeStatus": "BEFORE_ANALYZE"}


class Assets:
    """All assets, by project."""

    def __init__(self) -> None:
        self.by_project: dict[Project, dict[int, dict[str, object]]] = {}
        self._last_number = 9000

    def get(self, path: AssetPath) -> dict[str, object] | None:
        """Return what is held, or None."""
        return self.by_project.get(path.project, {}).get(path.number)

    def put(self, path: AssetPath, asset: dict[str, object]) -> None:
        """Hold this asset from now on."""
        self._last_number = max(self._last_number, path.number)
        self.by_project.setdefault(path.project, {})[path.number] = asset

    def remove(self, path: AssetPath) -> None:
        """Forget an asset; its project stays. Raises: KeyError."""
        del self.by_project[path.project][path.number]

    def new_path(self, project: Project) -> AssetPath:
        """Return the place of the next asset of a project."""
        return AssetPath(project, self._last_number + 1)

    def paths(self) -> list[AssetPath]:
        """List where every asset lives."""
        return [AssetPath(project, number) for project, assets in self.by_project.items() for number in assets]
