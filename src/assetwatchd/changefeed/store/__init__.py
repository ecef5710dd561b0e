"""The port that keeps the latest entry of each asset by revision, and the stores there are."""
