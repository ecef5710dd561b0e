"""Decodes malformed text as it was obviously meant; U+FFFD stands for what nobody can tell.

Used only after a strict reading failed. All of it is linear in the length, and it knows only the encodings named here.
"""

from __future__ import annotations

import html.entities
import json
import re
import sys
from xml.sax.saxutils import escape

REPLACEMENT = "\ufffd"
CHARSETS = {
    "iso-8859-1": "cp1252",  # as browsers read it (WHATWG): what is sent under this name is of Windows more often
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "windows-1252": "cp1252",
    "cp1252": "cp1252",
    "iso-8859-15": "iso8859_15",
    "windows-1251": "cp1251",
    "koi8-r": "koi8_r",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "cp949": "cp949",
    "shift_jis": "cp932",
    "euc-jp": "euc_jp",
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5hkscs",
}
"""What a charset that an upstream names is read with; any other is passed over: not all that Python has are such."""
CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s"';]+)""", re.IGNORECASE)

PREAMBLE_LENGTH_MAX = 1024
"""So far from the beginning an XML declaration is looked for; what comes before it is left out."""
DECLARATION = re.compile(r"<\?xml\s[^>]{0,200}\?>")
ENCODING = re.compile(r"""encoding\s*=\s*["']([^"']{1,40})["']""")
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
"""What XML cannot hold (XML 1.0, 2.2)."""
REFERENCE = re.compile(
    r"<!\[CDATA\[[^\]]*(?:\](?!\]>)[^\]]*)*"  # in it, an ampersand is one; to its end, or that of the text
    r"|&(?:#(?P<decimal>[0-9]{1,9});|#x(?P<hex>[0-9A-Fa-f]{1,8});|(?P<name>[A-Za-z][A-Za-z0-9]{1,31});)?"
)
PREDEFINED = frozenset({"lt", "gt", "amp", "apos", "quot"})


def charset_in(content_type: str) -> str:
    """Return the charset that a media type names, empty if none."""
    found = CHARSET.search(content_type)
    return "" if found is None else found[1]


def decoded(body: bytes, *declared: str) -> str:
    """Decode bytes: by their byte-order mark, as UTF-8 if they are that, else by the first known charset declared."""
    encoding: str = json.detect_encoding(body)
    if encoding == "utf-8":
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError:
            known = (CHARSETS[name.lower()] for name in declared if name.lower() in CHARSETS)
            encoding = next(known, "utf-8")
    return body.decode(encoding, "replace")


def without_halves(text: str) -> str:
    """Replace each half of a surrogate pair that stands alone."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def mended_xml(body: bytes, content_type: str = "") -> bytes:
    """Write an XML document in UTF-8, without what comes before its root, with no character or entity that XML lacks.

    An entity of HTML becomes its character; the name of any other stands there as text, as does a lone ampersand.
    """
    named = ENCODING.search(body[: 2 * PREAMBLE_LENGTH_MAX].decode("latin-1"))
    text = decoded(body, *filter(None, [named and named[1], charset_in(content_type)]))
    begin = max(0, text.find("<?xml", 0, PREAMBLE_LENGTH_MAX))
    text = text[begin:].lstrip("\ufeff \t\r\n")
    if declaration := DECLARATION.match(text):
        text = text[declaration.end() :].lstrip()
    return REFERENCE.sub(_reference, CONTROL.sub(REPLACEMENT, text)).encode()


def _reference(found: re.Match[str]) -> str:
    if found[0][0] == "<":
        return found[0]
    if name := found["name"]:
        return found[0] if name in PREDEFINED else escape(html.entities.html5.get(f"{name};", found[0]))
    if not (found["decimal"] or found["hex"]):
        return "&amp;"
    code = int(found["decimal"] or found["hex"], 10 if found["decimal"] else 16)
    return found[0] if _is_character(code) else REPLACEMENT


def _is_character(code: int) -> bool:
    return 0 < code <= sys.maxunicode and not CONTROL.match(chr(code))
