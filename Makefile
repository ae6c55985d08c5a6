.PHONY: demo demo-once test check proto run sim lab servers oauth models browser conformance bench bench-federation bench-search eval adapter clean
PY := .venv/bin/python

demo: .venv/ready            # set everything up, start a three-region mesh, run the story, stay until Ctrl-C
	.venv/bin/toolmesh demo

demo-once: .venv/ready       # the same story, then stop: exit status 0 if every step came out as told
	.venv/bin/toolmesh demo --once

test: .venv/ready            # set everything up and run the tests, two files at a time
	$(PY) -m pytest -n 2 --dist loadfile

check: .venv/ready           # style, types, who may import whom, generated stubs, known flaws, secrets in the tree
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports --no-cache && deploy/stubs.sh --check
	.venv/bin/bandit -q -c pyproject.toml -r proto federation router node
	$(PY) deploy/known_vulnerabilities.py
	$(PY) deploy/secrets_scan.py

proto: .venv/ready           # generate the stubs from proto/*.proto
	deploy/stubs.sh

run: .venv/ready             # start a node with your own node.yaml
	.venv/bin/toolmesh up -c $(or $(CONFIG),node.yaml)

sim: .venv/ready             # seeded simulation of the federation: SEED=7 replays one, SEEDS=500 JOBS=2 runs many
	$(PY) -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),200) --jobs $(or $(JOBS),1))

lab: .venv/ready             # regions in network namespaces, with delay, loss, cuts, kills and restarts; needs root
	$(PY) -m pytest -m lab tests/lab -s

servers: .venv/ready         # MCP servers of npm and PyPI, old and new, behind one node; needs Node.js
	tests/servers/setup.sh
	$(PY) -m pytest -m servers tests/servers

oauth: .venv/ready           # a real authorization server, the SDK's OAuth client and a browser's forms, in front of a node
	tests/identity_server/setup.sh
	$(PY) -m pytest -m oauth tests/identity_server

models: .venv/ready          # sentence-transformers beside our own reading of the model, in a venv with torch
	tests/models/setup.sh
	.venv-models/bin/python -m pytest -m models tests/models

browser: .venv/ready         # the pages at which people consent, in Chromium; needs Debian's chromium
	$(PY) -m pytest -m browser tests/browser

conformance: .venv/ready     # the pinned MCP conformance suite through one node and two, and at our client; writes bench/results/
	npm install --prefix tests/conformance --no-audit --no-fund --no-package-lock --silent
	$(PY) -m tests.conformance $(if $(CELLS),--cells '$(CELLS)')

bench: .venv/ready           # measure, and write bench/results/
	$(PY) -m bench

bench-federation: .venv/ready  # measure many nodes on this machine (regions need root), and write bench/results/
	$(PY) -m bench.federation

bench-search: .venv/ready    # measure search on one core, and write bench/results/search.json; DATA=DIR adds the quality on sets there; more in ARGS='…'
	$(PY) -m bench.search $(if $(DATA),--all --data $(DATA)) $(ARGS)

eval: .venv/ready            # how well search finds the tools of the sets in DATA=DIR, beside plain retrievers; more in ARGS='…'
	.venv/bin/toolmesh eval --data $(or $(DATA),$(error DATA=DIR is missing: the folder that holds the sets)) $(ARGS)

adapter: .venv/ready         # train the adapter that ships, from DATA=DIR with pairs.jsonl; needs the extra `models`, an hour of one core
	$(PY) -m bench.adapter --data $(or $(DATA),$(error DATA=DIR is missing: the folder that holds pairs.jsonl)) --out $(or $(OUT),router/embedders/adapters/tools-1.safetensors)

clean:                       # remove what these targets made
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache tests/inspector/node_modules tests/servers/node_modules tests/servers/.venvs tests/identity_server/.venv .venv-models tests/conformance/node_modules

.venv/ready: pyproject.toml deploy/constraints.txt deploy/setup.sh
	deploy/setup.sh
