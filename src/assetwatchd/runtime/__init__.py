"""The process: telemetry, logs, signals, limits of time and files, turns of the event loop. Knows of no asset."""
