"""Which test holds what: the list of what was asked to be proven of a watch, each with tests that exist.

Tier P runs with `make test`, tier G with `make test-faults`; what is longer than either runs with `make soak`.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from assetwatchd.rpc.status import TABLE
from support.examples import EXAMPLES, SOAK

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


class Held(NamedTuple):
    """What must be so, and the tests that fail when it is not, as FILE::NAME below tests/."""

    what: str
    tests: tuple[str, ...]


ASKED = frozenset(
    f"T{number:02}"
    for number in (
        1,
        2,
        3,
        4,
        5,
        10,
        12,
        13,
        *range(20, 26),
        *range(30, 34),
        40,
        41,
        42,
        50,
        51,
        *range(60, 66),
        70,
        71,
        80,
        81,
        82,
        90,
        93,
    )
)
"""What is to be proven; the numbers between are of another store, or figures."""
HELD: Mapping[str, Held] = {
    "T01": Held(
        "one contract for all stores, and one model for the core and for the service over gRPC",
        (
            "changefeed/store/test_store_contract.py::test_after_gives_the_latest_of_each_asset_in_order",
            "changefeed/test_core_machine.py::TestCore",
            "e2e/test_e2e_machine.py::TestOverMemory",
            "e2e/test_e2e_machine.py::TestOverSqlite",
        ),
    ),
    "T02": Held(
        "synced for no, one, 101 and 5,000 assets, with writes meanwhile",
        ("changefeed/test_watch_guarantees.py::test_synced_says_what_there_is_whatever_is_written_meanwhile",),
    ),
    "T03": Held(
        "a write while a stream begins",
        (
            "changefeed/test_watch_guarantees.py::test_a_write_while_a_stream_begins_is_not_lost",
            "changefeed/test_hub.py::test_a_change_at_any_step_between_snapshot_and_park_is_not_lost",
        ),
    ),
    "T04": Held(
        "a name that nobody knows yet", ("e2e/test_e2e_sources.py::test_a_name_nobody_knows_then_it_is_there",)
    ),
    "T05": Held(
        "leaving and entering a filter, removed and made again, while conflated",
        (
            "changefeed/test_watch_guarantees.py::test_fifty_assets_leave_and_enter_a_filter_unseen",
            "changefeed/test_hub.py::test_leaving_a_state_filter_unseen",
        ),
    ),
    "T10": Held("resuming over a restart", ("faults/test_gate_restart.py::test_resume_over_a_restart",)),
    "T12": Held(
        "a watch goes on at another replica",
        (
            "faults/test_smoke_replicas.py::test_each_watch_goes_on_at_any_replica",
            "faults/test_gate_replicas.py::test_each_fault",
        ),
    ),
    "T13": Held(
        "texts that are no token",
        (
            "changefeed/test_resume_token.py::test_random_texts_are_invalid_and_nothing_worse",
            "changefeed/test_resume_token.py::test_every_flipped_bit_is_noticed",
            "changefeed/test_resume_token.py::test_truncated_and_extended_tokens_are_refused",
            "changefeed/test_resume_token.py::test_another_version_is_refused",
            "e2e/test_e2e_tokens.py::test_no_text_is_taken_for_a_token",
            "e2e/test_e2e_tokens.py::test_a_printed_token_misused",
        ),
    ),
    "T20": Held(
        "a token below the floor",
        (
            "e2e/test_e2e_tokens.py::test_an_old_token",
            "rpc/test_rpc_resume.py::test_a_token_from_before_the_floor_is_expired",
            "changefeed/test_hub.py::test_removals_dropped_before_a_resumed_stream_got_them_are_not_missed",
            "rpc/test_rpc_watch_moments.py::test_a_removal_dropped_while_a_stream_resumes_is_never_missed",
            "client/test_watch.py::test_token_of_no_use_is_dropped",
        ),
    ),
    "T21": Held(
        "a token ahead",
        (
            "e2e/test_e2e_tokens.py::test_a_token_of_a_moment_ahead_is_waited_for",
            "changefeed/test_watch_guarantees.py::test_a_revision_to_come_is_waited_for_three_seconds",
            "rpc/test_rpc_resume.py::test_a_token_ahead_of_this_process_is_replica_behind",
            "faults/test_smoke_replicas.py::test_a_token_that_is_ahead_of_a_replica_is_waited_for_and_then_sent_elsewhere",
            "rpc/test_rpc_behind.py::test_an_epoch_that_is_not_known_here_yet_is_waited_for",
        ),
    ),
    "T22": Held(
        "another store: wiped, restored from an older copy, or of somebody else",
        (
            "faults/test_gate_restart.py::test_another_store_is_never_taken_for_the_one_before",
            "changefeed/store/test_sqlite.py::test_a_backup_put_back_is_noticed",
            "changefeed/store/test_sqlite.py::test_a_wiped_store_counts_anew",
            "e2e/test_e2e_tokens.py::test_a_foreign_token",
            "faults/test_gate_replicas.py::test_each_fault",
            "changefeed/store/test_etcd_store.py::test_older_files_that_were_gone_on_with_end_whoever_read_others",
        ),
    ),
    "T23": Held(
        "a token of another filter",
        (
            "rpc/test_rpc_resume.py::test_a_token_of_another_filter_is_a_mismatch",
            "e2e/test_e2e_tokens.py::test_a_printed_token_misused",
        ),
    ),
    "T24": Held(
        "the floor is written before the purge",
        (
            "faults/test_gate_restart.py::test_the_floor_is_kept_over_a_crash",
            "changefeed/store/test_store_contract.py::test_the_floor_is_raised_before_anything_is_dropped",
            "faults/test_gate_replicas.py::test_the_floor_is_kept_over_a_crash",
            "changefeed/store/test_etcd_floor.py::test_the_floor_comes_with_the_deletions",
        ),
    ),
    "T25": Held(
        "a token just issued is accepted",
        (
            "faults/test_gate_restart.py::test_resume_over_a_restart",
            "changefeed/test_resume_token.py::test_a_token_just_issued_is_always_accepted",
            "changefeed/store/test_sqlite.py::test_tokens_outlive_restarts",
        ),
    ),
    "T30": Held(
        "bookmarks: idle, filtered, without any change, under load, behind",
        (
            "changefeed/test_hub_endings.py::test_bookmarks_come_every_heartbeat",
            "changefeed/test_hub_endings.py::test_a_bookmark_waits_for_quiet",
            "changefeed/test_hub_endings.py::test_bookmarks_follow_the_changes_of_others",
            "changefeed/test_hub_endings.py::test_a_bookmark_never_overtakes_a_change",
            "changefeed/test_hub_endings.py::test_a_stalled_stream_gets_no_pile_of_bookmarks",
            "rpc/test_rpc_watch.py::test_a_quiet_stream_gets_bookmarks_as_often_as_promised",
        ),
    ),
    "T31": Held(
        "stalled readers beside healthy ones",
        ("faults/test_gate_slow.py::test_stalled_watchers_cost_little_and_delay_nobody",),
    ),
    "T32": Held(
        "no range starves anybody, and its tokens are true",
        (
            "changefeed/test_watch_guarantees.py::test_no_range_starves_anybody",
            "changefeed/test_hub.py::test_a_range_is_frozen_and_starves_nobody",
            "changefeed/store/test_ledger.py::test_reads_as_a_list_of_all_entries_would",
        ),
    ),
    "T33": Held(
        "what waits in the transport, and how a client sees it",
        ("faults/test_gate_slow.py::test_what_waits_in_the_transport",),
    ),
    "T40": Held("drain", ("faults/test_gate_restart.py::test_drain_with_200_streams",)),
    "T41": Held(
        "old age",
        (
            "faults/test_gate_restart.py::test_streams_of_age_end_well",
            "changefeed/test_hub_endings.py::test_a_stream_ends_well_at_its_age",
        ),
    ),
    "T42": Held(
        "all reconnect at once",
        (
            "faults/test_gate_restart.py::test_200_reconnect_at_once",
            "faults/test_gate_replicas.py::test_200_reconnect_at_once",
        ),
    ),
    "T50": Held(
        "pings of clients",
        (
            "faults/test_gate_slow.py::test_pings_on_a_stream",
            "faults/test_gate_slow.py::test_pings_without_a_stream",
        ),
    ),
    "T51": Held("a client that was stopped", ("faults/test_gate_slow.py::test_a_stopped_client_is_reaped",)),
    "T60": Held(
        "many watchers cost an upstream no more than one",
        (
            "e2e/test_e2e_fan_in.py::test_500_watchers_make_as_many_upstream_requests_as_one",
            "faults/test_gate_replicas.py::test_upstreams_are_asked_as_by_one",
            "faults/test_gate_replicas.py::test_more_watchers_cost_an_upstream_nothing",
        ),
    ),
    "T61": Held(
        "reads that find the same",
        (
            "e2e/test_e2e_sources.py::test_reads_that_find_the_same_are_no_changes",
            "changefeed/test_pipeline.py::test_the_same_is_no_change",
            "adapters/test_contract.py::test_equal_answers_make_equal_observations",
        ),
    ),
    "T62": Held(
        "every bad answer of each source",
        ("faults/test_gate_sources.py::test_outages", "faults/test_gate_sources.py::test_retry_after"),
    ),
    "T63": Held(
        "one false list deletes nothing; two complete ones do",
        (
            "polling/test_scheduler_absence.py::test_absence_needs_two_lists",
            "polling/test_scheduler_absence.py::test_an_empty_list_once_deletes_nothing",
            "polling/test_scheduler_absence.py::test_a_failed_list_counts_for_nothing",
            "polling/test_scheduler_absence.py::test_reappearance_clears_an_absence",
        ),
    ),
    "T64": Held(
        "reads, lists and pushes in any order",
        (
            "polling/test_scheduler_interleavings.py::test_in_the_end_it_is_known",
            "polling/test_push.py::test_removed_wins_over_a_read_under_way",
            "polling/test_push.py::test_what_is_pushed_is_not_tidied_away",
        ),
    ),
    "T65": Held(
        "one slot for the last operation",
        (
            "e2e/test_e2e_sources.py::test_one_slot_holds_one_operation_after_another",
            "adapters/test_oracle_sbc.py::test_life_of_an_operation",
        ),
    ),
    "T70": Held(
        "one owner of a source at a time, whoever is paused",
        (
            "faults/test_smoke_replicas.py::test_every_fault_of_an_owner_has_another_one_go_on",
            "faults/test_gate_replicas.py::test_an_owner_that_is_paused_again_and_again",
            "changefeed/store/test_etcd_contending.py::test_every_commit_is_kept_once_or_not_at_all",
            "replicas/test_in_term.py::test_nothing_is_asked_after_the_term",
        ),
    ),
    "T71": Held(
        "an owner that was paused writes nothing",
        (
            "faults/test_gate_replicas.py::test_a_write_that_is_under_way_for_longer_than_the_lease",
            "changefeed/store/test_etcd_store.py::test_a_source_is_written_by_its_owner_alone",
        ),
    ),
    "T80": Held(
        "every reason, by grpcurl and by gRPC",
        (
            "repo/test_guarantees.py::test_each_reason_is_provoked",
            "rpc/test_rpc_status.py::test_each_error_has_its_code_reason_and_details",
            "rpc/test_rpc_status.py::test_every_call_error_has_a_row",
        ),
    ),
    "T81": Held(
        "everything by grpcurl alone, with a kill between",
        (
            "e2e/test_e2e_grpcurl.py::test_a_watch_prints_started_a_snapshot_synced_and_changes_of_all_five",
            "e2e/test_e2e_grpcurl.py::test_pages",
            "e2e/test_e2e_tokens.py::test_a_printed_token_outlives_kill_9",
        ),
    ),
    "T82": Held(
        "lists and batches",
        (
            "rpc/test_rpc_list.py::test_a_page_token_of_another_list_is_refused",
            "rpc/test_rpc_list.py::test_pages_have_every_asset_once_in_the_order_of_changes",
            "rpc/test_rpc_list.py::test_an_asset_that_changes_between_pages_comes_again_and_none_is_left_out",
            "rpc/test_rpc_list.py::test_sources_that_cannot_be_read_are_named_and_listed_all_the_same",
            "rpc/test_rpc_get.py::test_a_batch_answers_in_the_order_of_the_request",
            "rpc/test_rpc_get.py::test_a_batch_is_all_or_nothing",
            "rpc/test_rpc_odd.py::test_a_page_token_resumes_no_watch_and_a_resume_token_no_list",
        ),
    ),
    "T90": Held(
        "one random fault under load, judged afterwards: `python -m faults.runs`",
        (
            "faults/test_smoke_faults.py::test_killed_under_load_nothing_is_lost",
            "faults/test_smoke_catalogue.py::test_a_fault_that_meets_nobody_has_not_fired",
            "faults/test_smoke_replicas.py::test_nothing_is_lost_or_doubled",
        ),
    ),
    "T93": Held(
        "streams by the thousand, cancelled by their clients, or ended by a server that stops",
        (
            "faults/test_gate_churn.py::test_cancelled_streams_leave_nothing",
            "faults/test_gate_churn.py::test_streams_ended_by_the_server_leave_nothing",
        ),
    ),
}
JUDGED = [f"I{number}" for number in range(1, 18)]
"""The invariants."""


GRPCURL = "e2e/test_e2e_errors.py"
"""Provokes reasons by grpcurl, and asserts each with its code and details."""
ELSEWHERE = {
    "BATCH_TOO_LARGE": "rpc/test_rpc_get.py::test_a_batch_larger_than_a_message_says_how_many_would_fit",
    "SOURCE_KIND_MISMATCH": "pieces/test_pieces_calls.py::test_sources_that_cannot_be",
    "ASSET_GONE": "pieces/test_pieces_calls.py::test_gone",
    "PIECES_REFUSED": "pieces/test_pieces_calls.py::test_a_refusal_keeps_its_text",
    "CONTENT_TOO_LARGE": "pieces/test_pieces_calls.py::test_content_beyond_the_limit_of_a_message",
    "METADATA_TOO_LARGE": "rpc/test_rpc_connections.py::test_clients_of_grpc_are_told_so_too",
    "REQUEST_TOO_SLOW": "rpc/test_rpc_connections.py::test_a_request_that_does_not_come_in_time_ends_its_call",
    "RETRY_TOO_SOON": "rpc/test_rpc_sources.py::test_a_retry_by_hand",
    "TOO_MANY_READS": "rpc/test_rpc_fairness.py::test_more_reads_than_a_caller_may_wait_for_are_refused",
}
"""The other reasons, and what provokes them: an answer of many assets, the assets API of Pieces OS, raw HTTP/2."""
EXAMPLES_ASKED = {
    "the core": ("changefeed/test_core_machine.py", 400),
    "the service": ("e2e/test_e2e_machine.py", 30),
    "ranges": ("changefeed/test_watch_guarantees.py", 2000),
    "reads, lists and pushes": ("polling/test_scheduler_interleavings.py", 500),
}
"""How many examples `make soak` is to run, at the least: of machine 1, machine 2, T32 and T64."""


def test_all_that_was_asked_for_is_held() -> None:
    """No row is missing."""
    assert set(HELD) == ASKED


@pytest.mark.parametrize("name", HELD)
def test_what_holds_it_is_there(name: str) -> None:
    """Each test that the list names is one that pytest collects."""
    for test in HELD[name].tests:
        file, _, function = test.partition("::")
        text = (ROOT / "tests" / file).read_text()
        form = rf"^(async )?def {function}\(" if function.startswith("test_") else rf"^{function} = \w+\.TestCase$"
        assert re.search(form, text, flags=re.MULTILINE), test


def test_each_reason_is_provoked() -> None:
    """Each reason of the table is asserted by name, by grpcurl or where ELSEWHERE says, and no other is listed."""
    by_grpcurl = set(re.findall(r"""\btold\(.*, "([A-Z_]+)"\)""", (ROOT / "tests" / GRPCURL).read_text()))
    assert not by_grpcurl & ELSEWHERE.keys()
    assert by_grpcurl | ELSEWHERE.keys() == {reason for _, reason in TABLE.values()}
    for reason, test in ELSEWHERE.items():
        assert f'"{reason}"' in _body(test), test


@pytest.mark.parametrize("name", EXAMPLES_ASKED)
def test_make_soak_runs_as_many_examples_as_were_asked_for(name: str) -> None:
    """The table of examples has them, the test goes by it, and `make soak` runs that test."""
    file, asked = EXAMPLES_ASKED[name]
    assert EXAMPLES[name].soak >= asked
    assert f'bounded("{name}")' in (ROOT / "tests" / file).read_text()
    machines = re.search(r"^MACHINES = ((.*\\\n)*.*)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert machines is not None
    assert f"tests/{file}" in machines[1].split()
    assert f"--hypothesis-profile={SOAK} " in (ROOT / "Makefile").read_text()


def _body(test: str) -> str:
    """Return the source of a test, given as FILE::NAME."""
    file, _, name = test.partition("::")
    text = (ROOT / "tests" / file).read_text()
    found = (each for each in ast.walk(ast.parse(text)) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
    return next(ast.get_source_segment(text, each) or "" for each in found if each.name == name)


@pytest.mark.parametrize("name", JUDGED)
def test_each_invariant_is_judged_and_told(name: str) -> None:
    """The judge has a function of its name, whose words begin with it; the page of invariants names it too."""
    files = ("promises.py", "limits.py", "ownership.py")
    judge = "".join((ROOT / "tests/faults/rig" / file).read_text() for file in files)
    assert re.search(rf'^def {name.lower()}\(.*\n    """{name}: ', judge, flags=re.MULTILINE)
    assert re.search(rf"\b{name}\b", (ROOT / "docs/internals/invariants.md").read_text())
