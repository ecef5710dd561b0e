"""The schema keeps the API improvement proposals that docs/adr/0033-aips.md chooses, but for what is named here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from support.aip import RULES
from support.documents import ROOT, pages
from support.schema import FILES, compiled

if TYPE_CHECKING:
    from pathlib import Path

EXCEPTIONS = {
    "aip_132_lists": {
        r"pieces\.v1\.PiecesAssetsService\.List\w+": "the answer is the vendor's own message, which holds the list",
    },
    "aip_158_pages": {
        r"pieces\.v1\.PiecesAssetsService\.List\w+": "Pieces OS has no pages",
        r"v1\.SourceService\.ListSources": "there are as many as the configuration names",
    },
    "aip_140_names": {
        r"pieces\.v1\.AssetFilterTimestamp\.(from_time|to_time|between)": "the vendor's names",
        r"v1\.AssetFacet\.native": "no language's generated code has the bare word",
    },
    "aip_140_plurals": {
        r"pieces\.v1\.\w+\.iterable": "the vendor's name",
        r"pieces\.v1\.\w+\.extra_json": "as extra, which it stands beside",
        r"v1\.(Watch\w+|ListAssetStatusesResponse)\.incomplete": "sources, by what they are",
        r"v1\.\w+Detail\.unreadable": "members, by what they are",
        r"v1\.UsdSearchPlugin\.history": "the vendor's word",
        r"v1\.OmnDetail\.meta": "the vendor's word",
    },
    "aip_142_times": {
        r"pieces\.v1\.AssetFilterTimestamp\.(from_time|to_time)": "the vendor's times, which have words for people too",
        r"v1\.UsdSearchAttempt\.processing_timestamp": "the vendor's text, which no zone makes a moment",
    },
    "aip_215_packages": {
        r"pieces\.v1\.Stream\w+Response\.condition": "both packages speak of sources in one way",
        r"pieces\.v1\.(AssetChange|IdentifierChange)\.kind": "the same, of changes",
    },
}
"""What breaks a rule and is meant to, as a pattern of full names below assetwatch, with the reason."""

BROKEN = """
syntax = "proto3";
package made.up;
import "google/protobuf/timestamp.proto";
import "assetwatch/v1/source.proto";
enum Colour { RED = 0; BLUE = 1; }
enum JobStatus { JOB_STATUS_UNSPECIFIED = 0; }
enum JobState { JOB_STATE_UNSPECIFIED = 0; }
enum JobView { JOB_VIEW_UNSPECIFIED = 0; JOB_VIEW_BASIC = 1; }
message Job {
  int64 start_time = 1;
  google.protobuf.Timestamp finished = 2;
  int64 timeout_seconds = 3;
  repeated string child = 4;
  bool is_late = 5;
  string size_in_bytes = 6;
  string class = 7;
  string camelCase = 8;
  JobState phase = 9;
  string view = 10;
  assetwatch.v1.Source source = 11;
}
message ListJobsRequest { string page_token = 1; }
message ListJobsResponse { string next_page_token = 1; repeated Job jobs = 2; }
message BatchGetJobRequest { string name = 1; }
message BatchGetJobResponse { repeated Job jobs = 1; }
service Jobs {
  rpc ListJobs(ListJobsRequest) returns (ListJobsResponse);
  rpc BatchGetJob(BatchGetJobRequest) returns (BatchGetJobResponse);
  rpc Jobs(ListJobsRequest) returns (Job);
}
"""
FOUND = {
    "aip_126_enums": {"Colour", "Colour.RED", "Colour.BLUE"},
    "aip_127_http": {"Jobs.ListJobs", "Jobs.BatchGetJob", "Jobs.Jobs"},
    "aip_130_methods": {"Jobs.Jobs"},
    "aip_132_lists": {"Jobs.ListJobs"},
    "aip_158_pages": {"Jobs.ListJobs"},
    "aip_231_batches": {"Jobs.BatchGetJob"},
    "aip_140_names": {"Job.is_late", "Job.size_in_bytes", "Job.class", "Job.camelCase"},
    "aip_140_plurals": {"Job.child"},
    "aip_142_times": {"Job.start_time", "Job.finished", "Job.timeout_seconds"},
    "aip_157_views": {"Job.view", "JobView"},
    "aip_191_options": {"made_up.proto"},
    "aip_215_packages": {"Job.source"},
    "aip_216_states": {"JobStatus", "Job.phase"},
}
"""What each rule finds in it."""


@pytest.mark.unit
@pytest.mark.parametrize("rule", RULES)
def test_the_schema_keeps_it(rule: str) -> None:
    """Nothing breaks the rule but what is an exception, and no exception is left over."""
    exceptions = EXCEPTIONS.get(rule, {})
    broken = {name: _first(exceptions, name) for name in RULES[rule](FILES)}
    assert [name for name, pattern in broken.items() if pattern is None] == []
    assert set(exceptions) == set(broken.values())


def _first(exceptions: dict[str, str], name: str) -> str | None:
    return next((pattern for pattern in exceptions if re.fullmatch(rf"assetwatch\.{pattern}", name)), None)


@pytest.mark.parametrize("rule", RULES)
def test_a_schema_that_breaks_it_is_found(rule: str, tmp_path: Path) -> None:
    """Each rule finds what breaks it in a made-up schema, and nothing else there."""
    found = set(RULES[rule](compiled(BROKEN, tmp_path)))
    assert {name.removeprefix("made.up.") for name in found} == FOUND[rule]


@pytest.mark.unit
def test_every_rule_is_in_the_decision() -> None:
    """The page of the decision names each proposal that is held here, and no other as held."""
    held = {int(re.findall(r"\d+", rule)[0]) for rule in RULES}
    rows = re.findall(r"^\| (\d+) \|.*`test_aips`", pages()["docs/adr/0033-aips.md"], flags=re.MULTILINE)
    assert set(map(int, rows)) == held


@pytest.mark.unit
@pytest.mark.parametrize("path", sorted((ROOT / "proto/assetwatch").rglob("*.proto")), ids=lambda path: path.name)
def test_comments_are_for_every_reader(path: Path) -> None:
    """No heading, table or HTML (AIP-192), which some generators print as they are; a comment is whole sentences."""
    comments = re.findall(r"(?:^ *//.*\n)+", path.read_text(), flags=re.MULTILINE)
    for comment in comments:
        text = re.sub(r"^ *// ?", "", comment, flags=re.MULTILINE)
        words = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE).rstrip()
        assert not re.search(r"^(#+ |\|)|</?[a-z]+>|<!--", words, flags=re.MULTILINE), text
        assert text.count("```") % 2 == 0
        assert re.search(r"[.:]\)?$|^\*\*Example\*\*$|^ {2}\w+ {2,}.*$", words.rpartition("\n")[2]), text
