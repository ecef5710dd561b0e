"""The assets API of Pieces OS beyond what a status needs: its operations, and its streams for many subscribers."""
