"""store copy, from the shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from assetwatchd.changefeed.store.sqlite import SqliteStore
from support.entries import draft

if TYPE_CHECKING:
    from pathlib import Path

    from assetwatch_sandbox.etcd import Cluster
    from support.command_line import Run


async def test_a_store_is_copied_and_back(command: Run, etcd: Cluster, etcd_prefix: str, tmp_path: Path) -> None:
    """FROM and TO are configurations; a second time there is something in it, which is said with exit code 1."""
    token = tmp_path / "token"
    token.write_text("shared")
    stores = {
        "old": {"kind": "sqlite", "path": str(tmp_path / "old.db")},
        "shared": {
            "kind": "etcd",
            "endpoints": list(etcd.endpoints),
            "prefix": etcd_prefix,
            "peer_token_file": str(token),
        },
        "new": {"kind": "sqlite", "path": str(tmp_path / "new.db")},
    }
    paths = {name: str(tmp_path / f"{name}.yaml") for name in stores}
    for name, store in stores.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"store": store}))
    store = await SqliteStore.open(tmp_path / "old.db")
    entries = await store.commit([draft("dam/a"), draft("usd/b")])
    await store.close()

    there = await command("store", "copy", paths["old"], paths["shared"])
    assert (there.code, there.out) == (0, "copied all of 2 assets, up to revision 2; watches go on\n")
    again = await command("store", "copy", paths["old"], paths["shared"])
    assert (again.code, again.out) == (1, "")
    assert f"something is below {etcd_prefix} already" in again.err
    back = await command("store", "copy", paths["shared"], paths["new"])
    assert (back.code, back.err) == (0, "")
    store = await SqliteStore.open(tmp_path / "new.db")
    assert list(store.after(0, store.head)) == list(entries)
    await store.close()


async def test_a_configuration_that_is_not_there_is_said(command: Run, tmp_path: Path) -> None:
    """As of any command."""
    done = await command("store", "copy", str(tmp_path / "none.yaml"), str(tmp_path / "none.yaml"))
    assert (done.code, done.out) == (2, "")
    assert "none.yaml" in done.err
