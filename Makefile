# SPDX-License-Identifier: Apache-2.0
# A thin front: the build is Meson's (meson.build), the checks are tools/test's.
BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
# A plain make is quiet about directories, as ninja runs one level down.
MAKEFLAGS += --no-print-directory

.PHONY: all setup test run bench lint fmt asan tsan fuzz install clean docs

all: setup $(BUILD)/build.ninja
	@ninja -C $(BUILD) gunyu

setup:
	@tools/setup build

$(BUILD)/build.ninja: | setup
	meson setup $(BUILD) --prefix=$(PREFIX)

# Everything that CI runs. STAGES=... picks some (tools/test --help).
test:
	@tools/setup test
	@tools/test $(STAGES)

# FROM=redis://host:port TO=redis://host:port syncs those two; without, a demo on loopback.
run:
	@tools/setup run
	@$(MAKE) all
	@tools/run-demo --build $(BUILD) $(if $(FROM),--from '$(FROM)') $(if $(TO),--to '$(TO)')

# BENCH="--keys N ..." and BENCH_RDB="--mib N ..." go to the two scripts.
bench:
	@tools/setup run
	@$(MAKE) all
	@ninja -C $(BUILD) bench/pump bench/latency bench/rdbread
	@BUILD=$(BUILD) bench/bench $(BENCH)
	@BUILD=$(BUILD) bench/rdb $(BENCH_RDB)

lint:
	@tools/setup test
	@tools/lint

fmt:
	@tools/setup test
	clang-format -i $$(git ls-files -co --exclude-standard '*.c' '*.h')

asan:
	@tools/setup test
	@tools/test unit-asan

tsan:
	@tools/setup test
	@tools/test unit-tsan

# Libfuzzer, FUZZ_SECONDS (60) a target; findings land in build-fuzz/.
fuzz:
	@tools/setup test
	@tools/fuzz

# Writes what is generated from the program's own tables; the lint stage checks it.
docs: all
	@tools/check-docs --write

install: all $(BUILD)/build.ninja
	@ninja -C $(BUILD)
	DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf $(BUILD) build-test build-asan build-tsan build-clang build-fuzz build-afl
