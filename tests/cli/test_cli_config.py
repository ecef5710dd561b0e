from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from typer.testing import CliRunner

from assetwatchd.cli import app
from assetwatchd.config_load import schema
from support import json_schema
from support.command_line import modules_in

if TYPE_CHECKING:
    from support.command_line import Run

EXAMPLE = Path(__file__).parents[2] / "examples" / "assetwatch.yaml"
SECRET = "hunter2-must-not-be-seen"
HEAVY = {"grpc", "aiohttp", "asyncio", "pydantic", "yaml", "google.protobuf", "rich.console", "assetwatchd.app"}
SECRETS = {
    "ASSETWATCH__SOURCES__USD_PROD__AUTH__TOKEN": SECRET,
    "ASSETWATCH__SOURCES__DAM__AUTH__TOKEN": SECRET,
    "ASSETWATCH__SOURCES__MEDIA__SECRET_KEY": SECRET,
    "ASSETWATCH__SOURCES__SBC_EAST__PASSWORD": SECRET,
}


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner(env=SECRETS)


def test_check_accepts_the_example(runner: CliRunner) -> None:
    """`config check` takes the example and its secrets, and names the sources."""
    done = runner.invoke(app, ["config", "check", "--config", str(EXAMPLE)])
    assert done.exit_code == 0
    assert done.stdout.startswith("ok: 5 sources: dam (omn), desk (pieces), media (media_intelligence)")
    assert SECRET not in done.output


def test_show_has_no_secret(runner: CliRunner) -> None:
    """`config show` prints what is in effect, as YAML or JSON, with every secret masked."""
    as_yaml = runner.invoke(app, ["config", "show", "-c", str(EXAMPLE)])
    as_json = runner.invoke(app, ["config", "show", "-c", str(EXAMPLE), "-o", "json"])
    shown = yaml.safe_load(as_yaml.stdout)
    assert shown == json.loads(as_json.stdout)
    assert shown["sources"]["sbc-east"]["password"] == "**********"
    assert shown["sources"]["sbc-east"]["username"] == "assetwatch"
    assert SECRET not in as_yaml.output + as_json.output


def test_schema_is_the_schema_and_takes_the_example(runner: CliRunner) -> None:
    """`config schema` prints the JSON schema, and the example is valid by it."""
    described = json.loads(runner.invoke(app, ["config", "schema"]).stdout)
    assert described == schema()
    assert described == yaml.safe_load(runner.invoke(app, ["config", "schema", "-o", "yaml"]).stdout)
    assert list(json_schema.problems(yaml.safe_load(EXAMPLE.read_text()), described, described)) == []


@pytest.mark.parametrize("arguments", [["config", "check"], ["config", "show"], ["serve"]])
def test_a_configuration_that_cannot_be_used(tmp_path: Path, arguments: list[str]) -> None:
    """Every problem is a line on standard error, without a value; the exit code is 2, and nothing is started."""
    path = tmp_path / "wrong.yaml"
    path.write_text(
        f"server: {{lisen: {SECRET}}}\nsources: {{omn: {{kind: omn, auth: {{kind: bearer, tokn: {SECRET}}}}}}}"
    )
    done = CliRunner().invoke(app, [*arguments, "--config", str(path)])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "assetwatch: the configuration cannot be used",
        "server.lisen: unknown name; did you mean listen?",
        "sources.omn.base_url: missing",
        "sources.omn.auth.tokn: unknown name; did you mean token?",
    ]


@pytest.mark.parametrize("arguments", [["config", "check"], ["serve"]])
def test_a_pin_that_cannot_be_an_id(tmp_path: Path, arguments: list[str]) -> None:
    """The check of the configuration finds it, as the start does, and shows it without what acts on a terminal."""
    path = tmp_path / "pins.yaml"
    source = {"kind": "usd_search", "base_url": "http://127.0.0.1:9", "pins": ["s3://b/a\u202e", "s3://b/9.41\u202fAM"]}
    path.write_text(json.dumps({"store": {"kind": "memory"}, "sources": {"usd": source}}))
    done = CliRunner().invoke(app, [*arguments, "--config", str(path)])
    assert done.exit_code != 0
    assert "sources.usd.pins: 's3://b/a\\u202e': holds U+202E" in done.stderr
    assert "202f" not in done.stderr


async def test_help_and_version_load_little(command: Run) -> None:
    """Help documents the exit codes; neither it nor the version loads what a call would need, or to check options."""
    for arguments in (("--help",), ("--version",), ("watch", "--help"), ("pieces", "ls", "--help")):
        done = await command(*arguments, PYTHONPROFILEIMPORTTIME="1")
        loaded = modules_in(done.err)
        assert done.code == 0
        assert "assetwatchd.cli" in loaded
        assert sorted(loaded & HEAVY) == []
        assert "130  interrupted" in done.out or "--help" not in arguments[0]


async def test_without_arguments_there_is_help(command: Run) -> None:
    """The bare command says what it can do, and that as a usage error."""
    done = await command()
    assert done.code == 2
    assert "Commands:" in done.out + done.err


async def test_completion_is_offered(command: Run) -> None:
    """The shell completes the names of commands."""
    done = await command("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    completed = await command(_ASSETWATCH_COMPLETE="complete_bash", COMP_WORDS="assetwatch he", COMP_CWORD="1")
    assert done.code == 0
    assert "complete" in done.out
    assert completed.out.split() == ["health"]
