"""Pieces OS as its clients see it: where it listens, its calls, its streams and their frames."""
