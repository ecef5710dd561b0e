"""The port to an upstream, and the tools that adapters share: credentials, redaction, paging, the meaning of answers.

`http` makes calls, `bodies` reads their answers. Owns no loop and no retry, which are of `polling`; knows no kind of
upstream by name, and nothing of the store.
"""
