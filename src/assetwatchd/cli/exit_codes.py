"""The exit codes of commands, and how a command fails. Imported by all of the command line, so it imports little."""

from __future__ import annotations

import enum
from typing import NoReturn

import typer

from assetwatchd.cli.terminal import READER_GONE, complain
from assetwatchd.runtime import stopping


class ExitCode(enum.IntEnum):
    """The exit codes. A number may have two meanings where no command has both."""

    OK = 0
    NOT_MET = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    SETTLED_OTHERWISE = 5
    STUCK = stopping.STUCK  # 5, too: of serve and demo, which never wait for an asset
    INTERRUPTED = 130
    READER_GONE = READER_GONE


EPILOG = """\b
Exit codes:
  0    done; wait: it is in the state (AVAILABLE unless told otherwise); health: serving; retry: healthy
  1    wait: the time ran out first; health: not serving; retry: not healthy; serve, demo, sandbox: could not start;
       doctor: etcd is not fit; standard output cannot be written, as on a full disk
  2    the command line or the configuration is wrong
  3    the server (doctor: etcd) cannot be reached, or does not answer in time
  4    the server refuses the call; its reason is printed, with what to do
  5    wait: settled in a state that was not waited for; the line has it
       serve, demo: did not stop in time, and was ended; where it stood is on standard error
  130  interrupted (serve, demo and sandbox end with 0 when they are stopped)
  141  whoever read standard output has gone, as after `| head` (demo and sandbox end with 0)"""


def fail(code: ExitCode, *lines: str) -> NoReturn:
    """End the command with what is wrong on standard error."""
    complain(*lines)
    raise typer.Exit(code)
