"""The Pieces OS stand-in under the vendor's own client, unmodified: it must not notice the difference."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import pytest
import websocket
from pieces_os_client.api.asset_api import AssetApi
from pieces_os_client.api.assets_api import AssetsApi
from pieces_os_client.api.connector_api import ConnectorApi
from pieces_os_client.api.user_api import UserApi
from pieces_os_client.api.well_known_api import WellKnownApi
from pieces_os_client.api_client import ApiClient
from pieces_os_client.configuration import Configuration
from pieces_os_client.exceptions import ApiException
from pieces_os_client.models.application import Application
from pieces_os_client.models.asset_filter import AssetFilter
from pieces_os_client.models.asset_filter_timestamp import AssetFilterTimestamp
from pieces_os_client.models.asset_filters import AssetFilters
from pieces_os_client.models.assets import Assets
from pieces_os_client.models.assets_search_with_filters_input import AssetsSearchWithFiltersInput
from pieces_os_client.models.fragment_metadata import FragmentMetadata
from pieces_os_client.models.grouped_timestamp import GroupedTimestamp
from pieces_os_client.models.seed import Seed
from pieces_os_client.models.seeded_asset import SeededAsset
from pieces_os_client.models.seeded_asset_metadata import SeededAssetMetadata
from pieces_os_client.models.seeded_connector_connection import SeededConnectorConnection
from pieces_os_client.models.seeded_format import SeededFormat
from pieces_os_client.models.seeded_fragment import SeededFragment
from pieces_os_client.models.seeded_tracked_application import SeededTrackedApplication
from pieces_os_client.models.streamed_identifiers import StreamedIdentifiers
from pieces_os_client.models.transferable_string import TransferableString
from pieces_os_client.wrapper.client import PiecesClient
from pieces_os_client.wrapper.streamed_identifiers import AssetSnapshot
from pieces_os_client.wrapper.version_compatibility import VersionChecker
from pieces_os_client.wrapper.websockets import AssetsIdentifiersWS

from assetwatch_sandbox.pieces import PiecesStandin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pieces_os_client.models.asset import Asset

PYTHON_ID = "6b1f0c6e-4f1a-4a53-9a0b-3c7d52a1e001"
OTHER_ID = "f2a9d7b4-77c2-4f0e-8b61-0d9e4c5ab002"
NOTE_ID = "0c5d9a10-52d3-4f7b-8f8e-aa00bb11cc03"
WAIT_S = 10.0

T = TypeVar("T")


@pytest.fixture
async def standin() -> AsyncIterator[PiecesStandin]:
    """Three assets: two Python snippets that share a tag, one note the user did not save."""
    standin = PiecesStandin()
    standin.put(PYTHON_ID, {"name": "retry loop", "content": "for i in range(3): pass", "ext": "py", "tags": ["http"]})
    standin.put(OTHER_ID, {"name": "pager", "content": "next(page)", "ext": "py", "tags": ["http", "cli"]})
    standin.put(NOTE_ID, {"content": "rotate the keys", "ext": "md", "pseudo": True, "websites": ["https://a.invalid"]})
    await standin.start()
    yield standin
    await standin.stop()


@pytest.fixture
async def client(standin: PiecesStandin) -> AsyncIterator[ApiClient]:
    client = ApiClient(Configuration(standin.url))
    yield client
    client.rest_client.pool_manager.clear()


@pytest.fixture
def api(client: ApiClient) -> AssetsApi:
    return AssetsApi(client)


def application() -> Application:
    return Application(
        id="aaaaaaaa-0000-4000-8000-000000000001",
        name="OPEN_SOURCE",
        version="1.0.0",
        platform="LINUX",
        onboarded=False,
        privacy="OPEN",
    )


def seed(raw: str, name: str) -> Seed:
    fragment = SeededFragment(string=TransferableString(raw=raw), metadata=FragmentMetadata(ext="py"))
    metadata = SeededAssetMetadata(name=name, mechanism="MANUAL")
    asset = SeededAsset(application=application(), format=SeededFormat(fragment=fragment), metadata=metadata)
    return Seed(asset=asset, type="SEEDED_ASSET")


async def call(operation: Callable[..., T], *args: object, **kwargs: object) -> T:
    return await asyncio.to_thread(operation, *args, **kwargs)


async def test_create_then_get_and_formats(api: AssetsApi, standin: PiecesStandin) -> None:
    """An asset created through the client is held, and read back whole by its id."""
    created = await call(api.assets_create_new_asset, transferables=True, seed=seed("print('hi')", "hello"))
    assert (created.name, created.original.reference.fragment.string.raw) == ("hello", "print('hi')")
    read = await call(api.assets_specific_asset_snapshot, created.id, transferables=False)
    assert (read.id, read.created.value, read.mechanism.value) == (created.id, created.created.value, "MANUAL")
    assert read.formats.iterable[0].fragment.string is None
    formats = await call(api.assets_specific_asset_formats_snapshot, created.id)
    assert formats.iterable[0].fragment.string.raw == "print('hi')"
    assert formats.iterable[0].classification.specific.value == "py"
    held = standin.get(created.id)
    assert held is not None
    assert held["content"] == "print('hi')"


async def test_delete_then_gone(api: AssetsApi) -> None:
    """Delete answers the id as text; from then on a get is 410."""
    assert await call(api.assets_delete_asset, PYTHON_ID) == PYTHON_ID
    with pytest.raises(ApiException) as refused:
        await call(api.assets_specific_asset_snapshot, PYTHON_ID)
    assert refused.value.status == 410
    assert PYTHON_ID in refused.value.body


async def test_draft_stores_nothing(api: AssetsApi, standin: PiecesStandin) -> None:
    """A draft answers the seed with what could be made of it."""
    drafted = await call(api.assets_draft, seed=seed("x = 1", "one"))
    assert drafted.asset.format.fragment.string.raw == "x = 1"
    assert [item.specific.value for item in drafted.asset.available.iterable] == ["py", "txt"]
    assert len(standin.asset_ids()) == 3


async def test_snapshot_with_and_without_pseudo(api: AssetsApi) -> None:
    """The snapshot leaves out what the user did not save, unless it is asked for."""
    saved = await call(api.assets_snapshot, transferables=False)
    assert [asset.id for asset in saved.iterable] == [PYTHON_ID, OTHER_ID]
    everything = await call(api.assets_snapshot, transferables=True, pseudo=True)
    assert everything.indices == {PYTHON_ID: 0, OTHER_ID: 1, NOTE_ID: 2}
    assert everything.iterable[2].websites.iterable[0].url == "https://a.invalid"


async def test_identifiers_and_pseudo(api: AssetsApi, standin: PiecesStandin) -> None:
    """Identifiers come with and without the unsaved, and with flattened assets behind the switch."""
    saved = await call(api.assets_identifiers_snapshot)
    assert [item.id for item in saved.iterable] == [PYTHON_ID, OTHER_ID]
    unsaved = await call(api.assets_pseudo_snapshot)
    assert [item.id for item in unsaved.identifiers.iterable] == [NOTE_ID]
    standin.switch({"identifiers_with_reference": True})
    hydrated = await call(api.assets_identifiers_snapshot, pseudo=True)
    assert [item.reference.name for item in hydrated.iterable] == ["retry loop", "pager", None]


async def test_search(api: AssetsApi) -> None:
    """Search finds by name, by content and by tag; with neither query nor tags it is 500."""
    by_name = await call(api.search_assets, query="RETRY", transferables=False)
    assert [(hit.identifier, hit.match.value, hit.exact) for hit in by_name.iterable] == [(PYTHON_ID, "TITLE", True)]
    by_tag = await call(api.search_assets, searchable_tags="cli,nothing")
    assert [(hit.identifier, hit.asset.name) for hit in by_tag.iterable] == [(OTHER_ID, "pager")]
    with pytest.raises(ApiException) as refused:
        await call(api.search_assets)
    assert refused.value.status == 500


async def test_search_with_filters(api: AssetsApi, standin: PiecesStandin) -> None:
    """Filters narrow by tag and by the time of change."""
    standin.put(OTHER_ID, {"updated": "2030-01-01T00:00:00.000Z"})
    since = AssetFilterTimestamp(var_from=GroupedTimestamp(value="2029-12-31T00:00:00Z"))
    filters = AssetFilters(iterable=[AssetFilter(tags=["http"]), AssetFilter(updated=since)], type="AND")
    wanted = AssetsSearchWithFiltersInput(filters=filters)
    found = await call(api.assets_search_with_filters, assets_search_with_filters_input=wanted)
    assert [hit.identifier for hit in found.results.iterable] == [OTHER_ID]


async def test_related_and_recommended(api: AssetsApi, standin: PiecesStandin) -> None:
    """Both GETs with a body work although this client drops the body on the way."""
    whole = await call(api.assets_snapshot)
    related = await call(api.assets_get_related_assets, assets=whole)
    assert related.iterable == []
    recommended = await call(api.assets_get_recommended_assets)
    assert {asset.id for asset in recommended.iterable} == {PYTHON_ID, OTHER_ID}
    assert standin.requests.count("/assets/(related|recommended)") == 2


async def test_singular_twins(client: ApiClient) -> None:
    """The paths under /asset, which the vendor's wrapper reads, answer alike."""
    api = AssetApi(client)
    assert (await call(api.asset_snapshot, PYTHON_ID)).name == "retry loop"
    formats = await call(api.asset_formats, PYTHON_ID)
    assert formats.iterable[0].asset.id == PYTHON_ID
    with pytest.raises(ApiException) as refused:
        await call(api.asset_snapshot, "00000000-0000-4000-8000-000000000000")
    assert refused.value.status == 410


