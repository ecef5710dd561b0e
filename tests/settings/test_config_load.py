from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from assetwatchd.cli.terminal import as_yaml
from assetwatchd.model.errors import ConfigError
from assetwatchd.settings.load import load, plain, schema
from assetwatchd.settings.schema import BearerAuth, OmnSource, UsdSearchSource
from support import json_schema

if TYPE_CHECKING:
    from assetwatchd.settings.schema import AnySource, Settings

pytestmark = pytest.mark.unit

EXAMPLE = Path(__file__).parents[2] / "examples" / "assetwatch.yaml"
SECRET = "hunter2-must-not-be-seen"
SECRETS = {
    "sources__usd-prod__auth__token": f"{SECRET}-1\n",
    "sources__dam__auth__token": f"{SECRET}-2",
    "sources__media__secret_key": f"{SECRET}-3",
    "sources__sbc-east__password": f"{SECRET}-4",
}
DAM = """
sources:
  dam:
    kind: omn
    base_url: https://omn.example.com
    auth: {kind: bearer, token: from-file}
"""


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Return a directory with the secrets of the example."""
    directory = tmp_path / "secrets"
    directory.mkdir()
    for name, text in SECRETS.items():
        (directory / name).write_text(text)
    return directory


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "assetwatch.yaml"
    path.write_text(text)
    return path


def refused(path: Path | None, **given: Any) -> list[str]:
    """Return the lines of the error."""
    with pytest.raises(ConfigError) as caught:
        load(path, **{"env": {}, **given})
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value).splitlines()


def token(path: Path, env: dict[str, str] | None = None, secrets_dir: Path | None = None) -> str:
    """Return the token of the source dam that is in effect."""
    return token_of(load(path, env=env or {}, secrets_dir=secrets_dir).sources["dam"])


def token_of(source: AnySource) -> str:
    """Return the token of a source that has one."""
    assert isinstance(source, UsdSearchSource | OmnSource)
    assert isinstance(source.auth, BearerAuth)
    assert source.auth.token is not None
    return source.auth.token.get_secret_value()


def test_nothing_given_is_the_defaults() -> None:
    """Without a file and without variables, every setting has its default."""
    settings = load(None, env={})
    assert settings.server.listen == "127.0.0.1:50051"
    assert settings.sources == {}


def test_the_example_with_its_secrets(secrets: Path) -> None:
    """The example has a source of each of the five kinds; its secrets come from files, stripped."""
    settings = load(EXAMPLE, env={}, secrets_dir=secrets)
    kinds = {source.kind for source in settings.sources.values()}
    assert kinds == {"usd_search", "omn", "pieces", "media_intelligence", "oracle_sbc"}
    assert token_of(settings.sources["usd-prod"]) == f"{SECRET}-1"
    dam = settings.sources["dam"]
    assert isinstance(dam, OmnSource)
    assert dam.query == {"modifiedFrom": "2024-01-01T00:00:00.000Z"}


def test_the_example_without_its_secrets_names_each() -> None:
    """What is missing is named, all of it, each on a line."""
    assert refused(EXAMPLE) == [
        "sources.usd-prod.auth: give either token or token_file",
        "sources.dam.auth: give either token or token_file",
        "sources.media.secret_key: missing",
        "sources.sbc-east.password: missing",
    ]


def test_file_below_secret_files_below_environment_below_flags(tmp_path: Path) -> None:
    """Each layer goes over the one before it."""
    path = written(tmp_path, DAM + "server: {listen: 'file:1', drain_s: 7}")
    directory = tmp_path / "s"
    directory.mkdir()
    (directory / "sources__dam__auth__token").write_text("from-secret\n")
    env = {"ASSETWATCH__SOURCES__DAM__AUTH__TOKEN": "from-env"}
    assert token(path) == "from-file"
    assert token(path, secrets_dir=directory) == "from-secret"
    assert token(path, {"ASSETWATCH_SECRETS_DIR": str(directory)}) == "from-secret"
    assert token(path, env, directory) == "from-env"
    variables = {"ASSETWATCH__SERVER__LISTEN": "env:1"}
    assert load(path, env=variables).server.listen == "env:1"
    flagged = load(path, env=variables, overrides={"server.listen": "flag:1", "server.drain_s": None})
    assert (flagged.server.listen, flagged.server.drain_s) == ("flag:1", 7)


def test_a_source_from_the_environment_alone() -> None:
    """A variable names a source with underscores for hyphens; lists and mappings are JSON."""
    env = {
        "ASSETWATCH__SOURCES__USD_PROD__KIND": "usd_search",
        "ASSETWATCH__SOURCES__USD_PROD__BASE_URL": "https://usd.example.com",
        "ASSETWATCH__SOURCES__USD_PROD__PINS": '["s3://b/x.usd", "s3://b/y.usd"]',
        "ASSETWATCH__SOURCES__USD_PROD__ASSET_METADATA": "false",
        "ASSETWATCH__SOURCES__USD_PROD__CONCURRENCY": "3",
        "ASSETWATCH__SERVER": '{"heartbeat_s": 2}',
        "ASSETWATCH_SERVER": "the command line's own",
        "OTHER__THING": "not ours",
    }
    settings = load(None, env=env)
    source = settings.sources["usd-prod"]
    assert isinstance(source, UsdSearchSource)
    assert source.pins == ("s3://b/x.usd", "s3://b/y.usd")
    assert (source.concurrency, source.asset_metadata) == (3, False)
    assert settings.server.heartbeat_s == 2


def test_unknown_names_are_refused_with_the_nearest_right_one(tmp_path: Path) -> None:
    """An unknown name anywhere, from wherever, is told with its path, the nearest right name and where it came from."""
    path = written(
        tmp_path,
        """
