"""What lists and pushes say of one asset, as a value. Pure: each change gives another value, and the old one stays.

Must not know what reads found (knowledge.py). Which value a target has is written by registry.py alone.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

ABSENCES_TO_BELIEVE = 2
"""Complete lists in a row that must lack an asset before it is taken as gone."""


class Presence(NamedTuple):
    """Whether an asset is there, as far as others than its own reads tell.

    There are some twenty different ones, as absences are counted no further than they matter. All targets share them,
    which is why this is a value, and the changes below are remembered: 100,000 of their own would be 8 MB.

    listed: a list, or a push, has named it, and nothing has taken that back.
    absences: complete lists in a row without it, up to ABSENCES_TO_BELIEVE.
    back: it was in a list after it was gone, and was not read since.
    missing_unconfirmed: a read said that it is missing, though it was there; one more must say so.
    """

    listed: bool = False
    absences: int = 0
    back: bool = False
    missing_unconfirmed: bool = False


UNHEARD_OF = Presence()


@cache
def in_list(presence: Presence) -> Presence:
    """A list has it."""
    return presence._replace(listed=True, absences=0, back=False)


@cache
def back_in_list(presence: Presence) -> Presence:
    """A list has it, and the store has it as gone."""
    return presence._replace(listed=True, absences=0, back=True)


@cache
def pushed(presence: Presence) -> Presence:
    """A push tells of it. That it is back is for a list to say: a push is followed by a read in any case."""
    return presence._replace(listed=True, absences=0)


@cache
def lacked(presence: Presence) -> Presence:
    """A complete list lacks it."""
    return presence._replace(absences=min(presence.absences + 1, ABSENCES_TO_BELIEVE))


@cache
def unlisted(presence: Presence) -> Presence:
    """It is gone, or nothing speaks of it for long; absences stay, as they say which."""
    return presence._replace(listed=False)


@cache
def doubted(presence: Presence) -> Presence:
    """A read misses it: the first of two that must."""
    return presence._replace(missing_unconfirmed=True)


@cache
def confirmed(presence: Presence) -> Presence:
    """A read, or a notice, settles whether it is missing."""
    return presence._replace(missing_unconfirmed=False)


@cache
def told(presence: Presence) -> Presence:
    """What it is since it came back is known, or why it cannot be read."""
    return presence._replace(back=False)
