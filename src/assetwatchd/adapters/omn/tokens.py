"""Bearer tokens for OMN: given, signed by ourselves (5.x), or traded for an offline token (6.x, Keycloak).

Source: the vendor's developer guide, releases 5.12 to 6.4; the trade is Keycloak's own [assumed].
"""

from __future__ import annotations

import asyncio
import re
import warnings
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

from yarl import URL

from assetwatchd.model.errors import BadAnswer, ConfigError, Refused
from assetwatchd.settings.schema import BearerAuth, SignedJwtAuth
from assetwatchd.upstream.bodies.jsonbody import bounded, decode, object_in, text_of
from assetwatchd.upstream.credentials import TOKEN_BYTES_MAX, GivenTokens
from assetwatchd.upstream.http.transport import Reply, Transport, raise_for_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import JsonValue

    from assetwatchd.settings.schema import OmnSource, RefreshTokenAuth
    from assetwatchd.upstream.bodies.reading import Reading
    from assetwatchd.upstream.credentials import Tokens
    from assetwatchd.upstream.redaction import Secrets

# 1. Facts --------------------------------------------------------------------------------------------------------

ALGORITHM = "HS512"
RENEW_AT = 0.8  # of a token's life: the rest is for calls under way and clocks that differ
LIFE_S_MAX = 3600.0  # an access token lives one hour; one that claims to live longer is renewed as if it did not
VISIBLE_ASCII = re.compile(rf"[!-~]{{1,{TOKEN_BYTES_MAX}}}")
ENDPOINT_LENGTH_MAX = 2048  # characters of a URL
LIFE_S_UNSAID = 60.0  # expires_in is only recommended (RFC 6749, 5.1)

# 2. Wire ---------------------------------------------------------------------------------------------------------


def sign(auth: SignedJwtAuth, *, at: float) -> str:
    """Sign a token as release 5.12 checks it: kid names the server's key, exp is at (epoch seconds) plus lifetime_s.

    Raises: ConfigError when the secret cannot be a key.
    """
    import jwt  # noqa: PLC0415 - with its cryptography it takes 10 MB, which only those who sign need to pay for
    from jwt.warnings import InsecureKeyLengthWarning  # noqa: PLC0415 - as above

    claims: dict[str, object] = {
        "mandator": auth.mandator,
        "sub": auth.subject,
        "iss": auth.issuer,
        "exp": int(at + auth.lifetime_s),
    }
    if auth.username is not None:
        claims["username"] = auth.username
    if auth.access_all_configuration is not None:
        claims["accessAllConfiguration"] = auth.access_all_configuration
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)  # the server's administrator chose its length
        try:
            return jwt.encode(claims, auth.secret.get_secret_value(), ALGORITHM, headers={"kid": auth.key_id})
        except jwt.InvalidKeyError:
            raise ConfigError("auth.secret cannot be the key of an HS512 signature") from None


def endpoint_of(reply: Reply, discovery: URL) -> URL:
    """Read the token endpoint out of the discovery document.

    Raises: UpstreamError; BadAnswer for an endpoint on another origin, where the offline token must not go.
    """
    raise_for_status(reply)
    endpoint = text_of(object_in(reply, "the discovery document").get("token_endpoint"))
    try:
        url = URL(endpoint)
        same = (url.scheme, url.host, url.port) == (discovery.scheme, discovery.host, discovery.port)
    except ValueError:
        raise BadAnswer("the discovery document holds no usable token_endpoint") from None
    if len(endpoint) > ENDPOINT_LENGTH_MAX:
        raise BadAnswer(f"the discovery document holds a token_endpoint of more than {ENDPOINT_LENGTH_MAX} characters")
    if not same:
        raise BadAnswer("the token endpoint is not on the host of discovery_url; it gets no token of ours")
    return url


class Grant(NamedTuple):
    """An access token, its life in seconds, and the next offline token (empty: the old one stays)."""

    access_token: str
    life_s: float
    offline_token: str


