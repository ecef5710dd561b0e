"""The command that asks an etcd whether a server can keep its statuses there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assetwatchd.cli.configuration import settings_from
from assetwatchd.cli.exit_codes import ExitCode, fail
from assetwatchd.cli.options import Config, SecretsDir  # noqa: TC001 - typer looks at them
from assetwatchd.cli.terminal import complain, safe, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer

    from assetwatchd.etcd.values import Status
    from assetwatchd.settings.schema import EtcdStoreSettings

MIB = 1 << 20


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(config: Config = None, secrets_dir: SecretsDir = None) -> None:
    """Ask the etcd of a configuration whether it is fit to be the store, as a start does; it may be in use."""
    from assetwatchd.app import problems  # noqa: PLC0415 - help does not pay for it
    from assetwatchd.settings.schema import EtcdStoreSettings  # noqa: PLC0415 - same

    settings, warnings = settings_from(config, secrets_dir, also=problems)
    store = settings.store
    if not isinstance(store, EtcdStoreSettings):
        fail(ExitCode.USAGE, f"the store is of kind {store.kind}: there is no etcd to ask")
    lines, found = _asked(store)
    for warning in [*warnings, *found]:
        complain(f"warning: {warning}")
    for line in [*lines, "ok: a server can keep its statuses there"]:
        tell(safe(line))


def _asked(store: EtcdStoreSettings) -> tuple[Sequence[str], Sequence[str]]:
    """Return a line for each member that answers, and warnings; an etcd that is not fit ends the command."""
    import asyncio  # noqa: PLC0415 - help does not pay for it

    from assetwatchd.etcd.checks import Unfit  # noqa: PLC0415 - with another store it is not imported
    from assetwatchd.etcd.errors import EtcdError, OutcomeUnknown  # noqa: PLC0415 - same

    try:
        return asyncio.run(_ask(store))
    except Unfit as error:
        fail(ExitCode.NOT_MET, "etcd is not fit to be the store", *str(error).splitlines())
    except OutcomeUnknown as error:
        fail(ExitCode.UNREACHABLE, str(error))
    except EtcdError as error:
        fail(ExitCode.REFUSED, str(error))


async def _ask(store: EtcdStoreSettings) -> tuple[Sequence[str], Sequence[str]]:
    from assetwatchd.etcd.client import EtcdClient  # noqa: PLC0415 - with another store it is not imported
    from assetwatchd.etcd.connection import access_of  # noqa: PLC0415 - same
    from assetwatchd.etcd.start import looked_at  # noqa: PLC0415 - same
    from assetwatchd.etcd.values import Status  # noqa: PLC0415 - same

    client = EtcdClient(access_of(store))
    try:
        warnings = await looked_at(client, store)
        statuses = await client.statuses()
    finally:
        await client.close()
    known = ((endpoint, status) for endpoint, status in statuses.items() if isinstance(status, Status))
    return [_line(endpoint, status) for endpoint, status in known], warnings


def _line(endpoint: str, status: Status) -> str:
    version = ".".join(map(str, status.version))
    used, quota = status.size_bytes // MIB, status.quota_bytes // MIB
    return f"{endpoint}: etcd {version}, {used:,} of {quota:,} MiB{', leads' * (status.member == status.leader)}"
