"""Write docs/reference from the program, its settings and the schema: python -m tools.reference [DIRECTORY]."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tools import reference_api, reference_commands, reference_constants, reference_settings

if TYPE_CHECKING:
    from collections.abc import Callable

PAGES: dict[str, Callable[[], str]] = {
    "commands.md": reference_commands.page,
    "settings.md": reference_settings.page,
    "constants.md": reference_constants.page,
    "api.md": lambda: reference_api.page("assetwatch.v1"),
    "pieces-api.md": lambda: reference_api.page("assetwatch.pieces.v1"),
}


def main(directory: Path) -> None:
    """Write every page."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (directory / name).write_text(page())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/reference"))
