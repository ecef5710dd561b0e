"""The exception tree. It has never heard of gRPC; rpc/status.py gives each class its code and reason.

AssetwatchError
├── ConfigError                 the configuration cannot be used
├── StoreError                  the store cannot be opened, or cannot keep what it is given
│   └── HistoryBroken           what was read from it is not the past of what it holds now
├── NotOwner                    the source is another process's to write
├── CallError                   the call cannot be answered as asked
│   ├── InvalidRequest          ├── SourceNotFound        ├── SourceUnreachable
│   ├── ResumeTokenInvalid      ├── ResumeFilterMismatch  ├── ResumeTokenExpired  ├── ResumeEpochChanged
│   ├── ReplicaBehind           ├── ServerDraining        ├── SlowConsumer
│   ├── TooManyStreams          ├── TooManyNames          ├── TooManyReads
│   ├── TooManyAssets           ├── BatchTooLarge         ├── RetryTooSoon
│   ├── SourceKindMismatch      ├── AssetGone
│   ├── PiecesRefused           ├── ContentTooLarge
│   └── MetadataTooLarge        └── RequestTooSlow
└── UpstreamError               an upstream did not answer as it should
    ├── Unreachable             no answer, or one that says the server is broken
    │   └── OutOfDescriptors    it was not asked: this process can open no more files and sockets
    ├── Refused                 it does not take our credentials
    │   └── VersionUnsupported  it is of a version that we cannot talk to
    ├── Throttled               it asks us to slow down
    └── BadAnswer               it answered with something that cannot be read
        ├── AssetRejected       it will not speak about this one asset
        └── AnswerTooLarge      it is larger than we take
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from assetwatchd.model.texts import cut

if TYPE_CHECKING:
    from collections.abc import Sequence


VIOLATIONS_MAX = 10
"""Of a request; who mends as many hears of the next ones. More of them would not fit into what clients take."""
VIOLATIONS_IN_WORDS = 3
NAMED_MAX = 20
"""Of the sources that there are, in an error."""
ASSET_ID_SHOWN_MAX = 200
"""Characters of an asset's id in the text of an error, which is small as a whole."""


class AssetwatchError(Exception):
    """Anything that goes wrong in a way we know. It can be pickled, whatever its class is made from."""

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions unpickle by calling their class with args, which fails where it is made from other arguments.
        # Errors of large answers come pickled out of the process that reads these.
        return _again, (type(self), self.args, vars(self))


def _again(kind: type[AssetwatchError], args: tuple[object, ...], carried: dict[str, object]) -> AssetwatchError:
    error = kind.__new__(kind, *args)
    vars(error).update(carried)
    return error


class ConfigError(AssetwatchError):
    """The configuration cannot be used; the text says what to change."""


class StoreError(AssetwatchError):
    """The store cannot be opened, or could not keep what it was given; the text names the file and says what to do.

    Where the file is, is no business of callers: told is the text without that.
    """

    def __init__(self, message: str, *, path: object = "") -> None:
        super().__init__(message)
        self.told = message.replace(str(path), "the store") if path else message


class HistoryBroken(StoreError):
    """The store does not have what was read from it, as if a backup of it had been put back, or it had been lost.

    Nobody can go on from what was read: the process ends, and the next one reads what there is, and counts anew.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"etcd does not have what was read from it: {why}; start the service again")


class NotOwner(AssetwatchError):
    """A source is not, or no longer, this process's to write, and trying again would not help.

    If it was until then, the last that it wrote may be kept or not; who owns the source now has read which.
    """

    def __init__(self, source: str) -> None:
        super().__init__(f"source {source} is not this process's to write")
        self.source = source


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
    """The request breaks the schema's rules.

    Of its violations the first are told, and in the text fewer, for people; complete: they are all there are.
    """

    def __init__(self, *violations: tuple[str, str], complete: bool = True) -> None:
        in_words = _first(violations, VIOLATIONS_IN_WORDS, complete=complete)
        super().__init__("; ".join(f"{field}: {text}" if field else text for field, text in in_words))
        self.violations = _first(violations, VIOLATIONS_MAX, complete=complete)


def _first(violations: Sequence[tuple[str, str]], count: int, *, complete: bool) -> Sequence[tuple[str, str]]:
    """Return so many of them, and one that says how many more there are."""
    more = len(violations) - count
    if more <= 0:
        return violations
    return (*violations[:count], ("", f"and {more} more" if complete else f"and at least {more} more"))


class SourceNotFound(CallError):
    """No source has that name."""

    def __init__(self, source: str, known: list[str]) -> None:
        named = ", ".join(known[:NAMED_MAX]) or "none"
        more = f" and {len(known) - NAMED_MAX} more" if len(known) > NAMED_MAX else ""
        super().__init__(f"no source is named {source!r}; there are: {named}{more}", source=source)


class SourceUnreachable(CallError):
    """The upstream had to be asked and could not be, or (asset_id) not about this asset, though it answers."""

    def __init__(self, source: str, why: str, *, retry_after_s: float, asset_id: str = "") -> None:
        asset_id = cut(asset_id, ASSET_ID_SHOWN_MAX)
        what = f"asset {asset_id} of source {source}" if asset_id else f"source {source}"
        super().__init__(
            f"{what} could not be read: {why}", source=source, **({"asset_id": asset_id} if asset_id else {})
        )
        self.why = why
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
        text = (
            f"the resume token is too old: removals are known since revision {oldest}, and it is of {requested}; watch"
            " again without a token"
        )
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


def caller_subject(caller: str) -> str:
    """Return how QuotaFailure writes that a limit is that of one caller: by its address, as long as none has a name."""
    return f"caller:{caller}"


class TooManyStreams(CallError):
    """A limit of watch streams is reached."""

    def __init__(self, message: str, *, subject: str, limit: int, retry_after_s: float) -> None:
        super().__init__(message, limit=str(limit))
        self.subject = subject
        self.retry_after_s = retry_after_s


class TooManyNames(CallError):
    """Open watch streams name as many assets as they may."""

    def __init__(self, whose: str, *, subject: str, limit: int, retry_after_s: float) -> None:
        text = (
            f"watch streams of {whose} may name {limit} assets together, equal ones counted once; close some, name"
            " fewer assets, or watch whole sources"
        )
        super().__init__(text, limit=str(limit))
        self.subject = subject
        self.retry_after_s = retry_after_s


class TooManyAssets(CallError):
    """A source's limit of known assets is reached, or (caller) that of one caller of those that were never seen."""

    def __init__(self, source: str, limit: int, *, caller: str = "") -> None:
        text = f"source {source} has as many assets as it may, {limit}; ask for fewer, or raise its assets_max"
        if caller:
            text = (
                f"you name too many assets of source {source} that nobody has ever seen: a caller may name {limit},"
                " one connection half of that; name fewer, close watches of such assets, or wait until they were read"
            )
        super().__init__(text, source=source, limit=str(limit))
        self.subject = caller_subject(caller) if caller else f"source:{source}"
        self.retry_after_s = 60.0


