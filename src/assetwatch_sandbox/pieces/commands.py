"""Control verbs that break the streams at a moment, which no switch can express."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assetwatch_sandbox.pieces.streams import Stream
    from assetwatch_sandbox.standin import JSON, Command

StreamName = Literal["identifiers", "assets", "transferables", "health"]


class _Aimed(BaseModel):
    """A command for one stream, or for all four when none is named."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stream: StreamName | None = None

    def among(self, streams: Mapping[str, Stream]) -> list[Stream]:
        return [stream for name, stream in streams.items() if self.stream in {None, name}]


class Drop(_Aimed):
    """`drop_streams`: end the open connections, by cutting TCP (`abort`) or with a close frame (`close`)."""

    how: Literal["abort", "close"] = "abort"


class Mute(_Aimed):
    """`mute_streams`: the open connections send nothing more and answer no ping; with `also_new`, nor do new ones."""

    also_new: bool = False


class Unmute(_Aimed):
    """`unmute_streams`: they send again; what happened meanwhile is lost to them."""


class SendFrame(_Aimed):
    """`send_frame`: send this text as one frame, whatever it is."""

    text: str


def stream_commands(streams: Mapping[str, Stream]) -> Mapping[str, Command]:
    """Make the verbs. Each takes its fields as JSON and returns how many connections it touched.

    Raises (each verb): ValueError for unknown fields or values.
    """

    async def drop_streams(arguments: JSON) -> JSON:
        command = Drop.model_validate(arguments or {})
        return {"connections": sum([await stream.drop(command.how) for stream in command.among(streams)])}

    async def mute_streams(arguments: JSON) -> JSON:
        command = Mute.model_validate(arguments or {})
        touched = [stream.mute(muted=True, also_new=command.also_new) for stream in command.among(streams)]
        return {"connections": sum(touched)}

    async def unmute_streams(arguments: JSON) -> JSON:
        command = Unmute.model_validate(arguments or {})
        touched = [stream.mute(muted=False, also_new=False) for stream in command.among(streams)]
        return {"connections": sum(touched)}

    async def send_frame(arguments: JSON) -> JSON:
        command = SendFrame.model_validate(arguments or {})
        return {"connections": sum(stream.send(command.text) for stream in command.among(streams))}

    verbs = (drop_streams, mute_streams, unmute_streams, send_frame)
    return MappingProxyType({verb.__name__: verb for verb in verbs})
