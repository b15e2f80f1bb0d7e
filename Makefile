# Roam. `make` lists what there is to make.

SHELL := /bin/bash
GO    ?= $(shell command -v go || echo /usr/local/go/bin/go)
FLAGS ?=
# Where go, gofmt and the like are.
BIN    = $(shell $(GO) env GOROOT)/bin

# How long `make fuzz` spends on each target, how long the regions are apart in `make soak-cut`, and how many
# leaders die in `make soak-kill`.
FUZZTIME ?= 20s
CUT      ?= 2m
KILLS    ?= 10
# How long `make soak-chaos` goes on.
CHAOS    ?= 5m
SESSIONS ?= 1000000

# What `make sim` runs: how many seeds, from which on, for how long at most; or one seed alone.
SEEDS     ?= 10000
SEED_BASE ?= 1
MINUTES   ?= 0
SEED      ?=

# What `make wan` runs: scenarios (all that begin within MINUTES; NAME@RATE has so many messages a second), of so many regions and nodes in each, whose ways have the one-way DELAY; in
# catchup a region has missed BEHIND ops.
SCENARIO ?=
REGIONS  ?= 3
NODES    ?= 1
DELAY    ?= 20ms
BEHIND   ?= 1000000

# What of the whole regions in fake time runs under -race as well: all kinds of nodes, clients and faults once. There they have one processor
# (internal/raced) and take ten times as long, so that all of them would be half of what `make test` takes. A simulation is one goroutine: there
# is nothing to detect.
RACED ?= ^(TestMovesInMidAnswer|TestLeaderCrashes|TestSeeds)$$

.DEFAULT_GOAL := help
.PHONY: help demo test build collector deps lint generate bench sim bubble planted wan wan-short wan-random soak-cut soak-kill soak-chaos many fuzz clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: deps build ## Two regions and a conversation that moves between them, then a page to try; DEMO_ONCE=1 ends after the conversation
	bin/roam dev --demo $(if $(filter-out 0,$(DEMO_ONCE)),--once) $(FLAGS)

test: deps lint collector ## Everything that is checked: lint, and all tests under -race with real processes and a real Redis
	$(GO) test -race $$($(GO) list ./... | grep -vE '/internal/(bubble|sim)$$')
	cd deploy && $(GO) test -race ./...
	$(GO) test ./internal/bubble ./internal/sim
	$(GO) test -race -run '$(RACED)' ./internal/bubble
	$(GO) run ./internal/sim/run -seeds 300 -base 100000

build: ## Build bin/roam
	$(GO) build -o bin/roam ./cmd/roam

# A module of its own: what a collector is made of stays out of the product. Built again only if its source changed.
collector: ## Build bin/collector, the OpenTelemetry collector of the tests
	cd tools/collector && $(GO) build -o "$(CURDIR)/bin/collector" .

deps: ## Install what the tests need and is missing: redis-server, gcc for -race, and ip for make wan
	@missing=""; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	command -v gcc >/dev/null || missing="$$missing gcc libc6-dev"; \
	[ "$$(uname)" != Linux ] || PATH="$$PATH:/sbin:/usr/sbin" command -v ip >/dev/null || missing="$$missing iproute2"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
		echo "missing:$$missing. This is no Debian or Ubuntu: install them with your package manager, then run make again." >&2; exit 1; fi; \
	sudo=""; if [ "$$(id -u)" != 0 ]; then \
		command -v sudo >/dev/null || { echo "missing:$$missing, and there is no sudo: run as root: apt-get install -y$$missing" >&2; exit 1; }; sudo=sudo; fi; \
	echo "installing$$missing"; \
	$$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing

# What reads the files of deploy/ in its tests. promtool is taken out of its package: to install that would start a server.
test: bin/promtool bin/systemd-analyze

bin/promtool bin/systemd-analyze:
	@mkdir -p bin; \
	if p="$$(command -v $(@F))"; then ln -sf "$$p" $@; exit 0; fi; \
	if ! command -v apt-get >/dev/null; then echo "missing: $(@F). Install prometheus and systemd, then run make again." >&2; exit 1; fi; \
	sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	echo "fetching $(@F)"; \
	apt-cache show prometheus >/dev/null 2>&1 || $$sudo apt-get update -qq; \
	if [ $(@F) = systemd-analyze ]; then $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends systemd && \
		ln -sf "$$(command -v systemd-analyze)" $@; exit; fi; \
	dir="$$(mktemp -d)" && chmod 755 "$$dir" && trap 'rm -rf "$$dir"' EXIT && \
	(cd "$$dir" && apt-get download -qq -o APT::Sandbox::User=root prometheus && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool) && \
	mv "$$dir/usr/bin/promtool" $@

