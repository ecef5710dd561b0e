"""The configuration: its schema, how it is read from files, variables and flags, and what is wrong with it.

The only reader of files and environment. Knows nothing of what is done with it.
"""
