#!/bin/sh
# Fails when generated/ is not what the schema gives.
set -eu
cd "$(dirname "$0")/.."
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
sh tools/generate.sh "$fresh"
diff -r -x __pycache__ "$fresh" generated || {
  echo "generated/ differs from proto/: run 'make generate' and commit what it changes" >&2
  exit 1
}
