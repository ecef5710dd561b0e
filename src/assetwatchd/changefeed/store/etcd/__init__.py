"""The store of several processes: etcd keeps the entries, and each process has all of them in memory, its mirror.

What is written: `Lane`, one a source, splits drafts into `parts` and hands their `records` to the `Fence`, which writes
them exactly once or not at all. What is read: `Following` feeds the `Mirror`, whose `Contents` are what all processes
read, in one order; `Currency` knows whether that is all there is, and `past` whether it is still true.
"""