class TooManyReads(CallError):
    """One caller waits for too many reads of a source."""

    def __init__(self, source: str, caller: str, limit: int) -> None:
        text = (
            f"you wait for too many reads of source {source}: a caller may wait for {limit}, one connection for half"
            " of that, one call for half of what is left; wait for those under way, or ask for fewer at a time"
        )
        super().__init__(text, source=source, limit=str(limit))
        self.subject = caller_subject(caller)
        self.retry_after_s = 5.0


class RetryTooSoon(CallError):
    """A source was tried by hand a moment ago."""

    def __init__(self, source: str, *, retry_after_s: float) -> None:
        text = f"source {source} was tried by hand a moment ago; try again in {retry_after_s:.0f} s"
        super().__init__(f"{text} (more often, and the upstream may lock the account)", source=source)
        self.subject = f"source:{source}"
        self.retry_after_s = retry_after_s


class BatchTooLarge(CallError):
    """The statuses asked for are more bytes than clients take. fit: so many of them, from the first, are not."""

    def __init__(self, *, limit: int, fit: int) -> None:
        text = f"the answer has more than {limit} bytes, the most that clients take; ask for {fit} assets at a time"
        super().__init__(text, limit=str(limit), fit=str(fit))


class SourceKindMismatch(CallError):
    """The source is of another kind than the call is for."""

    def __init__(self, source: str, *, kind: str, wanted: str) -> None:
        text = f"source {source} is of kind {kind}, and this call takes kind {wanted}; name another source"
        super().__init__(text, source=source, kind=kind, wanted=wanted)


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
            f"{text}; ask with transferables false, or raise it", source=source, setting=setting, limit=str(limit)
        )


class MetadataTooLarge(CallError):
    """A call has more metadata than the server takes."""

    def __init__(self, size: int, *, limit: int) -> None:
        text = f"the call has {size} bytes of metadata, and may have {limit}; send less"
        super().__init__(text, size=str(size), limit=str(limit))


class RequestTooSlow(CallError):
    """A request was not there in time, or was on its way for longest when there were too many."""

    def __init__(self, limit_s: float) -> None:
        text = f"the request did not arrive within {limit_s:g} s, or too many others came meanwhile; send it again"
        super().__init__(text, limit_s=f"{limit_s:g}")


class UpstreamError(AssetwatchError):
    """An upstream did not answer as it should. The text is safe to show: no credential, no body.

    said: words of the upstream, which end the text; whoever reads answers frees them of credentials (redaction).
    retry_after_s: how long the upstream asked us to wait; None when it did not say.
    doubts_token: the answer may be that to a token which is no longer taken.
    """

    doubts_token: bool = False

    def __init__(
        self, message: str, *, said: str = "", retry_after_s: float | None = None, doubts_token: bool | None = None
    ) -> None:
        super().__init__(f"{message}: {said}" if said else message)
        self.said = said
        self.retry_after_s = retry_after_s
        if doubts_token is not None:
            self.doubts_token = doubts_token


class Unreachable(UpstreamError):
    """No connection, no answer in time, or a server error."""


class Unanswered(Unreachable):
    """A connection on which nothing is answered. shows_after_s: for so long it may seem well."""

    def __init__(self, message: str, *, shows_after_s: float) -> None:
        super().__init__(message)
        self.shows_after_s = shows_after_s


class OutOfDescriptors(Unreachable):
    """The process can open no more files and sockets, which is nobody's fault upstream."""


class Refused(UpstreamError):
    """The upstream does not take our credentials, or they lack a right."""

    doubts_token = True


class VersionUnsupported(Refused):
    """The upstream is there, and of a version that we cannot talk to; the text says what to update."""

    doubts_token = False


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
