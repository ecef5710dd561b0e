"""Calls over HTTP and WebSocket: connections, proxies, TLS, limits, and failed calls explained in words.

Knows no kind of upstream: the meaning of a status or a body beyond HTTP itself is the adapter's.
"""