telmetry: {}
server: {lisen: x}
zzz: 1
sources:
  dam:
    kind: omn
    base_url: https://omn.example.com
    auth: {kind: bearer, tokn: x, token: y}
  usd-prod: {kind: usd_serch, base_url: "https://x"}
  omn: {kind: omn, base_url: "https://x", auth: {kind: baerer}}
""",
    )
    env = {"ASSETWATCH__SEVER__LISTEN": "x", "ASSETWATCH__SOURCES__DAM__AUTH__TOEKN": "x"}
    assert set(refused(path, env=env, overrides={"server.drain": 1})) == {
        "telmetry: unknown name; did you mean telemetry?",
        "server.lisen: unknown name; did you mean listen?",
        "zzz: unknown name; there are server, store, telemetry, proxy, sources",
        "sources.dam.auth.tokn: unknown name; did you mean token?",
        "sources.usd-prod.kind: unknown kind; did you mean usd_search?",
        "sources.omn.auth.kind: unknown kind; did you mean bearer?",
        "sever: unknown name; did you mean server? (from ASSETWATCH__SEVER__LISTEN)",
        "sources.dam.auth.toekn: unknown name; did you mean token? (from ASSETWATCH__SOURCES__DAM__AUTH__TOEKN)",
        "server.drain: unknown name; did you mean drain_s? (from flag for server.drain)",
    }


NAMES = st.from_regex(r"[a-z0-9]+(-[a-z0-9]+){0,4}", fullmatch=True)
FIELDS = st.lists(
    st.sampled_from(["auth", "token", "secret_key", "password", "base_url", "pins", "gone"]), min_size=1, max_size=3
)


@given(gone=st.dictionaries(NAMES, FIELDS, min_size=1, max_size=4), as_files=st.booleans())
def test_what_is_left_over_of_a_source_is_a_warning(*, gone: dict[str, list[str]], as_files: bool) -> None:
    """A secret file or a variable of a source that there is not is named, without its value, and stops no start."""
    gone.pop("dam", None)
    names = {
        "__".join(["sources", name if as_files else name.replace("-", "_"), *fields]) for name, fields in gone.items()
    }
    variables = {} if as_files else {f"ASSETWATCH__{name.upper()}": SECRET for name in names}
    with tempfile.TemporaryDirectory() as folder:
        path, secrets, warnings = written(Path(folder), DAM), Path(folder, "secrets"), list[str]()
        secrets.mkdir()
        for name in names if as_files else ():
            (secrets / name).write_text(SECRET)
        settings = load(path, env=variables, secrets_dir=secrets, warn=warnings.append)
        left_out = {text.partition(" is left out")[0] for text in warnings}
        assert left_out == ({f"secret file {secrets / name}" for name in names} if as_files else set(variables))
    assert list(settings.sources) == ["dam"]
    assert SECRET not in "".join(warnings)


def test_a_leftover_says_which_source_it_may_be_meant_for(tmp_path: Path) -> None:
    """A name that is only misspelt; and a source that variables alone make is none of these."""
    warnings: list[str] = []
    env = {
        "ASSETWATCH__SOURCES__DAMM__AUTH__TOKEN": "x",
        "ASSETWATCH__SOURCES__DESK__KIND": "pieces",
        "ASSETWATCH__SOURCES__DESK__BASE_URL": "http://127.0.0.1:9",
    }
    settings = load(written(tmp_path, DAM), env=env, warn=warnings.append)
    assert sorted(settings.sources) == ["dam", "desk"]
    assert warnings == [
        "ASSETWATCH__SOURCES__DAMM__AUTH__TOKEN is left out: no source is named damm; did you mean dam?"
    ]


def test_what_is_told_of_the_rest_comes_with_what_is_wrong_by_itself(tmp_path: Path) -> None:
    """A source that is wrong hides nothing of another; nothing is told twice of one place."""
    path = written(tmp_path, DAM + "  desk: {kind: pieces}\nserver: {drain_s: x, tls_cert_file: /none}")

    def also(settings: Settings) -> list[str]:
        return [*(f"sources.{name}.pins: wrong" for name in settings.sources), "server: wrong", "store.path: wrong"]

    assert refused(path, also=also) == [
        "server.tls_cert_file: there is no such file",
        "server.drain_s: should be a valid number, unable to parse string as a number",
        "sources.desk.base_url: missing",
        "sources.dam.pins: wrong",
        "store.path: wrong",
    ]
    told = refused(
        written(tmp_path, DAM.replace("token:", "token_file:")), also=lambda _: ["sources.dam.auth.token_file: gone"]
    )
    assert told == ["sources.dam.auth.token_file: there is no such file"]


WORDS = st.sampled_from(["server", "sources", "store", "telemetry", "kind", "auth", "pins", "base_url", "dam", "omn"])
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1, 3), WORDS),
    lambda held: st.one_of(st.lists(held, max_size=3), st.dictionaries(st.one_of(WORDS, st.integers(0, 3)), held)),
    max_leaves=20,
)


@given(ANYTHING, st.dictionaries(st.lists(WORDS, min_size=1, max_size=4).map(tuple), ANYTHING, max_size=4))
def test_whatever_is_given_is_told_what_is_wrong_with_it(
    held: object, variables: dict[tuple[str, ...], object]
) -> None:
    """Settings or ConfigError, whatever shapes file and variables have, and also asked what is valid among them."""
    env = {"__".join(["ASSETWATCH", *path]).upper(): json.dumps(value) for path, value in variables.items()}
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ConfigError):
        load(
            written(Path(folder), yaml.safe_dump(held)),
            env=env,
            also=lambda settings: [f"sources.{name}.pins: wrong" for name in settings.sources],
            warn=lambda _text: None,
        )


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """Whoever asks: the first byte of this one is an error for root too."""
    path = written(tmp_path, DAM.replace("token: from-file", "token_file: /proc/self/mem"))
    assert refused(path) == ["sources.dam.auth.token_file: it cannot be read: Input/output error"]


def test_every_problem_at_once_and_no_value(tmp_path: Path, secrets: Path) -> None:
    """All problems are told in one error, and none of the lines holds anything that was given as a value."""
    (secrets / "sources__dam__auth__toekn").write_text(SECRET)
    path = written(
        tmp_path,
        f"""
