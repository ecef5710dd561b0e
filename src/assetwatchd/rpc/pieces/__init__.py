"""The assets API of Pieces OS over gRPC: documents to messages and back, and the servicer."""
