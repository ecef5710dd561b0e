"""aiohttp's connections under limits of ours. What these do is in hostile/test_hostile_http.py."""

from __future__ import annotations

from support import inside_aiohttp


async def test_aiohttp_has_what_is_used_of_its_inside() -> None:
    """Nobody promises that it stays; what is not there ends every connection whose answer was costly."""
    assert await inside_aiohttp.missing() == []
