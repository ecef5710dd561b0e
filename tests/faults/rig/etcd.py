"""The etcd of a run: real members, and what is done to them: ended, paused, put back, filled up, compacted."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import grpc
from assetwatch_etcd import etcd_pb2 as pb
from google.protobuf.message import Message

from assetwatch_sandbox.etcd import Cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from assetwatch_sandbox.etcd import Member

T = TypeVar("T", bound=Message)

JUNK = b"/junk/"
JUNK_BYTES = 2**20
CALL_S = 5.0
UNANSWERED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]


class Etcd:
    """The cluster of a run. A call goes to one member, the first that answers."""

    def __init__(self, directory: Path, members: int, *, quota_bytes: int) -> None:
        self.cluster = Cluster(directory / "etcd", members, flags=[f"--quota-backend-bytes={quota_bytes}"])
        self._quota_bytes = quota_bytes
        self._backup = directory / "backup"

    @property
    def members(self) -> Sequence[Member]:
        """All of them, running or not."""
        return self.cluster.members

    async def start(self) -> None:
        """Start those that do not run; return once all serve."""
        for member in self.members:
            if not member.pid:
                member.start()
        for member in self.members:
            await asyncio.to_thread(member.wait)

    async def stop(self) -> None:
        """End all."""
        await asyncio.to_thread(self.cluster.end)

    # Faults ----------------------------------------------------------------------------------------------------------

    async def kill(self) -> None:
        """Kill -9 all."""
        for member in self.members:
            await asyncio.to_thread(member.kill)

    async def back_up(self) -> None:
        """Copy what all of them keep, while they do not run."""
        await self.kill()
        shutil.rmtree(self._backup, ignore_errors=True)
        for member in self.members:
            shutil.copytree(member.data, self._backup / member.name)
        await self.start()

    async def put_back(self) -> None:
        """Have them go on from the copy, as if what they did since had never been."""
        await self.kill()
        for member in self.members:
            shutil.rmtree(member.data)
            shutil.copytree(self._backup / member.name, member.data)
        await self.start()

    async def wipe(self) -> None:
        """Have them begin with nothing."""
        await self.kill()
        for member in self.members:
            shutil.rmtree(member.data)
        await self.start()

    async def fill_up(self) -> bool:
        """Write until nothing more is taken; return whether it came to that."""
        put = pb.PutRequest(key=JUNK + b"x", value=bytes(JUNK_BYTES))
        for _ in range(4 * self._quota_bytes // JUNK_BYTES):
            try:
                await self.call("KV/Put", put, pb.PutResponse)
            except grpc.aio.AioRpcError as error:
                return "database space exceeded" in (error.details() or "")
        return False

    async def make_room(self) -> None:
        """Do what an operator does about it: compact, defragment each member, end the alarm."""
        await self.call("KV/DeleteRange", pb.DeleteRangeRequest(key=JUNK + b"x"), pb.DeleteRangeResponse)
        await self.compact(await self.revision())
        for member in self.members:
            await self.call("Maintenance/Defragment", pb.StatusRequest(), pb.StatusRequest, member)  # both are empty
        for alarm in (await self.call("Maintenance/Alarm", pb.AlarmRequest(), pb.AlarmResponse)).alarms:
            ended = pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm)
            await self.call("Maintenance/Alarm", ended, pb.AlarmResponse)

    async def compact(self, revision: int) -> None:
        """Forget what was superseded before a revision."""
        await self.call("KV/Compact", pb.CompactionRequest(revision=revision, physical=True), pb.CompactionResponse)

    # Questions -------------------------------------------------------------------------------------------------------

    async def revision(self) -> int:
        """Return that of now."""
        return (await self.call("KV/Range", pb.RangeRequest(key=b"\0"), pb.RangeResponse)).header.revision

    async def leader(self) -> Member | None:
        """Return who leads, if anybody does and says so."""
        for member in self.members:
            if member.pid:
                said = await self.call("Maintenance/Status", pb.StatusRequest(), pb.StatusResponse, member)
                if said.leader == said.header.member_id:
                    return member
        return None

    async def call(self, method: str, request: Message, answer: type[T], member: Member | None = None) -> T:
        """Call a member, or the first that answers. Raises: grpc.aio.AioRpcError."""
        asked = [member] if member else [each for each in self.members if each.pid]
        for number, each in enumerate(asked, 1):
            async with channel_to(each.endpoint) as channel:
                stub = channel.unary_unary(
                    f"/etcdserverpb.{method}", request_serializer=_written, response_deserializer=answer.FromString
                )
                try:
                    return await stub(request, timeout=CALL_S)
                except grpc.aio.AioRpcError as error:
                    if number == len(asked) or error.code() not in UNANSWERED:
                        raise
        raise AssertionError("no member runs")


@asynccontextmanager
async def channel_to(endpoint: str) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to a member."""
    async with grpc.aio.insecure_channel(endpoint.rpartition("/")[2], options=OPTIONS) as channel:
        yield channel


def _written(message: Message) -> bytes:
    return message.SerializeToString()
