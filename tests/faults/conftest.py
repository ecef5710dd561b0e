"""Runs that take minutes are left out unless asked for: pytest -m faults tests/faults."""

from __future__ import annotations

import logging
import os

import pytest

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # a child that only becomes another program needs none


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "faults: directed runs with real faults, minutes long; only with -m faults")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave them out."""
    if "faults" in (config.getoption("markexpr") or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("faults")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """What stand-ins say of broken connections is no news."""
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
