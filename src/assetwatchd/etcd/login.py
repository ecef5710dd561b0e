"""The token that goes with each call where etcd wants a user."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from assetwatch_etcd import etcd_pb2 as pb

from assetwatchd.etcd.errors import EtcdRefused, TokenRefused, Unauthenticated
from assetwatchd.etcd.methods import AUTHENTICATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from assetwatchd.etcd.connection import Access, Connection, Metadata

LEADER: Metadata = (("hasleader", "true"),)
"""A member that lost the others refuses at once, and ends its watches, where it would be silent without."""
NOT_ENABLED = "authentication is not enabled"


class Login:
    """Asks for a token with the first call, and for another once one is refused. The password is read each time."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._token: str | None = None
        self._asking = asyncio.Lock()

    @property
    def wanted(self) -> bool:
        """Whether there is a user to log in."""
        return bool(self._access.username)

    async def metadata(self, connection: Connection, within_s: float) -> Metadata:
        """Return what goes with a call. Raises: EtcdError."""
        if not self.wanted:
            return LEADER
        async with self._asking:
            if self._token is None:
                self._token = await self._ask(connection, within_s)
        return (*LEADER, ("token", self._token)) if self._token else LEADER

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Forget the token when the call inside tells that it is not taken, unless there is a newer one."""
        sent = self._token
        try:
            yield
        except TokenRefused:
            if self._token == sent:
                self._token = None
            raise

    async def _ask(self, connection: Connection, within_s: float) -> str:
        """Return a token; none is needed, and it is empty, where etcd asks nobody who they are."""
        request = pb.AuthenticateRequest(name=self._access.username, password=self._password())
        try:
            return (await connection.call(AUTHENTICATE, request, LEADER, within_s)).token
        except EtcdRefused as error:
            if NOT_ENABLED in str(error):
                return ""
            raise

    def _password(self) -> str:
        path = self._access.password_file
        try:
            return path.read_text().strip() if path else ""
        except (OSError, UnicodeError):
            raise Unauthenticated("the file of etcd's password cannot be read", detail=str(path)) from None
