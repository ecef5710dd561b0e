"""A stream as a careful client reads it: what came, message by message, and the map it makes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

PATIENCE_S = 20.0
"""What a test waits for must come within this; it mostly takes milliseconds."""

Key = TypeVar("Key")
Held = TypeVar("Held")
Message = TypeVar("Message")


class Reader(Generic[Key, Held, Message]):
    """One stream. A kind of stream says in `learn` what a message does to the map."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.messages: list[Message] = []
        self.map: dict[Key, Held] = {}
        self.removed: list[Key] = []

    def take(self, message: Message) -> None:
        """Take one message in."""
        self.messages.append(message)
        self.learn(message)

    def learn(self, message: Message) -> None:
        """Let the map be as the message says."""
        raise NotImplementedError

    async def next(self) -> Message:
        """Take one message in. Raises: EOFError when the stream ended OK; AioRpcError when it did not."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self.call.read()
        if message is grpc.aio.EOF:
            raise EOFError
        self.take(message)
        return message  # type: ignore[no-any-return]  # grpc types neither stubs nor calls

    async def until(self, wanted: Callable[[Message], object]) -> Message:
        """Take messages in up to the first that is wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while not wanted(message := await self.next()):
                pass
        return message

    async def synced(self) -> Self:
        """Take everything in up to the next synced."""
        await self.until(lambda message: message.HasField("synced"))  # type: ignore[attr-defined]  # every kind has it
        return self

    async def holds(self, wanted: Callable[[Mapping[Key, Held]], object]) -> None:
        """Take messages in until the map is as wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while not wanted(self.map):
                await self.next()

    async def end(self) -> grpc.aio.AioRpcError | None:
        """Take in what is left; return the error it ended with, None for OK."""
        try:
            while True:
                await self.next()
        except EOFError:
            return None
        except grpc.aio.AioRpcError as error:
            return error
