#!/bin/sh
# Install the real servers that `make servers` tests: npm's into node_modules, each old SDK into a venv of its own.
# What is there already is kept; `rm -rf tests/servers/node_modules tests/servers/.venvs` starts anew.
set -eu
cd "$(dirname "$0")"
uv=$(pwd)/../../.venv/bin/uv
UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}; export UV_FIND_LINKS
if [ ! -e node_modules/.ready ] || [ package.json -nt node_modules/.ready ]; then
    npm install --no-audit --no-fund --no-package-lock --silent
    touch node_modules/.ready
fi
# One revision of the protocol each: 2024-11-05, 2025-03-26, 2025-06-18, 2025-11-25.
sqlite() {  # VERSION-OF-MCP FURTHER-PINS...
    home=.venvs/mcp-$1
    [ -e "$home/.ready" ] && return
    "$uv" venv -q --clear --python ../../.venv/bin/python "$home"
    "$uv" pip install -q --python "$home/bin/python" mcp-server-sqlite==2025.4.25 mcp=="$@"
    touch "$home/.ready"
}
sqlite 1.6.0 'pydantic<2.12'
sqlite 1.9.4 'pydantic<2.12'
sqlite 1.13.0 'pydantic<2.12'
sqlite 1.30.0
# A client that is not the SDK's; its pins are its own.
home=.venvs/fastmcp-4.1.6
if [ ! -e "$home/.ready" ]; then
    "$uv" venv -q --clear --python ../../.venv/bin/python "$home"
    "$uv" pip install -q --python "$home/bin/python" 'fastmcp-slim[client]==4.1.6'
    touch "$home/.ready"
fi
