"""One adapter per kind of upstream, each a leaf that only the composition root imports.

An adapter knows its vendor's protocol and turns answers into observations. It has no loop, no retry and no cache, and
knows nothing of the store, of watchers or of gRPC.
"""
