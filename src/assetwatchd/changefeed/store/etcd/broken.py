"""What ends a process that shares a store: that what it has read is not the past of what there is now."""

from __future__ import annotations

from assetwatchd.model.errors import StoreError


class HistoryBroken(StoreError):
    """etcd's data are not those that were read here: a backup was put back, or they were lost.

    Nobody here can go on from what was read, so the process ends; a new one reads all that there is and counts anew.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"etcd does not have what was read from it: {why}; the process ends; start it again")
