"""What C code writes on standard error becomes lines of the log, and the stacks of a crash still get out.

Each case is a process of its own, since descriptor 2 is the whole process's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from support.command_line import environment

PREAMBLE = """
    import faulthandler, logging, os, subprocess, sys, threading
    from assetwatchd.runtime import logs, stderr
    log = logging.getLogger("test")
    with stderr.caught():
        logs.configure("info", "json")
"""
GRPC = "E1130 01:49:17.799313   28600 ssl_transport_security.cc:1558] Invalid cert chain file."


def written(inside: str, code: int = 0, /, **variables: str) -> list[str]:
    """Run code inside, and return the lines on the process's standard error."""
    script = textwrap.dedent(PREAMBLE) + textwrap.indent(textwrap.dedent(inside), "    ")
    env = {name: value for name, value in environment(**variables).items() if not name.startswith("GRPC_")} | variables
    ran = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, timeout=60, check=False)
    assert ran.returncode == code, ran.stderr.decode()
    assert ran.stdout == b""
    return ran.stderr.decode().splitlines()


def told(lines: list[str]) -> list[tuple[str, str, str]]:
    """Read JSON lines, as all are: logger, level and message."""
    records = map(json.loads, lines)
    return [(record["logger"], record["level"], record["message"]) for record in records]


def test_a_line_of_grpc_is_a_record() -> None:
    """With its level, its text and its place; its first words about where lines go are left out."""
    preamble = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR"
    assert told(written(f"os.write(2, b'{preamble}\\n{GRPC}\\n')")) == [
        ("grpc.core", "error", "Invalid cert chain file. (ssl_transport_security.cc:1558)")
    ]


def test_other_lines_are_records_too() -> None:
    """Of whatever library, and of a process that we start; also one that has no end, and what is no text."""
    inside = """
    os.write(2, b"free(): \\xff invalid\\n\\nno end")
    subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('of a child')"])
    """
    assert told(written(inside)) == [
        ("assetwatchd.runtime.stderr", "warning", "free(): \\xff invalid"),
        ("assetwatchd.runtime.stderr", "warning", "no endof a child"),
    ]


def test_lines_of_one_place_are_few() -> None:
    """Any client can make gRPC write one at each connection; the first is told, and how many came with the next."""
    lines = told(written(f"for _ in range(300): os.write(2, b'{GRPC}\\n')"))
    assert [message for _, _, message in lines] == ["Invalid cert chain file. (ssl_transport_security.cc:1558)"]


def test_the_log_is_not_read_back() -> None:
    """What Python writes goes out at once, once."""
    assert told(written("log.warning('of ours')")) == [("test", "warning", "of ours")]


def test_the_stacks_of_a_crash_get_out() -> None:
    """Faulthandler writes to the standard error that there was, without help of any thread."""
    lines = written("def doomed(): os.abort()\ndoomed()", -6)
    assert lines[0] == "Fatal Python error: Aborted"
    assert any("in doomed" in line for line in lines)


def test_stacks_that_are_asked_for_get_out() -> None:
    """As those of a process that does not stop are."""
    lines = written("def here(): faulthandler.dump_traceback()\nhere()")
    assert any("in here" in line for line in lines)


def test_nobody_waits_for_the_thread_that_reads() -> None:
    """C code that holds the interpreter while it writes a lot loses lines, and not its process."""
    inside = """
    import ctypes
    libc = ctypes.PyDLL(None)
    for _ in range(300):
        libc.write(2, b"x" * 1023 + b"\\n", 1024)
    """
    assert written(inside)


@pytest.mark.parametrize("name", ["GRPC_VERBOSITY", "GRPC_TRACE"])
def test_who_looks_into_grpc_gets_its_lines_as_they_are(name: str) -> None:
    """Then nothing is caught."""
    assert written(f"os.write(2, b'{GRPC}\\n')", **{name: "info"}) == [GRPC]


def test_afterwards_standard_error_is_as_before() -> None:
    """Descriptor 2, and Python's."""
    script = textwrap.dedent(PREAMBLE) + "    pass\nos.write(2, b'as ever\\n'); print('and Python', file=sys.stderr)"
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, timeout=60, check=True, text=True
    )
    assert ran.stderr == "as ever\nand Python\n"


def test_without_a_standard_error_nothing_is_caught() -> None:
    """Somebody closed descriptor 2: there is nothing to be written, and no reason not to begin."""
    script = textwrap.dedent(PREAMBLE) + "    log.warning('to nobody')\nprint('begun and ended')"
    command = ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, script]
    ran = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, timeout=60, check=True, text=True)
    assert ran.stdout == "begun and ended\n"
