"""One Pieces OS server, and what all who call it here share: its address, its budget of requests, its connections.

The adapter (states) and the API (calls and streams of clients) both go by this one client. It owns every connection
of the source, and knows neither states nor gRPC.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from assetwatchd.pieces.client import documents
from assetwatchd.pieces.client.discovery import PROBING
from assetwatchd.pieces.client.location import PiecesTransport, ServerLocator
from assetwatchd.pieces.client.shared_stream import SharedStream

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from assetwatchd.pieces.client.discovery import Probing
    from assetwatchd.pieces.client.documents import Documents
    from assetwatchd.pieces.client.streams import Stream
    from assetwatchd.settings.schema import PiecesSource

POLLS_BESIDE = 4
"""Connections beside those of reads: a list, and the three streams, which keep theirs for as long as they last."""
CALLS_BESIDE = 2
"""Beside calls: a list of ids and one of all assets, for a feed. Together no more than the process has files for
(TRANSPORTS x (concurrency + BESIDE), in descriptors.py)."""


class PiecesServer:
    """The one client of one source.

    polls: connections for states, lists and streams. calls: those for calls that clients make. Two pools, as clients
    may make any number of calls, each as slow as the server likes: in one pool they would take every connection from
    the reads behind WatchStatus. The pacer is one for both, as are the address and the processes that read answers.
    identifiers: the stream of ids, shared by the push behind WatchStatus and the feeds.
    """

    def __init__(self, source: str, settings: PiecesSource, probing: Probing = PROBING) -> None:
        self.source = source
        self.settings = settings
        self.locator = ServerLocator(settings, probing)
        self.reading = self.locator.reading
        self.polls = PiecesTransport(source, settings, self.locator, beside=POLLS_BESIDE)
        self.calls = PiecesTransport(source, settings, self.locator, beside=CALLS_BESIDE)
        self.identifiers = SharedStream(self.polls, settings)

    def connect(self, stream: Stream) -> AbstractAsyncContextManager[Documents]:
        """Open a stream of assets, a connection of its own; that of ids is `identifiers`, which others follow too."""
        return documents.opened(self.polls, stream.value, self.settings)

    async def close(self) -> None:
        """Give back connections, and the processes that read."""
        async with AsyncExitStack() as closing:  # what fails to close keeps no other open
            for each in (self.reading, self.calls, self.polls):
                closing.push_async_callback(each.close)
