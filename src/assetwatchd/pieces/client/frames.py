"""Read what a frame or a list of ids says, asset by asset; for every follower of a stream and for whoever lists.

Pure but for `Frames`, which has large texts read beside. It does not know what follows from an item: states are the
adapter's, and what a subscriber is told is the feed's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from assetwatchd.model import texts
from assetwatchd.model.errors import BadAnswer
from assetwatchd.pieces.client.packed import Packed, pack, weight_of
from assetwatchd.pieces.client.streams import Stream
from assetwatchd.runtime import telemetry
from assetwatchd.upstream import port
from assetwatchd.upstream.bodies import jsonbody, lenient, oddtext
from assetwatchd.upstream.bodies.reading import INLINE_BYTES_MAX
from assetwatchd.upstream.http.transport import Reply
from assetwatchd.upstream.port import Listed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pydantic import JsonValue

    from assetwatchd.pieces.client.documents import Documents

    Fields: TypeAlias = "tuple[str, bool, datetime | None, Mapping[str, JsonValue], Omitted | None, int]"

DELETED_MECHANISM = "DELETED"
"""The one value of the mechanism that says something about the state."""
LIST = "iterable"
MAY_BE_FRAME = re.compile(rb"\s*[\[{]|iterable")
"""A text that begins so, or has this in it, may be a frame, or what is left of one; others never were."""
AHEAD_S_MAX = 300.0
"""A date so far ahead of our clock is none: all that comes until then would be taken for older. Clocks of machines that
keep time at all are closer (Kerberos asks for as much)."""
DELETED_FROM = datetime(1970, 1, 2, tzinfo=UTC)
"""No asset was deleted before: such a time (-1, 1970-01-01, 0001-01-01) is what some programs write for none."""
UNFIT_LENGTH_MAX = 100
"""Characters of an id that cannot be one, in the log."""


class Omitted(NamedTuple):
    """An asset that is larger than a limit of ours, by the name of its setting; it has at least that many bytes."""

    setting: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Item:
    """One asset, as a frame or an answer tells of it: it is there, or gone.

    updated: when it last changed; None when that was not said, cannot be read, or has not come yet.
    document: the item as it came; empty when omitted says why it was not read.
    weight: what it takes in memory, about; of one off a stream.
    """

    asset_id: str
    gone: bool
    updated: datetime | None
    document: Mapping[str, JsonValue]
    omitted: Omitted | None = None
    weight: int = field(default=0, compare=False)

    @property
    def fields(self) -> Fields:
        """Its members in order, which are cheaper to pickle than itself."""
        return self.asset_id, self.gone, self.updated, self.document, self.omitted, self.weight

    @property
    def pseudo(self) -> bool:
        """True when it says that the user did not save the asset; items of the identifiers stream never do."""
        return self.document.get("pseudo") is True

    @property
    def deleted_at(self) -> datetime | None:
        """The time of deletion; None when that was not said."""
        return deletion_time(self.document.get("deleted"))


class Frame(NamedTuple):
    """One frame, an item an asset. unreadable: how many of its items may have named one, and nobody can tell.

    unfit: how many have an id that nobody could ask for; those are left out.
    weight: what its items take in memory, about; 0 for what was not read off a stream.
    void: null stands where its items should be.
    """

    items: Collection[Item]
    unreadable: int = 0
    unfit: int = 0
    weight: int = 0
    void: bool = False


def read(document: Mapping[str, JsonValue], stream: Stream) -> Frame:
    """Read a frame (or Assets, which a list answers with), each asset once.

    Items are left out that name no asset, or of which nobody can tell whether it is there or gone.
    Of several items for one asset a tombstone wins, else the newest, else the last. Raises: BadAnswer.
    """
    name, parse = ("asset", _identifier) if stream is Stream.IDENTIFIERS else ("id", _asset)
    found: dict[str, Item] = {}
    unreadable = unfit = 0
    for element in jsonbody.list_of(document.get(LIST), LIST):
        item = parse(element) if isinstance(element, dict) else None
        if item is None:
            unreadable += not isinstance(element, dict) or element.get(name) is not None
        elif len(item.asset_id) > port.ASSET_ID_LENGTH_MAX or texts.unfit(item.asset_id):
            unfit += 1
        elif not _outdone(item, found.get(item.asset_id)):
            found.pop(item.asset_id, None)
            found[item.asset_id] = item
    return Frame(list(found.values()), unreadable, unfit)


def parse(reply: Reply, stream: Stream, assets_max: int) -> Frame | None:
    """Read the text of a frame; None when it is none, as a sign of life is, or what a later release may send.

    Raises: BadAnswer for a frame that is damaged, since it may hold a deletion; also when it tells of more assets than
    anybody could have here.
    """
    if not MAY_BE_FRAME.search(reply.body):
        return None
    document = jsonbody.decode(reply)
    if not isinstance(document, dict) or LIST not in document:
        return None
    if document[LIST] is None:
        return Frame((), void=True)
    check_count(len(jsonbody.list_of(document.get(LIST), LIST)), assets_max)
    frame = read(document, stream)
    weighed = [_weighed(item) for item in frame.items]
    items = [item for item in weighed if item is not None]
    unreadable = frame.unreadable + len(weighed) - len(items)
    return frame._replace(items=items, unreadable=unreadable, weight=sum(item.weight for item in items))


def _weighed(item: Item) -> Item | None:
    """Weigh an item; None when it is nested too deeply, which costs no other."""
    try:
        return replace(item, weight=weight_of(item.document))
    except BadAnswer:
        return None


def packed(reply: Reply, stream: Stream, assets_max: int) -> Packed[Frame | None, Fields]:
    """Read the text of a frame, for a process beside: the fields of its items in parts, all else in the rest.

    The rest is None when it is none. Raises: as parse.
    """
    frame = parse(reply, stream, assets_max)
    if frame is None:
        return Packed(None, ())
    return pack(frame._replace(items=()), [item.fields for item in frame.items], lambda fields: fields[-1])


def check_count(count: int, assets_max: int) -> None:
    """Raise BadAnswer for more assets than a stream may tell of."""
    port.check_count(count, assets_max, where="a stream")


class Frames:
    """Iterate over the frames of an open stream; texts that are none, or void, are passed over.

    void: one was. A wait for the next can be given up. Raises, from the iteration: as Documents; BadAnswer (damaged).
    """

    def __init__(self, documents: Documents, stream: Stream) -> None:
        self.void = False
        self._documents = documents
        self._stream = stream

    def __aiter__(self) -> Frames:
        return self

    async def __anext__(self) -> Frame:
        while (frame := await self._read(await anext(self._documents))) is None or frame.void:
            self.void |= frame is not None
            telemetry.record_passed_over(self._documents.source)
            self._tell("sent a text that is no frame; passed over")
        self._documents.pace.note(ids=len(frame.items) + frame.unreadable + frame.unfit)
        if frame.unreadable:
            self._tell("sent items that name no asset which could be read; what there is, is asked for anew")
        if frame.unfit:
            self._tell("tells of ids that cannot be one; left out")
        return frame

    def _tell(self, what: str) -> None:
        self._documents.warn((self._stream, what), f"the stream {self._stream.value} {what}")

    async def _read(self, text: bytes) -> Frame | None:
        reply, assets_max = Reply(HTTPStatus.OK, {}, text), self._documents.settings.assets_max
        if len(reply.body) <= INLINE_BYTES_MAX:
            return await self._documents.reading.read(reply, parse, self._stream, assets_max)
        told = await self._documents.reading.read(reply, packed, self._stream, assets_max)
        items: list[Item] = []
        async for some in told.members():
            items += [Item(*fields) for fields in some]
        return None if told.rest is None else told.rest._replace(items=items)


def items(document: Mapping[str, JsonValue], stream: Stream) -> Collection[Item]:
    """Read only what can be read. Raises: BadAnswer."""
    return read(document, stream).items


def identifier(asset_id: str) -> Item:
    """Make the item of the identifiers stream that says that an asset is there."""
    return Item(asset_id, gone=False, updated=None, document={"asset": {"id": asset_id}})


def dead_asset(item: Item) -> Item:
    """Make an asset's tombstone of the one in the identifiers stream."""
    return Item(item.asset_id, gone=True, updated=item.updated, document={"id": item.asset_id, **_deleted(item)})


