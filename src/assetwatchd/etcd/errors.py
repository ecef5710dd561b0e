"""What goes wrong with etcd, by what a caller can do about it.

EtcdError                   all of them; a StoreError, so whoever keeps something in a store knows what to do
├── OutcomeUnknown          no answer: it was done, or was not, or still will be; ask before it is done again
└── EtcdRefused             it was not done, and will not be
    ├── Compacted           what is asked for is older than what is kept
    ├── TooLarge            the request is larger than etcd takes, or has too many operations
    ├── NoSpace             the quota is reached: reads go on, nothing is written, but what came first beyond it was
    ├── LeaseGone           the lease ran out, or never was
    ├── Overloaded          too many requests wait; later
    ├── Unauthenticated     etcd wants a user, or not this one
    │   └── TokenRefused    it does not know the token any more
    └── PermissionDenied    the user lacks a right

A comparison that does not hold is no error: see Outcome.succeeded. Texts hold no secret; `told` no address either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from assetwatchd.model.errors import StoreError
from assetwatchd.model.texts import cut

if TYPE_CHECKING:
    from grpc.aio import AioRpcError

DETAIL_MAX = 300
"""Characters of what etcd or gRPC said that are shown."""


class EtcdError(StoreError):
    """Something is wrong with etcd. told: what, and what to do; detail: where, and in whose words."""

    def __init__(self, told: str, *, detail: str = "") -> None:
        super().__init__(f"{told} ({cut(detail, DETAIL_MAX)})" if detail else told)
        self.told = told


class OutcomeUnknown(EtcdError):
    """No answer, and so it is not known whether it was done; it may even be done later."""


class EtcdRefused(EtcdError):
    """It was not done, and will not be."""


class Compacted(EtcdRefused):
    """The revision is older than what is kept. revision: the oldest that can be asked for; 0 when that was not said."""

    def __init__(self, told: str, *, detail: str = "", revision: int = 0) -> None:
        super().__init__(told, detail=detail)
        self.revision = revision


class TooLarge(EtcdRefused):
    """The request is larger than etcd takes, or has more operations."""


class NoSpace(EtcdRefused):
    """The database is as large as its quota. Unlike others: what was the first beyond it was done, and then refused."""


class LeaseGone(EtcdRefused):
    """The lease ran out, was revoked, or never was."""


class Overloaded(EtcdRefused):
    """Too many requests wait there."""


class Unauthenticated(EtcdRefused):
    """It wants a user and was told none, or not a right one."""


class TokenRefused(Unauthenticated):
    """It does not know the token any more, or wants one by now; the client asks for another by itself, once."""


class PermissionDenied(EtcdRefused):
    """The user may not do this."""


NO_SPACE = (
    "etcd has no space: its database reached its quota. Compact and defragment it, then disarm its alarm:"
    " etcdctl compact, etcdctl defrag, etcdctl alarm disarm; or raise --quota-backend-bytes"
)
WANTS_USER = "etcd wants a user: give store.username and store.password_file"
LEASE_GONE = "etcd no longer has the lease: it ran out or was revoked"
LATE = "etcd did not answer in time"
WRONG_USER = "etcd does not take store.username with the password of store.password_file"

SAID: dict[str, tuple[type[EtcdRefused], str]] = {
    "mvcc: required revision has been compacted": (Compacted, "etcd no longer has that revision: it was compacted"),
    "mvcc: database space exceeded": (NoSpace, NO_SPACE),
    "request is too large": (TooLarge, "the request is larger than etcd takes: see --max-request-bytes"),
    "too many operations in txn request": (
        TooLarge,
        "the transaction has more operations than etcd takes: see --max-txn-ops",
    ),
    "requested lease not found": (LeaseGone, LEASE_GONE),
    "too many requests": (Overloaded, "etcd is overloaded: too many requests wait there"),
    "user name is empty": (TokenRefused, WANTS_USER),
    "authentication failed, invalid user ID or password": (Unauthenticated, WRONG_USER),
    "invalid auth token": (TokenRefused, "etcd does not know the token any more"),
    "revision of auth store is old": (TokenRefused, "rights changed in etcd since the token was given"),
    "permission denied": (
        PermissionDenied,
        "etcd's user may not do this: grant store.username reading and writing of all below store.prefix",
    ),
}
"""What etcd says (api/v3rpc/rpctypes/error.go), behind its own name."""
ETCD = "etcdserver: "
TOO_LARGE_TO_READ = "received message larger than max"
"""How etcd's gRPC says that a request is too large to be looked into."""
OPEN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.ABORTED,
    }
)
"""Codes that leave open what was done, also in etcd's own words: it gives up waiting for what goes on."""


def translate(error: AioRpcError, *, endpoint: str) -> EtcdError:
    """Return what an error of gRPC means.

    Refused is only what etcd itself refuses: codes that a proxy or HTTP/2 made leave open what was done.
    """
    code, said = error.code(), error.details() or ""
    if TOO_LARGE_TO_READ in said:
        return TooLarge(SAID["request is too large"][1], detail=f"{endpoint}: {said}")
    if code in OPEN or not said.startswith(ETCD):
        return OutcomeUnknown(_unanswered(code, said), detail=f"{endpoint}: {said or code.name}")
    return refusal(said, endpoint=endpoint)


def refusal(said: str, *, endpoint: str) -> EtcdRefused:
    """Return what a refusal means, from etcd's words for it."""
    words = said.removeprefix(ETCD)
    kind, told = SAID.get(words, (EtcdRefused, f"etcd refuses the request: {cut(words, DETAIL_MAX)}"))
    return kind(told, detail=f"{endpoint}: {words}")


def _unanswered(code: grpc.StatusCode, said: str) -> str:
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return LATE
    if said.startswith(ETCD):
        return f"etcd cannot serve: {cut(said.removeprefix(ETCD), DETAIL_MAX)}"
    if code is grpc.StatusCode.UNAVAILABLE:
        return "etcd cannot be reached"
    return "what answers is not etcd, or fails: look at store.endpoints"
