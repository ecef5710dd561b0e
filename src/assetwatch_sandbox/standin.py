"""The base of every stand-in: its own server, switches, faults, a log of requests, and a record of what was true when.

Tests compare what the service told with that record, which is why each change is recorded before it is pushed.
"""

from __future__ import annotations

import abc
import dataclasses
import json
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeAlias, TypeVar

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from assetwatch_sandbox.faults import Faults

if TYPE_CHECKING:
    import random

    from assetwatch_sandbox.faults import Handler

JSON: TypeAlias = object
AnyStandin: TypeAlias = "Standin[Any]"
"""Of any kind: its switches are of a type of their own."""
Command: TypeAlias = Callable[[JSON], Awaitable[JSON]]

REQUESTS_MAX = 200_000
TRUTH_MAX = 200_000
REQUEST_BODY_BYTES_MAX = 16 * 1024 * 1024
SHUTDOWN_TIMEOUT_S = 0.05


class Truth(NamedTuple):
    """One change of an asset: `time` in monotonic seconds, `state` what was held from then on, None when gone."""

    time: float
    asset_id: str
    state: Mapping[str, JSON] | None


@dataclasses.dataclass
class LoggedRequest:
    """One request as it arrived.

    time: monotonic seconds. status: None until (or unless) an answer was begun. host: HOST:PORT that it was sent to, as
    the client said.
    """

    time: float
    method: str
    path_qs: str
    status: int | None = None
    host: str = ""


class RequestLog:
    """The last REQUESTS_MAX requests of one stand-in, faulted ones included."""

    def __init__(self) -> None:
        self._requests: deque[LoggedRequest] = deque(maxlen=REQUESTS_MAX)

    def add(self, request: web.Request) -> LoggedRequest:
        """Note that a request has arrived."""
        logged = LoggedRequest(time.monotonic(), request.method, request.path_qs, host=request.host)
        self._requests.append(logged)
        return logged

    def count(self, path_regex: str | None = None) -> int:
        """Count the requests whose path with query contains a match of path_regex, or all."""
        if path_regex is None:
            return len(self._requests)
        pattern = re.compile(path_regex)
        return sum(1 for logged in self._requests if pattern.search(logged.path_qs))

    def all(self) -> list[LoggedRequest]:
        """List the requests, oldest first."""
        return list(self._requests)

    def clear(self) -> None:
        """Forget them."""
        self._requests.clear()


@dataclasses.dataclass(frozen=True)
class Switches:
    """Base of a kind's switches: one field for each [assumed] behaviour, its default what the facts suggest."""


class Listener:
    """An aiohttp application on a port of its own, which it keeps when it is stopped and started again."""

    def __init__(self) -> None:
        self._runner: web.AppRunner | None = None
        self._host = ""
        self._port = 0

    @property
    def running(self) -> bool:
        """Return whether it listens."""
        return self._runner is not None

    @property
    def url(self) -> str:
        """Base URL without a trailing slash, the same while stopped. Raises: RuntimeError before the first start."""
        if not self._port:
            raise RuntimeError("never started, so there is no address yet")
        return f"http://{self._host}:{self._port}"

    async def start(self, app: web.Application, host: str, port: int) -> None:
        """Listen; port 0 means the port of last time, or a free one. Raises: OSError when the port is taken."""
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port or self._port, reuse_address=True).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner, self._host, self._port = runner, host, runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the listening socket and every open connection."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()


class UnknownSwitchError(ValueError):
    """A switch the kind does not have; the text names those it has."""


class SwitchValueError(ValueError):
    """A switch was given a value that is not one of its own."""


S = TypeVar("S", bound=Switches)