def grant_of(reply: Reply) -> Grant:
    """Read the token endpoint's answer.

    Raises: UpstreamError; Refused with the reason's code when the offline token is not taken.
    """
    if reply.status == 400:  # noqa: PLR2004 - RFC 6749, 5.2: every refusal but a wrong client
        raise Refused("the token endpoint refuses the offline token", said=_code(reply))
    raise_for_status(reply)
    grant = object_in(reply, "the token endpoint's answer")
    token, life_s = grant.get("access_token"), grant.get("expires_in")
    if not isinstance(token, str) or not VISIBLE_ASCII.fullmatch(token):
        raise BadAnswer("the token endpoint's answer holds no usable access_token")
    offline_token = text_of(grant.get("refresh_token"))
    if len(offline_token) > TOKEN_BYTES_MAX:
        raise BadAnswer(f"the token endpoint's answer holds a refresh_token of more than {TOKEN_BYTES_MAX} characters")
    return Grant(token, _life_s(life_s), offline_token)


def _life_s(expires_in: JsonValue) -> float:
    if isinstance(expires_in, bool) or not isinstance(expires_in, (int, float)):
        return LIFE_S_UNSAID
    return float(min(max(expires_in, 0), LIFE_S_MAX))


def _code(reply: Reply) -> str:
    try:
        body = decode(reply)
    except BadAnswer:
        return "no reason given"
    return bounded(text_of(body.get("error") if isinstance(body, dict) else None)) or "no reason given"


# 3. Upstream -----------------------------------------------------------------------------------------------------


class SignedTokens:
    """Tokens that we sign ourselves, one for most of its life."""

    def __init__(self, auth: SignedJwtAuth, secrets: Secrets, *, clock: Callable[[], float]) -> None:
        self._auth = auth
        self._secrets = secrets
        self._clock = clock
        self._token, self._until = "", 0.0
        self._sign()

    async def current(self) -> str:
        """Return the token, signed anew near its end."""
        if self._clock() >= self._until:
            self._sign()
        return self._token

    def forget(self, token: str) -> bool:
        """Sign anew, unless somebody has since; one that was signed just now would be the same, and as little use."""
        if token == self._token:
            self._sign()
        return token != self._token

    def _sign(self) -> None:
        now = self._clock()
        self._token, self._until = sign(self._auth, at=now), now + RENEW_AT * self._auth.lifetime_s
        self._secrets.add(self._token)


class TradedTokens:
    """Access tokens traded for an offline token: one trade at a time, its result shared until near its end."""

    def __init__(
        self, auth: RefreshTokenAuth, transport: Transport, reading: Reading, *, clock: Callable[[], float]
    ) -> None:
        self._auth = auth
        self._transport = transport
        self._reading = reading
        self._clock = clock
        self._discovery = URL(str(auth.discovery_url))
        self._offline = auth.refresh_token.get_secret_value()
        self._trading = asyncio.Lock()
        self._token, self._until = "", 0.0

    async def current(self) -> str:
        """Return the access token, traded anew near its end."""
        async with self._trading:
            if not self._token or self._clock() >= self._until:
                await self._trade()
            return self._token

    def forget(self, token: str) -> bool:
        """Let go of a refused token, unless somebody has renewed it since."""
        # Only marked as over: the trade is left to `current`, which awaits, and makes one for all who ask.
        if token == self._token:
            self._until = 0.0
        return True

    async def _trade(self) -> None:
        reply = await self._transport.raw("GET", self._discovery.raw_path_qs, origin=self._discovery.origin())
        endpoint = await self._reading.read(reply, endpoint_of, self._discovery)
        form = {"grant_type": "refresh_token", "client_id": self._auth.client_id, "refresh_token": self._offline}
        reply = await self._transport.raw(
            "POST",
            endpoint.raw_path_qs,
            headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
            body=urlencode(form).encode(),
            origin=endpoint.origin(),
        )
        grant = await self._reading.credential(reply, grant_of)
        self._transport.secrets.add(grant.access_token, grant.offline_token)
        self._token, self._until = grant.access_token, self._clock() + RENEW_AT * grant.life_s
        # Keycloak may rotate offline tokens: then the old one is spent, and the next trade needs the new one.
        self._offline = grant.offline_token or self._offline


def tokens_for(settings: OmnSource, transport: Transport, reading: Reading, *, clock: Callable[[], float]) -> Tokens:
    """Choose by the settings. Raises: ConfigError when a signing secret cannot be a key."""
    auth = settings.auth
    if isinstance(auth, BearerAuth):
        return GivenTokens(auth, transport.secrets)
    if isinstance(auth, SignedJwtAuth):
        return SignedTokens(auth, transport.secrets, clock=clock)
    return TradedTokens(auth, transport, reading, clock=clock)
