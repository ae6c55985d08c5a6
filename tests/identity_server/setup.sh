#!/bin/sh
# Install the authorization server that `make oauth` tests against, in an environment of its own.
# What is there already is kept; `rm -rf tests/identity_server/.venv` starts anew.
set -eu
cd "$(dirname "$0")"
uv=$(pwd)/../../.venv/bin/uv
UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}; export UV_FIND_LINKS
if [ ! -e .venv/.ready ] || [ setup.sh -nt .venv/.ready ]; then
    "$uv" venv -q --clear --python ../../.venv/bin/python .venv
    "$uv" pip install -q --python .venv/bin/python django-oauth-toolkit==3.4.1 'django>=5.2,<6'
    touch .venv/.ready
fi
