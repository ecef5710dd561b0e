"""What deploys several replicas can be used as it is: compose with its own etcd, Kubernetes over one that is there."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import kubernetes_validate
import pytest
import yaml

from assetwatchd.rpc.health import ALIVE, SERVICES
from assetwatchd.runtime.stopping import CLOSING_S
from assetwatchd.settings.load import load
from assetwatchd.settings.schema import EtcdStoreSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from assetwatchd.settings.schema import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy/replicas"
MANIFESTS = ROOT / "deploy/kubernetes/replicas"
NAMES = ["assetwatch-1", "assetwatch-2", "assetwatch-3"]
MEMBERS = ["etcd-1", "etcd-2", "etcd-3"]
FILES = ("tls_ca_file", "tls_cert_file", "tls_key_file")
SCRIPT = COMPOSE / "certificates.sh"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A directory with the made-up secret of the one source."""
    (tmp_path / "sources__dam__auth__token").write_text("made-up")
    return tmp_path


def manifest(name: str) -> Any:
    """Read one manifest."""
    return yaml.safe_load((MANIFESTS / name).read_text())


def services() -> Any:
    """Return the services of compose."""
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]


def loaded(config: Path, env: Mapping[str, str], secrets: Path) -> tuple[Settings, EtcdStoreSettings]:
    """Load a configuration as a replica does, with the variables that it is given, and certificates in their place."""
    made(secrets, "any")
    files = dict(zip(FILES, made_in(secrets), strict=True))
    here = {f"ASSETWATCH__STORE__{name.upper()}": str(file) for name, file in files.items()}
    settings = load(config, env={**env, **here, "ASSETWATCH_SECRETS_DIR": str(secrets)})
    assert isinstance(settings.store, EtcdStoreSettings)
    return settings, settings.store


def places(config: Path) -> list[Path]:
    """Return where a configuration has its certificates."""
    store = yaml.safe_load(config.read_text())["store"]
    return [Path(store[name]) for name in FILES]


def seconds(text: str) -> float:
    """Read a time of compose."""
    return float(text.removesuffix("s"))


# Compose ------------------------------------------------------------------------------------------------------------


def test_compose_runs_three_replicas_over_three_members() -> None:
    """And nothing else; each starts again by itself."""
    assert sorted(services()) == sorted([*NAMES, *MEMBERS])
    assert {service["restart"] for service in services().values()} == {"unless-stopped"}


@pytest.mark.parametrize("name", NAMES)
def test_each_replica_of_compose_has_a_name_and_an_address_of_its_own(name: str, secrets: Path) -> None:
    """Others call it by its service's name; its certificate and the cluster's members are those that compose has."""
    service = services()[name]
    settings, store = loaded(COMPOSE / "assetwatch.yaml", service["environment"], secrets)
    assert (store.replica, store.peer_address) == (name, f"{name}:{store.peer_listen.rpartition(':')[2]}")
    assert store.endpoints == tuple(services()[each]["environment"]["ETCD_ADVERTISE_CLIENT_URLS"] for each in MEMBERS)
    assert seconds(service["stop_grace_period"]) > settings.server.drain_s + CLOSING_S
    mounted = {each if isinstance(each, str) else each["target"] for each in service["secrets"]}
    assert {Path("/run/secrets", each) for each in mounted} > set(places(COMPOSE / "assetwatch.yaml"))


def test_compose_publishes_no_more_than_the_service() -> None:
    """On this machine alone; replicas' own port and etcd are on a network of theirs, which nothing leaves."""
    published = [port for service in services().values() for port in service.get("ports", ())]
    assert len(set(published)) == len(NAMES)
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:50051", port) for port in published)
    assert yaml.safe_load((COMPOSE / "compose.yaml").read_text())["networks"]["engine"] == {"internal": True}
    assert all(services()[name]["networks"] == ["engine"] for name in MEMBERS)


