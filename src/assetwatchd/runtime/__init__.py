"""The process as a whole: telemetry, logs, signals, limits of time and of open files, sharing of the event loop.

Knows nothing of assets, upstreams or gRPC: every other package above `settings` may use it.
"""
