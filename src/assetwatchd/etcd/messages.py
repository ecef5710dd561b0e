"""etcd's messages to values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from assetwatch_etcd import etcd_pb2 as pb

from assetwatchd.etcd.values import Alarm, KeyValue, Member, Outcome, Page, Status

if TYPE_CHECKING:
    from collections.abc import Sequence


def key_of(key: pb.KeyValue) -> KeyValue:
    """Return a key."""
    return KeyValue(key.key, key.value, key.create_revision, key.mod_revision, key.lease)


def page_of(answer: pb.RangeResponse) -> Page:
    """Return a page of a range."""
    return Page(answer.header.revision, answer.header.cluster_id, [key_of(key) for key in answer.kvs], answer.more)


def outcome_of(answer: pb.TxnResponse) -> Outcome:
    """Return what a transaction did."""
    found: Sequence[Sequence[KeyValue]] = [
        [key_of(key) for key in each.response_range.kvs] if each.HasField("response_range") else ()
        for each in answer.responses
    ]
    return Outcome(answer.succeeded, answer.header.revision, answer.header.cluster_id, found)


def status_of(answer: pb.StatusResponse) -> Status:
    """Return how a member is."""
    return Status(
        member=answer.header.member_id,
        version=version_of(answer.version),
        size_bytes=answer.dbSize,
        used_bytes=answer.dbSizeInUse,
        quota_bytes=answer.dbSizeQuota,
        leader=answer.leader,
        troubles=tuple(answer.errors),
    )


def version_of(text: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with; none where it begins otherwise."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def members_of(answer: pb.MemberListResponse) -> Sequence[Member]:
    """Return who the cluster is."""
    return [Member(each.ID, each.name, tuple(each.clientURLs), each.isLearner) for each in answer.members]


def alarms_of(answer: pb.AlarmResponse) -> Sequence[Alarm]:
    """Return what members are alarmed about."""
    return [Alarm(each.memberID, pb.AlarmType.Name(each.alarm)) for each in answer.alarms]