class Standin(abc.ABC, Generic[S]):
    """One upstream's stand-in: its own aiohttp server on its own port.

    clock gives the wall time in epoch seconds for everything the upstream would stamp. switches overrides defaults.
    """

    kind: ClassVar[str]
    switch_type: type[S]

    def __init__(self, *, clock: Callable[[], float] = time.time, switches: Mapping[str, object] | None = None) -> None:
        self.clock = clock
        self.switches: S = self.switch_type()
        self.faults = Faults()
        self.requests = RequestLog()
        self.truth: list[Truth] = []
        self._listener = Listener()
        self.switch(switches or {})

    @property
    def credentials(self) -> Mapping[str, str]:
        """Return what a client must know to be let in; made-up values."""
        return MappingProxyType({})

    @property
    def commands(self) -> Mapping[str, Command]:
        """Extra verbs of the kind, served by the control endpoint."""
        return MappingProxyType({})

    @abc.abstractmethod
    def routes(self) -> Iterable[web.RouteDef]:
        """Return the upstream's own routes; called at each start."""

    @abc.abstractmethod
    def put(self, asset_id: str, native: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Create or change an asset by its native fields and push where the kind pushes; return what is held now.

        Raises: ValueError, which says what is wrong with the id or a field.
        """

    @abc.abstractmethod
    def remove(self, asset_id: str) -> None:
        """Delete an asset, leaving a tombstone where the kind has one. Raises: KeyError when there is none."""

    @abc.abstractmethod
    def get(self, asset_id: str) -> Mapping[str, JSON] | None:
        """Return what the stand-in holds of an asset, or None."""

    @abc.abstractmethod
    def asset_ids(self) -> list[str]:
        """List the ids in the form a status names them by."""

    @abc.abstractmethod
    def seed(self, rng: random.Random, count: int) -> None:
        """Put `count` plausible assets in mixed states."""

    @abc.abstractmethod
    def advance(self, rng: random.Random) -> None:
        """Move one asset one natural step along its life cycle."""

    def switch(self, changes: Mapping[str, object]) -> None:
        """Set switches by name, all or none. Raises: UnknownSwitchError, SwitchValueError."""
        known = {field.name for field in dataclasses.fields(self.switches)}
        if unknown := sorted(set(changes) - known):
            raise UnknownSwitchError(
                f"{self.kind} has no switch {', '.join(unknown)}; it has {', '.join(sorted(known))}"
            )
        wanted = {**dataclasses.asdict(self.switches), **changes}
        try:
            self.switches = TypeAdapter(self.switch_type).validate_json(json.dumps(wanted), strict=True)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise SwitchValueError(problems) from None

    def record(self, asset_id: str, state: Mapping[str, JSON] | None) -> None:
        """Append to the truth; called by a kind at every change, before it pushes."""
        if len(self.truth) >= TRUTH_MAX:
            del self.truth[: TRUTH_MAX // 2]
        self.truth.append(Truth(time.monotonic(), asset_id, state))

    @property
    def running(self) -> bool:
        """Return whether it listens."""
        return self._listener.running

    @property
    def url(self) -> str:
        """Base URL without a trailing slash, the same while stopped. Raises: RuntimeError before the first start."""
        return self._listener.url

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 means the port of last time, or a free one. Does nothing when it already listens."""
        if self.running:
            return
        # The log before the faults: a request that a fault swallows was made all the same, and tests count it.
        app = web.Application(middlewares=[self._log, self.faults.middleware], client_max_size=REQUEST_BODY_BYTES_MAX)
        app.on_response_prepare.append(_note_status)
        app.add_routes(self.routes())
        await self._listener.start(app, host, port)

    async def stop(self) -> None:
        """Close the listening socket and every open connection; start() brings it back on the same port."""
        await self._listener.stop()

    @web.middleware
    async def _log(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        request[LOGGED] = self.requests.add(request)
        return await handler(request)


LOGGED: web.RequestKey[LoggedRequest] = web.RequestKey("logged", LoggedRequest)


async def _note_status(request: web.Request, response: web.StreamResponse) -> None:
    if (logged := request.get(LOGGED)) is not None:
        logged.status = response.status
