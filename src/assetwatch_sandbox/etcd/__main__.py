"""python -m assetwatch_sandbox.etcd: find etcd or build it, and print where it is."""

from __future__ import annotations

import sys

from assetwatch_sandbox.etcd.program import NoEtcd, find

if __name__ == "__main__":
    try:
        print(*(find(name) for name in sys.argv[1:] or ["etcd"]), sep="\n")  # noqa: T201 - what it is for
    except NoEtcd as error:
        sys.exit(str(error))
