"""What is in deploy/ and examples/ can be used as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from assetwatchd.cli.commands import WAIT_MAX_S
from assetwatchd.rpc.health import SERVICES
from assetwatchd.rpc.names import ASSET_STATUS
from assetwatchd.rpc.receiving import METADATA_BYTES_MAX
from assetwatchd.settings.load import load
from assetwatchd.settings.schema import ServerSettings

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy/kubernetes"
SECRETS = {
    "usd-prod": ["auth__token"],
    "dam": ["auth__token"],
    "media": ["secret_key"],
    "sbc-east": ["password"],
}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A directory with a made-up secret for every source of the examples."""
    for source, names in SECRETS.items():
        for name in names:
            (tmp_path / f"sources__{source}__{name}").write_text("made-up")
    return tmp_path


def test_the_example_has_a_source_of_each_kind(secrets: Path) -> None:
    """examples/assetwatch.yaml is valid once its secrets are there, and shows all five kinds."""
    settings = load(ROOT / "examples/assetwatch.yaml", env={}, secrets_dir=secrets)
    kinds = {source.kind for source in settings.sources.values()}
    assert kinds == {"usd_search", "omn", "pieces", "media_intelligence", "oracle_sbc"}


@pytest.mark.parametrize("file", ["deploy/assetwatch.yaml", "deploy/kubernetes/assetwatch.yaml"])
def test_the_deployed_configuration_is_valid(file: str, tmp_path: Path) -> None:
    """It holds with the one secret that the deployment mounts, and listens where a container is reached."""
    (tmp_path / "sources__dam__auth__token").write_text("made-up")
    settings = load(ROOT / file, env={}, secrets_dir=tmp_path)
    assert settings.server.listen == "0.0.0.0:50051"


def test_the_proxy_fits_what_is_behind_it() -> None:
    """It passes on the metadata that are refused with a reason, waits as long for requests, and no less for streams."""
    told = yaml.safe_load((ROOT / "deploy/envoy.yaml").read_text())["static_resources"]
    manager = told["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    settings = ServerSettings()
    assert manager["max_request_headers_kb"] * 1024 > METADATA_BYTES_MAX
    assert manager["request_timeout"] == f"{settings.request_s:g}s"
    assert float(manager["stream_idle_timeout"].rstrip("s")) > 3 * settings.heartbeat_s
    wait, others = manager["route_config"]["virtual_hosts"][0]["routes"]
    assert wait["match"]["path"] == f"/{ASSET_STATUS.full_name}/WaitAssetStatus"
    assert float(wait["route"].pop("idle_timeout").rstrip("s")) > WAIT_MAX_S
    assert wait["route"] == others["route"]
    endpoint = told["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    where = endpoint["address"]["socket_address"]
    assert f"{where['address']}:{where['port_value']}" == settings.listen


def manifest(name: str) -> Any:
    """Read one manifest."""
    return yaml.safe_load((MANIFESTS / name).read_text())


@pytest.mark.parametrize("file", ["deployment.yaml", "service.yaml", "volume.yaml"])
def test_the_manifests_are_kubernetes(file: str) -> None:
    """Each manifest has the published form, and no name Kubernetes does not know."""
    kubernetes_validate.validate(manifest(file), "1.34", strict=True)


def test_the_kustomization_names_files_that_are_there() -> None:
    """Every file that kustomize is told to take exists."""
    kustomization = manifest("kustomization.yaml")
    named = [
        *kustomization["resources"],
        *(file for made in kustomization["configMapGenerator"] for file in made["files"]),
    ]
    assert all((MANIFESTS / file).is_file() for file in named)


def test_no_probe_asks_an_upstream() -> None:
    """The probes ask for names that serve whenever the process does, so that no pod restarts for a source."""
    container = manifest("deployment.yaml")["spec"]["template"]["spec"]["containers"][0]
    probes = {name: container[f"{name}Probe"]["grpc"] for name in ("startup", "readiness", "liveness")}
    assert {probe["service"] for probe in probes.values()} <= set(SERVICES)
    assert probes["liveness"]["service"] == ""


def test_there_is_time_to_drain() -> None:
    """Kubernetes and compose wait longer for the end than the server lets its calls run."""
    env = {"ASSETWATCH__SOURCES__DAM__AUTH__TOKEN": "made-up"}
    drain_s = load(MANIFESTS / "assetwatch.yaml", env=env).server.drain_s
    assert manifest("deployment.yaml")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > drain_s
    service = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["assetwatch"]
    drain_s = load(ROOT / "deploy/assetwatch.yaml", env=env).server.drain_s
    assert float(service["stop_grace_period"].removesuffix("s")) > drain_s


def test_the_node_example_is_pinned() -> None:
    """Every package of the example has one exact version, and the lock file names no registry."""
    package = json.loads((ROOT / "examples/node/package.json").read_text())
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in package["dependencies"].values())
    assert "resolved" not in (ROOT / "examples/node/package-lock.json").read_text()