server: {{drain_s: {SECRET}, streams_max: 0, tls_cert_file: /{SECRET}}}
telemetry: {{log_level: {SECRET}, otlp_endpoint: {SECRET}}}
sources:
  Bad_Name: {{kind: pieces, base_url: "https://{SECRET}:{SECRET}@"}}
  usd-prod: {{kind: {SECRET}, base_url: x}}
  dam: {{kind: omn, base_url: "https://x", auth: {{kind: {SECRET}}}}}
  media: {{kind: media_intelligence, access_key: [{SECRET}], pins: {SECRET}, page_size: {SECRET}}}
  sbc-east: {{kind: oracle_sbc, base_url: "http://x", username: 1234, version: {SECRET}}}
""",
    )
    env = {"ASSETWATCH__SOURCES__MEDIA__PROJECTS": f"[{SECRET}", "ASSETWATCH__SOURCES__DAM__QUERY__A": SECRET}
    lines = refused(path, env=env, secrets_dir=secrets)
    assert SECRET not in "\n".join(lines)
    assert {line.partition(":")[0] for line in lines} == {
        "server.drain_s",
        "server.streams_max",
        "server.tls_cert_file",
        "telemetry.log_level",
        "telemetry.otlp_endpoint",
        "sources.Bad_Name",
        "sources.Bad_Name.base_url",
        "sources.usd-prod.kind",
        "sources.dam.auth.kind",
        "sources.dam.query",
        "sources.media.access_key",
        "sources.media.pins",
        "sources.media.page_size",
        "sources.media.projects",
        "sources.sbc-east.username",
        "sources.sbc-east.version",
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"server:\n  listen: [{SECRET}\n", ":3:1: not YAML"),
        (f"server:\n  listen: a: {SECRET}\n", ":2:12: not YAML: mapping values are not allowed here; put a text that"),
        (
            f"server:\n\tlisten: {SECRET}\n",
            ":2:1: not YAML: found character … that cannot start any token; indent with",
        ),
        (
            f"a: 1\nb: '{SECRET}\n\n",
            ":4:1: not YAML: found unexpected end of stream (of what begins at 2:4); close the",
        ),
        (f"a: 1\nb: *{SECRET}\n", ":2:4: not YAML: found undefined alias …; put a text"),
        (f"b: !{SECRET} x\n", ":1:4: not YAML: could not determine a constructor for the tag …"),
        ("server: {}\nstore: {}\nserver: {}\n", ":3:1: not YAML: a name is given twice; leave one of them"),
        (f"- {SECRET}\n", ": should hold names and values"),
        (f"b: !!int {SECRET}\n", ": not YAML"),
        (f"a: 1\nb: '\x00{SECRET}'\n", ":2:5: not YAML: a character that is not text; remove it"),
        ("a: &a {b: *a}\n", ": nested too deeply"),
        ("[" * 3000, ": not YAML"),
    ],
)
def test_a_file_that_is_not_yaml(tmp_path: Path, text: str, told: str) -> None:
    """What cannot be read is told with file, line and column, and without a piece of the text."""
    (line,) = refused(written(tmp_path, text))
    assert line.startswith(f"{tmp_path}/assetwatch.yaml{told}")
    assert SECRET not in line


def test_a_date_stays_the_text_it_was(tmp_path: Path) -> None:
    """A date without quotes is text, as the upstream wants it, and no other kind of value."""
    path = written(tmp_path, DAM + "    query: {modifiedFrom: 2024-01-01T00:00:00.000Z, name: [2024-01-01]}\n")
    dam = load(path, env={}).sources["dam"]
    assert isinstance(dam, OmnSource)
    assert dam.query == {
        "modifiedFrom": "2024-01-01T00:00:00.000Z",
        "name": ["2024-01-01"],
    }


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A file, a directory of secrets or a file named by a setting that does not exist is an error, never ignored."""
    absent = tmp_path / "absent"
    assert refused(absent) == [f"{absent}: there is no such file"]
    assert refused(tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]
    assert refused(None, secrets_dir=absent) == [f"{absent}: there is no such directory of secrets"]
    path = written(tmp_path, DAM.replace("token:", "token_file:"))
    assert refused(path) == ["sources.dam.auth.token_file: there is no such file"]
    (tmp_path / "latin").write_bytes(b"a: \xff")
    assert refused(tmp_path / "latin") == [f"{tmp_path / 'latin'}: not UTF-8"]


