// Lists the assets of a Pieces OS, makes one, finds it, deletes it, and watches all that in the stream.
// Usage: node pieces.mjs HOST:PORT SOURCE      It reads the schema from ../../proto at run time; nothing is generated.
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const PROTO = fileURLToPath(new URL("../../proto", import.meta.url));
const definition = loader.loadSync("assetwatch/pieces/v1/pieces_assets_service.proto", {
  includeDirs: [PROTO], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true,
});
const { PiecesAssetsService } = grpc.loadPackageDefinition(definition).assetwatch.pieces.v1;

const [server, source] = process.argv.slice(2);
const desk = new PiecesAssetsService(server, grpc.credentials.createInsecure(), {
  "grpc.max_receive_message_length": -1, // an answer with raw content may be large; its limit is the server's
});
const call = (rpc, request) => promisify(desk[rpc].bind(desk))({ source, ...request }, { deadline: Date.now() + 30_000 });

// The map that the stream keeps, and what it has told.
const assets = new Map();
let complete = false;
const stream = desk.StreamAssets({ source });
stream.on("error", (error) => {
  if (error.code !== grpc.status.CANCELLED) throw error; // CANCELLED is our own doing, at the end
});
stream.on("data", ({ started, changes, synced }) => {
  if (started) { // at the beginning, and after a break of the upstream's connection: everything comes again
    assets.clear();
    complete = false;
  }
  for (const { kind, asset_id, asset } of changes) {
    if (kind === "CHANGE_KIND_REMOVED") assets.delete(asset_id);
    else assets.set(asset_id, asset);
    console.log(kind === "CHANGE_KIND_REMOVED" ? "stream: -" : "stream: +", asset_id);
  }
  if (synced) console.log("stream: synced,", assets.size, "assets");
  complete ||= Boolean(synced);
  stream.emit("taken");
});
async function until(condition) {
  while (!condition()) await once(stream, "taken");
}

const { assets: listed } = await call("ListAssets", { transferables: false });
for (const { id, name } of listed.iterable) console.log("listed:", id, name);
await until(() => complete);

const application = {
  id: "6f0c1d2e-0000-4000-8000-00000000e0de", name: "OPEN_SOURCE", version: "1.0.0", platform: "LINUX",
  onboarded: false, privacy: "OPEN",
};
const fragment = { string: { raw: "console.log('hello from Node')\n" }, metadata: { ext: "js" } };
const seed = { type: "SEEDED_ASSET", asset: { application, format: { fragment }, metadata: { name: "hello-node" } } };
const { asset, revision } = await call("CreateAsset", { seed, transferables: false });
console.log("created:", asset.id, "at revision", revision);
await until(() => assets.has(asset.id));

const { results } = await call("SearchAssets", { query: "hello from Node", transferables: false });
for (const { identifier, match } of results.iterable) console.log("found:", identifier, match);

const { asset: read } = await call("GetAsset", { asset_id: asset.id, transferables: true });
console.log("content:", read.formats.iterable[0].fragment.string.raw.trim());

const deleted = await call("DeleteAsset", { asset_id: asset.id });
console.log("deleted:", deleted.asset_id);
await until(() => !assets.has(asset.id));

await call("GetAsset", { asset_id: asset.id, transferables: false }).then(
  () => { throw new Error("it is still there"); },
  (error) => console.log("gone:", grpc.status[error.code]),
);
stream.cancel();
desk.close();
