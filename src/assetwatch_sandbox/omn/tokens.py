"""Checks tokens: those that clients sign themselves (5.12), or those of a Keycloak realm (6.0)."""

from __future__ import annotations

import hmac
import uuid
from typing import TYPE_CHECKING

import jwt
from aiohttp import web

from assetwatch_sandbox.omn.switches import CREDENTIALS, OmnSwitches

if TYPE_CHECKING:
    from collections.abc import Callable

    from jwt.types import Options

ALGORITHM = "HS512"
REALM_PATH = f"/auth/realms/{CREDENTIALS['realm']}"
DISCOVERY_PATH = f"{REALM_PATH}/.well-known/openid-configuration"
TOKEN_PATH = f"{REALM_PATH}/protocol/openid-connect/token"
SIGNATURE_ALONE: Options = {
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_aud": False,
    "require": ["exp"],
}
"""PyJWT would compare with the machine's clock, not with the stand-in's."""
REALM_KEY = "sandbox-keycloak-realm-key-" * 3


class Tokens:
    """Checks bearer tokens and, for release 6.0, issues them as the realm would."""

    def __init__(self, clock: Callable[[], float], switches: Callable[[], OmnSwitches]) -> None:
        self._clock = clock
        self._switches = switches
        self._offline_token = CREDENTIALS["offline_token"]

    def admits(self, authorization: str | None) -> bool:
        """Tell whether an Authorization header carries a living token."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return False
        switches = self._switches()
        if switches.static_token and hmac.compare_digest(token.encode(), CREDENTIALS["token"].encode()):
            return True
        if switches.release == "6.0":
            return self._living(token, REALM_KEY, None)
        return self._signed_by_client(token, switches)

    def discovery(self, base_url: str) -> web.Response:
        """Answer with the realm's OpenID Connect document."""
        return web.json_response(
            {
                "issuer": f"{base_url}{REALM_PATH}",
                "authorization_endpoint": f"{base_url}{REALM_PATH}/protocol/openid-connect/auth",
                "token_endpoint": f"{base_url}{TOKEN_PATH}",
                "jwks_uri": f"{base_url}{REALM_PATH}/protocol/openid-connect/certs",
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "response_types_supported": ["code"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            }
        )

    async def issue(self, request: web.Request) -> web.Response:
        """Trade the offline token for an access token, as Keycloak does [assumed from Keycloak]."""
        form = await request.post()
        if form.get("client_id") != CREDENTIALS["client_id"]:
            return _grant_refusal(401, "invalid_client", "Invalid client or Invalid client credentials")
        if form.get("grant_type") != "refresh_token":
            return _grant_refusal(400, "unsupported_grant_type", "Unsupported grant_type")
        if form.get("refresh_token") != self._offline_token:
            return _grant_refusal(400, "invalid_grant", "Invalid refresh token")
        if self._switches().rotate_offline_token:
            self._offline_token = f"sandbox-omn-offline-token-{uuid.uuid4()}"
        return web.json_response(self._grant(str(request.url.origin())), headers={"Cache-Control": "no-store"})

    def _grant(self, base_url: str) -> dict[str, object]:
        life_s = self._switches().access_token_life_s
        now = self._clock()
        claims = {
            "exp": int(now) + life_s,
            "iat": int(now),
            "jti": str(uuid.uuid4()),
            "iss": f"{base_url}{REALM_PATH}",
            "azp": CREDENTIALS["client_id"],
            "typ": "Bearer",
        }
        return {
            "access_token": jwt.encode(claims, REALM_KEY, ALGORITHM),
            "expires_in": life_s,
            "refresh_expires_in": 0,
            "refresh_token": self._offline_token,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": "openid offline_access",
        }

    def _signed_by_client(self, token: str, switches: OmnSwitches) -> bool:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            return False
        if header.get("kid") != CREDENTIALS["jwt_kid"]:
            return False
        return self._living(token, CREDENTIALS["jwt_secret"], switches.jwt_expire_max_s)

    def _living(self, token: str, key: str, expire_max_s: int | None) -> bool:
        """Tell whether a token is signed with the key and its exp lies ahead, but not too far, by our clock."""
        try:
            expires = float(jwt.decode(token, key, algorithms=[ALGORITHM], options=SIGNATURE_ALONE)["exp"])
        except (jwt.PyJWTError, TypeError, ValueError):
            return False
        left_s = expires - self._clock()
        return left_s > 0 and (expire_max_s is None or left_s <= expire_max_s)


def _grant_refusal(status: int, error: str, description: str) -> web.Response:
    return web.json_response({"error": error, "error_description": description}, status=status)
