"""Texts of others (upstreams, callers): cut to a length, and checked for characters that act on a terminal or a reader.

No id may hold such a character, and no terminal gets one.
"""

from __future__ import annotations

import re
import unicodedata

ACTING = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u206f\ud800-\udfff]")
"""Controls (C0, DEL, C1), what turns the direction of writing (UAX 9), what ends a line, and halves of a character."""
SHOWN = frozenset({"Zs", "Co"})
"""Categories of characters that Python calls not printable, and that do nothing: spaces, which macOS puts into file
names (U+202F), and private use, which it does too."""
JOINING = frozenset("\u200c\u200d")
"""They make one emoji of several, and words in Persian."""
CUT = "…"
"""The end of a text that was longer; `redaction` looks before it for the beginning of a secret."""


def cut(text: str, length_max: int) -> str:
    """Return a text, or its beginning and CUT, in length_max characters at most (if CUT itself fits)."""
    return text if len(text) <= length_max else text[: max(0, length_max - len(CUT))] + CUT


def counted(number: int, noun: str) -> str:
    """Write how many there are: 1 source, 2 sources."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def unfit(asset_id: str) -> str | None:
    """Say why a text cannot be an id, of whatever kind; None when it may be one."""
    found = ACTING.search(asset_id)
    if found is None:
        return None
    return f"holds U+{ord(found[0]):04X}, which controls how text is shown; leave it out"


def harmless(text: str) -> str:
    r"""Escape what acts on a terminal, or is not shown, as Python writes it: \n, \x9b, \u202e."""
    if text.isprintable():
        return text
    return "".join(char if _shown(char) else char.encode("unicode_escape").decode() for char in text)


def acts(char: str) -> bool:
    """Return whether a character must not get to a terminal as it is."""
    return not _shown(char)


def _shown(char: str) -> bool:
    return char.isprintable() or char in JOINING or unicodedata.category(char) in SHOWN
