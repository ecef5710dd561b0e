"""The gRPC side: servicers, conversion between model and protobuf, errors as statuses, and tracing of calls."""
