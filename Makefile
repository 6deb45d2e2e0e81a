# `make` lists the targets.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory
.DEFAULT_GOAL := help

# One set of flags for building, vetting and linting, so that each package is compiled once. GOFLAGS of the caller stay.
export GOTOOLCHAIN := local
export GOFLAGS     := $(strip $(filter-out -trimpath,$(shell go env GOFLAGS)) -trimpath)
export CGO_ENABLED := 0

VERSION := $(shell git describe --always --dirty 2>/dev/null || echo dev)
COMMIT  := $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS := -ldflags '-X main.version=$(VERSION) -X main.commit=$(COMMIT)'

PROGRAMS := orscore orslab ors-plugin-generic ors-plugin-ipset ors-plugin-domino
PRODUCT  := ./cmd/orscore ./plugins/generic ./plugins/ipset ./plugins/domino
SCENARIO := lab/scenarios/paper.scenario
FUZZTIME ?= 30s
SIMTIME  ?= 60s

# Cases of the matrix that `make test` plays; `make lab-all` plays all.
SAMPLE   ?= 9

# Upgrades of agents, and of plugins, that `make upgrades` makes; `make test` makes 10.
UPGRADES ?= 100

# Nothing runs beside anything else in these packages' code: the race detector would only slow their long simulations.
PURE := ./core/failover ./core/arch ./core/sim

LINT := go tool -modfile=tools/lint/go.mod golangci-lint
BUF  := go tool -modfile=tools/go.mod buf

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 18

.PHONY: build
build: ## build orscore, its plugins and orslab into build/
	go build $(LDFLAGS) -o build/orscore ./cmd/orscore
	go build $(LDFLAGS) -o build/ors-plugin-generic ./plugins/generic
	go build $(LDFLAGS) -o build/ors-plugin-ipset ./plugins/ipset
	go build $(LDFLAGS) -o build/ors-plugin-domino ./plugins/domino
	go build $(LDFLAGS) -o build/orslab ./cmd/orslab
	go build $(LDFLAGS) -o build/notes-server ./lab/notes/server

.PHONY: demo
demo: build ## run a pair on this machine without root, cut one server off, and show what happens
	@build/orslab demo --json build/demo.json

.PHONY: test
test: ## install what tests need, then run everything: checks, builds, the lab (root), unit tests
	@tools/phase.sh "what the tests need" tools/install-test-deps.sh
	@tools/phase.sh "builds" $(MAKE) build cross
	@tools/phase.sh "checks" $(MAKE) check
	@tools/phase.sh "lab scenario" $(MAKE) lab-if-root
	@tools/phase.sh "unit tests" $(MAKE) unit
	@tools/phase.sh "fuzzing" $(MAKE) fuzz-short
	@tools/phase.sh "simulated pairs" $(MAKE) sim

# The race detector needs cgo; what the tests themselves build does not, and is compiled already without it.
.PHONY: unit
unit: ## unit tests, with the race detector wherever goroutines meet
	CGO_ENABLED=1 go test -race -exec 'env CGO_ENABLED=0' $$(go list ./... | grep -vFx "$$(go list $(PURE) ./lab/... ./cmd/orslab)")
	go test $(PURE) ./lab/... ./cmd/orslab

.PHONY: lab
lab: build ## run the white paper's scenario in the lab (root); results in build/lab.json
	build/orslab run $(SCENARIO) --json build/lab.json --logs build/lab-logs

.PHONY: lab-domino
lab-domino: build ## run a takeover of partitioned Domino servers in the lab (root); results in build/lab-domino.json
	build/orslab run lab/scenarios/domino-takeover.scenario --json build/lab-domino.json --logs build/lab-logs

