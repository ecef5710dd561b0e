"""Logs: one line a record, tied to its trace, and without the text of foreign exceptions."""

from __future__ import annotations

import ast
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.model.errors import Unreachable
from assetwatchd.model.texts import acts
from assetwatchd.runtime import logs, telemetry
from support.tracing import recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.unit

SECRET = "hunter2"
log = logging.getLogger("assetwatchd.test")


@pytest.fixture(autouse=True)
def _root_logger_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def _connect() -> None:
    raise ConnectionError(SECRET)


def _fail() -> None:
    try:
        _connect()
    except ConnectionError as exc:
        raise Unreachable("no answer within 10 s") from exc


def test_text_is_one_line_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    """A text record is time, level, logger and message on one line of standard error."""
    logs.configure("info", "text")
    log.info("source %s is back", "omn")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(" INFO    assetwatchd.test: source omn is back\n")
    assert err[10] == "T"
    assert err[23] == "Z"


def test_level_is_the_least_that_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    """What is below the level is not written, by any logger."""
    logs.configure("warning", "text")
    log.info("quiet")
    logging.getLogger("aiohttp.access").info("quiet")
    log.warning("loud")
    assert capsys.readouterr().err.count("\n") == 1


def test_line_breaks_cannot_forge_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    """A message with line breaks stays one line."""
    logs.configure("info", "text")
    log.info("asset %s", "a\r\n2026-01-01T00:00:00Z ERROR root: forged")
    assert capsys.readouterr().err.count("\n") == 1


HOSTILE = st.text(
    st.one_of(st.characters(max_codepoint=0xA0), st.characters(categories=["C", "Zl", "Zp"]), st.characters())
)
"""What callers and upstreams may send, rich in what acts on a terminal."""


def failed(said: str) -> logging.LogRecord:
    """A record that a failure of ours is told with, a text from outside in message and failure."""
    exc = Unreachable(said)
    return logging.LogRecord("test", logging.ERROR, "", 0, "it says %s", (said,), (Unreachable, exc, None))


@given(HOSTILE)
def test_no_text_acts_on_a_terminal(said: str) -> None:
    """Whatever is logged, and whatever an error of ours holds, is shown and does nothing; it begins no line."""
    written = logs.TextFormatter().format(failed(said)).split("\n")
    assert not [line for line in written if any(map(acts, line))]
    assert len(written) == len(logs.TextFormatter().format(failed("x")).split("\n"))


@given(HOSTILE)
def test_json_is_printable_ascii_and_the_same_text(said: str) -> None:
    """JSON lines hold printable ASCII alone; a reader gets the message as it was."""
    written = logs.JsonFormatter().format(failed(said))
    assert written.isascii()
    assert written.isprintable()
    assert json.loads(written)["message"] == f"it says {said}"


def test_json_carries_trace_and_span(capsys: pytest.CaptureFixture[str]) -> None:
    """Inside a span a JSON record names the trace and the span; outside it has neither field."""
    logs.configure("info", "json")
    with recorded() as record, telemetry.poll("omn", 1):
        log.info("within")
    log.info("without")
    within, without = map(json.loads, capsys.readouterr().err.splitlines())
    context = record.spans[0].get_span_context()
    assert context is not None
    assert within["trace_id"] == f"{context.trace_id:032x}"
    assert within["span_id"] == f"{context.span_id:016x}"
    assert without.keys() == {"time", "level", "logger", "message"}
    assert (without["level"], without["logger"], without["message"]) == ("info", "assetwatchd.test", "without")


def test_text_carries_trace_and_span(capsys: pytest.CaptureFixture[str]) -> None:
    """Inside a span a text record ends with the trace and the span."""
    logs.configure("info", "text")
    with recorded() as record, telemetry.poll("omn", 1):
        log.info("within")
    context = record.spans[0].get_span_context()
    assert context is not None
    assert f"within trace_id={context.trace_id:032x} span_id={context.span_id:016x}\n" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["text", "json"])
