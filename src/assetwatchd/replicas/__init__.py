"""Several processes as one service: who asks which source, and how the others have what only that one knows.

    Session ── lease ──► Ownership ── term ──► SharedSource ── Scheduler     at the owner of a source, one process
                 │            ▲                     ▲
                 └─► r/ i/    └── Mirror: o/ r/ ────┤ Interests: i/    Conditions: c/
                                                    └─ Peers: reads for others, and once a second what was read

Imported when the store is etcd, and never else. Below the prefix of the store it keeps, beside what the store does:

    o/SOURCE                    Owner: who asks the source; the revision of its creation is the term
    r/REPLICA                   Presence: a process that is there, and where others call it
    i/SOURCE/REPLICA/BUCKET     names that clients of that process watch
    c/SOURCE                    the condition of the source, written when it turns

The first three hang on the lease of the process's session, and go with it.
"""
