"""The documents say what is so: commands, options, reasons, states, limits and names exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message
    from pydantic import BaseModel
import re
import tomllib
import uuid
from typing import Any, get_args

import pytest
import typer
import yaml
from assetwatch.pieces.v1 import pieces_assets_service_pb2 as pieces_pb
from assetwatch.v1 import asset_status_service_pb2 as pb
from google.protobuf import json_format
from tools.reference_constants import constants

from assetwatchd import cli
from assetwatchd.adapters import media_intelligence, usd_search
from assetwatchd.adapters.omn import adapter as omn
from assetwatchd.cli.exit_codes import ExitCode
from assetwatchd.model.values import State
from assetwatchd.pieces.client.discovery import PORTS, SUPPORTED
from assetwatchd.rpc.requests import Requests
from assetwatchd.rpc.service import PAGE_SIZE_MAX
from assetwatchd.rpc.status import TABLE
from assetwatchd.runtime import descriptors
from assetwatchd.settings import schema
from assetwatchd.settings.load import load
from assetwatchd.upstream.bodies import reader
from buf.validate import validate_pb2
from support.documents import ROOT, blocks, pages, table

pytestmark = pytest.mark.unit

PAGES = pages()
"""Every document, by its path from the root."""
GENERATED = "docs/reference/"
WRITTEN = "\n".join(text for name, text in PAGES.items() if not name.startswith(GENERATED))
"""All that is written by hand."""
SOURCE = "\n".join(path.read_text() for path in sorted((ROOT / "src").rglob("*.py")))
COMMANDS: Any = typer.main.get_command(cli.app)
HELD_BY = "docs/internals/held-by.md"
TEST_NAME = r"(tests/[\w/]+\.py)::(\w+)"


def command_of(words: list[str]) -> tuple[Any, list[str], list[str]]:
    """Find the command or group that a line calls, the words that name it, and what follows them."""
    found, used = COMMANDS, 0
    while used < len(words) and words[used] in getattr(found, "commands", {}):
        found, used = found.commands[words[used]], used + 1
    return found, words[:used], words[used:]


def leaves(group: Any, *above: str) -> set[str]:
    """Return the full name of every command in a group, those of groups in it too."""
    found = set()
    for name, command in group.commands.items():
        inner = hasattr(command, "commands")
        found |= leaves(command, *above, name) if inner else {" ".join([*above, name])}
    return found


def options_of(command: Any) -> set[str]:
    """Return every option of a command."""
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def test_every_command_of_the_documents_exists() -> None:
    """Whatever the documents call of the command line can be called, and no command is left out."""
    called = set()
    shell = "\n".join(blocks("sh", WRITTEN) + blocks("console", WRITTEN))
    inline = re.findall(r"`assetwatch (?!VERSION starts)([^`\n]+)`", WRITTEN)
    for line in inline + re.findall(r"^(?:\$ )?assetwatch ([^#\n]+)", shell, flags=re.MULTILINE):
        words = re.split(r" [|&]+ ", line)[0].split()
        if words[0].startswith("-"):
            assert words[0] in {"--install-completion", "--version"}
            continue
        command, name, rest = command_of(words)
        assert name, words
        assert not rest or not hasattr(command, "commands"), words
        assert {word for word in rest if word.startswith("--")} <= options_of(command), words
        called.add(" ".join(name))
    assert leaves(COMMANDS) - called == set()


def test_every_option_of_the_table_of_commands_exists() -> None:
    """An option named beside a command is one of that command."""
    for call, does in table("Command", PAGES["docs/command-line.md"]):
        command, _, _ = command_of(call.strip("`").split()[1:])
        assert set(re.findall(r"--[a-z-]+", call + does)) <= {"--help", *options_of(command)}, call


async def test_every_operation_of_pieces_os_has_its_row() -> None:
    """One row for each of the 15: the vendor's name as in the schema, its RPC, a request that RPC takes, a test."""
    schema = (ROOT / "proto/assetwatch/pieces/v1/pieces_assets_service.proto").read_text()
    told = re.findall(r"Operation (\w+):.*?\n  rpc (\w+)", schema, flags=re.DOTALL)
    rows = table("Operation", PAGES["docs/pieces.md"])
    assert [(row[0].strip("`"), row[1]) for row in rows] == told
    assert len(told) == 15
    seed = re.search(r"^SEED='(.*?)'$", PAGES["docs/pieces.md"], flags=re.MULTILINE | re.DOTALL)
    assert seed
    tests = dict(table("RPC", PAGES[HELD_BY]))
    assert list(tests) == [row[1] for row in rows]
    for _, rpc, _, call in rows:
        line = re.fullmatch(rf"`grpcurl -plaintext -d '(.*)' \$A \$P/{rpc}`", call)
        assert line, rpc
        request = line[1].replace("'$ID'", str(uuid.UUID(int=1))).replace("""'"$SEED"'""", seed[1])
        parsed = json_format.Parse(request, getattr(pieces_pb, f"{rpc}Request")())
        await Requests().read(parsed.SerializeToString(), type(parsed))
        assert re.fullmatch(TEST_NAME, tests[rpc]), rpc


