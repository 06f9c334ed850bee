# Two commands set up everything: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
# Tests side by side; each takes up to 2 GB.
JOBS ?= 2
CC_FOUND := $(shell command -v cc || command -v gcc || command -v clang)

.PHONY: help venv demo test test-long lint types bench kernel lock image clean

help:
	@echo "make demo    install, then enrich a small real collection and report on it"
	@echo "make test    install, then run every test"
	@echo "make venv    install everything into $(VENV)"
	@echo "make image   build the image of GPU nodes (docker, podman or buildah), with WEIGHTS='MODEL ...' baked in"
	@echo "make lint types bench faults kernel lock clean"

venv: $(VENV)/.installed

# pyradiomics is published as source only; where the machine has no C compiler, PyPI's ziglang is one.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
ifeq ($(CC_FOUND),)
	$(BIN)/python -m pip install --quiet ziglang
	printf '#!/bin/sh\nexec %s cc "$$@"\n' "$$($(BIN)/python -c 'import ziglang, pathlib; print(pathlib.Path(ziglang.__file__).parent / "zig")')" > $(BIN)/voxfleet-cc
	chmod +x $(BIN)/voxfleet-cc
	CC="$(abspath $(BIN))/voxfleet-cc" LDSHARED="$(abspath $(BIN))/voxfleet-cc -shared" \
		$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
else
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
endif
	touch $@

demo: venv
	$(BIN)/voxfleet demo demo

# Orthanc cannot be told to listen on loopback only, so its tests get a network of their own.
ALONE := unshare $(if $(filter 0,$(shell id -u)),,--map-root-user) --net
test: venv
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not orthanc and not long"
	@if [ -x /usr/sbin/Orthanc ] && $(ALONE) ip link set lo up 2>/dev/null; then \
		$(ALONE) sh -c 'ip link set lo up && exec $(BIN)/python -m pytest -m orthanc'; \
	else \
		echo "left out: tests with Orthanc (apt-get install orthanc orthanc-dicomweb iproute2)"; \
	fi

test-long: venv
	$(BIN)/python -m pytest -m long

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: venv
	$(BIN)/mypy

# make bench runs every script of benchmarks/performance, make bench NAME="radiomics seg_write" some, and shows what they
# measured in one table; one that cannot run here (no GPU, no s5cmd) is named at the end and stops no other.
SCRIPTS = $(filter-out summary,$(basename $(notdir $(wildcard benchmarks/performance/[a-z]*.py))))
bench: venv
	@left=; made=; for script in $(or $(NAME),$(SCRIPTS)); do \
		$(BIN)/python -m voxfleet.benchmarks.performance.$$script && made="$$made $$script" || left="$$left $$script"; \
	done; \
	[ -z "$$made" ] || $(BIN)/python -m voxfleet.benchmarks.performance.summary $$made; \
	if [ -n "$$left" ]; then echo "not measured:$$left"; exit 1; fi

# make faults runs the tests that cluster/FAULTS.md names so many times, and writes what each fault cost into its table.
ROUNDS ?= 3
faults: venv
	$(BIN)/python -m voxfleet.benchmarks.performance.faults $(ROUNDS)

# After a change of the loops in C: the same bytes from the same version, on any machine.
FEATURES := enrich/features
SOURCES := $(sort $(wildcard $(FEATURES)/*.c $(FEATURES)/*.h))
kernel: venv
	$(BIN)/python -m pip install --quiet ziglang==0.17.0
	$(BIN)/python -m ziglang cc -target wasm32-freestanding -mcpu=generic+bulk_memory+simd128 -O3 -nostdlib -Wall -Wextra \
		-Wl,--no-entry,--export=__heap_base,--export-dynamic,--strip-debug \
		-DSOURCE_SHA256="\"$$(cat $(SOURCES) | $(BIN)/python -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')\"" \
		-o $(FEATURES)/kernel.wasm $(filter %.c,$(SOURCES))
	chmod -x $(FEATURES)/kernel.wasm

lock: venv
	( echo "# Versions that 'make venv' installs and CI tests; made by 'make lock'."; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//' ) > constraints.txt

BUILDER ?= $(shell command -v docker || command -v podman || command -v buildah)
image:
	$(or $(BUILDER),$(error no docker, podman or buildah)) build -f Dockerfile.gpu -t voxfleet:gpu $(BUILD_OPTIONS) \
		--build-arg COMMIT=$$(git describe --always --dirty --abbrev=40 --exclude='*') --build-arg WEIGHTS="$(WEIGHTS)" .

clean:
	rm -rf $(VENV) build dist *.egg-info demo
