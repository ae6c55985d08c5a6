#!/bin/sh
# Generate the stubs of proto/*.proto in place; with --check, fail if the committed ones differ.
set -eu
cd "$(dirname "$0")/.."
out=.
if [ "${1:-}" = --check ]; then out=$(mktemp -d); trap 'rm -rf "$out"' EXIT; fi
# Messages of both; services of the mesh alone, since etcd is called by literal paths.
.venv/bin/python -m grpc_tools.protoc -I . --python_out="$out" --mypy_out="quiet:$out" \
    --plugin=protoc-gen-mypy=.venv/bin/protoc-gen-mypy proto/mesh.proto proto/etcd.proto
.venv/bin/python -m grpc_tools.protoc -I . --grpc_python_out="$out" --mypy_grpc_out="quiet:$out" \
    --plugin=protoc-gen-mypy_grpc=.venv/bin/protoc-gen-mypy_grpc proto/mesh.proto
[ "$out" = . ] && exit 0
for f in "$out"/proto/*_pb2*; do
    cmp -s "$f" "proto/$(basename "$f")" || { echo "proto/$(basename "$f") differs from its .proto: run 'make proto'" >&2; exit 1; }
done
