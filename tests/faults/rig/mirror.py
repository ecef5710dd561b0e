"""A client's map beside the fold of the log, kept up to date together so that comparing them costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatch.v1 import asset_status_service_pb2 as pb
from assetwatch.v1.change_kind_pb2 import CHANGE_KIND_UPSERT

from faults.rig.evidence import holds

if TYPE_CHECKING:
    from assetwatch.v1.asset_status_pb2 import AssetStatus

    from faults.rig.evidence import Line
    from faults.rig.load import Key
    from faults.rig.recorder import Wanted


class Mirror:
    """client and fold: revisions by asset, as one client holds them and as it should."""

    def __init__(self, wanted: Wanted) -> None:
        self.client: dict[Key, int] = {}
        self.fold: dict[Key, int] = {}
        self._wanted = wanted
        self._line: Line | None = None
        self._upto = 0
        self._differing: set[Key] = set()

    def take(self, message: pb.WatchStatusResponse, line: Line) -> None:
        """Take one message into the client's map."""
        if line is not self._line:
            self._line, self._upto = line, 0
            self._differing |= self.fold.keys()
            self.fold.clear()
        if message.started.mode == pb.WatchStarted.MODE_SNAPSHOT:
            self._differing |= self.client.keys()
            self.client.clear()
        for change in message.changes:
            key = key_of(change.status)
            if change.kind == CHANGE_KIND_UPSERT:
                self.client[key] = change.status.revision
            else:
                self.client.pop(key, None)
            self._differing.add(key)

    def differing(self, upto: int) -> list[Key]:
        """Return where the map is not the fold of the log up to a revision."""
        assert self._line is not None
        if upto < self._upto:
            self._differing |= self.fold.keys()
            self.fold.clear()
            self._upto = 0
        for entry in self._line.between(self._upto, upto):
            if self._wanted.concerns(entry.key):
                if holds(self._wanted, entry):
                    self.fold[entry.key] = entry.revision
                else:
                    self.fold.pop(entry.key, None)
                self._differing.add(entry.key)
        self._upto = upto
        self._differing = {key for key in self._differing if self.client.get(key) != self.fold.get(key)}
        return sorted(key for key in self._differing if not self._forgiven(key))

    def _forgiven(self, key: Key) -> bool:
        """A removal that was dropped is held by those who were told of it and asked for its state, by nobody else."""
        assert self._line is not None
        if self._line.unheard(self.fold.get(key), self.client.get(key)):
            return True
        revision = self.client.get(key) or self.fold.get(key) or 0
        entry = self._line.at(revision)
        one = key not in self.client or key not in self.fold
        return one and entry is not None and entry.gone and revision <= self._line.floor


def key_of(status: AssetStatus) -> Key:
    """Name the asset of a status."""
    return (status.asset.source, status.asset.asset_id)
