"""What a server may listen on is what gRPC takes, whatever else the resolver of the machine would."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
from hypothesis import given, settings
from hypothesis import strategies as st

from assetwatchd.rpc.server import problems
from assetwatchd.settings.schema import ServerSettings

NUMBERS = st.one_of(st.integers(0, 300).map(str), st.integers(0, 255).map(hex), st.integers(0, 255).map("0{:o}".format))
DOTTED = st.lists(NUMBERS, min_size=1, max_size=5).map(".".join) | st.just("127.0.0.1")
COLONS = st.sampled_from(["::1", "::", "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1", ":1", ":::", "1::1::1"])
PLAIN = st.one_of(DOTTED, COLONS, st.sampled_from(["*", "localhost", "", " "]))
HOSTS = PLAIN | PLAIN.map("[{}]".format)


def takes(host: str) -> bool:
    """Whether gRPC binds a free port there."""
    with ThreadPoolExecutor(1) as pool:
        try:
            return grpc.server(pool).add_insecure_port(f"{host}:0") > 0
        except RuntimeError:
            return False


@settings(max_examples=80, deadline=None)
@given(host=HOSTS)
def test_what_passes_can_be_listened_on(host: str) -> None:
    """Old forms of addresses, brackets where none belong and none where they do, stars: none passes and then fails."""
    try:
        given = ServerSettings(listen=f"{host}:0")
    except ValueError:
        assert host not in {"127.0.0.1", "localhost", "[::1]", "[::]"}
        return
    assert takes(host) or list(problems(given))
