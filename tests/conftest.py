"""For every test: what a module leaves is not collected again and again; a profile for machines that run for long."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("nightly")


@pytest.fixture(scope="module", autouse=True)
def _settled_memory() -> Iterator[None]:
    """Collect what a module left and set apart what stays, or its event loops would pause for seconds."""
    yield
    gc.collect()
    gc.freeze()
