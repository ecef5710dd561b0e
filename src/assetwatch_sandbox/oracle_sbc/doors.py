"""The device's listeners: HTTPS with a plain one beside it, or plain alone."""

import ssl

from aiohttp import web

from assetwatch_sandbox.standin import Listener


class Doors(Listener):
    """One application behind a plain port and, where `context` is set at the start, an HTTPS port of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.context: ssl.SSLContext | None = None
        self._tls_port = 0
        self._serves_tls = False

    @property
    def serves_tls(self) -> bool:
        """Return whether the last start opened the HTTPS port."""
        return self._serves_tls

    @property
    def url(self) -> str:
        """Base URL a client should use. Raises: RuntimeError before the first start."""
        return f"https://{self._host}:{self._tls_port}" if self._serves_tls else self.plain_url

    @property
    def plain_url(self) -> str:
        """Base URL of the plain port. Raises: RuntimeError before the first start."""
        return super().url

    async def start(self, app: web.Application, host: str, port: int) -> None:
        """Listen; with a context, port is that of HTTPS and the plain port is found. Raises: OSError."""
        context = self.context
        await super().start(app, host, 0 if context else port)
        self._serves_tls = context is not None
        if context is not None:
            await self._start_tls(host, port or self._tls_port, context)

    async def _start_tls(self, host: str, port: int, context: ssl.SSLContext) -> None:
        runner = self._runner
        if runner is None:
            raise RuntimeError("the plain listener is gone")
        before = set(runner.addresses)
        try:
            await web.TCPSite(runner, host, port, ssl_context=context, reuse_address=True).start()
        except OSError:
            await self.stop()
            raise
        # The runner lists addresses of all its sites, in no promised order: the new one is whichever was not there.
        self._tls_port = next(address[1] for address in runner.addresses if address not in before)


def context_from(certificate: str, key: str) -> ssl.SSLContext:
    """Load a server's certificate chain and key, both PEM; key may be in the same file.

    Raises: ValueError when no path is given, OSError or ssl.SSLError when it cannot be loaded.
    """
    if not certificate:
        raise ValueError("tls is on, but neither tls_certificate nor ssl_context was given")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key or None)
    return context
