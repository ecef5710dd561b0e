"""What a transaction is made of: a prefix covers what begins with it, and a size is what it adds to a request."""

from __future__ import annotations

import pytest
from assetwatch_etcd import etcd_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.etcd.operations import behind, delete, delete_prefix, get, get_prefix, put, size

pytestmark = pytest.mark.unit

BYTES = st.binary(max_size=6)
KEYS = st.one_of(BYTES, st.lists(st.sampled_from([b"\x00", b"a", b"\xfe", b"\xff"]), max_size=5).map(b"".join))
PREFIXES = KEYS.filter(lambda prefix: prefix.strip(b"\xff") != b"")
OPERATIONS = st.one_of(
    st.builds(put, KEYS, st.binary(max_size=70_000), lease=st.integers(0, 2**63 - 1)),
    st.builds(get, KEYS),
    st.builds(get_prefix, PREFIXES),
    st.builds(delete, KEYS),
    st.builds(delete_prefix, PREFIXES),
)


@given(PREFIXES, KEYS)
def test_a_prefix_ends_where_other_keys_begin(prefix: bytes, key: bytes) -> None:
    """A key is in the range exactly when it begins so."""
    for each in (key, prefix + key, prefix):
        assert (prefix <= each < behind(prefix)) == each.startswith(prefix)


@pytest.mark.parametrize("prefix", [b"", b"\xff", b"\xff\xff"])
def test_what_has_no_end_is_no_prefix(prefix: bytes) -> None:
    """Behind what consists of the last byte alone there is no key."""
    with pytest.raises(ValueError, match="should have a byte other than"):
        behind(prefix)


@given(st.lists(OPERATIONS, max_size=4))
def test_sizes_add_up_to_a_request(operations: list[pb.RequestOp]) -> None:
    """A request is never larger than the sum of its parts, and smaller by some bytes each at most."""
    whole = pb.TxnRequest(success=operations).ByteSize()
    assert 0 <= sum(map(size, operations)) - whole <= 6 * len(operations)
