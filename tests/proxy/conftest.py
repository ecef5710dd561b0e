"""What needs a proxy is left out unless asked for: make test-proxy, which installs one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "proxy: with a real Envoy in front; only with -m proxy")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave them out."""
    if "proxy" in (config.getoption("markexpr") or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("proxy")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
