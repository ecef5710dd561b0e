"""One source: who wants what of it, what it is asked next, how answers end, and how it is doing.

Knows an upstream by its port alone, and hands what was seen to `changefeed`.
"""
