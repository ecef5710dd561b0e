"""Options that several commands have."""

from __future__ import annotations

import enum
import functools
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup, TyperOption

from assetwatchd.cli.completion import sources_like
from assetwatchd.cli.target import DEFAULT_SERVER, Target, silence_grpc, target_of
from assetwatchd.settings.addresses import is_socket, path_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer._click.core import Context, Parameter

ADDRESS = "HOST:PORT|unix:PATH"
ADDRESSES = f"{ADDRESS}[,...]"
UNITS_S = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
LENGTH_S_MAX = 315_576_000_000
"""What google.protobuf.Duration knows."""
PORT_MAX = 65_535


class Format(enum.StrEnum):
    """The forms in which data is printed."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    YAML = "yaml"


class StateName(enum.StrEnum):
    """The states of an asset, as they are printed."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    AVAILABLE = "AVAILABLE"
    OUT_OF_SYNC = "OUT_OF_SYNC"
    FAILED = "FAILED"
    DELETING = "DELETING"
    DELETED = "DELETED"
    MISSING = "MISSING"
    UNSUPPORTED = "UNSUPPORTED"
    UNKNOWN = "UNKNOWN"


class ViewName(enum.StrEnum):
    """The views of a status, as they are typed."""

    BASIC = "basic"
    FULL = "full"


class Group(TyperGroup):
    """A group of commands, whose flags are False when they are not given: for None typer would import pydantic."""

    def get_params(self, ctx: Context) -> list[Parameter]:
        """Return the options, those for help and completion included, which are made by typer."""
        found = super().get_params(ctx)
        for flag in found:
            if isinstance(flag, TyperOption) and flag.is_flag:
                flag.default = flag.default or False
        return found


def seconds(text: str | float) -> float:
    """Read a length of time: seconds, or a number with ms, s, m or h. Raises: typer.BadParameter."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", str(text))  # a default comes as the number it is
    if match is None:
        raise typer.BadParameter("give seconds, or a number with ms, s, m or h, e.g. 90 or 5m")
    length_s = float(match[1]) * UNITS_S[match[2]]
    if length_s > LENGTH_S_MAX:
        raise typer.BadParameter("is more than 10,000 years")
    return length_s


def address(text: str) -> str:
    """Check HOST:PORT, or the address of a Unix socket. Raises: typer.BadParameter."""
    if is_socket(text):
        try:
            path_of(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        return text
    found = re.fullmatch(r"(\[[^\[\]]+\]|[^\[\]:/\s]+):([0-9]{1,5})", text)
    if not found or int(found[2]) > PORT_MAX:
        raise typer.BadParameter(f"give HOST:PORT, e.g. 127.0.0.1:50051; a port is a number up to {PORT_MAX}")
    return text


def addresses(text: str) -> str:
    """Check addresses with commas between them; none twice. Raises: typer.BadParameter."""
    return ",".join(dict.fromkeys(address(each.strip()) for each in text.split(",")))


Server = Annotated[
    str,
    typer.Option(
        "--server",
        metavar=ADDRESSES,
        envvar="ASSETWATCH_SERVER",
        parser=addresses,
        help="Server to call; of several over one store the first that is there, and a watch goes on at the next.",
    ),
]
Tls = Annotated[
    bool,
    typer.Option("--tls", envvar="ASSETWATCH_TLS", help="Call over TLS; trust whom this machine trusts."),
]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca", exists=True, dir_okay=False, envvar="ASSETWATCH_TLS_CA", help="Call over TLS; trust these."
    ),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        exists=True,
        dir_okay=False,
        envvar="ASSETWATCH_TLS_CERT",
        help="Certificate to show to the server, over TLS.",
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option("--tls-key", exists=True, dir_okay=False, envvar="ASSETWATCH_TLS_KEY", help="Key of --tls-cert."),
]
TlsServerName = Annotated[
    str | None,
    typer.Option(
        "--tls-server-name",
        metavar="NAME",
        envvar="ASSETWATCH_TLS_SERVER_NAME",
        help="Name the server's certificate is for, over TLS; default: its host.",
    ),
]


def takes_target(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say whom to call, after its own; it is handed them as one: target."""

    @functools.wraps(command)
    def call(*arguments: object, **options: object) -> None:
        silence_grpc()
        target = target_of({name: options.pop(name) for name in Target._fields})
        command(*arguments, **options, target=target)

    own = inspect.signature(command, eval_str=True)
    kept = [parameter for parameter in own.parameters.values() if parameter.name != "target"]
    parameters = [*kept, *_target_options()]
    call.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]  # what inspect reads first
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _target_options() -> list[inspect.Parameter]:
    declared = {
        "server": Server,
        "tls": Tls,
        "tls_ca": TlsCa,
        "tls_cert": TlsCert,
        "tls_key": TlsKey,
        "tls_server_name": TlsServerName,
    }
    defaults = {"server": DEFAULT_SERVER, "tls": False}
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=defaults.get(name), annotation=annotation)
        for name, annotation in declared.items()
    ]


Output = Annotated[Format, typer.Option("--output", "-o", help="How to print.")]
Config = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", envvar="ASSETWATCH_CONFIG", help="Configuration, YAML.")
]
SecretsDir = Annotated[
    Path | None,
    typer.Option(
        "--secrets-dir", metavar="DIR", help="Secret files, e.g. sources__dam__auth__token [ASSETWATCH_SECRETS_DIR]."
    ),
]


def state_name(text: str) -> StateName:
    """Read a state as it is printed, in tables (FAILED) or as JSON (ASSET_STATE_FAILED), or as people type it.

    Raises: typer.BadParameter.
    """
    name = str(text).upper().replace("-", "_").removeprefix("ASSET_STATE_")
    if name not in StateName.__members__:
        raise typer.BadParameter(f"{text!r} is no state; there are {', '.join(StateName)}")
    return StateName(name)


def _states_like(incomplete: str) -> list[str]:
    """In capitals, as they are printed, unless the word begins otherwise."""
    names = [state.lower() if incomplete.islower() else str(state) for state in StateName]
    return [name for name in names if name.startswith(incomplete)]


def state_option(meaning: str) -> object:
    """Make the option --state."""
    return typer.Option(
        "--state", metavar="STATE", parser=state_name, autocompletion=_states_like, help=f"{meaning}; repeatable."
    )


Views = Annotated[ViewName, typer.Option("--view", help="How much of each status; basic: all but its detail.")]
Prefix = Annotated[
    str, typer.Option("--prefix", metavar="TEXT", help="Of whole sources only assets whose id begins with this.")
]
States = Annotated[list[StateName] | None, state_option("Only this state, e.g. FAILED")]
SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", autocompletion=sources_like, help="Name of a configured source.")
]
AssetArgument = Annotated[str, typer.Argument(metavar="ASSET", help="The asset's id in that source.")]
ControlPort = Annotated[
    int,
    typer.Option("--control-port", min=0, max=65535, help="Where stand-ins are scripted; 0: a free one."),
]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same assets and the same life.")]
Speed = Annotated[
    float, typer.Option("--speed", min=0, help="Steps a second and stand-in; 0: nothing changes by itself.")
]
Assets = Annotated[int, typer.Option("--assets", min=0, help="Assets in each stand-in.")]
