"""The services by their descriptors, so that the schema alone spells their names."""

from __future__ import annotations

from assetwatch.pieces.v1 import pieces_assets_service_pb2
from assetwatch.v1 import asset_status_service_pb2, server_service_pb2, source_service_pb2
from grpc_health.v1 import health_pb2

ASSET_STATUS = asset_status_service_pb2.DESCRIPTOR.services_by_name["AssetStatusService"]
SOURCE = source_service_pb2.DESCRIPTOR.services_by_name["SourceService"]
SERVER = server_service_pb2.DESCRIPTOR.services_by_name["ServerService"]
PIECES_ASSETS = pieces_assets_service_pb2.DESCRIPTOR.services_by_name["PiecesAssetsService"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
REPLICA_KEY = "assetwatch-replica"
"""Trailing metadata of each call: the name of the replica that answered."""
SERVICES = (ASSET_STATUS, SOURCE, SERVER, PIECES_ASSETS)


def source_health(source: str) -> str:
    """Return the name under which the health of a source is asked for."""
    return f"{ASSET_STATUS.full_name}/{source}"
