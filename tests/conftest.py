"""For every test: memory that settles, Ctrl-C that arrives; a profile for machines that run for long."""

from __future__ import annotations

import gc
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from support import closed_loops

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("nightly")
closed_loops.pass_over()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a script; programs we start inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def _settled_memory() -> Iterator[None]:
    """Collect what a module left and set apart what stays, or its event loops would pause for seconds."""
    yield
    gc.collect()
    gc.freeze()
