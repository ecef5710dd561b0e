"""Bytes of requests, changed on the wire: what no encoder writes, and a decoder or a limit has to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

BYTES_MAX = 1_000_000
"""Of what grows by being repeated."""
TAGS = tuple(bytes([number << 3 | kind]) for number in range(1, 16) for kind in range(6))


def mutate(given: bytes, rng: random.Random) -> bytes:
    """Change bytes in one to four ways."""
    for _ in range(rng.randint(1, 4)):
        given = rng.choice(WAYS)(given, rng)
    return given[: 2 * BYTES_MAX]


def _flip(given: bytes, rng: random.Random) -> bytes:
    changed = bytearray(given or b"\x00")
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(given: bytes, rng: random.Random) -> bytes:
    return given[: rng.randrange(len(given) + 1)]


def _insert(given: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(given) + 1)
    return given[:at] + rng.randbytes(rng.randint(1, 20)) + given[at:]


def _remove(given: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(given) + 1)
    return given[:at] + given[at + rng.randint(1, 10) :]


def _again(given: bytes, rng: random.Random) -> bytes:
    """Repeat all of it: fields that are there once come many times, lists grow."""
    return given * min(rng.choice((2, 3, 100, 10_000)), BYTES_MAX // max(1, len(given)) + 1)


def _part_again(given: bytes, rng: random.Random) -> bytes:
    at, end = sorted((rng.randrange(len(given) + 1), rng.randrange(len(given) + 1)))
    part = given[at:end]
    return given[:at] + _again(part, rng) + given[at:]


def _empty_items(given: bytes, rng: random.Random) -> bytes:
    """Add a great many empty items of some field."""
    return given + (rng.choice(TAGS) + b"\x00") * rng.choice((10, 1000, 100_000, BYTES_MAX // 2))


def _unknown(given: bytes, rng: random.Random) -> bytes:
    return given + b"\xfa\x07" + bytes([rng.randrange(128)]) + rng.randbytes(rng.randrange(200))


def _long_number(given: bytes, rng: random.Random) -> bytes:
    return given + rng.choice(TAGS) + b"\xff" * rng.choice((4, 9, 10, 1000)) + b"\x01"


def _within(given: bytes, rng: random.Random) -> bytes:
    """Make all of it a message within itself, some times over."""
    for _ in range(rng.choice((1, 5, 60, 200))):
        if len(given) > BYTES_MAX:
            break
        given = bytes([rng.randrange(1, 16) << 3 | 2]) + _varint(len(given)) + given
    return given


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


WAYS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _flip,
    _cut,
    _insert,
    _remove,
    _again,
    _part_again,
    _empty_items,
    _unknown,
    _long_number,
    _within,
)