@pytest.mark.parametrize("name", MEMBERS)
def test_each_member_of_etcd_keeps_its_part(name: str) -> None:
    """It has a volume, knows all members, and compacts its history, which would fill it else."""
    service, told = services()[name], services()[name]["environment"]
    assert service["volumes"] == [f"{name}:{told['ETCD_DATA_DIR']}"]
    assert told["ETCD_NAME"] == name
    members = dict(each.split("=") for each in told["ETCD_INITIAL_CLUSTER"].split(","))
    assert members == {each: services()[each]["environment"]["ETCD_INITIAL_ADVERTISE_PEER_URLS"] for each in MEMBERS}
    assert told["ETCD_AUTO_COMPACTION_MODE"] == "periodic"
    version = re.search(r":v(\d+)\.(\d+)", service["image"])
    assert version
    assert (int(version[1]), int(version[2])) >= (3, 6)


def test_the_files_that_compose_names_are_those_that_the_script_makes(tmp_path: Path) -> None:
    """Each secret is a file of deploy/secrets; those of replicas are what certificates.sh writes there."""
    made(tmp_path, "assetwatch-1")
    files = {secret["file"] for secret in yaml.safe_load((COMPOSE / "compose.yaml").read_text())["secrets"].values()}
    assert files == {
        "../secrets/sources__dam__auth__token",
        *(f"../secrets/peers/{path.name}" for path in made_in(tmp_path)),
    }


# Certificates -------------------------------------------------------------------------------------------------------


def made(folder: Path, *names: str) -> None:
    """Make the certificates of replicas."""
    subprocess.run(["sh", SCRIPT, folder / "peers", *names], check=True, timeout=60, capture_output=True)


def made_in(folder: Path) -> list[Path]:
    """Return what was made."""
    return sorted((folder / "peers").iterdir())


@pytest.mark.parametrize(
    ("names", "called", "taken"),
    [
        (NAMES, "assetwatch-3", True),
        (["*.assetwatch-peers.prod.svc"], "assetwatch-0.assetwatch-peers.prod.svc", True),
        (NAMES, "assetwatch-4", False),
    ],
)
async def test_replicas_know_each_other_by_the_certificates(
    names: list[str], called: str, tmp_path: Path, *, taken: bool
) -> None:
    """Whoever shows one is taken, by the name that it is called by and no other; whoever shows none is not."""
    made(tmp_path, *names)
    ca, cert, key = (path.read_bytes() for path in made_in(tmp_path))
    server = grpc.aio.server()
    shown = grpc.ssl_server_credentials([(key, cert)], root_certificates=ca, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", shown)
    await server.start()
    try:
        assert await connects(port, called, grpc.ssl_channel_credentials(ca, key, cert)) is taken
        assert not await connects(port, called, grpc.ssl_channel_credentials(ca))
    finally:
        await server.stop(0)


async def connects(port: int, name: str, credentials: grpc.ChannelCredentials) -> bool:
    """Whether a call gets to the server, which has no method at all."""
    options = [("grpc.ssl_target_name_override", name)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        call: Any = channel.unary_unary("/a/b")
        try:
            await asyncio.wait_for(call(b""), 20)
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.UNIMPLEMENTED
    return False


def test_the_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    """And the key of the authority is nowhere."""
    made(tmp_path, "assetwatch-1")
    assert [path.name for path in made_in(tmp_path)] == ["ca.crt", "tls.crt", "tls.key"]
    assert {path.stat().st_mode & 0o077 for path in made_in(tmp_path)} == {0}


# Kubernetes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["statefulset.yaml", "service.yaml", "peers.yaml", "disruption.yaml"])
def test_the_manifests_are_kubernetes(file: str) -> None:
    """Each manifest has the published form, and is one that the kustomization takes."""
    kubernetes_validate.validate(manifest(file), "1.34", strict=True)
    assert file in manifest("kustomization.yaml")["resources"]


def test_the_kustomization_names_files_that_are_there() -> None:
    """Every file that kustomize is told to take exists."""
    kustomization = manifest("kustomization.yaml")
    named = [*kustomization["resources"], *kustomization["configMapGenerator"][0]["files"]]
    assert all((MANIFESTS / file).is_file() for file in named)


def pod() -> Any:
    """Return what each pod is made by."""
    return manifest("statefulset.yaml")["spec"]["template"]


def container() -> Any:
    """Return the one container of a pod."""
    return pod()["spec"]["containers"][0]


def variables(**fields: str) -> dict[str, str]:
    """Return the variables of a pod with these fields, each put in its place as Kubernetes does."""
    found: dict[str, str] = {}
    for each in container()["env"]:
        value = each.get("value") or fields[each["valueFrom"]["fieldRef"]["fieldPath"].rpartition(".")[2]]
        found[each["name"]] = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], value)
    return found


