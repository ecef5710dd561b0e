"""Reads bodies of answers within limits: JSON, XML, text in odd encodings; large ones in a separate process.

Knows nothing of calls or of any kind of upstream.
"""