async def test_connect_user_and_well_known(client: ApiClient) -> None:
    """A client finds the server healthy, of a version it can read, with a user signed in, and gets its application."""
    connection = SeededConnectorConnection(
        application=SeededTrackedApplication(name="OPEN_SOURCE", platform="LINUX", version="5.0.1")
    )
    context = await call(ConnectorApi(client).connect, seeded_connector_connection=connection)
    assert (context.application.version, context.user.name) == ("5.0.1", "Sandbox User")
    assert (await call(UserApi(client).user_snapshot)).user.id == context.user.id
    well_known = WellKnownApi(client)
    assert (await call(well_known.get_well_known_health)).startswith("ok")
    version = await call(well_known.get_well_known_version)
    assert VersionChecker("12.0.0", "13.0.0", version).version_check().compatible


async def test_seeded_assets_are_all_readable(api: AssetsApi, standin: PiecesStandin) -> None:
    """Every asset of a seeded scenario, at any step of it, fits the client's models."""
    rng = random.Random(7)  # noqa: S311 - a scenario that repeats, not a secret
    standin.seed(rng, 30)
    for _ in range(200):
        standin.advance(rng)
    read = await call(api.assets_snapshot, pseudo=True)
    assert [asset.id for asset in read.iterable] == standin.asset_ids()


