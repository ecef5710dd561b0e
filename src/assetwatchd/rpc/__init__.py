"""The gRPC edge: servicers, conversion between model and protobuf, errors as statuses, admission, tracing of calls.

With the command line, alone sees protobuf. Decides nothing about assets: when they are read is `polling`'s business, in
which order changes are told `changefeed`'s.
"""
