"""The device: token, lock, asynchronous operations and the slot that tells of the last one."""

import random
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Literal
from urllib.parse import parse_qsl

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from assetwatch_sandbox.oracle_sbc.front import (
    ASYNC_STATUS,
    FORM,
    LATEST_VERSION,
    OTHER_VERSIONS,
    SUPPORTED_VERSIONS,
    TOKEN,
    XML,
    Front,
    Resource,
    bearer,
)
from assetwatch_sandbox.oracle_sbc.sessions import MalformedCredentialsError, User, authenticate
from assetwatch_sandbox.oracle_sbc.slot import ASSET_ID, SUCCESS, Slot, State, checked, outcome
from assetwatch_sandbox.oracle_sbc.switches import OracleSbcSwitches
from assetwatch_sandbox.oracle_sbc.triple import slot_data, triple

CONFIGURATION = "/rest/{version}/configuration"
ACTIONS = MappingProxyType({"POST": frozenset({"backup", "activate"}), "PUT": frozenset({"save", "verify", "restore"})})
OPERATIONS = ("activate", "verify", "save", "backup", "restore")
FAILURES = 6
"""One in this many operations of `advance` and `seed` fails."""
UNTIL_ADVANCED_S = 3600.0


class StartCommand(BaseModel):
    """An operation somebody starts at the command line or the GUI; it overwrites the slot like any other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operation: str
    duration_s: float = Field(default=5.0, ge=0)
    outcome: Literal["success", "failed"] = "success"
    message: str | None = None
    additionalInfo: dict[str, object] | str | None = None  # noqa: N815 - the device's own word


class LockCommand(BaseModel):
    """Somebody at the command line takes the lock from whoever had it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    owner: str = "console"


