"""The floors of pyproject.toml are true: with the lowest versions that it allows, everything that can be set works."""

from __future__ import annotations

import json
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from packaging.requirements import Requirement

from assetwatch_sandbox.media_intelligence.gateway import CREDENTIALS as MEDIA
from assetwatch_sandbox.omn.switches import CREDENTIALS as OMN
from assetwatch_sandbox.omn.tokens import DISCOVERY_PATH
from assetwatch_sandbox.oracle_sbc.sessions import ADMIN
from assetwatch_sandbox.usd_search.switches import CREDENTIALS as USD_SEARCH
from assetwatchd.settings.schema import Settings
from support.installed import ROOT, Installed, build, metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from assetwatch_sandbox.etcd import Cluster

SBC = {"username": ADMIN.name, "password": ADMIN.password}
ORDER = ("usd-search", "omn", "pieces", "media-intelligence", "oracle-sbc")
AUTH: Mapping[str, Sequence[dict[str, str]]] = {
    "usd_search": (
        {"kind": "basic", "username": USD_SEARCH["username"], "password": USD_SEARCH["password"]},
        {"kind": "bearer", "token": USD_SEARCH["token"]},
        {"kind": "api_key", "key": USD_SEARCH["api_key"]},
    ),
    "omn": (
        {"kind": "bearer", "token": OMN["token"]},
        {
            "kind": "signed_jwt",
            "secret": OMN["jwt_secret"],
            "key_id": OMN["jwt_kid"],
            "mandator": "sandbox",
            "subject": "assetwatch",
        },
    ),
}
"""Each way to show who we are that there is, but for the one of OMN 6, whose stand-in admits no token of OMN 5."""

