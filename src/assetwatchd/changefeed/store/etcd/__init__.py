"""The store of several processes: etcd keeps the entries, and each process has all of them in memory, its mirror.

commit ── Lane ── Fence ──► etcd ──► Following ── Mirror ── Contents     what all have read, in one order
            │                            │            └─ told: who subscribed to keys that are no entries
       Parts, records                  Currency, past                   whether that is all there is, and still true
"""
