"""The port to an upstream, and the tools its adapters share: credentials, redaction, what answers mean.

`http` makes calls, `bodies` reads what came of them. No loop and no retry: those are of `polling`.
"""