pytestmark = pytest.mark.timeout(300)  # environments are made over the network


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the checkout."""
    return build("wheel", ROOT, tmp_path_factory.mktemp("built") / "dist")


@pytest.fixture(scope="module")
def floors(wheel: Path) -> dict[str, str]:
    """The lowest version of each requirement of the wheel and of its extra."""
    needed = map(Requirement, metadata(wheel).get_all("Requires-Dist", []))
    lowest = {needs.name: [bound.version for bound in needs.specifier if bound.operator == ">="] for needs in needed}
    assert [name for name, versions in lowest.items() if len(versions) != 1] == []
    return {name: versions[0] for name, versions in lowest.items()}


@pytest.fixture(scope="module")
def lowest(tmp_path_factory: pytest.TempPathFactory, wheel: Path, floors: dict[str, str]) -> Installed:
    """An environment with the wheel, its extra, and of each requirement the lowest version that is allowed."""
    installed = Installed(tmp_path_factory.mktemp("lowest"))
    installed.install(*(f"{name}=={version}" for name, version in floors.items()), f"{wheel}[otlp]")
    return installed


def standins(stack: ExitStack, installed: Installed, name: str) -> dict[str, str]:
    """Start the stand-ins; return where each of them is, and where they are scripted."""
    lines = stack.enter_context(installed.running(name, "sandbox", "--assets", "4", "--speed", "0"))
    return {name: lines.next(rf"^{name} +(\S+)")[1] for name in ("control", *ORDER)}


def switch(control: str, source: str, **switches: object) -> None:
    """Change how a stand-in behaves."""
    url = f"{control}/sources/{source}/switches"
    request = urllib.request.Request(url, data=json.dumps(switches).encode(), method="PATCH")  # noqa: S310 - loopback
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - same


def sources(urls: Mapping[str, str], omn_6: str) -> dict[str, Any]:
    """Return a source of each kind, and one of each way to show who we are."""
    of_kind = {name.replace("-", "_"): urls[name] for name in ORDER}
    made: dict[str, Any] = {
        f"{kind}-{auth['kind']}".replace("_", "-"): {"kind": kind, "base_url": of_kind[kind], "auth": auth}
        for kind, ways in AUTH.items()
        for auth in ways
    }
    refresh = {
        "kind": "refresh_token",
        "refresh_token": OMN["offline_token"],
        "discovery_url": f"{omn_6}{DISCOVERY_PATH}",
    }
    made["omn-6"] = {"kind": "omn", "base_url": omn_6, "auth": refresh}
    made["pieces"] = {"kind": "pieces", "base_url": of_kind["pieces"]}
    made["media"] = {"kind": "media_intelligence", "base_url": of_kind["media_intelligence"], **MEDIA}
    made["media"]["proxy"] = {"kind": "http", "url": "http://127.0.0.1:9", "no_proxy": ["*"]}
    made["pieces"]["proxy"] = {"kind": "direct"}
    made["sbc"] = {"kind": "oracle_sbc", "base_url": of_kind["oracle_sbc"], "pins": ["last-operation"], **SBC}
    return made


def kinds_in(schema: object) -> set[str]:
    """Return every value that a `kind` may have, at any depth of a JSON schema."""
    if isinstance(schema, list):
        return set().union(*map(kinds_in, schema))
    if not isinstance(schema, dict):
        return set()
    own = {schema["kind"]["const"]} if isinstance(schema.get("kind"), dict) and "const" in schema["kind"] else set()
    return own.union(*map(kinds_in, schema.values()))


def kinds_of(made: object) -> set[str]:
    """Return every `kind` that a configuration has, at any depth."""
    if not isinstance(made, dict):
        return set()
    return (
        {made["kind"]}.union(*map(kinds_of, made.values()))
        if "kind" in made
        else set().union(*map(kinds_of, made.values()))
    )


def test_the_lowest_aiohttp_has_what_is_used_of_its_inside(lowest: Installed) -> None:
    """An answer that is costly to take in does not come by itself, and nothing else needs all of it."""
    lowest.run("python", ROOT / "tests/support/inside_aiohttp.py")


def test_etcd_is_asked_with_the_lowest_versions(lowest: Installed, etcd: Cluster, tmp_path: Path) -> None:
    """Whether it is fit, which takes calls, transactions, a watch and a lease."""
    (tmp_path / "token").write_text("made-up-" * 2)
    store = {"kind": "etcd", "endpoints": list(etcd.endpoints), "peer_token_file": str(tmp_path / "token")}
    path = tmp_path / "assetwatch.yaml"
    path.write_text(yaml.safe_dump({"store": store}))
    assert "ok: " in lowest.run("assetwatch", "doctor", "--config", path)


def test_everything_works_with_the_lowest_versions(lowest: Installed, tmp_path: Path) -> None:
    """Checked, served and watched: each kind, each way to show who we are, and the export of telemetry."""
    lowest.check()
    with ExitStack() as stack:
        urls, others = (standins(stack, lowest, "assetwatch") for _ in range(2))
        switch(others["control"], "omn", release="6.0")
        configured = sources(urls, others["omn"])
        told = {
            "server": {"listen": "127.0.0.1:0", "drain_s": 1},
            "store": {"kind": "sqlite", "path": str(tmp_path / "store.sqlite")},
            "telemetry": {"otlp_endpoint": "http://127.0.0.1:1"},
            "proxy": {"kind": "environment"},
            "sources": configured,
        }
        assert kinds_of(told) | {"memory", "etcd"} == kinds_in(Settings.model_json_schema())
        path = tmp_path / "assetwatch.yaml"
        path.write_text(yaml.safe_dump(told))
        lowest.run("assetwatch", "config", "check", "--config", path)
        server = stack.enter_context(lowest.running("assetwatch", "serve", "--config", path))
        address = server.next(r"assetwatch is ready on (\S+)")[1]
        watch = stack.enter_context(lowest.running("assetwatch", "watch", "--server", address))
        watch.next('"synced"')
        waiting = set(configured)
        while waiting:
            listed = json.loads(lowest.run("assetwatch", "sources", "--server", address, "-o", "json"))["sources"]
            waiting = {
                source["name"] for source in listed if source["condition"]["state"] != "SOURCE_CONDITION_STATE_HEALTHY"
            }
