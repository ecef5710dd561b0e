"""Reflection, v1 and v1alpha, asked by the tools people have."""

from __future__ import annotations

import json

import pytest
from assetwatch.v1 import asset_status_service_pb2, source_service_pb2

from support import grpcurl
from support.rig import running, sample

SERVICES = [
    "assetwatch.v1.AssetStatusService",
    "assetwatch.v1.SourceService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
]


async def test_grpcurl_lists_the_services() -> None:
    """Both services, health and both versions of reflection."""
    async with running(()) as rig:
        assert set(SERVICES) <= set((await grpcurl.describe(rig.address, "list")).split())


async def test_grpcurl_describes_every_method_and_message() -> None:
    """Of both services, without any file of the schema at hand."""
    async with running(()) as rig:
        for module in (asset_status_service_pb2, source_service_pb2):
            for service in module.DESCRIPTOR.services_by_name.values():
                listed = await grpcurl.describe(rig.address, "list", service.full_name)
                assert set(listed.split()) == {method.full_name for method in service.methods}
                assert "rpc " in await grpcurl.describe(rig.address, "describe", service.full_name)
        told = await grpcurl.describe(rig.address, "describe", "assetwatch.v1.AssetStatus")
        assert "oneof detail" in told


@pytest.mark.parametrize("version", ["grpc-v1", "grpc-v1alpha"])
async def test_buf_curl_calls_by_either_version(version: str) -> None:
    """Buf curl finds the schema by the one reflection it is told to use, and calls."""
    async with running(("omn",)) as rig:
        request = {"asset": {"source": "omn", "assetId": sample("omn").asset_id}}
        url = f"http://{rig.address}/{grpcurl.STATUS_SERVICE}/GetAssetStatus"
        options = ["--http2-prior-knowledge", "--protocol", "grpc", "--reflect-protocol", version]
        ran = await grpcurl.run("buf", "curl", *options, "-d", json.dumps(request), url)
        assert ran.code == 0, ran.err
        assert ran.documents[0]["status"]["state"] == "STATE_AVAILABLE"