def listed(document: Mapping[str, JsonValue], assets_max: int) -> Listed:
    """Read FlattenedAssets: the ids of what is there; the vendor's model allows that the list is absent.

    Raises: BadAnswer; also when there are more than anybody could have here.
    """
    told = members(document)
    dead = {asset_id_of(each) for each in told if isinstance(each, dict) and is_gone(each)} - {None}
    found = port.listed((asset_id for each in told if (asset_id := asset_id_of(each)) not in dead), assets_max)
    unfit = [asset_id for asset_id in found.asset_ids if texts.unfit(asset_id)]
    if not unfit:
        return found
    why = found.why or f"{unfit[0][:UNFIT_LENGTH_MAX]!a} cannot be an id"
    return Listed(found.asset_ids.difference(unfit), found.unreadable + len(unfit), why)


def members(document: Mapping[str, JsonValue]) -> list[JsonValue]:
    """Return the items of FlattenedAssets. Raises: BadAnswer."""
    told = document.get(LIST)
    if told is None and document.get("indices"):
        raise BadAnswer("a list with indices and nothing that they could mean")
    return jsonbody.list_of([] if told is None else told, LIST)


def asset_id_of(item: JsonValue) -> str | None:
    """Return the id that an item of a list has, a UUID, which is the same in any case; None when it has none."""
    asset_id = item.get("id") if isinstance(item, dict) else None
    return asset_id.lower() if isinstance(asset_id, str) and asset_id else None


