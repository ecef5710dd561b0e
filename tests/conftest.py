"""For every test: memory that settles, Ctrl-C that arrives, refused events that raise; what unit means."""

from __future__ import annotations

import gc
import signal
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from assetwatchd.polling import target
from support import closed_loops

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from assetwatch_sandbox.etcd import Cluster

UNHURRIED: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
"""No test fails for its pace: on a new machine the first text takes a second, until Hypothesis has its tables."""
settings.register_profile("unhurried", **UNHURRIED)
settings.register_profile("nightly", **UNHURRIED)
settings.load_profile("unhurried")

closed_loops.pass_over()
target.refusals.strict = True

# In the background of a script, or behind nohup, these are ignored; programs that tests start would inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="module", autouse=True)
def _settled_memory() -> Iterator[None]:
    """Collect what a module left and set apart what stays, or its event loops would pause for seconds."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An etcd of one member for all tests of this process; each has a prefix of its own."""
    from support.etcd import running  # noqa: PLC0415 - most tests need no etcd, and not what speaks to one

    with running(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster


@pytest.fixture
def etcd_prefix() -> str:
    """What the keys of one test begin with."""
    return f"/{uuid.uuid4().hex}/"


OUTSIDE = frozenset({"socket.bind", "socket.connect", "subprocess.Popen", "os.fork", "os.posix_spawn"})
"""What a test marked unit does not do, as the interpreter's audit events name it."""
_units: list[str] = []  # the test under way, if it is one


def _keep_inside(event: str, _: object) -> None:
    if _units and event in OUTSIDE:
        raise AssertionError(f"{_units[0]} is marked unit and does {event}: take the mark away")


sys.addaudithook(_keep_inside)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Hold a test marked unit to what it says."""
    _units.extend([item.nodeid] if item.get_closest_marker("unit") else [])
    try:
        return (yield)
    finally:
        _units.clear()
