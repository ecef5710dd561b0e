"""The settings as validated models: sources, server, store and telemetry. `load` fills them.

Descriptions are documentation: the JSON schema and the command line show them. Reads no file and no environment.
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from pathlib import Path  # noqa: TC003 - pydantic resolves the annotation at run time
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from assetwatchd.settings.addresses import check_host, is_socket, path_of

DURATION_S_MAX = 10 * 365 * 86_400
Seconds = Annotated[float, Field(gt=0, le=DURATION_S_MAX)]
COUNT_MAX = 1_000_000_000
"""What gRPC is told are C integers, some of them sums of ours."""
Count = Annotated[int, Field(ge=1, le=COUNT_MAX)]
BYTES_MAX = 1024**3
"""protobuf knows messages of less than 2 GiB, and reading an answer may take MEMORY_TIMES as much."""
Rate = Annotated[float, Field(ge=1e-6, le=1e6)]
"""A request in a fortnight, and more than any loop can make."""
PORT_MAX = 65_535


def _without_credentials(url: AnyHttpUrl) -> AnyHttpUrl:
    if url.username or url.password:
        raise ValueError("holds a user name or password; give them where they are kept secret")
    if url.query or url.fragment:
        raise ValueError("holds a query or a fragment; paths are put behind it")
    return url


def _origin_only(url: AnyHttpUrl) -> AnyHttpUrl:
    if url.path not in {None, "", "/"}:
        raise ValueError("should be scheme, host and port alone")
    return url


def _for_a_header(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(VISIBLE, secret.get_secret_value()):
        raise ValueError("should be one line of visible ASCII; it goes into a header")
    return secret


VISIBLE = r"^[!-~]+$"
"""What a header can hold as it is; a line break in it would end the header."""
HeaderSecret = Annotated[SecretStr, AfterValidator(_for_a_header)]
Url = Annotated[AnyHttpUrl, AfterValidator(_without_credentials)]


class Frozen(BaseModel):
    """Strict and immutable; an error never shows the value, which may be a secret.

    A model's validator is built when it is first asked: most are asked only as parts of Settings, which has its own.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False, defer_build=True
    )


class BasicAuth(Frozen):
    """User name and password, sent as HTTP Basic."""

    kind: Literal["basic"]
    username: str
    password: SecretStr


class BearerAuth(Frozen):
    """A token, given here or read from a file at each use, so that it can be renewed under us."""

    kind: Literal["bearer"]
    token: HeaderSecret | None = None
    token_file: Path | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> BearerAuth:
        if (self.token is None) == (self.token_file is None):
            raise ValueError("give either token or token_file")
        return self


class ApiKeyAuth(Frozen):
    """A key in the header x-api-key."""

    kind: Literal["api_key"]
    key: HeaderSecret


class SignedJwtAuth(Frozen):
    """A JWT that we sign ourselves, HS512, as OMN 5.x wants it."""

    kind: Literal["signed_jwt"]
    secret: SecretStr = Field(min_length=1)
    key_id: str
    mandator: str
    subject: str
    issuer: str = "assetwatch"
    username: str | None = None
    access_all_configuration: bool | None = Field(default=None, description="the claim accessAllConfiguration")
    lifetime_s: Seconds = Field(default=300, description="of each token")


class RefreshTokenAuth(Frozen):
    """An offline token, traded at the realm's token endpoint, as OMN 6.x (Keycloak) allows."""

    kind: Literal["refresh_token"]
    refresh_token: SecretStr
    discovery_url: Url
    client_id: str = "omn-ui"


class DirectProxy(Frozen):
    """No proxy, whatever is said for the others."""

    kind: Literal["direct"]


class EnvironmentProxy(Frozen):
    """The proxies that http_proxy and https_proxy name, but for the hosts of no_proxy."""

    kind: Literal["environment"]


class HttpProxy(Frozen):
    """One HTTP proxy: asked for http:// as it is, and by CONNECT for https:// and for WebSockets."""

    kind: Literal["http"]
    url: Annotated[Url, AfterValidator(_origin_only)] = Field(description="http://HOST:PORT, or https:// if it has TLS")
    username: str | None = Field(default=None, pattern=r"^[^:]*$", description="sent to the proxy as HTTP Basic")
    password: SecretStr | None = None
    no_proxy: tuple[str, ...] = Field(
        default=(), description="called directly: host, .domain (all below it), host:port, address, network, or *"
    )

    @model_validator(mode="after")
    def _user_whole(self) -> HttpProxy:
        if self.password is not None and self.username is None:
            raise ValueError("a password needs a username")
        return self