@asynccontextmanager
async def stream(standin: PiecesStandin, path: str) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Open a stream with the vendor's WebSocket library; give the reader of its next frame."""
    url = standin.url.replace("http", "ws") + path
    socket = await asyncio.to_thread(websocket.create_connection, url, timeout=WAIT_S)

    async def read() -> str:
        frame = await asyncio.to_thread(socket.recv)
        assert isinstance(frame, str)
        return frame

    try:
        yield read
    finally:
        socket.shutdown()


async def test_identifiers_stream_frames(standin: PiecesStandin) -> None:
    """Snapshot, change and tombstone frames fit StreamedIdentifiers."""
    async with stream(standin, "/assets/stream/identifiers") as read:
        first = StreamedIdentifiers.from_json(await read())
        assert [item.asset.id for item in first.iterable] == [PYTHON_ID, OTHER_ID]
        standin.put(PYTHON_ID, {"content": "pass", "updated": "2030-01-01T00:00:00.000Z"})
        changed = StreamedIdentifiers.from_json(await read()).iterable[0]
        assert (changed.asset.id, changed.deleted, changed.updated.value.year) == (PYTHON_ID, None, 2030)
        standin.remove(PYTHON_ID)
        gone = StreamedIdentifiers.from_json(await read()).iterable[0]
        assert (gone.asset.id, gone.deleted) == (PYTHON_ID, True)


@pytest.mark.parametrize(
    ("path", "content"), [("/assets/stream", None), ("/assets/stream/transferables", "next(page)")]
)
async def test_assets_stream_frames(standin: PiecesStandin, path: str, content: str | None) -> None:
    """Frames of the two Assets streams fit Assets; the content is in one of them only."""
    async with stream(standin, path) as read:
        first = Assets.from_json(await read())
        assert [asset.name for asset in first.iterable] == ["retry loop", "pager"]
        carried = first.iterable[1].original.reference.fragment.string
        assert (carried and carried.raw) == content
        standin.put(OTHER_ID, {"name": "pager 2"})
        assert Assets.from_json(await read()).iterable[0].name == "pager 2"
        standin.remove(OTHER_ID)
        dead = Assets.from_json(await read()).iterable[0]
        assert (dead.id, dead.deleted is not None) == (OTHER_ID, True)


async def test_health_stream_says_ok(standin: PiecesStandin) -> None:
    """The health stream begins with ok and ends with the server."""
    async with stream(standin, "/.well-known/stream/health") as read:
        assert (await read()).lower().startswith("ok")
        await standin.stop()
        with suppress(websocket.WebSocketConnectionClosedException, ConnectionError):
            assert await read() == ""


async def test_the_wrapper_mirrors_the_assets(standin: PiecesStandin) -> None:
    """The vendor's wrapper fills its cache from the first frame, follows changes and drops what is deleted."""
    loop, seen = asyncio.get_running_loop(), asyncio.Queue[tuple[str, str]]()

    def note(verb: str, asset: Asset) -> None:
        loop.call_soon_threadsafe(seen.put_nowait, (verb, asset.name))

    wrapper = await asyncio.to_thread(PiecesClient, connect_websockets=False, reconnect_on_host_change=False)
    wrapper.port = standin.url.rpartition(":")[2]
    mirror = AssetsIdentifiersWS(
        wrapper, on_asset_update=partial(note, "held"), on_asset_remove=partial(note, "dropped")
    )
    mirror.start()
    try:
        async with asyncio.timeout(WAIT_S):
            assert {await seen.get(), await seen.get()} == {("held", "retry loop"), ("held", "pager")}
            standin.put(PYTHON_ID, {"name": "retry twice"})
            assert await seen.get() == ("held", "retry twice")
            standin.remove(OTHER_ID)
            assert await seen.get() == ("dropped", "pager")
        assert set(AssetSnapshot.identifiers_snapshot) == {PYTHON_ID}
    finally:
        await asyncio.to_thread(mirror.close)
        wrapper.api_client.rest_client.pool_manager.clear()
        forget_the_mirror()


def forget_the_mirror() -> None:
    """Undo what the wrapper keeps on its classes, so that nothing calls into this test's loop later."""
    AssetSnapshot.identifiers_snapshot.clear()
    AssetSnapshot.on_update_list.clear()
    AssetSnapshot.on_remove_list.clear()
