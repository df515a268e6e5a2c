# One command each. `make demo` and `make test` set everything up that they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCE ?= out/demo-title.mp4
DEMO_OUT ?= out/demo

FUZZ ?= 2000
SEED ?= 1
KINDS ?= 500

.PHONY: help setup demo test slow browsers playback lint types docs bench chaos simulate load kinds fuzz fuzz-sources fuzz-service matrix corpus recipes claims clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(READY) ## create .venv with everything, at the versions of constraints.txt

$(READY): pyproject.toml constraints.txt apt-packages.txt
	@command -v dpkg >/dev/null || exit 0; \
	missing=""; for p in $$(cat apt-packages.txt); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	  echo "installing system packages:$$missing"; \
	  sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing; \
	fi
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(READY) ## run the main job on a generated title, or on SOURCE=file.mp4
ifeq ($(SOURCE),out/demo-title.mp4)
	@mkdir -p out
	@test -f $(SOURCE) || $(BIN)/python -m fixtures.clips $(SOURCE)
endif
	$(BIN)/shotladder run "$(SOURCE)" --out "$(DEMO_OUT)"
	$(BIN)/shotladder ladder show "$(DEMO_OUT)"
	@echo "package: $(DEMO_OUT)/master.m3u8 and $(DEMO_OUT)/manifest.mpd"

# Python processes that tests start begin faster from compiled modules.
test slow: export PYTHONDONTWRITEBYTECODE =

test: $(READY) ## run the tests, but not those of `make slow`
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TEST_OPTIONS)

slow: $(READY) ## run the tests that are marked slow: random faults, minutes each
	$(BIN)/python -m pytest -n 0 -m slow

browsers: ## install browsers from Debian and players from npm, for the playback tests
	tests/browser/install

playback: $(READY) browsers ## play a package in Chromium and Firefox with three players
	SHOTLADDER_BROWSERS=1 $(BIN)/python -m pytest -n 0 -m browser --durations=5

lint: $(READY) ## check style, imports and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: $(READY) ## regenerate the generated parts of docs/
	$(BIN)/python -m docs.generate

bench: $(READY) ## show where the CPU goes, and compare two workers with two plain ffmpegs
	$(BIN)/python -m tests.bench

fuzz-sources: $(READY) ## read damaged and hostile sources (FUZZ=2000 SEED=1 KEPT=file); out/fuzz keeps what fails
	$(BIN)/python -m tests.fuzz $(FUZZ) $(SEED) $(if $(KEPT),--kept $(KEPT))

matrix: $(READY) ## make a verified package of every kind of source with every codec
	$(BIN)/python -m tests.matrix
	$(BIN)/python -m tests.kinds --each --codecs x264,x265,svtav1,vp9

kinds: $(READY) ## judge packages of 500 inputs of kinds that users report (KINDS=500 SEED=1 KEPT=file)
	$(BIN)/python -m tests.kinds $(KINDS) $(SEED) $(if $(KEPT),--kept $(KEPT))

corpus: $(READY) ## make a verified x264 package of every clip of the corpus; resumes where it stopped
	$(BIN)/python -m tests.corpus_passes

recipes: $(READY) ## apply the rule for default recipes to encoder options; resumes where it stopped
	$(BIN)/python -m tests.recipe_rule
	$(BIN)/python -m tests.recipe_rule --guard
	$(BIN)/python -m tests.recipe_rule --cpu

claims: $(READY) ## measure the claims on six titles (CLAIMS="--show"); resumes where it stopped, takes hours
	$(BIN)/python -m tests.claims $(CLAIMS)

chaos: $(READY) ## inject 200 rounds of random faults into a cluster; kill services and runners under 1,000 submissions
	$(BIN)/python -m tests.cluster_chaos
	$(BIN)/python -m tests.chaos $(CHAOS)

simulate: $(READY) ## run catalogues of 10, 100 and 1,000 titles with stages that only take time
	$(BIN)/python -m tests.simulate

load: $(READY) ## read under load, with and without attack, from a library of 50,000 titles (9 GB in TMPDIR; LOAD="--seconds 30")
	$(BIN)/python -m tests.load $(LOAD)

fuzz-service: $(READY) ## run schemathesis against the service's OpenAPI document
	$(BIN)/python -m tests.test_service_fuzz

fuzz: fuzz-sources fuzz-service ## run fuzz-sources and fuzz-service

clean: ## remove everything that the targets made
	rm -rf out $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
