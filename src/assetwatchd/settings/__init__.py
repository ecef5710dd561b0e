"""The configuration: its schema, its reading from files, variables and flags, and the words for what is wrong with it.

The only reader of files and environment. Knows nothing of what is done with the values.
"""
