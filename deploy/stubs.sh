#!/bin/sh
# Generate the stubs of proto/mesh.proto in place; with --check, fail if the committed ones differ.
set -eu
cd "$(dirname "$0")/.."
out=.
if [ "${1:-}" = --check ]; then out=$(mktemp -d); trap 'rm -rf "$out"' EXIT; fi
.venv/bin/python -m grpc_tools.protoc -I . --python_out="$out" --grpc_python_out="$out" --mypy_out="quiet:$out" \
    --mypy_grpc_out="quiet:$out" --plugin=protoc-gen-mypy=.venv/bin/protoc-gen-mypy \
    --plugin=protoc-gen-mypy_grpc=.venv/bin/protoc-gen-mypy_grpc proto/mesh.proto
[ "$out" = . ] && exit 0
for f in "$out"/proto/mesh_pb2*; do
    cmp -s "$f" "proto/$(basename "$f")" || { echo "proto/$(basename "$f") differs from proto/mesh.proto: run 'make proto'" >&2; exit 1; }
done
