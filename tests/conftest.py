"""For every test: memory that settles, Ctrl-C that arrives; a profile for machines that run for long."""

from __future__ import annotations

import gc
import signal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from support import closed_loops

if TYPE_CHECKING:
    from collections.abc import Iterator

UNHURRIED: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
"""No test fails for its pace: on a new machine the first text takes a second, until Hypothesis has its tables."""
settings.register_profile("unhurried", **UNHURRIED)
settings.register_profile("nightly", **UNHURRIED)
settings.load_profile("unhurried")

closed_loops.pass_over()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a script; programs we start inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def _settled_memory() -> Iterator[None]:
    """Collect what a module left and set apart what stays, or its event loops would pause for seconds."""
    yield
    gc.collect()
    gc.freeze()