AnyProxy = Annotated[DirectProxy | EnvironmentProxy | HttpProxy, Field(discriminator="kind")]


class SourceSettings(Frozen):
    """Settings common to every kind of source."""

    base_url: Url
    pins: tuple[str, ...] = Field(default=(), description="asset ids that are always of interest")
    busy_interval_s: Seconds = Field(default=2, description="between reads of an asset in progress")
    settled_interval_s: Seconds = Field(default=60, description="between reads of an asset long settled")
    enumerate_interval_s: Seconds = Field(default=30, description="between lists, where the kind can list")
    reconcile_interval_s: Seconds = Field(default=600, description="between reads of an asset while changes are pushed")
    backoff_first_s: Seconds = Field(
        default=1, description="the first pause after a failure; doubles, with full jitter"
    )
    backoff_max_s: Seconds = Field(default=30, description="the longest pause between two tries")
    refused_backoff_max_s: Seconds = Field(
        default=900,
        description="the longest pause after credentials were refused; doubles from backoff_max_s, as each try counts"
        " against an account",
    )
    linger_s: Seconds = Field(default=300, description="an asset read once stays of interest for this long")
    probe_interval_s: Seconds = Field(
        default=15, description="between signs of life when nothing is asked; so soon it is told that a source is down"
    )
    timeout_s: Seconds = Field(default=10, description="of one request; a read may need several")
    rate_per_s: Rate = Field(default=20, description="requests a second, whatever they are for")
    concurrency: Count = Field(default=8, description="calls at the same time, and one list beside them")
    body_bytes_max: int = Field(
        default=8 * 1024 * 1024, ge=1024, le=BYTES_MAX, description="a larger answer is refused"
    )
    header_bytes_max: int = Field(
        default=32 * 1024, ge=1024, le=1024**2, description="of one header of an answer, and of its status line"
    )
    headers_max: int = Field(default=256, ge=16, le=4096, description="headers of one answer")
    assets_max: Count = Field(default=100_000, description="assets known at the same time")
    unknown_share_per_peer: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="of assets_max: what one address may name that nobody ever saw; half of that one connection",
    )
    reads_per_peer_max: Count = Field(
        default=20_000,
        description="reads that calls of one address may wait for at the same time; half of that one connection",
    )
    trace_context: bool = Field(default=False, description="send W3C trace context to this upstream")
    ca_file: Path | None = Field(default=None, description="certificates to trust instead of the system's")
    tls_verify: bool = Field(default=True, description="false: accept any certificate; for laboratories")
    tls_legacy: bool = Field(
        default=False, description="true: take TLS 1.0 and 1.1, old ciphers, short keys and weak signatures too"
    )
    tls_cert_file: Path | None = Field(default=None, description="certificate to show to this upstream, as PEM")
    tls_key_file: Path | None = Field(default=None, description="its private key, as PEM, without a passphrase")
    proxy: AnyProxy | None = Field(default=None, description="to this upstream; absent: what `proxy` at the top says")

    @model_validator(mode="after")
    def _certificate_whole(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("give both tls_cert_file and tls_key_file, or neither")
        return self


NEVER_STORAGE = frozenset({"file", "http", "https"})
"""Schemes by which a server would fetch from its own disk and network what a caller names, with its credentials."""


def never_storage(scheme: str) -> bool:
    """Return whether a scheme is one of NEVER_STORAGE, or made with one, as git+https is."""
    return not NEVER_STORAGE.isdisjoint(re.split(r"[+.-]", scheme.lower()))


def _beginning(text: str) -> str:
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(?://|$)", text)
    if scheme and never_storage(scheme[1]):
        raise ValueError("file: and http(s): are never asked for")
    if not scheme and not re.match(r"/(?!/)", text):
        raise ValueError("should be how ids begin, e.g. s3://bucket/ or omniverse: or /folder/")
    return text


IdPrefix = Annotated[str, AfterValidator(_beginning)]


class UsdSearchSource(SourceSettings):
    """NVIDIA USD Search."""

    kind: Literal["usd_search"]
    rate_per_s: Rate = 10
    auth: Annotated[BasicAuth | BearerAuth | ApiKeyAuth, Field(discriminator="kind")] | None = None
    asset_metadata: bool = Field(default=True, description="ask for storage metadata too")
    allowed_ids: tuple[IdPrefix, ...] = Field(
        default=(), description="what ids may begin with, e.g. s3://bucket/; none given: any storage scheme, any path"
    )
    timezone: str = Field(default="UTC", description="IANA name: the zone of the server's local times")

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            zoneinfo.ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError("not a known time zone; give an IANA name such as Europe/Berlin") from None
        return name


class OmnSource(SourceSettings):
    """apollon OMN."""

    kind: Literal["omn"]
    auth: Annotated[BearerAuth | SignedJwtAuth | RefreshTokenAuth, Field(discriminator="kind")]
    batch_size: int = Field(default=100, ge=1, le=1000, description="assets a call [assumed: no limit is published]")
    answer: Literal["xml", "json", "json_compact"] = Field(default="xml", description="JSON forms are [assumed]")
    query: dict[str, object] = Field(
        default={"modifiedFrom": "1970-01-01T00:00:00.000Z"}, description="criteria of the list of assets"
    )


class PiecesSource(SourceSettings):
    """Pieces OS."""

    kind: Literal["pieces"]
    rate_per_s: Rate = Field(default=200, description="it is local")
    concurrency: Count = 16
    body_bytes_max: int = Field(
        default=32 * 1024 * 1024,
        ge=1024,
        le=BYTES_MAX,
        description="a larger answer is refused; bytes come as numbers, 5 characters each, and content up to twice",
    )
    application_id: str | None = Field(default=None, pattern=VISIBLE, description="sent as X-Application-ID when given")
    pseudo: bool = Field(default=False, description="include assets the user did not save")
    discover: bool = Field(
        default=False,
        description="look for it whenever it is not there: at base_url, then at this machine's known ports",
    )
    ping_interval_s: Seconds = Field(default=20, description="a server silent for half of this after a ping is gone")
    first_frame_timeout_s: Seconds = Field(default=10, description="from the connection to its list of ids")


class MediaIntelligenceSource(SourceSettings):
    """NAVER Cloud Media Intelligence."""

    kind: Literal["media_intelligence"]
    base_url: Url = AnyHttpUrl("https://mi.apigw.ntruss.com")
    rate_per_s: Rate = Field(default=10, description="a key [assumed: no limit is published]")
    access_key: str = Field(pattern=VISIBLE, description="names the key pair; sent with each call")
    secret_key: SecretStr
    projects: tuple[Annotated[str, Field(pattern=r"^[a-z0-9-]{3,63}/[^/]+$")], ...] = Field(
        default=(), description="WORKSPACE/PROJECT, each listed and watched whole"
    )
    page_size: int = Field(default=1000, ge=1, le=1000, description="assets a page of a list")


class OracleSbcSource(SourceSettings):
    """Oracle session border controller."""

    kind: Literal["oracle_sbc"]
    username: str
    password: SecretStr
    version: str = Field(
        default="v1.2", pattern=r"^v\d+\.\d+$", description="of its REST API; if it lacks this one, its latest is used"
    )
    settled_interval_s: Seconds = 15
    rate_per_s: Rate = 2
    concurrency: Count = 1


AnySource = Annotated[
    UsdSearchSource | OmnSource | PiecesSource | MediaIntelligenceSource | OracleSbcSource,
    Field(discriminator="kind"),
]


def _address(listen: str) -> str:
    if is_socket(listen):
        path_of(listen)
    elif int(listen.rpartition(":")[2]) > PORT_MAX:
        raise ValueError(f"should be HOST:PORT; a port is a number up to {PORT_MAX}")
    else:
        check_host(listen.rpartition(":")[0])
    return listen


Listen = Annotated[str, Field(pattern=r"^(unix(-abstract)?:.+|.+:[0-9]{1,5})$"), AfterValidator(_address)]


class ServerSettings(Frozen):
    """The gRPC server and its limits."""

    listen: Listen = Field(
        default="127.0.0.1:50051",
        description="HOST:PORT, port 0 takes a free one; or unix:path, unix:///path, unix-abstract:name",
    )
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = Field(default=None, description="given: clients must show a certificate")
    drain_s: Seconds = Field(default=5, description="calls under way may take this long when the server stops")
    heartbeat_s: Seconds = Field(
        default=5, description="a quiet watch gets a bookmark this often, give or take a tenth"
    )
    stream_age_s: Seconds = Field(default=1800, description="a watch ends OK after this, give or take a tenth")
    slow_consumer_s: Seconds = Field(default=60, description="a watch that takes no message for this long is ended")
    streams_max: Count = Field(default=5000, description="watches at the same time")
    streams_per_peer_max: Count = Field(default=2000, description="watches at the same time from one address")
    names_max: Count = Field(
        default=2_000_000, description="assets named by watches at the same time, equal watches counted once"
    )
    names_per_peer_max: Count = Field(
        default=1_000_000, description="the same by watches from one address; half of that on one connection"
    )
    catching_up_max: Count = Field(
        default=16, description="watches that get their snapshot, or what they missed, at the same time"
    )
    first_read_wait_s: float = Field(
        default=2, ge=0, le=DURATION_S_MAX, description="a watch waits this long for assets never read before"
    )
    message_bytes_max: int = Field(
        default=4 * 1024 * 1024,
        ge=64 * 1024,
        le=BYTES_MAX,
        description="of a request, and of an answer of the assets API of Pieces OS",
    )
    request_s: Seconds = Field(default=10, description="a request must be here whole within this from its beginning")

    @model_validator(mode="after")
    def _tls_whole(self) -> ServerSettings:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("give both tls_cert_file and tls_key_file, or neither")
        if self.tls_client_ca_file and not self.tls_cert_file:
            raise ValueError("tls_client_ca_file needs tls_cert_file and tls_key_file")
        return self


class StoreSettings(Frozen):
    """Settings common to every store."""

    tombstone_retention_s: Seconds = Field(default=86_400, description="removals can be resumed across for this long")
    forget_after_s: Seconds = Field(default=7 * 86_400, description="assets nobody asked for are forgotten after this")


def _file(path: str) -> str:
    """Refuse what means something else than a file of that name to SQLite or to a shell. Raises: ValueError."""
    if path == ":memory:":
        raise ValueError("names no file; to keep nothing give kind: memory")
    if path.startswith("~"):
        raise ValueError("~ is not replaced by a home directory here; give the whole path")
    return path


class SqliteStoreSettings(StoreSettings):
    """Keep statuses in a file: they, and the tokens given out, outlive the process. One process a file."""

    kind: Literal["sqlite"]
    path: Annotated[str, AfterValidator(_file)] = Field(
        default="assetwatch.sqlite", min_length=1, description="a file, made if it is not there"
    )


class MemoryStoreSettings(StoreSettings):
    """Keep statuses in memory: a restart starts a new epoch, and every watch begins with a snapshot."""

    kind: Literal["memory"]


def _endpoint(text: str) -> str:
    """Return an endpoint without a last slash, which the pattern allows. Raises: ValueError."""
    scheme, _, authority = text.rstrip("/").partition("://")
    return f"{scheme}://{_address(authority)}"


Endpoint = Annotated[str, Field(pattern=r"^https?://[^/@?#\s]+:[0-9]{1,5}/?$"), AfterValidator(_endpoint)]
PeerAddress = Annotated[str, Field(pattern=r"^[^/@?#\s]+:[0-9]{1,5}$"), AfterValidator(_address)]


class EtcdStoreSettings(StoreSettings):
    """Keep statuses in etcd, for several replicas of the service: they share them, and ask each source once.

    Every replica has the same settings but for its own name and addresses.
    """

    kind: Literal["etcd"]
    endpoints: tuple[Endpoint, ...] = Field(
        min_length=1, description="members of the cluster, http(s)://HOST:PORT; one is asked, the next when it fails"
    )
    prefix: str = Field(
        default="/assetwatch/",
        pattern=r"^/[!-~]*[!-.0-~]/$",
        max_length=200,
        description="what all keys begin with, from / to /; of each deployment in a cluster another one, none the"
        " beginning of another",
    )
    tls_ca_file: Path | None = Field(
        default=None, description="certificates to trust, of etcd and of other replicas, instead of the system's"
    )
    tls_cert_file: Path | None = Field(
        default=None, description="certificate of this replica, as PEM: shown to etcd, and to other replicas both ways"
    )
    tls_key_file: Path | None = Field(default=None, description="its private key, as PEM, without a passphrase")
    username: str = Field(default="", pattern=r"^[^\s]*$", description="of etcd, where it asks for one")
    password_file: Path | None = Field(default=None, description="the password of username; read at each login")
    replica: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$", description="absent: the host's name"
    )
    peer_listen: PeerAddress = Field(
        default="127.0.0.1:50052", description="HOST:PORT for other replicas alone; port 0 takes a free one"
    )
    peer_address: PeerAddress | None = Field(
        default=None, description="HOST:PORT that other replicas call; absent: where peer_listen listens"
    )
    peer_token_file: Path | None = Field(
        default=None, description="a secret that all replicas share; without TLS it alone lets them call each other"
    )
    lease_s: int = Field(
        default=5, ge=2, le=60, description="others take over the sources of a replica that is silent for this long"
    )
    cut_off_s: float = Field(
        default=3, ge=2, le=60, description="a replica that is behind etcd for this long says so, and is not healthy"
    )
    compact: bool = Field(
        default=False, description="true: the replicas compact etcd's history, where nothing else does"
    )

    @property
    def tls(self) -> bool:
        """Whether replicas show each other certificates."""
        return None not in (self.tls_ca_file, self.tls_cert_file, self.tls_key_file)

    @model_validator(mode="after")
    def _etcd_reachable(self) -> EtcdStoreSettings:
        schemes = {endpoint.partition("://")[0] for endpoint in self.endpoints}
        if len(schemes) > 1:
            raise ValueError("endpoints should all begin with https://, or all with http://")
        if bool(self.username) != (self.password_file is not None):
            raise ValueError("give both username and password_file, or neither")
        if self.username and "http" in schemes and not all(map(_is_local, self.endpoints)):
            raise ValueError("a password needs endpoints that begin with https://; it is sent in the clear else")
        return self

    @model_validator(mode="after")
    def _peers_safe(self) -> EtcdStoreSettings:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("give both tls_cert_file and tls_key_file, or neither")
        called = self.peer_address or self.peer_listen
        if _host(called) in EVERY_ADDRESS:
            raise ValueError("peer_address is missing: others cannot call what peer_listen listens on, every address")
        if self.tls:
            return self
        if not (_is_local(self.peer_listen) and _is_local(called)):
            raise ValueError("replicas on several machines need tls_ca_file, tls_cert_file and tls_key_file")
        if self.peer_token_file is None:
            raise ValueError("give peer_token_file, a secret that all replicas on this machine share, or TLS files")
        return self


EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - nothing is bound here
"""What a server listens on and no client can call."""


def _host(address: str) -> str:
    """Return the host of HOST:PORT, or of a URL that ends with it."""
    return address.rpartition("//")[2].rpartition(":")[0].strip("[]")


def _is_local(address: str) -> bool:
    return on_this_machine(_host(address))


AnyStore = Annotated[SqliteStoreSettings | MemoryStoreSettings | EtcdStoreSettings, Field(discriminator="kind")]


class TelemetrySettings(Frozen):
    """OpenTelemetry and logs."""

    otlp_endpoint: Url | None = Field(default=None, description="OTLP over gRPC; absent: nothing is sent")
    sample_ratio: float = Field(default=1.0, ge=0, le=1, description="of traces that begin here")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"


SourceName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class Settings(Frozen):
    """Everything `assetwatch serve` can be told."""

    server: ServerSettings = ServerSettings()
    store: AnyStore = SqliteStoreSettings(kind="sqlite")
    telemetry: TelemetrySettings = TelemetrySettings()
    proxy: AnyProxy | None = Field(
        default=None, description="to every source elsewhere that has no `proxy` of its own; absent: none"
    )
    sources: dict[SourceName, AnySource] = Field(default={}, description="by name: lower case, digits, hyphens")

    @field_validator("sources")
    @classmethod
    def _behind_the_proxy(cls, sources: dict[str, AnySource], info: ValidationInfo) -> dict[str, AnySource]:
        """Give the proxy of all to each source that is to have it: a source's settings are all that its calls see."""
        if isinstance(info.data.get("store"), EtcdStoreSettings) and (name := _discovering(sources)):
            raise ValueError(f"discover of {name} should be false with a store of kind etcd: {WHY_NOT}")
        proxy = info.data.get("proxy")
        return {
            name: source if source.proxy or on_this_machine(source.base_url.host) else _with_proxy(source, proxy)
            for name, source in sources.items()
        }


WHY_NOT = "each replica would find the Pieces OS of its own machine"


def _discovering(sources: dict[str, AnySource]) -> str:
    """Name a source that looks for its server by itself; empty when none does."""
    found = (name for name, source in sources.items() if isinstance(source, PiecesSource) and source.discover)
    return next(found, "")


def on_this_machine(host: str | None) -> bool:
    """Return whether a host of a URL is this machine, by its name or as an address of loopback."""
    bare = (host or "").strip("[]").rstrip(".").lower()
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return bare == "localhost" or bare.endswith(".localhost")


def _with_proxy(source: AnySource, proxy: AnyProxy | None) -> AnySource:
    return source.model_copy(update={"proxy": proxy})
