"""Which ids are taken: no kind has any that acts on a terminal, and USD Search is asked for storage alone."""

from __future__ import annotations

import sys
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from assetwatchd.adapters.media_intelligence import MediaIntelligence
from assetwatchd.adapters.omn import Omn
from assetwatchd.adapters.oracle_sbc import OracleSbc
from assetwatchd.adapters.pieces import Pieces
from assetwatchd.adapters.usd_search import UsdSearch
from assetwatchd.app import ADAPTERS, problems
from assetwatchd.settings.schema import Settings, UsdSearchSource
from support.harness import KINDS, harness_of

if TYPE_CHECKING:
    from assetwatchd.upstream.port import Upstream

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
BIDI = list("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
LINE_ENDS = list("\u2028\u2029")
ACTING = [*CONTROLS, *BIDI, *LINE_ENDS, "\ud800", "\udfff"]
OF_MACOS = ["\u202f", "\u00a0", "\u3000", "\U0001f469\u200d\U0001f4bb", "\uf8ff", "e\u0301", "\u2009"]
TOLD: dict[str, dict[str, Any]] = {
    "usd_search": {},
    "omn": {"auth": {"kind": "bearer", "token": "t"}},
    "pieces": {},
    "media_intelligence": {"access_key": "a", "secret_key": "s"},
    "oracle_sbc": {"username": "u", "password": "p"},
}


@cache
def upstream(kind: str) -> Upstream:
    """An adapter that nobody calls."""
    return ADAPTERS[kind]("it", settings(kind).sources["it"])


def settings(kind: str, **more: Any) -> Settings:
    source = {"kind": kind, "base_url": "http://127.0.0.1:9", **TOLD[kind], **more}
    return Settings.model_validate({"sources": {"it": source}})


def usd(*allowed: str) -> UsdSearch:
    return UsdSearch(
        "usd",
        UsdSearchSource.model_validate(
            {"kind": "usd_search", "base_url": "http://127.0.0.1:9", "allowed_ids": allowed}
        ),
    )


def test_every_kind_is_here() -> None:
    """A kind that comes is held to the same."""
    assert set(KINDS) == set(TOLD)
    assert {type(upstream(kind)) for kind in KINDS} == {UsdSearch, Omn, Pieces, MediaIntelligence, OracleSbc}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_no_id_acts_on_who_reads_it(kind: str, data: st.DataObject) -> None:
    """Wherever in an id such a character stands, and whatever beside it, the id is refused; the answer has none."""
    known = harness_of(kind).known
    at = data.draw(st.integers(0, len(known)))
    char = data.draw(st.sampled_from(ACTING))
    why = upstream(kind).check(f"{known[:at]}{char}{data.draw(st.text(max_size=3))}{known[at:]}")
    assert why is not None
    assert why.isprintable()


def test_whatever_python_knows_to_act_is_refused() -> None:
    """Controls and line ends by their category, directions by their class in the Unicode of this Python."""
    directions = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    taken = usd()
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} or unicodedata.bidirectional(char) in directions:
            assert taken.check(f"s3://bucket/a{char}b"), hex(code)


@pytest.mark.parametrize("char", OF_MACOS)
def test_names_of_files_as_macos_makes_them(char: str) -> None:
    """Spaces of any width and joined emoji are taken: in an id, and in one that is pinned."""
    asset_id = f"s3://bucket/Screenshot 9.41{char}AM.usd"
    assert usd().check(asset_id) is None
    assert not [line for line in problems(settings("usd_search", pins=[asset_id])) if "pins" in line]


@pytest.mark.parametrize(
    "asset_id",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "http://169.254.169.254/latest/meta-data",
        "https://inner/",
        "HtTpS://inner/",
        "git+https://inner/a",
        "http+unix://%2Fvar%2Frun%2Fdocker.sock/a",
        "ftp://inner/a",
        "gopher://inner:6379/a",
        "data://text/plain,a",
        "//inner/share/a.usd",
        "/\\inner/share",
        "s3://bucket/../other/a.usd",
        "s3://bucket/./a.usd",
        "s3://bucket/%2E%2e/other/a.usd",
        "s3://bucket/a%2f..%5cb",
        "/srv/usd/../../etc/passwd",
        "/srv/usd/..",
        "s3://bucket/..\\other",
        "http:/inner",
        " http://inner/",
        "\uff48ttp://inner/",
    ],
)
def test_what_usd_search_is_not_asked_to_fetch(asset_id: str) -> None:
    """Neither the network nor the disk of the server, nor a way out of what is allowed."""
    assert usd().check(asset_id)
    assert usd("s3://bucket/", "/srv/usd").check(asset_id)


@pytest.mark.parametrize(
    "asset_id",
    ["s3://bucket/a.usd", "S3://bucket/a..b", "omniverse://host/...", "az://c/a", "gs://b/a", "/srv/usd/a.usd", "/..a"],
)
def test_what_it_is_asked_for_without_a_setting(asset_id: str) -> None:
    """Any storage, and a path of the local file system."""
    assert usd().check(asset_id) is None


@pytest.mark.parametrize(
    ("allowed", "asset_id", "taken"),
    [
        (["s3://bucket"], "s3://bucket/a", True),
        (["s3://bucket"], "S3://bucket/a", True),
        (["s3://bucket"], "s3://bucket-of-others/a", False),
        (["s3://bucket"], "s3://Bucket/a", False),
        (["s3://bucket/a.usd"], "s3://bucket/a.usd", True),
        (["s3:"], "s3://any/a", True),
        (["s3://"], "s3://any/a", True),
        (["s3:"], "s3a://any/a", False),
        (["s3:"], "/srv/a", False),
        (["/srv/usd/"], "/srv/usd/a", True),
        (["/srv/usd"], "/srv/usd2/a", False),
        (["sftp://render/"], "sftp://render/a", True),
        (["omniverse:", "s3://b/"], "omniverse://host/a", True),
    ],
)
def test_what_is_allowed(allowed: list[str], asset_id: str, taken: bool) -> None:  # noqa: FBT001 - a column
    """A prefix is a whole scheme, host or folder; once one is given, nothing else is asked for."""
    assert (usd(*allowed).check(asset_id) is None) == taken


@pytest.mark.parametrize("prefix", ["file:", "file:///srv/", "HTTP://inner/", "https:", "s3", "", "//inner/", "x y:"])
def test_what_cannot_be_allowed(prefix: str) -> None:
    """No setting opens the network or the disk; what is not the begin of an id is told so."""
    with pytest.raises(ValidationError, match=r"never asked for|how ids begin"):
        usd(prefix)


@given(st.text(max_size=40))
def test_a_check_has_an_answer_to_everything(text: str) -> None:
    """Whatever text is asked for, each kind takes it or says on one line why it does not."""
    for kind in KINDS:
        why = upstream(kind).check(text)
        assert why is None or why.isprintable()


@pytest.mark.parametrize("pin", ["crate.usd", "http://inner/a", "s3://b/\u202ea"])
def test_pins_are_checked_before_a_start(pin: str) -> None:
    """What the server would refuse at its start, the check of the configuration does, in the same words."""
    [line] = [line for line in problems(settings("usd_search", pins=[pin])) if "pins" in line]
    assert line.startswith("sources.it.pins: ")
    assert line.isprintable()