def test_stack_keeps_foreign_texts_out(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A logged exception shows stack, its cause by class, and the text of our own errors alone."""
    logs.configure("info", "json" if form == "json" else "text")
    try:
        _fail()
    except Unreachable:
        log.exception("the read failed")
    err = capsys.readouterr().err
    assert "in _connect" in err
    assert "Unreachable: no answer within 10 s" in err
    assert err.index("ConnectionError") < err.index("Unreachable: ")
    assert 'password hunter2"' not in err.replace("raise ConnectionError(SECRET)", "")
    assert (err.count("\n") == 1) == (form == "json")


def test_members_of_a_group_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """What a task group gathered is logged member by member, each with its stack."""
    logs.configure("info", "text")
    try:
        _connect()
    except ConnectionError as exc:
        log.error("loops ended", exc_info=ExceptionGroup(SECRET, [exc, Unreachable("no answer")]))  # noqa: TRY400 - the group is what is logged
    err = capsys.readouterr().err
    assert "in _connect" in err
    assert err.endswith("ExceptionGroup: ConnectionError; Unreachable: no answer\n")
    assert SECRET not in err


@pytest.mark.parametrize(
    ("exc", "said"),
    [
        (Unreachable("HTTP 503"), "Unreachable: HTTP 503"),
        (ValueError("secret"), "ValueError"),
        (json.JSONDecodeError("secret", "secret", 0), "json.decoder.JSONDecodeError"),
        (ExceptionGroup("secret", [OSError("secret"), Unreachable("x")]), "ExceptionGroup: OSError; Unreachable: x"),
    ],
)
def test_describe(exc: BaseException, said: str) -> None:
    """Our errors are told with their text, all others by their class."""
    assert logs.describe(exc) == said


def test_json_has_what_a_record_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    """Source, peer and reason are fields; a message that begins with its source needs to say it only once."""
    logs.configure("info", "json")
    log.info("refused", extra={"source": "dam", "peer": "ipv4:127.0.0.1:1", "reason": "TOO_MANY_STREAMS"})
    log.info("source %s lists %d assets", "omn", 3)
    log.info("of none", extra={"source": "", "peer": None})
    keys = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    wanted = [{"source": "dam", "peer": "ipv4:127.0.0.1:1", "reason": "TOO_MANY_STREAMS"}, {"source": "omn"}, {}]
    assert [{name: held[name] for name in logs.FIELDS if name in held} for held in keys] == wanted


def test_every_line_about_a_source_has_it_as_a_field() -> None:
    """Each message of the service with a source in it begins with that, or is given it apart."""
    calls = [
        call
        for path in Path(logs.__file__).parents[1].rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "log"
    ]
    texts = [
        (call.args[0].value, [keyword.arg for keyword in call.keywords])
        for call in calls
        if call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)
    ]
    about = [(text, given) for text, given in texts if "source %s" in text]
    assert len(about) > 5
    assert [text for text, given in about if not text.startswith(logs.ABOUT_SOURCE) and "extra" not in given] == []


def test_seldom_writes_one_of_a_kind_in_a_while() -> None:
    """The first at once, then one each interval with how many were left out; another kind has a line of its own."""
    now = 0.0
    seldom = logs.Seldom(10, 3, clock=lambda: now)
    assert [seldom.more("a"), seldom.more("a"), seldom.more("b"), seldom.more("a")] == [0, None, 0, None]
    now = 10.0
    assert [seldom.more("a"), seldom.more("b")] == [2, 0]


@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0, 30)), max_size=200))
def test_seldom_is_bounded_whatever_comes(calls: list[tuple[int, float]]) -> None:
    """However many kinds, it keeps so many; an interval has no more lines than kinds, and one for the rest."""
    now, written = 0.0, list[float]()
    seldom = logs.Seldom(10, 3, clock=lambda: now)
    for kind, passed_s in calls:
        now += passed_s
        if seldom.more(kind) is not None:
            written.append(now)
        assert len(seldom._written) <= 4
    for begin in written:
        assert sum(begin <= at < begin + 10 for at in written) <= 2 * 4


def test_debug_is_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    """What gRPC says at debug, a line for each call, does not hide the lines of streams; its warnings are told."""
    logs.configure("debug", "json")
    cython = logging.getLogger("grpc._cython.cygrpc")
    cython.debug("[_cygrpc] Loaded running loop")
    cython.warning("odd")
    log.debug("watch opened")
    assert [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()] == ["odd", "watch opened"]


def test_a_defect_at_each_try_has_a_stack_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """One for each place and kind; the lines between name both, and nothing that an exception says."""
    now = [0.0]
    defects = logs.Defects("usd", lambda: now[0])
    for _ in range(3):
        for error in (KeyError("hunter2"), ValueError("hunter2")):
            try:
                raise error
            except (KeyError, ValueError) as raised:
                defects.log(raised)
    assert [bool(record.exc_info) for record in caplog.records] == [True, True, False, False, False, False]
    message = caplog.records[-1].getMessage()
    assert message.startswith("source usd: the adapter failed again: ValueError at test_logs.py:")
    assert "hunter2" not in message
    now[0] = logs.STACK_EVERY_S
    defects.log(KeyError())
    assert caplog.records[-1].exc_info
