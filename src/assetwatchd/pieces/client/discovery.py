"""Find out where Pieces OS listens: at the configured address, or the first of the known ports that answers as it does.

Source: the vendor's clients: 50 ms to connect, then HEAD of the health page within 100 ms, 20 ports at a time, 200
wins; a version below a minimum, or at or above a maximum, is refused. The order of the ports is [assumed].
It keeps nothing: what was found, and when to look again, is ServerLocator's.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
from yarl import URL

from assetwatchd.model.errors import BadAnswer, Unreachable, VersionUnsupported
from assetwatchd.pieces.client.statuses import OK
from assetwatchd.runtime.descriptors import missed
from assetwatchd.upstream import logins
from assetwatchd.upstream.http.connector import Connector
from assetwatchd.upstream.http.transport import session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from assetwatchd.settings.schema import PiecesSource
    from assetwatchd.upstream.http.transport import Reply
    from assetwatchd.upstream.rate import Pacer

    Ask = Callable[[URL, str], Awaitable[Reply]]
    """Makes a GET of a path at a base URL."""

HOST = "127.0.0.1"
PORTS = (*range(39300, 39334), 1000, 5323)
"""Those of current releases, then the older one of macOS and Windows, then the older one of Linux."""
HEALTH = ".well-known/health"
VERSION = ".well-known/version"

PARALLEL = 20
UNSUPPORTED_WAIT_S = 30.0
"""A server of a version that is not supported is left alone for so long: an update takes longer than that."""

HEALTHY_FORM = re.compile(r"ok.*", re.IGNORECASE | re.DOTALL)
ANY_FORM = re.compile(r".*", re.DOTALL)
VERSION_FORM = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:[-.](\S+))?")
TEXT_BYTES_MAX = 200


class Version(NamedTuple):
    """A version in its order; released is False for one with a label (1.0.0-rc), which comes before its release."""

    major: int
    minor: int
    patch: int
    released: bool = True
    label: str = ""

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}{'-' * bool(self.label)}{self.label}"


SUPPORTED = (Version(11, 0, 0), Version(13, 0, 0))
"""From the first, and before the second: servers that the vendor's client 5.0.1 is made for [assumed]."""


def parse_version(text: str) -> Version:
    """Read major.minor.patch[-label]. Raises: BadAnswer."""
    match = VERSION_FORM.fullmatch(text.strip())
    if match is None:
        raise BadAnswer(f"/{VERSION} did not answer as Pieces OS does; correct base_url")
    major, minor, patch, label = match.groups()
    return Version(int(major), int(minor), int(patch), label is None, label or "")


class Probing(NamedTuple):
    """Limits of looking for a server; supported is a minimum, and what every version must be below."""

    host: str = HOST
    ports: Sequence[int] = PORTS
    connect_timeout_s: float = 0.05
    health_timeout_s: float = 0.1
    supported: tuple[Version, Version] = SUPPORTED


PROBING = Probing()
"""As the vendor's clients probe."""


async def discover(settings: PiecesSource, pacer: Pacer, probing: Probing = PROBING) -> URL:
    """Return the base URL of the first server that is healthy: the configured one, else by the order of the ports.

    A probe is a request as any other, and waits for its turn at the pacer; a port where nobody listens is sent none.
    Raises: Unreachable when there is none.
    """
    known = [URL.build(scheme="http", host=probing.host, port=port) for port in probing.ports]
    candidates = [URL(str(settings.base_url).rstrip("/")), *known]
    async with session(Connector()) as asking:
        return await _first_healthy(asking, candidates, pacer, probing)


async def _first_healthy(
    asking: aiohttp.ClientSession, candidates: Sequence[URL], pacer: Pacer, probing: Probing
) -> URL:
    for start in range(0, len(candidates), PARALLEL):
        some = candidates[start : start + PARALLEL]
        healthy = await asyncio.gather(*[_healthy(asking, url, pacer, probing) for url in some])
        for url, good in zip(some, healthy, strict=True):
            if good:
                return url
    first, *others = candidates
    raise Unreachable(f"Pieces OS is neither at {first} nor at any of {len(others)} known ports; start it")


async def _healthy(asking: aiohttp.ClientSession, url: URL, pacer: Pacer, probing: Probing) -> bool:
    try:
        with missed():
            async with asyncio.timeout(probing.connect_timeout_s):
                _, writer = await asyncio.open_connection(url.host, url.port)
            writer.close()
            await pacer.slot()  # not part of the time that the server has to answer
            async with (
                asyncio.timeout(probing.health_timeout_s),
                asking.head(url / HEALTH, allow_redirects=False) as answer,
            ):
                return answer.status == OK
    except (OSError, TimeoutError, aiohttp.ClientError):
        return False


async def check(ask: Ask, url: URL, supported: tuple[Version, Version] = SUPPORTED) -> None:
    """Check that a server is healthy, is Pieces OS, and is of a version that we can talk to; ask makes the two calls.

    Raises: VersionUnsupported; BadAnswer when it is no Pieces OS; Unreachable and the like, as ask does.
    """
    await _text(ask, url, HEALTH, HEALTHY_FORM)
    version = parse_version(await _text(ask, url, VERSION, ANY_FORM))
    least, limit = supported
    if version < least:
        text = f"Pieces OS at {url} is {version}; at least {least} is needed: update Pieces OS"
    elif version >= limit:
        text = f"Pieces OS at {url} is {version}; versions before {limit} are supported: update assetwatch"
    else:
        return
    raise VersionUnsupported(text, retry_after_s=UNSUPPORTED_WAIT_S)


async def _text(ask: Ask, url: URL, path: str, form: re.Pattern[str]) -> str:
    reply = await ask(url, f"/{path}")
    if reply.status != OK:
        raise BadAnswer(f"HTTP {reply.status} for /{path}: not as Pieces OS does; correct base_url")
    text = reply.body[:TEXT_BYTES_MAX].decode("utf-8", "replace").strip()
    if not form.fullmatch(text):
        raise logins.page(reply.status, reply.body) or BadAnswer(
            f"/{path} did not answer as Pieces OS does; correct base_url"
        )
    return text
