"""The documents OMN answers with: OmnType with the root `pim`, errors with the root `response`."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Literal, TypeAlias
from xml.sax.saxutils import escape, quoteattr

from aiohttp import web

from assetwatch_sandbox.omn.model import iso_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from assetwatch_sandbox.omn.model import Asset
    from assetwatch_sandbox.omn.switches import OmnSwitches
    from assetwatch_sandbox.standin import JSON

Form: TypeAlias = Literal["xml", "json", "compact"]
NAMESPACE = "http://www.apollon.de/omn"
PROLOGUE = '<?xml version="1.0" encoding="UTF-8"?>\n'
CONTENT_TYPES: dict[Form, str] = {
    "xml": "application/xml;charset=UTF-8;",
    "json": "application/json;charset=UTF-8",
    "compact": "application/json+compact;charset=UTF-8",
}
"""The semicolon at the end of XML's is as published; those of the JSON forms are [assumed]."""
ACCEPTED: dict[str, Form] = {
    "application/xml": "xml",
    "text/xml": "xml",
    "application/json": "json",
    "application/json+compact": "compact",
}
UNKNOWN_ERROR = (1000, "An unknown internal error occurred")
"""The one published code; it carries ordinary refusals too, and here all of them [assumed]."""


def chosen_form(accept: str | None, switches: OmnSwitches) -> Form:
    """Tell which form an Accept header asks for; unknown types count as none."""
    if not switches.json_forms:
        return "xml"
    wanted: list[tuple[float, Form]] = []
    for part in (accept or "").split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((float(p[2:]) for p in parameters if re.fullmatch(r"q=[01](\.\d*)?", p)), 1.0)
        if name.lower() in ACCEPTED and quality > 0:
            wanted.append((quality, ACCEPTED[name.lower()]))
    return max(wanted, key=lambda each: each[0])[1] if wanted else switches.default_form


def statuses(assets: Sequence[Asset], form: Form, switches: OmnSwitches, at: float) -> web.Response:
    """Answer a status call; at is epoch seconds."""
    meta = {"messageType": "request", "messageTime": iso_utc(at), "itemInformationType": "asset"}
    if switches.source_env is not None:
        meta["sourceEnv"] = switches.source_env
    writers = {"xml": _as_xml, "json": _as_json, "compact": _as_compact}
    text = writers[form](assets, meta, switches.schema_version)
    return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPES[form]})


def refusal(status: int, message: str) -> web.Response:
    """Answer with an error document; it is XML whatever was asked for [assumed]."""
    code, description = UNKNOWN_ERROR
    text = (
        f'{PROLOGUE}<response xmlns="{NAMESPACE}">\n'
        f'  <details><itm key="supportId">{uuid.uuid4()}</itm></details>\n'
        "  <issues>\n"
        f'    <itm key="code">{code}</itm>\n'
        f'    <itm key="description">{description}</itm>\n'
        f'    <itms type="details"><itm key="errorMessage">{escape(message)}</itm></itms>\n'
        "  </issues>\n"
        "  <status>ERROR</status>\n"
        "</response>\n"
    )
    return web.Response(status=status, body=text.encode(), headers={"Content-Type": CONTENT_TYPES["xml"]})


def _as_xml(assets: Iterable[Asset], meta: Mapping[str, str], version: str | None) -> str:
    head = "".join(f"    {_itm(key, value)}\n" for key, value in meta.items())
    body = "".join(
        f"    <asset tid={quoteattr(asset.tid)} id={quoteattr(str(asset.id))}>\n"
        f"      <meta>{''.join(_itm(key, value) for key, value in asset.meta().items())}</meta>\n"
        "    </asset>\n"
        for asset in assets
    )
    attribute = "" if version is None else f" schemaVersion={quoteattr(version)}"
    return (
        f'{PROLOGUE}<pim xmlns="{NAMESPACE}"{attribute}>\n'
        f"  <meta>\n{head}  </meta>\n  <assets>\n{body}  </assets>\n</pim>\n"
    )


def _itm(key: str, value: str) -> str:
    return f"<itm key={quoteattr(key)}>{escape(value)}</itm>"


def _as_json(assets: Iterable[Asset], meta: Mapping[str, str], version: str | None) -> str:
    """Write the object model mirrored, lists kept [assumed]."""
    items = [{"tid": asset.tid, "id": str(asset.id), "meta": {"itms": _pairs(asset.meta())}} for asset in assets]
    return json.dumps({**_versioned(version), "meta": {"itms": _pairs(meta)}, "assets": {"asset": items}})


def _as_compact(assets: Iterable[Asset], meta: Mapping[str, str], version: str | None) -> str:
    """Write key and value lists folded into objects [assumed]."""
    items = [{"tid": asset.tid, "id": str(asset.id), "meta": asset.meta()} for asset in assets]
    return json.dumps({**_versioned(version), "meta": meta, "assets": items})


def _pairs(meta: Mapping[str, str]) -> JSON:
    return [{"key": key, "value": value} for key, value in meta.items()]


def _versioned(version: str | None) -> dict[str, str]:
    return {} if version is None else {"schemaVersion": version}
