"""What the process as a whole needs: telemetry, logs, signals, limits of time and open files, a shared event loop.

Knows nothing of assets, upstreams or gRPC: every other package above `settings` may use it.
"""