def test_every_promise_has_a_limit_and_a_test() -> None:
    """No cell of the table of promises is empty, and each promise has a row that names nothing but tests."""
    rows = table("Promise", PAGES["docs/watching.md"])
    held = table("Promise", PAGES[HELD_BY])
    assert len(rows) > 10
    assert [promise.split("**")[1] for promise, _ in rows] == [promise for promise, _ in held]
    for promise, limit in rows:
        assert limit, promise
    for promise, tests in held:
        assert all(re.fullmatch(TEST_NAME, test) for test in tests.split(", ")), promise


def test_every_test_that_is_named_exists() -> None:
    """What the documents name as tests/FILE::NAME is a test that pytest collects."""
    named = set(re.findall(TEST_NAME, WRITTEN))
    assert len(named) > 30
    for file, name in named:
        text = (ROOT / file).read_text()
        form = rf"^(async )?def {name}\(" if name.startswith("test_") else rf"^{name} = \w+\.TestCase$"
        assert re.search(form, text, flags=re.MULTILINE), f"{file}::{name}"


def test_every_target_of_make_exists() -> None:
    """Whatever the documents say of make, the Makefile has."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", WRITTEN, flags=re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_the_exit_codes_are_all_there() -> None:
    """The page of the command line lists each exit code once."""
    assert [int(row[0]) for row in table("Exit code", PAGES["docs/command-line.md"])] == sorted(ExitCode)


def test_the_reasons_are_those_of_the_one_table() -> None:
    """The page of errors has a row for each reason, with its code."""
    told = {(row[0], row[1]) for row in table("Code", PAGES["docs/errors.md"])}
    assert told == {(code.name, reason) for code, reason in TABLE.values()}


def test_every_state_and_every_native_value_has_its_place() -> None:
    """Each state has a row, and each published native value stands in the row of its state."""
    rows = {row[0]: " | ".join(row) for row in table("State", PAGES["docs/states.md"])}
    assert list(rows) == [state.name for state in State]
    published = {**media_intelligence.STATES, **omn.IMPORT_STATES, "marked for deletion": State.DELETING}
    for native, state in published.items():
        assert f"`{native}`" in rows[state.name], native
    for status, *_, state in usd_search.READING:
        assert f"`{status}`" in rows[state.name], (status, state)


def test_the_limits_have_the_defaults_that_are_told() -> None:
    """Each setting of the table of limits exists, and has that default."""
    groups: dict[str, type[BaseModel]] = {
        "server": schema.ServerSettings,
        "store": schema.StoreSettings,
        "a source's": schema.SourceSettings,
    }
    checked = 0
    for name, default, _ in table("Setting", PAGES["docs/limits.md"]):
        path = re.fullmatch(r"(?:(a source's) )?`(?:(\w+)\.)?(\w+)`", name)
        if path and (path[1] or path[2]):
            fields = groups[path[1] or path[2]].model_fields
            assert fields[path[3]].default == float(default), name
            checked += 1
    assert checked > 10


@pytest.mark.parametrize("text", blocks("yaml", WRITTEN))
def test_every_configuration_of_the_documents_is_valid(text: str, tmp_path: Path) -> None:
    """A block of YAML is a configuration that can be used, once its token files exist."""
    tokens = dict.fromkeys(re.findall(r"/run/secrets/\w+", text), str(tmp_path / "token"))
    (tmp_path / "token").write_text("made-up")
    for name, file in tokens.items():
        text = text.replace(name, file)
    (tmp_path / "assetwatch.yaml").write_text(text)
    settings = load(tmp_path / "assetwatch.yaml", env={})
    assert set(settings.sources) == set(yaml.safe_load(text)["sources"])


def test_there_is_a_configuration_of_each_kind() -> None:
    """The page of configuration shows all five."""
    kinds = set(
        re.findall(r"^ +kind: (\w+)$", "\n".join(blocks("yaml", PAGES["docs/configuration.md"])), flags=re.MULTILINE)
    )
    assert kinds == {"usd_search", "omn", "pieces", "media_intelligence", "oracle_sbc"}


def test_the_map_names_what_is_there() -> None:
    """Each file and type of the code map exists, and every module stands in the map."""
    rows = table("Where", PAGES["ARCHITECTURE.md"])
    named = [name for row in rows for name in re.findall(r"`([\w./]+)`", row[0])]
    for name in named:
        assert any((ROOT / "src" / folder / name).exists() for folder in ("assetwatchd", ".")), name
    for row in rows:
        for name in re.findall(r"`(\w+)`", row[1]):
            assert re.search(rf"^(class {name}\b|{name}(: [^=]+)? = )", SOURCE, flags=re.MULTILINE), name
    modules = {path.name + "/" * path.is_dir() for path in (ROOT / "src/assetwatchd").iterdir()}
    unnamed = modules - {*named, "__init__.py", "__main__.py", "__pycache__/", "py.typed"}
    assert {name for name in unnamed if not name.startswith("config_")} == set()


def test_the_constants_of_the_page_of_limits_exist() -> None:
    """What docs/limits.md names like a constant is one of the source's, or of the kernel's."""
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", PAGES["docs/limits.md"])) - {"NAME", "RLIMIT_DATA"}
    assert len(named) > 10
    assert {name for name in named if not re.search(rf"^{name}\b.* = ", SOURCE, flags=re.MULTILINE)} == set()


def test_every_metric_has_its_row() -> None:
    """The table of metrics is what the program makes, in words that begin as its own do."""
    text = (ROOT / "src/assetwatchd/runtime/telemetry.py").read_text()
    names = dict(re.findall(r'^([A-Z_]+) = "([a-z_.]+)"$', text, flags=re.MULTILINE))
    made = re.findall(r'(?:create_\w+\(|_seconds\(meter, )([A-Z_]+), (?:"[^"]*", )?"([^"]+)"', text)
    assert len(made) > 5
    told = {row[0].strip("`"): row[2].lower() for row in table("Metric", PAGES["docs/observing.md"])}
    assert told == {names[constant]: means.lower() for constant, means in made}


def test_the_page_of_performance_tells_the_latest_results() -> None:
    """Its figures, date and machine are those of bench/RESULTS.md."""
    page, results = PAGES["docs/performance.md"], (ROOT / "bench/RESULTS.md").read_text()
    when = re.search(r"^- when: (\S+)", results, flags=re.MULTILINE)
    machine = re.search(r"^- machine: (.*?), \d+ GiB", results, flags=re.MULTILINE)
    rate = re.search(r"^\| assetwatch 1,000 x 2,000/s \| ([\d,]+)/s", results, flags=re.MULTILINE)
    times = re.findall(r"^\| times etcd's changes/s at 1,000 x 2,000/s, .*? \| ([\d.]+) x", results, flags=re.MULTILINE)
    assert when
    assert machine
    assert rate
    flat = " ".join(page.split())
    millions = f"{int(rate[1].replace(',', '')) / 1e6:.2f} million"
    assert [
        text for text in (when[1], machine[1], millions, *(f"{each} times" for each in times)) if text not in flat
    ] == []


def test_the_changelog_has_the_version() -> None:
    """Its newest part is what is not released yet, or the version of the package, under the headings of the format."""
    heads = re.findall(r"^## \[(.*?)\]", PAGES["CHANGELOG.md"], flags=re.MULTILINE)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert heads[0] in {"Unreleased", version}
    kinds = set(re.findall(r"^### (.*)$", PAGES["CHANGELOG.md"], flags=re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_whatever_is_named_like_a_limit_exists() -> None:
    """On every page: what is named as limits are is a constant of the source's."""
    named = set(re.findall(r"`([A-Z][A-Z_]*_(?:S|MAX|BYTES|TIMES))`", WRITTEN))
    assert len(named) > 40
    assert {name for name in named if not re.search(rf"^{name}\b.* = ", SOURCE, flags=re.MULTILINE)} == set()


