"""assetwatch: one gRPC service over five asset systems."""
