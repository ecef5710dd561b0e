"""What everything else speaks of: values that never change, and errors.

Imports nothing of ours, and knows nothing of gRPC.
"""
