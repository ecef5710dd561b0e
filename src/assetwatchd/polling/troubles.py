"""Single assets whose reads fail though their source is well: the reason is kept, and logged with measure."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from assetwatchd.model.texts import cut

if TYPE_CHECKING:
    from assetwatchd.polling.target import Target

REASON_LENGTH_MAX = 500
"""Characters of a reason: it is for people, is in every status of the asset, and may be made of an upstream's text."""
LINES_MAX = 10
LINES_S = 60.0
"""A source writes so many lines about assets that cannot be read in this time: any number may turn bad at once."""
ASSET_S = 600.0
"""One that turns bad again and again has one line in this time."""
LOGGED_ID_LENGTH_MAX = 200
"""Characters of an id in the log."""

log = logging.getLogger(__name__)


class Lines:
    """Chooses which lines about single assets are written. Pure: times are given, seconds of any clock."""

    def __init__(self) -> None:
        self._written: deque[float] = deque(maxlen=LINES_MAX)
        self._by_asset: OrderedDict[str, float] = OrderedDict()

    def may(self, asset_id: str, now: float) -> bool:
        """Say whether a line about an asset is to be written now, and count it then."""
        while self._by_asset and next(iter(self._by_asset.values())) <= now - ASSET_S:
            self._by_asset.popitem(last=False)
        if asset_id in self._by_asset or self.full(now):
            return False
        self._written.append(now)
        self._by_asset[asset_id] = now
        return True

    def full(self, now: float) -> bool:
        """Whether no more may be written for a while."""
        return len(self._written) == LINES_MAX and self._written[0] > now - LINES_S


class Troubles:
    """The assets of one source that cannot be read."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lines = Lines()

    def failed(self, target: Target, why: str) -> None:
        """Keep why the last read of a target failed."""
        target.knowledge.fail(cut(why, REASON_LENGTH_MAX))

    def persists(self, target: Target, now: float) -> None:
        """Log that a target cannot be read: once until it can, and later if there are too many."""
        trouble = target.knowledge.trouble
        if trouble is None or trouble.complained or not self._lines.may(target.asset_id, now):
            return
        target.knowledge.complain()
        more = "; lines about others wait for a minute" if self._lines.full(now) else ""
        log.warning("source %s: asset %s cannot be read: %s%s", self._source, _short(target), trouble.why, more)

    def over(self, target: Target) -> None:
        """Forget the reason, and log that the target can be read again if it was logged that it cannot."""
        if target.knowledge.recover():
            log.info("source %s: asset %s can be read again", self._source, _short(target))


def _short(target: Target) -> str:
    return target.asset_id[:LOGGED_ID_LENGTH_MAX]
