"""A real Envoy makes calls of JSON over HTTP, as the schema's google.api.http says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2

from support.envoy import PATIENCE_S, proxied
from support.rig import sample

pytestmark = pytest.mark.proxy

ROOT = Path(__file__).parents[2]
KINDS = ("omn", "pieces")
SERVICES = (
    "assetwatch.v1.AssetStatusService",
    "assetwatch.v1.SourceService",
    "assetwatch.v1.ServerService",
    "assetwatch.pieces.v1.PiecesAssetsService",
)
EXTENSIONS = "type.googleapis.com/envoy.extensions.filters.http"
OMN, PIECE = sample("omn").asset_id, sample("pieces").asset_id
ASSET = {"source": "omn", "asset_id": OMN}
NOBODYS = "00000000-0000-4000-8000-000000000000"
OURS = "/pieces/v1/sources/pieces"


def descriptors(folder: Path) -> Path:
    """Write the schema for Envoy, with the details of errors: it drops those whose types it does not know."""
    image = folder / "schema.binpb"
    buf = Path(sys.executable).with_name("buf")
    subprocess.run([buf, "build", "--as-file-descriptor-set", "--output", image], cwd=ROOT, check=True, timeout=60)
    schema = FileDescriptorSet.FromString(image.read_bytes())
    error_details_pb2.DESCRIPTOR.CopyToProto(schema.file.add())
    image.write_bytes(schema.SerializeToString())
    return image


def transcoding(folder: Path) -> dict[str, Any]:
    """Return what the connection manager has besides when it takes JSON."""
    transcoder = {
        "@type": f"{EXTENSIONS}.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor": str(descriptors(folder)),
        "services": list(SERVICES),
        "convert_grpc_status": True,
        "print_options": {"stream_newline_delimited": True, "preserve_proto_field_names": True},
    }
    return {
        "codec_type": "AUTO",
        "http_filters": [
            {"name": "envoy.filters.http.grpc_json_transcoder", "typed_config": transcoder},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{EXTENSIONS}.router.v3.Router"}},
        ],
    }


CALLS: list[tuple[str, str, Any, int, str]] = [
    ("GET", "/v1/sources", None, 200, '"name":"pieces"'),
    ("GET", "/v1/server", None, 200, '"message_bytes_max":"4194304"'),
    ("GET", "/v1/sources/omn", None, 200, "SOURCE_KIND_OMN"),
    ("GET", "/v1/sources/nobody", None, 404, "SOURCE_NOT_FOUND"),
    ("POST", "/v1/sources/omn:retry", {}, 200, "SOURCE_CONDITION_STATE_HEALTHY"),
    ("GET", f"/v1/sources/omn/status?asset.asset_id={OMN}&max_age=0s", None, 200, "ASSET_STATE_AVAILABLE"),
    ("GET", "/v1/sources/omn/status", None, 400, "asset.asset_id"),
    ("POST", "/v1/statuses:batchGet", {"assets": [ASSET, ASSET]}, 200, OMN),
    ("GET", "/v1/statuses?sources=omn&states=ASSET_STATE_AVAILABLE&page_size=1", None, 200, '"statuses"'),
    ("GET", "/v1/statuses?asset_id_prefix=tid:7C&view=ASSET_STATUS_VIEW_BASIC", None, 200, OMN),
    (
        "POST",
        "/v1/statuses:wait",
        {"asset": ASSET, "until_settled": True, "timeout": "5s"},
        200,
        '"condition_met":true',
    ),
    ("POST", "/v1/statuses:wait", {"asset": ASSET}, 400, "either states or until_settled"),
    ("GET", f"{OURS}/assets?transferables=false", None, 200, PIECE),
    ("GET", f"{OURS}/assets/{PIECE}", None, 200, PIECE),
    ("GET", f"{OURS}/assets/{NOBODYS}", None, 404, "ASSET_GONE"),
    ("GET", f"{OURS}/assets/{PIECE}/formats", None, 200, '"formats"'),
    ("GET", f"{OURS}/assetIdentifiers", None, 200, PIECE),
    ("GET", f"{OURS}/pseudoAssets", None, 200, '"assets"'),
    ("GET", f"{OURS}/assets:search?query=a", None, 200, '"results"'),
    ("POST", f"{OURS}/assets:search", {"input": {"query": "a"}}, 200, '"output"'),
    ("POST", f"{OURS}/assets:draft", {}, 400, "seed"),
    ("POST", f"{OURS}/assets", {}, 400, "seed"),
    ("POST", f"{OURS}/assets:related", {}, 400, "assets"),
    ("POST", f"{OURS}/assets:recommend", {}, 400, "recommendation"),
    ("DELETE", f"{OURS}/assets/{PIECE}", None, 200, PIECE),
]
STREAMS = [
    ("POST", "/v1/statuses:watch", {"sources": ["omn"]}),
    ("GET", f"{OURS}/assets:stream", None),
    ("GET", f"{OURS}/assetIdentifiers:stream", None),
    ("GET", f"{OURS}/assets:streamTransferables", None),
]


async def test_a_table_of_calls(tmp_path: Path) -> None:
    """Every call but the streams: path, query and body arrive, and errors come with their reason."""
    wrong = []
    timeout = aiohttp.ClientTimeout(PATIENCE_S)
    async with (
        proxied(tmp_path, KINDS, **transcoding(tmp_path)) as (_, address),
        aiohttp.ClientSession(f"http://{address}", timeout=timeout) as http,
    ):
        for verb, path, body, status, part in CALLS:
            async with http.request(verb, path, json=body) as answer:
                text = await answer.text()
                if answer.status != status or part not in text:
                    wrong.append((verb, path, answer.status, text[:300]))
    assert not wrong


@pytest.mark.parametrize(("verb", "path", "body"), STREAMS, ids=[path.rpartition("/")[2] for _, path, _ in STREAMS])
async def test_a_stream_is_a_message_a_line(tmp_path: Path, verb: str, path: str, body: Any) -> None:
    """Started comes first, each line is JSON by itself, and synced is told at once."""
    async with (
        proxied(tmp_path, KINDS, **transcoding(tmp_path)) as (_, address),
        aiohttp.ClientSession(f"http://{address}", timeout=aiohttp.ClientTimeout(PATIENCE_S)) as http,
        http.request(verb, path, json=body) as answer,
    ):
        assert answer.status == 200
        message = json.loads(await answer.content.readline())
        assert "started" in message
        while "synced" not in message:
            message = json.loads(await answer.content.readline())