UNITS = {"": 1.0, "ms": 0.001, "s": 1, "minutes": 60, "h": 3600, "bytes": 1, "KiB": 2**10, "MiB": 2**20}
VALUE = rf"(?<![\d.,])(\d[\d,.]*\d|\d)(?: ({'|'.join(filter(None, UNITS))})\b)?"


def values_beside(name: str, text: str = WRITTEN) -> list[tuple[str, float]]:
    """Return what stands beside a name, as `NAME` = 10 s, `NAME` (16 KiB), or 1,024 characters (`NAME`)."""
    after = re.findall(rf"`({name})`(?: = | \(){VALUE}", text)
    before = [(found[2], *found[:2]) for found in re.findall(rf"{VALUE}(?: [a-z]+){{0,3}} \(`({name})`\)", text)]
    return [(found, float(number.replace(",", "")) * UNITS[unit]) for found, number, unit in after + before]


def test_a_value_beside_the_name_of_a_constant_is_its() -> None:
    """On every page: what stands beside the name of a constant is what the source says."""
    there: dict[str, set[float]] = {}
    for each in constants():
        there.setdefault(each.name, set()).add(each.value)
    told = values_beside("[A-Z][A-Z0-9_]+")
    assert len(told) > 60
    assert [(name, value) for name, value in told if value not in there.get(name, ())] == []