# What the examples of docs/examples are in the lab.
.PHONY: examples
examples:
	docs/examples/python/build.sh build
	mkdir -p build/notify
	install -m 0755 docs/examples/notify/*.sh build/notify/
	cd docs/examples/notify && go build -o ../../../build/notify/notified .

.PHONY: lab-worker
lab-worker: build examples ## let the example plugin in Python protect programs in the lab (root); results in build/lab-worker.json
	build/orslab run lab/scenarios/worker.scenario --json build/lab-worker.json --logs build/lab-logs

.PHONY: lab-notify
lab-notify: build examples ## let programs that are no plugins be told of groups in the lab (root); results in build/lab-notify.json
	build/orslab run lab/scenarios/notify.scenario --json build/lab-notify.json --logs build/lab-logs

.PHONY: windows
windows: ## run the tests of what is done differently on Windows with Wine, which is installed (root)
	tools/windows/test.sh

.PHONY: mutate
mutate: ## weaken each row, guard and rule of the decision, one at a time: some test must notice; results in build/mutants.json
	go test ./core/failover -run '^TestMutants$$' -mutate -v -timeout 60m

.PHONY: sim
sim: build ## run simulated pairs under faults for a minute (SIMTIME); results in build/sim.json
	build/orscore simulate --for $(SIMTIME) --json > build/sim.json || { cat build/sim.json; exit 1; }
	@head -c 120 build/sim.json; echo

.PHONY: sim-long
sim-long: ## the same for an hour
	$(MAKE) sim SIMTIME=1h

# The agents of the matrix have fault points; nothing else is built with them.
.PHONY: faulty
faulty: build
	go build $(LDFLAGS) -tags orsfault -o build/faulty/orscore ./cmd/orscore
	cp -f build/ors-plugin-* build/notes-server build/orslab build/faulty/

# Two builds to upgrade to and fro between: b has other versions, and an agent that speaks the interconnect's protocol of the release before.
.PHONY: upgrade-builds
upgrade-builds: build
	mkdir -p build/upgrade/a build/upgrade/b
	install -m 0755 lab/upgrades/broken/*.sh build/upgrade/
	go build -ldflags '-X main.version=$(VERSION)-a -X main.commit=$(COMMIT)' -o build/upgrade/a/orscore ./cmd/orscore
	go build -ldflags '-X main.version=$(VERSION)-b -X main.commit=$(COMMIT) -X github.com/orscore/ors/core.interconnectVersion=1' \
	  -o build/upgrade/b/orscore ./cmd/orscore
	for kind in generic ipset; do for b in a:0.8.1 b:0.9.1; do \
	  go build -ldflags "-X github.com/orscore/ors/plugins/$$kind/internal/$$kind.Version=$${b#*:}" \
	    -o build/upgrade/$${b%:*}/ors-plugin-$$kind ./plugins/$$kind; done; done

.PHONY: upgrades
upgrades: upgrade-builds ## upgrade agents and plugins of a working pair, UPGRADES (100) times each (root); build/upgrades.json
	sync # what the builds have written must not hold up commits that are timed
	build/orslab upgrades --count $(UPGRADES) --json build/upgrades.json --logs build/upgrades-logs

.PHONY: matrix
matrix: faulty ## play all faults of the matrix on real pairs (root); a table in build/matrix.json
	build/faulty/orslab matrix --json build/matrix.json --logs build/matrix-logs

.PHONY: matrix-sample
matrix-sample: faulty ## play some of them
	build/faulty/orslab matrix --sample $(SAMPLE) --json build/matrix-sample.json --logs build/matrix-logs

.PHONY: lab-all
lab-all: build examples ## play every scenario of the lab and the whole matrix (root)
	for file in lab/scenarios/*.scenario; do \
	  name=$$(basename $$file .scenario); [[ $$name == matrix* || $$name == upgrades ]] && continue; \
	  build/orslab run $$file --json build/lab-$$name.json --logs build/lab-logs-$$name; done
	$(MAKE) upgrades matrix

.PHONY: lab-if-root
lab-if-root:
	@if ((EUID == 0)); then $(MAKE) lab lab-domino lab-worker lab-notify matrix-sample; $(MAKE) upgrades UPGRADES=10; \
	else echo "SKIPPED: the lab makes namespaces, mounts and loop devices, which needs root"; fi

.PHONY: check
check: vet lint imports ## format, vet for all platforms, lint, import rules

.PHONY: vet
vet:
	@bad=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	  if [[ -n $$bad ]]; then echo "not formatted, gofmt -w would do it:" $$bad; exit 1; fi
	go vet ./...
	GOOS=windows GOARCH=amd64 go vet ./...
	GOOS=linux GOARCH=arm64 go vet ./...

.PHONY: lint
lint:
	$(LINT) run

.PHONY: imports
imports:
	go test -count=1 ./core/arch

.PHONY: cross
cross: ## build for windows/amd64 and linux/arm64 into build/cross/
	for target in windows/amd64 linux/arm64; do \
	  GOOS=$${target%/*} GOARCH=$${target#*/} go build $(LDFLAGS) -o build/cross/$${target/\//-}/ $(PRODUCT); done

.PHONY: generate
generate: ## lint the protocols and generate their code
	$(BUF) lint
	$(BUF) generate

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (30s), two at a time; FUZZ=PATTERN for some of them
	@tools/fuzz.sh $(FUZZTIME) '$(FUZZ)'

.PHONY: fuzz-short
fuzz-short: ## the same for 30 s each: what make test does
	@tools/fuzz.sh 30s

.PHONY: bench
bench: ## run all benchmarks
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: clean
clean: ## remove what was built
	rm -rf build
