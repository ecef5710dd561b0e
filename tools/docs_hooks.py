"""What `make docs` does beside MkDocs: links out of docs/ go to the repository host, if they lead anywhere."""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
BRANCH = "main"
LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]*)")
PICTURES = "bench/plots"
"""They are drawn by `make bench`, and shown by a page."""
LOG = logging.getLogger("mkdocs.hooks.links")
"""A warning ends a strict build."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pictures, which README shows too."""
    for picture in sorted((ROOT / PICTURES).glob("*.svg")):
        path = f"{PICTURES}/{picture.name}"
        files.append(File.generated(config, path, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite what leads out of docs/."""
    folder = posixpath.dirname(page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", folder, match[1]))
        if target == "docs" or target.startswith("docs/"):
            return match[1]
        if files.get_file_from_path(target):
            return posixpath.relpath(target, folder or ".")
        path = ROOT / target
        if not path.exists():
            LOG.warning("%s: %s leads nowhere", page.file.src_uri, match[1])
        return f"{config.repo_url}/{'tree' if path.is_dir() else 'blob'}/{BRANCH}/{target}"

    return LINK.sub(moved, markdown)
