"""Reflection, v1 and v1alpha, asked by the tools people have."""

from __future__ import annotations

import json
import re

import grpc
import pytest
from assetwatch.v1 import asset_status_service_pb2, server_service_pb2, source_service_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest as Request
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionResponse as Response

from support import grpcurl
from support.rig import running, sample

SERVICES = [
    "assetwatch.v1.AssetStatusService",
    "assetwatch.v1.SourceService",
    "assetwatch.v1.ServerService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
]


async def test_grpcurl_lists_the_services() -> None:
    """Every service, health and both versions of reflection."""
    async with running(()) as rig:
        assert set(SERVICES) <= set((await grpcurl.describe(rig.address, "list")).split())


async def test_grpcurl_describes_all_that_it_is_told_of() -> None:
    """As `grpcurl describe` does: each service listed, with the messages of its methods; v1 by its own names."""
    async with running(()) as rig:
        whole = await grpcurl.describe(rig.address, "describe")
        for service in (await grpcurl.describe(rig.address, "list")).split():
            assert f"{service} is a service" in whole
            told = await grpcurl.describe(rig.address, "describe", service)
            for message in re.findall(r"\( (?:stream )?\.([\w.]+) \)", told):
                assert f"{message} is a message" in await grpcurl.describe(rig.address, "describe", message)
        v1 = await grpcurl.describe(rig.address, "describe", "grpc.reflection.v1.ServerReflection")
    assert "v1alpha" not in v1


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_every_service_listed_can_be_resolved(version: str) -> None:
    """By a client of either version: each service, and each file that the file of a service needs."""
    async with running(()) as rig:
        method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        encode, decode = Request.SerializeToString, Response.FromString
        call = rig.channel.stream_stream(method, request_serializer=encode, response_deserializer=decode)

        async def ask(request: Request) -> Response:
            return await anext(aiter(call(iter([request]))))

        listed = (await ask(Request(list_services=""))).list_services_response.service
        for service in listed:
            answer = await ask(Request(file_containing_symbol=service.name))
            assert not answer.HasField("error_response"), service.name
            pool = descriptor_pool.DescriptorPool()
            files = map(
                descriptor_pb2.FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto
            )
            by_name = {file.name: file for file in files}
            for file in by_name.values():
                assert set(file.dependency) <= set(by_name)
                assert not (await ask(Request(file_by_filename=file.name))).HasField("error_response")
                _add(pool, file, by_name)
            found = pool.FindServiceByName(service.name)
            assert found.full_name == service.name
            for one in found.methods:
                of_method = await ask(Request(file_containing_symbol=one.full_name))
                assert of_method.file_descriptor_response == answer.file_descriptor_response
            none = await ask(Request(file_containing_symbol=f"{service.name}.Nothing"))
            assert none.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
        unknown = await ask(Request(file_containing_symbol="grpc.reflection.v1.Nothing"))
    assert SERVICES[-2:] == [service.name for service in listed][-2:]
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def _add(
    pool: descriptor_pool.DescriptorPool,
    file: descriptor_pb2.FileDescriptorProto,
    by_name: dict[str, descriptor_pb2.FileDescriptorProto],
) -> None:
    """Add a file once those that it needs are there."""
    for needed in file.dependency:
        _add(pool, by_name[needed], by_name)
    pool.AddSerializedFile(file.SerializeToString())


async def test_grpcurl_describes_every_method_and_message() -> None:
    """Of each service, without any file of the schema at hand."""
    async with running(()) as rig:
        for module in (asset_status_service_pb2, source_service_pb2, server_service_pb2):
            for service in module.DESCRIPTOR.services_by_name.values():
                listed = await grpcurl.describe(rig.address, "list", service.full_name)
                assert set(listed.split()) == {method.full_name for method in service.methods}
                assert "rpc " in await grpcurl.describe(rig.address, "describe", service.full_name)
                for method in service.methods:
                    assert "is a method" in await grpcurl.describe(rig.address, "describe", method.full_name)
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
        assert ran.documents[0]["status"]["state"] == "ASSET_STATE_AVAILABLE"