# All of it is done with -race, as the tests are, so that dependencies are compiled once. staticcheck itself is not.
lint: ## gofmt, vet and staticcheck
	@unformatted="$$($(BIN)/gofmt -l $$(find . -name '*.go' -not -path './.git/*'))"; \
	if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet -race ./...
	cd deploy && $(GO) vet -race ./...
	export PATH="$(BIN):$$PATH" GOFLAGS="$$GOFLAGS -race"; \
	staticcheck="$$($(GO) tool -modfile=tools/go.mod -n staticcheck)"; "$$staticcheck" ./... && cd deploy && "$$staticcheck" ./...

generate: ## Generate protobuf code again (needs protoc)
	@command -v protoc >/dev/null || { echo "protoc is missing: apt-get install protobuf-compiler" >&2; exit 1; }
	cd tools && GOBIN="$(CURDIR)/bin" $(GO) install tool
	PATH="$(CURDIR)/bin:$(BIN):$$PATH" $(GO) generate ./...

bench: ## Run the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

sim: ## Simulate SEEDS (10000) runs from SEED_BASE (1) on, for at most MINUTES; or SEED alone, with its story
	$(GO) run ./internal/sim/run -seeds $(SEEDS) -base $(SEED_BASE) -minutes $(MINUTES) $(if $(SEED),-seed $(SEED))

# The program is built first, so that its progress line is seen as it grows.
bubble: ## Run SEEDS (50) mixes of acts and faults from SEED_BASE (1) on, with whole regions in fake time
	@mkdir -p bin
	$(GO) test -c -o bin/bubble.test ./internal/bubble
	BUBBLE_SEEDS=$(if $(filter file,$(origin SEEDS)),50,$(SEEDS)) BUBBLE_SEED_BASE=$(SEED_BASE) bin/bubble.test -test.run '^TestSeeds$$' -test.timeout 0

planted: ## Plant every known kind of bug, and see that the simulator finds it
	SIM_PLANTED=1 $(GO) test -count=1 -v -timeout 60m -run '^TestPlantedBugsAreFound$$' ./internal/sim

# The programs are built first, so that the rig ends them and itself in order when it is interrupted.
wan: deps build bin/wan ## Regions in network namespaces on a WAN of our own: SCENARIO (all), MINUTES, REGIONS (3), NODES (1), DELAY (20ms), BEHIND (1000000)
	bin/wan -scenario '$(SCENARIO)' -minutes $(MINUTES) -regions $(REGIONS) -nodes $(NODES) -delay $(DELAY) -behind $(BEHIND) $(FLAGS)

wan-short: deps build bin/wan ## The scenarios of make wan that find most, in two minutes
	bin/wan -short $(FLAGS)

wan-random: deps build bin/wan ## Random faults between regions, and people who travel, for MINUTES (60), with seeds from SEED_BASE (1) on
	bin/wan -scenario random -times 100000 -minutes $(if $(filter file,$(origin MINUTES)),60,$(MINUTES)) -seed $(SEED_BASE) -nodes $(NODES) -picture '' $(FLAGS)

.PHONY: bin/wan
bin/wan:
	$(GO) build -o bin/wan ./internal/wan/run

soak-cut: deps ## Two regions that are apart for CUT (2m) and heal
	E2E_CUT=$(CUT) $(GO) test -race -count=1 -v -timeout 60m -run '^TestCutHeals$$' ./internal/e2e

soak-kill: deps ## A region of three under load whose leader is killed KILLS (10) times
	E2E_KILLS=$(KILLS) $(GO) test -count=1 -v -timeout 60m -run '^TestLeaderKilled$$' ./internal/e2e

soak-chaos: deps ## A region of three under 200 clients whose nodes are killed, paused, restarted and replaced at random for CHAOS (5m)
	E2E_CHAOS=$(CHAOS) $(GO) test -count=1 -v -timeout 60m -run '^TestChaos$$' ./internal/e2e

many: ## A node of SESSIONS (1000000) sessions of 20 messages: memory, and the time to be ready after a kill. Takes 20 GB of TMPDIR
	REGION_SESSIONS=$(SESSIONS) $(GO) test -count=1 -v -timeout 0 -run '^TestManySessions$$' ./region

fuzz: ## Run every fuzz target for FUZZTIME (20s)
	@grep -rHo --include='*_test.go' 'func Fuzz[A-Za-z0-9_]*' . | while IFS=: read -r file fn; do \
		echo "$$file $${fn#func }"; \
		$(GO) test -run '^$$' -fuzz "^$${fn#func }$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" || exit 1; done

clean: ## Remove what was built
	rm -rf bin