def test_each_pod_is_called_by_the_name_that_it_has(secrets: Path) -> None:
    """By that of the headless service, for which the certificate is; the port is the one that it listens on."""
    env = variables(name="assetwatch-1", namespace="prod")
    settings, store = loaded(MANIFESTS / "assetwatch.yaml", env, secrets)
    peers = manifest("peers.yaml")
    called = f"assetwatch-1.{peers['metadata']['name']}.prod.svc"
    assert (store.replica, store.peer_address) == ("assetwatch-1", f"{called}:{peers['spec']['ports'][0]['port']}")
    assert manifest("statefulset.yaml")["spec"]["serviceName"] == peers["metadata"]["name"]
    ports = {each["name"]: each["containerPort"] for each in container()["ports"]}
    assert f"0.0.0.0:{ports['grpc']}" == settings.server.listen
    assert f"0.0.0.0:{ports['peers']}" == store.peer_listen
    assert all(endpoint.startswith("https://") for endpoint in store.endpoints)


def test_the_certificates_are_where_the_configuration_has_them() -> None:
    """Each file is a key of the secret, at the place where that is mounted."""
    mounts = {each["name"]: each["mountPath"] for each in container()["volumeMounts"]}
    wanted = [Path(mounts["peers"], name) for name in ("ca.crt", "tls.crt", "tls.key")]
    assert places(MANIFESTS / "assetwatch.yaml") == wanted
    volumes = {each["name"]: each for each in pod()["spec"]["volumes"]}
    assert set(volumes) == set(mounts)
    assert "optional" not in volumes["peers"]["secret"]


def test_a_rolling_update_has_one_replica_away_at_a_time(secrets: Path) -> None:
    """Drained in full, with nobody sent to it any more; so it is when nodes are drained."""
    spec = manifest("statefulset.yaml")["spec"]
    settings, store = loaded(MANIFESTS / "assetwatch.yaml", variables(name="a", namespace="b"), secrets)
    assert spec["updateStrategy"] == {"type": "RollingUpdate"}
    assert spec["minReadySeconds"] >= store.lease_s
    pause_s = container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    ready = container()["readinessProbe"]
    assert pod()["spec"]["terminationGracePeriodSeconds"] > pause_s + settings.server.drain_s + CLOSING_S
    assert ready["periodSeconds"] * ready["failureThreshold"] <= store.cut_off_s
    budget = manifest("disruption.yaml")["spec"]
    assert budget["maxUnavailable"] == 1
    labels = pod()["metadata"]["labels"]
    selectors = [budget["selector"], spec["selector"], pod()["spec"]["topologySpreadConstraints"][0]["labelSelector"]]
    assert all(each["matchLabels"] == labels for each in selectors)
    assert manifest("service.yaml")["spec"]["selector"] == manifest("peers.yaml")["spec"]["selector"] == labels


def test_no_probe_ends_a_pod_for_what_is_elsewhere() -> None:
    """They ask for names that serve whenever the process does; the last one also where it is cut off from etcd."""
    probes = {name: container()[f"{name}Probe"]["grpc"]["service"] for name in ("startup", "readiness", "liveness")}
    assert set(probes.values()) <= set(SERVICES)
    assert probes["liveness"] == ALIVE
