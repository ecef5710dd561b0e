#!/bin/sh
# Generates the Python code of the schema, typed, into a directory (generated/ unless another is given).
set -eu
cd "$(dirname "$0")/.."
out=${1:-generated}
bin=${VENV:-.venv}/bin
find "$out" -type f \( -name '*_pb2*.py' -o -name '*_pb2*.pyi' \) -delete
PATH="$bin:$PATH" "$bin/python" -W error -m grpc_tools.protoc -Iproto \
  --python_out="$out" --grpc_python_out="$out" --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" \
  $(find proto/assetwatch proto/buf -name '*.proto' | LC_ALL=C sort) # google/api is in googleapis-common-protos
# What is ours alone, and no client's: outside proto/, so that no image of the schema, lint or generated client has it.
PATH="$bin:$PATH" "$bin/python" -W error -m grpc_tools.protoc -Iinternal \
  --python_out="$out" --grpc_python_out="$out" --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" \
  $(find internal -name '*.proto' | LC_ALL=C sort)
rm -f "$out"/assetwatch_etcd/*_grpc.py "$out"/assetwatch_etcd/*_grpc.pyi # messages alone, see its head
rm -f "$out"/buf/validate/*_grpc.py "$out"/buf/validate/*_grpc.pyi # it has no service
# Type checkers look into installed packages that have one.
touch "$out/assetwatch/py.typed" "$out/assetwatch_etcd/py.typed" "$out/buf/validate/py.typed"