def test_secret_files_as_they_are_mounted(tmp_path: Path) -> None:
    """Links are followed, and the folders and dotted names that a mounted volume has are passed over."""
    directory = tmp_path / "mounted"
    (directory / "..2026").mkdir(parents=True)
    (directory / "..2026" / "sources__dam__auth__token").write_text("linked\n")
    (directory / "..data").symlink_to("..2026")
    (directory / ".written-by-an-editor").write_text("x")
    (directory / "sources__dam__auth__token").symlink_to("..data/sources__dam__auth__token")
    assert token(written(tmp_path, DAM), secrets_dir=directory) == "linked"


def test_a_place_given_whole_and_in_part(tmp_path: Path) -> None:
    """Variables that give a place as a whole and in part too are refused: neither could be dropped silently."""
    env = {"ASSETWATCH__SERVER": "{}", "ASSETWATCH__SERVER__LISTEN": "x:1"}
    (line,) = refused(None, env=env)
    assert line == "server.listen: given twice, as a whole and in part (from ASSETWATCH__SERVER__LISTEN)"


def test_show_masks_secrets_and_can_be_read_again(secrets: Path, tmp_path: Path) -> None:
    """What config show prints holds no secret, has every default, and is a valid configuration."""
    settings = load(EXAMPLE, env={}, secrets_dir=secrets)
    text = as_yaml(plain(settings))
    assert SECRET not in text
    assert SECRET not in repr(settings)
    shown = yaml.safe_load(text)
    assert shown["sources"]["dam"]["auth"]["token"] == "**********"
    assert shown["server"]["streams_max"] == 5000
    assert load(written(tmp_path, text), env={}).sources["media"].pins == ()


def test_url_with_a_password_is_refused(secrets: Path) -> None:
    """A URL is shown in logs and spans, so none may hold a password; the refusal does not show it."""
    env = {"ASSETWATCH__SOURCES__DESK__BASE_URL": f"http://me:{SECRET}@127.0.0.1:1"}
    with pytest.raises(ConfigError, match="holds a user name or password") as refused:
        load(EXAMPLE, env=env, secrets_dir=secrets)
    assert SECRET not in str(refused.value)


def test_schema_takes_the_example_and_refuses_what_is_wrong() -> None:
    """The JSON schema takes the example as it is, without secrets, and refuses an unknown name and a wrong kind."""
    described = schema()
    example = yaml.safe_load(EXAMPLE.read_text())
    assert list(json_schema.problems(example, described, described)) == []
    example["server"]["lisen"] = "x"
    example["sources"]["dam"]["kind"] = "omnn"
    assert list(json_schema.problems(example, described, described)) == [
        ".server.lisen: unknown",
        ".sources.dam: fits 0 of oneOf",
    ]