class OracleSbcStandin(Front):
    """A Session Border Controller: one asset, `last-operation`, read from the last asynchronous request's status.

    Native fields: operation, status, message (told inside data), additionalInfo; a put overwrites the whole slot.
    An operation that runs ends by the clock, and truth has its end from the first look after that.
    """

    kind = "oracle_sbc"
    switch_type = OracleSbcSwitches

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        switches: Mapping[str, object] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(clock=clock, switches=switches, ssl_context=ssl_context)
        self._slot = Slot(clock, self._changed)
        self._other_node = Slot(clock, self._changed)

    @property
    def commands(self) -> Mapping[str, Callable[[object], Awaitable[object]]]:
        """Verbs: start an operation as somebody else, lock and unlock as somebody else, switchover, reboot."""
        return MappingProxyType(
            {
                "start": self._start_outside,
                "lock": self._lock_outside,
                "unlock": self._unlock_outside,
                "switchover": self._switchover_command,
                "reboot": self._reboot,
            }
        )

    def put(self, asset_id: str, native: Mapping[str, object]) -> State:
        """Overwrite the slot, whoever's operation it held. Raises: ValueError."""
        if asset_id != ASSET_ID:
            raise ValueError(f"the device has one asset, {ASSET_ID}")
        state = checked(native)
        self._slot.overwrite(state)
        return dict(state)

    def remove(self, asset_id: str) -> None:
        """Empty the slot, as a reboot does. Raises: KeyError when it is empty."""
        if self.get(asset_id) is None:
            raise KeyError(asset_id)
        self._slot.overwrite(None)

    def get(self, asset_id: str) -> State | None:
        """Return the slot's native fields, None when nothing ran since boot."""
        state = self._slot.state if asset_id == ASSET_ID else None
        return None if state is None else dict(state)

    def asset_ids(self) -> list[str]:
        """Return the one asset, whether or not anything ran."""
        return [ASSET_ID]

    def seed(self, rng: random.Random, count: int) -> None:
        """Leave an operation in the slot that ended earlier; count over one changes nothing."""
        if count > 0:
            self._slot.overwrite(self._plausible_end(rng, rng.choice(OPERATIONS)))

    def advance(self, rng: random.Random) -> None:
        """End the operation that runs, or start another as some other administrator would."""
        if self._slot.is_running:
            self._slot.finish()
            return
        operation = rng.choice(OPERATIONS)
        running = outcome(operation, self.switches.running_status)
        self._slot.start(running, self._plausible_end(rng, operation), duration_s=UNTIL_ADVANCED_S)

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the resources of the guides, and the device's own 404 for the rest."""
        management = {"POST": self._manage, "PUT": self._manage}
        resources = (
            Resource(TOKEN, {"POST": self._issue_token}, "anyone", frozenset({XML, FORM})),
            Resource(SUPPORTED_VERSIONS, {"GET": self._supported_versions}, "by_switch"),
            Resource(ASYNC_STATUS, {"GET": self._async_status}),
            Resource(f"{CONFIGURATION}/lock", {"POST": self._lock}),
            Resource(f"{CONFIGURATION}/unlock", {"POST": self._unlock}),
            Resource(f"{CONFIGURATION}/management", management),
            Resource("/rest/{version}/admin/switchover", {"POST": self._switchover}),
        )
        return [*map(self.resource, resources), web.route("*", "/{tail:.*}", self.no_such_resource)]

    async def _issue_token(self, request: web.Request) -> web.Response:
        header = request.headers.get("Authorization")
        try:
            user = None if header is None else authenticate(header)
        except MalformedCredentialsError:
            return self.refuse(request, 400)
        if user is None:
            return self.refuse(request, 401)
        body = (await request.read()).decode(errors="replace")
        token = self.sessions.issue(user, self._current_token(body, user))
        return self.answer(triple({"accessToken": token}))

    def _current_token(self, body: str, user: User) -> str | None:
        """Return the user's living token in a re-request's body: any form field or bare, as no field is published."""
        given = [body.strip(), *(value.replace(" ", "+") for _, value in parse_qsl(body))]
        return next((token for token in given if self.sessions.user_of(token) == user), None)

    async def _supported_versions(self, _request: web.Request) -> web.Response:
        versions = {"latestVersion": LATEST_VERSION, "otherVersions": {"version": list(OTHER_VERSIONS)}}
        return self.answer(triple({"supportedVersions": versions}))

    async def _async_status(self, _request: web.Request) -> web.Response:
        return self.answer(triple(slot_data(self._slot.state, self.switches)))

    async def _lock(self, request: web.Request) -> web.Response:
        return web.Response(status=204) if self.sessions.lock(bearer(request)) else self.refuse(request, 423)

    async def _unlock(self, request: web.Request) -> web.Response:
        return web.Response(status=204) if self.sessions.unlock(bearer(request)) else self.refuse(request, 423)

    async def _manage(self, request: web.Request) -> web.Response:
        action = request.query.get("action", "")
        if action not in ACTIONS[request.method]:
            return self.refuse(request, 400)
        if action in self.switches.lock_needed_for.split(",") and not self.sessions.owns_lock(bearer(request)):
            return self.refuse(request, 423)
        switches = self.switches
        self._start(action, switches.operation_outcome, switches.operation_duration_s, message=None, info=None)
        link = ASYNC_STATUS.format(version=request.match_info["version"])
        origin = str(request.url.origin()) if self.switches.absolute_link else ""
        return self.answer(triple(links=[origin + link]), status=202)

    async def _switchover(self, _request: web.Request) -> web.Response:
        self._swap_nodes()
        return web.Response(status=204)

    def _start(self, action: str, ending: str, duration_s: float, *, message: str | None, info: object) -> None:
        status = SUCCESS
        if ending != SUCCESS:
            status, message = self.switches.failed_status, message or self.switches.failure_text
        running = outcome(action, self.switches.running_status)
        ended = outcome(action, status, message=message, info=info)
        self._slot.start(running, ended, duration_s=duration_s)

    async def _start_outside(self, arguments: object) -> State | None:
        start = StartCommand.model_validate(arguments)
        self._start(start.operation, start.outcome, start.duration_s, message=start.message, info=start.additionalInfo)
        return self.get(ASSET_ID)

    async def _lock_outside(self, arguments: object) -> dict[str, object]:
        self.sessions.lock_outside(LockCommand.model_validate(arguments or {}).owner)
        return {"lock": self.sessions.lock_holder()}

    async def _unlock_outside(self, _arguments: object) -> dict[str, object]:
        self.sessions.lock_outside(None)
        return {"lock": None}

    async def _switchover_command(self, _arguments: object) -> State | None:
        self._swap_nodes()
        return self.get(ASSET_ID)

    async def _reboot(self, _arguments: object) -> None:
        self.sessions.clear()
        self._slot.overwrite(None)

    def _swap_nodes(self) -> None:
        """Let the other node of the pair answer: its slot is another one."""
        # Each node has a slot of its own, and a client cannot tell which one answers: equal answers prove nothing.
        before = self._slot.state
        self._slot, self._other_node = self._other_node, self._slot
        if self._slot.state != before:
            self._changed(self._slot.state)

    def _plausible_end(self, rng: random.Random, operation: str) -> State:
        if rng.randrange(FAILURES) == 0:
            return outcome(operation, self.switches.failed_status, message=f"{operation}: {self.switches.failure_text}")
        info = {"backupFile": f"nightly-{rng.randrange(100)}.gz"} if operation == "backup" else None
        return outcome(operation, SUCCESS, info=info)

    def _changed(self, state: State | None) -> None:
        self.record(ASSET_ID, state)
