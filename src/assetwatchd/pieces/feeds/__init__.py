"""The document streams of Pieces OS for any number of subscribers, each with its own session."""
