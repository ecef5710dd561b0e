// Watches whole sources and keeps a map of their assets, through every interruption.
// Usage: node watch.mjs HOST:PORT SOURCE...      It reads the schema from ../../proto at run time; nothing is generated.
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const PROTO = fileURLToPath(new URL("../../proto", import.meta.url));
const definition = loader.loadSync("assetwatch/v1/asset_status_service.proto", {
  includeDirs: [PROTO], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true,
});
const { assetwatch } = grpc.loadPackageDefinition(definition);

const [server, ...sources] = process.argv.slice(2);
const client = new assetwatch.v1.AssetStatusService(server, grpc.credentials.createInsecure(), {
  "grpc.keepalive_time_ms": 10_000,
});
const assets = new Map(); // "source asset_id" -> status
let unsynced = null; // what this snapshot has brought so far
let resumeToken = "";

function take(message) {
  if (message.started?.mode === "MODE_SNAPSHOT") unsynced = new Set();
  for (const { kind, status } of message.changes) {
    const key = `${status.asset.source} ${status.asset.asset_id}`;
    if (kind === "CHANGE_KIND_REMOVED") assets.delete(key);
    else assets.set(key, status);
    unsynced?.add(key);
    console.log(kind === "CHANGE_KIND_REMOVED" ? "-" : "+", key, status.state);
  }
  for (const { source, condition } of message.source_conditions) console.log("!", source, condition.state, condition.message);
  if (message.synced) {
    if (unsynced) for (const key of assets.keys()) if (!unsynced.has(key)) assets.delete(key);
    unsynced = null;
    console.log("= synced,", assets.size, "assets, revision", message.head_revision);
  }
  if (message.resume_token) resumeToken = message.resume_token;
}

// One stream, from request to end; resolves with null when it ended OK, else with the error.
function follow() {
  return new Promise((resolve) => {
    const stream = client.WatchStatus({ sources, resume_token: resumeToken });
    stream.on("data", take).on("end", () => resolve(null)).on("error", resolve);
  });
}

for (let tries = 0; ; tries += 1) {
  const before = resumeToken;
  const error = await follow();
  if (resumeToken !== before) tries = 0;
  if (error?.code === grpc.status.OUT_OF_RANGE) resumeToken = ""; // expired, or another epoch: take a snapshot
  else if ([grpc.status.INVALID_ARGUMENT, grpc.status.NOT_FOUND].includes(error?.code)) throw error; // mend the call
  if (error) {
    console.log("! stream ended:", grpc.status[error.code], error.details);
    await sleep(Math.random() * Math.min(30_000, 500 * 2 ** tries)); // full jitter
  }
}