def ids(reply: Reply, assets_max: int) -> Listed:
    """Read the text of FlattenedAssets. Raises: as listed."""
    return listed(jsonbody.object_in(reply), assets_max)


def of_texts(reply: Reply, lengths: Sequence[int]) -> Packed[list[BadAnswer], Fields]:
    """Read assets whose texts are joined, an asset each; one that cannot be read spoils none of the others.

    The fields of its items in parts; the rest is why some cannot be read.
    """
    documents: list[JsonValue] = []
    problems: list[BadAnswer] = []
    begin = 0
    for length in lengths:
        text, begin = reply.body[begin : begin + length], begin + length
        try:
            document = jsonbody.object_in(Reply(HTTPStatus.OK, {}, text), "an asset")
            weight_of(document)
            documents.append(document)
        except BadAnswer as error:
            problems.append(error)
    found = living(items({"iterable": documents}, Stream.ASSETS))
    return pack(problems, [item.fields for item in found], lambda fields: weight_of(fields[3]))


def living(among: Iterable[Item]) -> list[Item]:
    """Return only those that are there."""
    return [item for item in among if not item.gone]


def overtaken(updated: datetime | None, known: datetime | None) -> bool:
    """Return whether news of that date is older than what is known."""
    return updated is not None and known is not None and updated < known


def _outdone(item: Item, other: Item | None) -> bool:
    if other is None or item.gone:
        return False
    return other.gone or overtaken(item.updated, other.updated)


def is_tombstone(value: JsonValue) -> bool | None:
    """Tell whether what is in `deleted` says deleted: a flag in identifiers frames, a timestamp in assets.

    A timestamp without a value says nothing. None when nobody can tell.
    """
    if (told := value_of(value)) is None:
        return False
    return True if deletion_time(value) else lenient.flag(told)


def deletion_time(value: JsonValue) -> datetime | None:
    """Read the time in `deleted`; None when there is none, as in a flag."""
    told = value_of(value)
    time = None if lenient.flag(told) is not None else lenient.time(told)
    return time if time is not None and time >= DELETED_FROM else None


def value_of(timestamp: JsonValue) -> JsonValue:
    """Return what a GroupedTimestamp has as its value, or what is in its place."""
    return timestamp.get("value") if isinstance(timestamp, dict) else timestamp


def _asset(element: Mapping[str, JsonValue]) -> Item | None:
    return _item(element.get("id"), element, gone=is_gone(element))


def is_gone(element: Mapping[str, JsonValue]) -> bool | None:
    """Tell whether an asset, or an item of a list, says that it was deleted; None when nobody can tell."""
    return element.get("mechanism") == DELETED_MECHANISM or is_tombstone(element.get("deleted"))


def _identifier(element: Mapping[str, JsonValue]) -> Item | None:
    asset = element.get("asset")
    if not isinstance(asset, dict):
        return None
    return _item(asset.get("id"), element, gone=is_tombstone(element.get("deleted")))


def _deleted(item: Item) -> dict[str, JsonValue]:
    return {"deleted": item.document["deleted"]} if "deleted" in item.document else {}


def _item(asset_id: JsonValue, element: Mapping[str, JsonValue], *, gone: bool | None) -> Item | None:
    """Make an item; None when nobody can tell which asset it is about, or whether that is gone.

    Of two ids that were no text, both would be the one with U+FFFD in place of that.
    """
    if gone is None or not isinstance(asset_id, str) or not asset_id or oddtext.REPLACEMENT in asset_id:
        return None
    return Item(asset_id.lower(), gone, _moment(element.get("updated")), element)  # a UUID is the same in any case


def _moment(value: JsonValue) -> datetime | None:
    text = value.get("value") if isinstance(value, dict) else None
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
        at = at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at
        return None if at is not None and at - datetime.now(UTC) > timedelta(seconds=AHEAD_S_MAX) else at
    except (ValueError, OverflowError):
        return None
