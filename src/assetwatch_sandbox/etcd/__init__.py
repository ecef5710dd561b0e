"""A real etcd for the demo and the tests: found on this machine, or built once from its published modules."""

from assetwatch_sandbox.etcd.cluster import Cluster, Member
from assetwatch_sandbox.etcd.program import NoEtcd, built, find

__all__ = ["Cluster", "Member", "NoEtcd", "built", "find"]
