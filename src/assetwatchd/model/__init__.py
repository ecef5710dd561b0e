"""The vocabulary of all other packages: frozen values, and the exception tree.

Imports nothing of ours, does no I/O, and knows nothing of gRPC, of settings or of any upstream's wire format.
"""
