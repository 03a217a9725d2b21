# SPDX-License-Identifier: MIT
#
# The front door. Meson does the building; each target below is a line or two that you can also type yourself.

BUILD ?= build
PREFIX ?= /usr/local
SECONDS ?= 900
# A compiler cache keeps objects, and not the call graphs that a test reads.
export CCACHE_DISABLE = 1
C_FILES = $(shell find src test sim -name "*.[ch]")

.DEFAULT_GOAL := all
.PHONY: all
all: $(BUILD)/build.ninja ## build the program (default); installs what the build needs and lacks
	meson compile -C $(BUILD)

$(BUILD)/build.ninja:
	tools/install-deps build man
	meson setup $(BUILD) --prefix=$(PREFIX)

.PHONY: help
help: ## this text
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

.PHONY: deps
deps: ## install every package that building, testing and the demo need and this machine lacks
	tools/install-deps build man check demo

.PHONY: demo
demo: all ## a Linux guest on a disk that Corral serves, in about a minute
	tools/install-deps demo
	test/vm/demo.sh $(BUILD)

.PHONY: vm
vm: all ## real guests: Debian is installed, booted and worked with, servers are killed and followed; about ten minutes
	tools/install-deps vm
	test/vm/all.sh $(BUILD)

.PHONY: check
check: ## everything: all suites built by gcc, then the unit tests under clang, ASan+UBSan and TSan
	tools/install-deps build man check
	tools/run-tests gcc clang asan tsan

.PHONY: test
test: all ## the suites of the plain build only, about a minute
	tools/run-tests gcc

.PHONY: clang asan tsan valgrind
clang: ## the unit tests, built by clang
	tools/install-deps build man check
	tools/run-tests clang

asan: ## the unit tests under the address and undefined-behaviour sanitizers
	tools/install-deps build man check
	tools/run-tests asan

tsan: ## the unit tests under the thread sanitizer
	tools/install-deps build man check
	tools/run-tests tsan

valgrind: ## the unit tests under Valgrind
	tools/install-deps build man check
	tools/run-tests valgrind

.PHONY: bench
bench: all ## Corral beside QEMU, a quarter of an hour; PARTS="nbd ..." some of it, QUICK=1 less (see docs/performance.md)
	tools/install-deps check
	test/bench/bench.py $(BUILD)/corral $(BUILD)/test/bench --out $(BUILD)/bench --parts "$(PARTS)" $(if $(QUICK),--quick)

.PHONY: soak mutants
soak: all ## the simulator on all processors for SECONDS (900): some 100 million crash images or more
	tools/soak $(BUILD)/corral-sim $(SECONDS)

mutants: all ## each deliberate bug must be found by the simulator within a minute
	tools/mutants $(BUILD)/corral-sim 60

.PHONY: fuzz
fuzz: ## every fuzzing target for SECONDS (900) on all processors, under ASan+UBSan
	tools/install-deps build check
	test -e build-fuzz/build.ninja || CC=clang meson setup build-fuzz -Dfuzz=enabled -Dtests=disabled -Dman=disabled \
		-Db_sanitize=address,undefined -Db_lundef=false
	meson compile -C build-fuzz
	tools/fuzz build-fuzz $(SECONDS)

.PHONY: format format-check
format: ## lay out every C file as .clang-format says
	clang-format -i $(C_FILES)

format-check: ## fail if a C file is laid out otherwise
	clang-format --dry-run --Werror $(C_FILES)

.PHONY: clean
clean: ## remove every build directory
	rm -rf $(BUILD) build-clang build-asan build-tsan build-valgrind build-fuzz

.PHONY: install
install: all ## install to PREFIX (/usr/local); honours DESTDIR
	meson install -C $(BUILD) --no-rebuild
