"""The exception tree. It has never heard of gRPC; rpc/status.py gives each class its code and reason.

AssetwatchError
├── ConfigError                 the configuration cannot be used
├── StoreError                  the store cannot be opened, or cannot keep what it is given
├── CallError                   the call cannot be answered as asked
│   ├── InvalidRequest          ├── SourceNotFound        ├── SourceUnreachable
│   ├── ResumeTokenInvalid      ├── ResumeFilterMismatch  ├── ResumeTokenExpired  ├── ResumeEpochChanged
│   ├── ReplicaBehind           ├── ServerDraining        ├── SlowConsumer
│   ├── TooManyStreams          ├── TooManyAssets         ├── BatchTooLarge
│   ├── SourceKindMismatch      ├── AssetGone
│   └── PiecesRefused           └── ContentTooLarge
└── UpstreamError               an upstream did not answer as it should
    ├── Unreachable             no answer, or one that says the server is broken
    ├── Refused                 it does not take our credentials
    │   └── VersionUnsupported  it is of a version that we cannot talk to
    ├── Throttled               it asks us to slow down
    └── BadAnswer               it answered with something that cannot be read
        ├── AssetRejected       it will not speak about this one asset
        └── AnswerTooLarge      it is larger than we take
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class AssetwatchError(Exception):
    """Anything that goes wrong in a way we know. It can be pickled, whatever its class is made from."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args, vars(self))


def _again(kind: type[AssetwatchError], args: tuple[Any, ...], carried: dict[str, Any]) -> AssetwatchError:
    error = kind.__new__(kind, *args)
    vars(error).update(carried)
    return error


class ConfigError(AssetwatchError):
    """The configuration cannot be used; the text says what to change."""


class StoreError(AssetwatchError):
    """The store cannot be opened, or could not keep what it was given; the text names the file and says what to do."""


class CallError(AssetwatchError):
    """The call cannot be answered as asked.

    metadata holds every changing part of the text, by name. violations: (path of a field of the request, what is wrong
    with it and what to do), where it is the request that is to be mended. field: that field, if it is always the same.
    """

    field: ClassVar[str] = ""

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.metadata = metadata
        self.violations: Sequence[tuple[str, str]] = ((self.field, message),) if self.field else ()


class InvalidRequest(CallError):
    """The request breaks the schema's rules."""

    def __init__(self, *violations: tuple[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {text}" if field else text for field, text in violations))
        self.violations = violations


class SourceNotFound(CallError):
    """No source has that name."""

    def __init__(self, source: str, known: list[str]) -> None:
        super().__init__(f"no source is named {source!r}; there are: {', '.join(known) or 'none'}", source=source)


class SourceUnreachable(CallError):
    """The upstream had to be asked and could not be."""

    def __init__(self, source: str, why: str, *, retry_after_s: float) -> None:
        super().__init__(f"source {source} could not be read: {why}", source=source)
        self.retry_after_s = retry_after_s


class ResumeTokenInvalid(CallError):
    """The token was not made by this service, or was altered."""

    field = "resume_token"


class ResumeFilterMismatch(CallError):
    """The token belongs to a stream with other assets, sources or states."""

    field = "resume_token"


class ResumeTokenExpired(CallError):
    """Removals after the token are no longer known."""

    def __init__(self, *, requested: int, oldest: int, current: int) -> None:
        text = f"revision {requested} is older than {oldest}, the oldest that can be resumed; watch without a token"
        super().__init__(text, requested=str(requested), oldest=str(oldest), current=str(current))


class ResumeEpochChanged(CallError):
    """The token was made by another store."""


class ReplicaBehind(CallError):
    """A revision asked for is not known here yet."""

    retry_after_s: ClassVar[float] = 1.0


class ServerDraining(CallError):
    """This process is stopping."""

    def __init__(self, *, retry_after_s: float) -> None:
        super().__init__("the server is stopping; connect again")
        self.retry_after_s = retry_after_s


class SlowConsumer(CallError):
    """A stream took no message for too long."""


class TooManyStreams(CallError):
    """A limit of watch streams is reached."""

    def __init__(self, message: str, *, subject: str, limit: int, retry_after_s: float) -> None:
        super().__init__(message, limit=str(limit))
        self.subject = subject
        self.retry_after_s = retry_after_s


class TooManyAssets(CallError):
    """A source's limit of known assets is reached."""

    def __init__(self, source: str, limit: int) -> None:
        super().__init__(
            f"source {source} has its limit of {limit} assets; ask for fewer", source=source, limit=str(limit)
        )
        self.subject = f"source:{source}"
        self.retry_after_s = 60.0


class BatchTooLarge(CallError):
    """The statuses asked for are more bytes than clients take. fit: so many of them, from the first, are not."""

    def __init__(self, *, limit: int, fit: int) -> None:
        text = f"the answer is larger than {limit} bytes, which clients take; ask for {fit} of these assets at a time"
        super().__init__(text, limit=str(limit), fit=str(fit))


class SourceKindMismatch(CallError):
    """The source is of another kind than the call is for."""

    def __init__(self, source: str, *, kind: str, wanted: str) -> None:
        super().__init__(f"source {source} is of kind {kind}, not {wanted}", source=source, kind=kind, wanted=wanted)


class AssetGone(CallError):
    """The upstream had the asset no more, or never."""

    def __init__(self, source: str, asset_id: str) -> None:
        text = f"source {source} does not have asset {asset_id}: it was deleted or never was"
        super().__init__(text, source=source, asset_id=asset_id)


class PiecesRefused(CallError):
    """Pieces OS refused the call; text is its own, bounded by the caller."""

    def __init__(self, source: str, *, status: int, text: str) -> None:
        super().__init__(
            f"source {source} refused the call with HTTP {status}", source=source, status=str(status), text=text
        )


class ContentTooLarge(CallError):
    """An answer is beyond a limit of ours; setting names it."""

    def __init__(self, source: str, *, setting: str, limit: int) -> None:
        text = f"the answer of source {source} is larger than {setting} = {limit} bytes"
        super().__init__(
            f"{text}; ask without raw content, or raise it", source=source, setting=setting, limit=str(limit)
        )


class UpstreamError(AssetwatchError):
    """An upstream did not answer as it should. The text is safe to show: no credential, no body.

    retry_after_s: how long the upstream asked us to wait; None when it did not say.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unreachable(UpstreamError):
    """No connection, no answer in time, or a server error."""


class Refused(UpstreamError):
    """The upstream does not take our credentials, or they lack a right."""


class VersionUnsupported(Refused):
    """The upstream is there, and of a version that we cannot talk to; the text says what to update."""


class Throttled(UpstreamError):
    """The upstream asks us to slow down."""


class BadAnswer(UpstreamError):
    """The answer cannot be read: too large, not what was declared, or not in the published form."""


class AssetRejected(BadAnswer):
    """The upstream answers, yet will not speak about this one asset."""


class AnswerTooLarge(BadAnswer):
    """The answer is larger than body_bytes_max."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the answer is larger than body_bytes_max = {limit} bytes")
        self.limit = limit