def test_a_value_beside_the_name_of_a_setting_is_its_default() -> None:
    """The same for `server.NAME`, `store.NAME`, and for what is a setting of a source, of whichever kind."""
    groups: dict[str, list[type[BaseModel]]] = {
        "server.": [schema.ServerSettings],
        "store.": [schema.StoreSettings],
        "": [schema.SourceSettings, *get_args(get_args(schema.AnySource)[0])],
    }
    checked = 0
    for group, models in groups.items():
        defaults: dict[str, list[Any]] = {}
        for name, field in (item for model in models for item in model.model_fields.items()):
            defaults.setdefault(name, []).append(field.default)
        for name, value in values_beside(rf"{re.escape(group)}[a-z_]+"):
            setting = name.removeprefix(group)
            if setting in defaults:
                checked += 1
                assert value in defaults[setting], name
    assert checked > 8


def test_the_limits_of_single_calls_are_those_of_the_schema() -> None:
    """The table of them has what the rules in proto/ say, and what the service takes as a page."""
    told = {row[0].strip("`"): row[1] for row in table("Call", PAGES["docs/limits.md"])}
    assert told["WatchStatus"] == (
        f"{rules(pb.WatchStatusRequest, 'assets').repeated.max_items:,} assets,"
        f" {rules(pb.WatchStatusRequest, 'sources').repeated.max_items} sources"
    )
    batch = rules(pb.BatchGetAssetStatusesRequest, "assets").repeated.max_items
    assert told["BatchGetAssetStatuses"] == f"{batch:,} assets"
    assert told["ListAssetStatuses"] == f"{PAGE_SIZE_MAX:,} a page"
    longest = rules(pb.WaitAssetStatusRequest, "timeout").duration.lte.seconds
    assert told["WaitAssetStatus"] == f"{longest // 3600} h"


def rules(message: type[Message], field: str) -> validate_pb2.FieldRules:
    """Return the rules of a field of the schema."""
    found: validate_pb2.FieldRules = (
        message.DESCRIPTOR.fields_by_name[field].GetOptions().Extensions[validate_pb2.field]
    )
    return found


def test_the_ports_and_versions_of_pieces_os_are_those_that_are_told() -> None:
    """Where it is looked for, and which versions are taken."""
    first, last, *others = PORTS[0], PORTS[-3], *PORTS[-2:]
    page = " ".join(PAGES["docs/configuration.md"].split())
    assert tuple(range(first, last + 1)) + tuple(others) == PORTS
    assert f"({first} to {last}, {others[0]}, {others[1]})" in page
    oldest, beyond = (f"{version[0]}.{version[1]}" for version in SUPPORTED)
    assert f"below {oldest}, or from {beyond} on" in page


def test_the_memory_that_answers_may_take_is_added_up() -> None:
    """The page of limits has the sums for a source with the defaults, and for a Pieces OS."""
    told = table("What", PAGES["docs/limits.md"].split("These add up", 1)[1])
    for column, model in ((2, schema.SourceSettings), (3, schema.PiecesSource)):
        body = model.model_fields["body_bytes_max"].default
        coming = (model.model_fields["concurrency"].default + descriptors.BESIDE) * body
        reading = reader.MEMORY_BYTES + reader.MEMORY_TIMES * body
        assert [row[column] for row in told] == [f"{size // 2**20} MiB" for size in (coming, reading)]


KINDS: dict[str, type[BaseModel]] = {
    "USD Search": schema.UsdSearchSource,
    "OMN": schema.OmnSource,
    "Pieces OS": schema.PiecesSource,
    "Media Intelligence": schema.MediaIntelligenceSource,
    "Oracle SBC": schema.OracleSbcSource,
}


def test_the_kinds_with_other_defaults_are_named() -> None:
    """A row of the table of limits has in brackets each kind whose default is another, and that default."""
    rows = table("Setting", PAGES["docs/limits.md"])
    settings = {row[0].split("`")[1]: row[2] for row in rows if row[0].startswith("a source's")}
    for setting, text in settings.items():
        usual = schema.SourceSettings.model_fields[setting].default
        own = {kind: model.model_fields[setting].default for kind, model in KINDS.items()}
        told = {
            kind: float(part.rsplit(" ", 1)[1])
            for part in re.findall(r"[A-Z][A-Za-z, ]+ \d+", " ".join(re.findall(r"\((.*?)\)", text)))
            for kind in re.findall("|".join(KINDS), part)
        }
        assert told == {kind: value for kind, value in own.items() if value != usual}, setting
