"""Calls over HTTP and WebSocket: connections, proxies, TLS, limits, and why a call came to nothing, in words."""
