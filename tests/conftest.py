"""For every test: what a module's tests leave behind is not looked through again and again by the collector."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", autouse=True)
def _settled_memory() -> Iterator[None]:
    """Collect what a module left and set apart what stays, or its event loops would pause for seconds."""
    yield
    gc.collect()
    gc.freeze()
