"""What happened, in order: from a sighting, by its revision in the store, to the batches of each watcher.

Knows nothing of upstreams, protobuf or clients: it keeps and joins bytes that it is given.
"""
