"""Hostile answers of each kind of upstream: one shape each, of any size, that is as bad as a body of that size gets."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

JSON, XML = "application/json", "application/xml"
UUID = "6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001"
STORED = '"storage_backend_info":{"asset_status":"ok"}'
LEVELS = 200
"""Elements in one another; libxml2 takes 256."""


@dataclass(frozen=True)
class Shape:
    """One way to be hostile: the body that is made for a size in bytes, which it has but for an item."""

    kind: str
    name: str
    make: Callable[[int], bytes]
    status: int = 200
    content_type: str = JSON

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def filled(head: str, item: str, tail: str, separator: str = "") -> Callable[[int], bytes]:
    """Repeat an item; a {} in it is its number, and so is $ the letter for one that is as long each time."""

    def make(size: int) -> bytes:
        if "{}" not in item:
            count = max(1, (size - len(head) - len(tail)) // (len(item) + len(separator)))
            return (head + separator.join([item] * count) + tail).encode()
        items: list[str] = []
        length = len(head) + len(tail)
        while length < size or not items:
            items.append(item.replace("{}", str(len(items))))
            length += len(items[-1]) + len(separator)
        return (head + separator.join(items) + tail).encode()

    return make


def nested(
    head: str, opening: str, inside: str, closing: str, tail: str, *, levels: int = LEVELS
) -> Callable[[int], bytes]:
    """Repeat items of so many levels, which hold a text that is as long as all of their tags."""
    item = opening * levels + inside * max(1, levels * len(opening + closing) // len(inside)) + closing * levels
    return filled(head, item, tail)


def in_namespaces(head: str, declared: str, middle: str, item: str, tail: str) -> Callable[[int], bytes]:
    """Half of the size are namespaces of the root, the other half elements in their scope."""

    def make(size: int) -> bytes:
        return filled(head, declared, "")(size // 2) + filled(middle, item, tail)(size // 2)

    return make


def usd(name: str, head: str, item: str, tail: str, status: int = 200) -> Shape:
    """A status of USD Search."""
    return Shape("usd_search", name, filled(head, item, tail, ","), status)


def metadata(name: str, item: str) -> Shape:
    """A status of USD Search with that in its metadata."""
    head = '{"plugins_statuses":{},"storage_backend_info":{"asset_status":"ok","metadata":{"a":['
    return usd(f"metadata of {name}", head, item, "]}}}")


def sbc(name: str, make: Callable[[int], bytes]) -> Shape:
    """A slot of an SBC."""
    return Shape("oracle_sbc", name, make, content_type=XML)


def omn(name: str, make: Callable[[int], bytes], status: int = 200) -> Shape:
    """Statuses of OMN, in XML."""
    return Shape("omn", name, make, status, XML)


DATA, DATA_END = "<response><data>", "</data></response>"
INFO, INFO_END = "<response><data><additionalInfo>", "</additionalInfo></data></response>"
ASSETS, ASSETS_END = '<pim><assets><asset tid="a" id="1">', "</asset></assets></pim>"
HISTORY = '{"plugins_statuses":{"a":{"indexing_status":"in_sync","plugin_status_history":['
FORMATS = f'{{"id":"{UUID}","formats":{{"iterable":['
PAGE = '{"code":"0","result":{"content":['

SHAPES = (
    # USD Search
    usd("history", HISTORY, '{"status":""}', f"]}}}},{STORED}}}"),
    usd("history of long reasons", HISTORY, f'{{"status":"x","exception":"{"x" * 500}"}}', f"]}}}},{STORED}}}"),
    usd("history of numbers", HISTORY, "0", f"]}}}},{STORED}}}"),
    usd("history of times", HISTORY, '{"status":"ok","processing_timestamp":"9999999999"}', f"]}}}},{STORED}}}"),
    usd("plugins", '{"plugins_statuses":{', '"{}":{"indexing_status":""}', f"}},{STORED}}}"),
    usd("plugins that failed", '{"plugins_statuses":{', '"{}":{"indexing_status":"failed_indexing"}', f"}},{STORED}}}"),
    usd("plugins that are none", '{"plugins_statuses":{', '"{}":0', f"}},{STORED}}}"),
    usd("members that nobody reads", f'{{"plugins_statuses":{{}},{STORED},', '"{}":[]', "}"),
    usd("brackets", "[", "[]", "]"),
    usd("one key", "{", '"a":1', "}"),
    usd("reasons of a refusal", '{"detail":[', '{"loc":["a"],"msg":"b"}', "]}", status=422),
    usd("path of a refusal", '{"detail":[{"loc":[', "1", "]}]}", status=422),
    metadata("numbers", "1"),
    metadata("lists", "[]"),
    metadata("objects", '{"":0}'),
    metadata("levels", "[[[[[[]]]]]]"),
    metadata("texts", '"xx"'),
    metadata("NaN", "NaN"),
    metadata("half pairs", '"\\ud800"'),
    usd("hashes that are none", HISTORY, '{"status":"","hash_value":[]}', f"]}}}},{STORED}}}"),
    Shape(
        "usd_search",
        "escapes",
        filled('{"plugins_statuses":{"a":{"indexing_status":"', "\\u0001", f'"}}}},{STORED}}}'),
    ),
    Shape("usd_search", "a long number", filled("", "9", "")),
    Shape("usd_search", "levels", filled("", '{"a":', "")),
    Shape(
        "usd_search",
        "a long time",
        filled(HISTORY + '{"status":"","processing_timestamp":"', "9", f'"}}]}}}},{STORED}}}'),
    ),
    # OMN
    omn("itm in itm", nested(ASSETS, '<itm key="a">', "x", "</itm>", ASSETS_END)),
    omn("itm", filled(ASSETS, '<itm key="{}"/>', ASSETS_END)),
    omn("assets", filled("<pim><assets>", '<asset tid="{}"/>', "</assets></pim>")),
    omn("assets in assets", nested("<pim><assets>", "<asset>", "x", "</asset>", "</assets></pim>")),
    omn("lists of assets", filled("<pim>", '<assets><asset tid="a"/></assets>', "</pim>")),
    omn("namespaces", in_namespaces("<pim", ' xmlns:a{}="b"', "><assets>", '<asset tid="{}"/>', "</assets></pim>")),
    omn("an error", filled("<response>", '<itm key="errorMessage">x</itm>', "</response>"), status=500),
    Shape("omn", "JSON, a tree", filled('{"assets":[', '{"a":[]}', "]}", ",")),
    Shape("omn", "JSON, levels", nested('{"assets":[', "[", "1,", "1]", "]}", levels=400)),
    Shape("omn", "JSON, items", filled('{"assets":[{"tid":"a","meta":{"itm":[', '{"key":"{}"}', "]}}]}", ",")),
    Shape("omn", "JSON, members", filled('{"assets":[{"tid":"a","meta":{', '"{}":0', "}}]}", ",")),
    Shape("omn", "JSON, members that are none", filled('{"assets":[{"tid":"a","meta":{', '"{}":[]', "}}]}", ",")),
    omn("ampersands", filled("<pim><assets>", "&", "</assets></pim>")),
    # Pieces OS
    Shape("pieces", "formats of lists", filled(FORMATS, '{"id":[]}', "]}}", ",")),
    Shape("pieces", "formats", filled(FORMATS, "{ }", "]}}", ",")),
    Shape("pieces", "full formats", filled(FORMATS, '{"id":"x","bytes":{ },"classification":{ }}', "]}}", ",")),
    Shape("pieces", "formats that are none", filled(FORMATS, "0", "]}}", ",")),
    Shape("pieces", "a long name", filled(f'{{"id":"{UUID}","name":"', "x", '"}')),
    Shape("pieces", "a long time", filled(f'{{"id":"{UUID}","updated":{{"value":"', "2", '"}}')),
    Shape("pieces", "members that nobody reads", filled(f'{{"id":"{UUID}",', '"{}":{"a":[]}', "}", ",")),
    # Media Intelligence
    Shape("media_intelligence", "a page", filled(PAGE, '{"assetId":{}}', "]}}", ",")),
    Shape("media_intelligence", "a page of one asset", filled(PAGE, '{"assetId":1}', "]}}", ",")),
    Shape("media_intelligence", "a page of numbers", filled(PAGE, "0", "]}}", ",")),
    Shape("media_intelligence", "a page of texts", filled(PAGE, '{"assetId":"x"}', "]}}", ",")),
    Shape("media_intelligence", "a long result", filled('{"code":"0","result":{"uploadStatus":"', "x", '"}}')),
    Shape("media_intelligence", "a refusal", filled('{"error":{"errorCode":"', "1", '"}}'), 401),
    Shape(
        "media_intelligence", "members of a refusal", filled('{"code":"10001","result":{', '"{}":[]', "}}", ","), 400
    ),
    # Oracle SBC
    sbc("namespaces", in_namespaces("<response", ' xmlns:a{}="b"', "><data><additionalInfo>", "<a/>", INFO_END)),
    sbc("information", filled(INFO, "<a/>", INFO_END)),
    sbc("information in information", nested(INFO, "<a>", "x", "</a>", INFO_END)),
    sbc("namespaces in one another", filled(INFO, '<a xmlns:b="c">' * LEVELS + "</a>" * LEVELS, INFO_END)),
    sbc("elements", filled(DATA, "<a/>", DATA_END)),
    sbc("texts", filled(DATA, "<a>b</a>", DATA_END)),
    sbc("elements in one another", nested(DATA, "<a>", "x", "</a>", DATA_END)),
    sbc("messages", filled("<response><data/><messages>", "<a>b</a>", "</messages></response>")),
    sbc("attributes", filled("<response", ' a{}=""', "><data/></response>")),
    sbc("one attribute", filled("<response", ' a=""', "><data/></response>")),
    sbc(
        "attributes in namespaces", in_namespaces("<response", ' xmlns:a{}="b"', "", ' a{}:x=""', "><data/></response>")
    ),
    sbc("references", filled(DATA + "<x>", "&amp;", "</x>" + DATA_END)),
    sbc("entities of HTML", filled(DATA + "<x>", "&nbsp;", "</x>" + DATA_END)),
    sbc("CDATA in CDATA", filled(DATA + "<x>&", "<![CDATA[", "</x>" + DATA_END)),
    sbc("instructions", filled(DATA, "<?a?>", DATA_END)),
    sbc("comments", filled(DATA, "<!---->", DATA_END)),
    sbc("a long name", filled("<response><data><", "a", "/></data></response>")),
    sbc("a long text", filled(DATA + "<x>", "x ", "</x>" + DATA_END)),
    Shape(
        "oracle_sbc",
        "UTF-16",
        lambda size: f'<?xml version="1.0" encoding="UTF-16"?>{DATA}{"<a/>" * (size // 8)}{DATA_END}'.encode("utf-16"),
        content_type=XML,
    ),
)


OK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PLAIN = b"Content-Length: 2\r\n\r\n{}"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

RAW: dict[str, Callable[[int], bytes]] = {
    "chunks of a byte": lambda size: OK_HEAD + CHUNKED + b"1\r\n[\r\n" * (size // 6) + b"0\r\n\r\n",
    "informational answers": lambda size: b"HTTP/1.1 103 Early Hints\r\n\r\n" * (size // 28) + OK_HEAD + PLAIN,
    "headers": lambda size: OK_HEAD + b"".join(b"a%d: b\r\n" % number for number in range(size // 10)) + PLAIN,
    "a long header": lambda size: OK_HEAD + b"Retry-After: " + b"9" * size + b"\r\n" + PLAIN,
    "a bomb": lambda size: _compressed(_bomb(100 * size), b"gzip"),
    "a bomb in a bomb": lambda size: _compressed(gzip.compress(_bomb(1000 * size)), b"gzip, gzip"),
    "trailers": lambda size: OK_HEAD + CHUNKED + b"2\r\n{}\r\n0\r\n" + b"a: b\r\n" * (size // 6) + b"\r\n",
}
"""Whole answers, head and all, that are hostile as HTTP; about so many bytes are sent, or come of a bomb times 100."""


def _compressed(body: bytes, how: bytes) -> bytes:
    return OK_HEAD + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n" % (how, len(body)) + body


def _bomb(size: int) -> bytes:
    """Compress so many bytes of nothing, a thousandth of which is left."""
    packer = zlib.compressobj(9, wbits=31)
    pieces = [packer.compress(bytes(1 << 20)) for _ in range(max(1, size >> 20))]
    return b"".join([*pieces, packer.flush()])
