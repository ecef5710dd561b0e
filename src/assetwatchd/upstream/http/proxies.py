"""Chooses the proxy for a URL: the one that the settings name, or one of those that the environment names."""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib import request as environment

from yarl import URL

from assetwatchd.model.errors import ConfigError
from assetwatchd.settings.schema import EnvironmentProxy, HttpProxy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from assetwatchd.settings.schema import AnyProxy

VARIABLES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}
"""Which of http_proxy and https_proxy is meant for a scheme; a WebSocket begins as HTTP."""
AUTHORIZATION = "Proxy-Authorization"


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy; credentials is what it is sent as Proxy-Authorization, or empty."""

    url: URL
    credentials: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.url.host_subcomponent}:{self.url.port}"

    @property
    def options(self) -> dict[str, object]:
        """Return the arguments of an aiohttp call. For all but http:// it asks by CONNECT, with these headers alone."""
        return {"proxy": self.url, "proxy_headers": self._headers}

    def headers(self, scheme: str) -> dict[str, str]:
        """Return what goes with a request's own headers: for http:// the proxy reads them, and keeps these."""
        return self._headers if scheme == "http" else {}

    @property
    def _headers(self) -> dict[str, str]:
        return {AUTHORIZATION: self.credentials} if self.credentials else {}


class Proxies:
    """The proxies of one source. Raises: ConfigError when the environment names something else."""

    def __init__(self, settings: AnyProxy | None) -> None:
        self._by_scheme: Mapping[str, Proxy] = {}
        self._direct: tuple[str, ...] = ()
        if isinstance(settings, HttpProxy):
            self._by_scheme = dict.fromkeys(VARIABLES.values(), _configured(settings))
            self._direct = settings.no_proxy
        elif isinstance(settings, EnvironmentProxy):
            named = environment.getproxies_environment()
            self._by_scheme = dict(_of_environment(named))
            self._direct = tuple(named.get("no", "").split(","))

    def of(self, url: URL) -> Proxy | None:
        """Return the proxy to ask for a URL, or None when its host is called directly."""
        proxy = self._by_scheme.get(VARIABLES[url.scheme])
        return None if proxy is None or _is_direct(url, self._direct) else proxy


def _configured(settings: HttpProxy) -> Proxy:
    password = settings.password.get_secret_value() if settings.password else ""
    return Proxy(URL(str(settings.url)), _basic(settings.username, password))


def _basic(username: str | None, password: str | None) -> str:
    """Return the header of HTTP Basic; nothing without a user."""
    user = f"{username}:{password or ''}".encode()
    return "" if username is None else f"Basic {base64.b64encode(user).decode('ascii')}"


def _of_environment(named: Mapping[str, str]) -> Iterator[tuple[str, Proxy]]:
    for scheme in sorted(set(VARIABLES.values()) & named.keys()):
        yield scheme, _read(f"{scheme}_proxy", named[scheme])


def _read(variable: str, text: str) -> Proxy:
    """Read the URL of a proxy, which may lack its scheme and hold credentials."""
    try:
        url = URL(text if "://" in text else f"http://{text}")
        if url.scheme in {"http", "https"} and url.host and url.port:
            return Proxy(url.origin(), _basic(url.user, url.password))
    except ValueError:
        pass
    raise ConfigError(f"the variable {variable} does not name an HTTP proxy, as http://HOST:PORT") from None


def _is_direct(url: URL, direct: Iterable[str]) -> bool:
    names = [stripped if (stripped := name.strip()) == "*" else stripped.removeprefix("*") for name in direct]
    # urllib knows the names of no_proxy as every program reads them, but no networks, and no * among others.
    host = (url.host or "").rstrip(".")
    by_name: bool = environment.proxy_bypass_environment(f"{host}:{url.port}", {"no": ",".join(names)})  # type: ignore[attr-defined]  # typeshed lacks it
    return by_name or "*" in names or any(_is_within(host, name) for name in names)


def _is_within(host: str, network: str) -> bool:
    """Return whether host is an address of a network, e.g. 10.0.0.0/8: urllib compares names alone."""
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network.strip("[]"), strict=False)
    except ValueError:
        return False
