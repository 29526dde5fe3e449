# CubbyDB's two commands are `make demo` and `make test`; the rest is for those who work on it.
# Each target does its own set-up (.ci/setup, then .venv) and takes seconds when that is done.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

WERROR := OFF
JOBS := $(shell nproc)
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check
# .ci/setup puts CMake into .venv if the machine has none.
CMAKE_FROM = $(if $(wildcard $(BIN)/cmake),$(BIN)/,)

FOLDERS := engine engine/import_root engine/base engine/store engine/nibble engine/volimap \
           blockdev blockdev/nbdkit_plugin mmapio cli bench bench/common bench/engines \
           bench/ycsb bench/gets bench/csd bench/durability
SOURCES := pyproject.toml engine/CMakeLists.txt \
           $(foreach folder,$(FOLDERS),$(wildcard $(folder)/*.[ch] $(folder)/*.py $(folder)/*.pyi))
C_FILES = $(shell find engine blockdev mmapio bench tests -name '*.[ch]' -o -name '*.cc' -o -name '*.hh')

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

# Set-up ------------------------------------------------------------------------------------------
.venv/.ready: .ci/setup
	@.ci/setup
	touch $@

.venv/.tools: .venv/.ready pyproject.toml
	@echo "installing the test tools into .venv"
	$(PIP) install --quiet --group dev
	touch $@

# The plain install: what users get, and what the tests test.
.venv/.installed: .venv/.ready $(SOURCES)
	@echo "building and installing cubbydb into .venv"
	$(PIP) install --quiet .
	touch $@

.PHONY: develop
develop: .venv/.tools ## an editable install: Python edits count at once, C edits at the next import
	@rm -f .venv/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install --no-build-isolation -e . \
	    -C build-dir=build/develop -C editable.rebuild=true -C editable.verbose=false

# The demonstration -------------------------------------------------------------------------------
.PHONY: demo
demo: .venv/.installed ## create a store, load real data, get, scan, stat
	@mkdir -p build
	PATH="$(CURDIR)/$(BIN):$$PATH" sh cli/demo.sh build/demo.cubby

# The tests ---------------------------------------------------------------------------------------
# c_suite NAME, CMAKE-OPTIONS, CTEST-OPTIONS: build the C tests in build/NAME and run them; what they
# say goes to build/log/NAME.log too. A prefix may stand in $run.
define c_suite
	mkdir -p build/log
	echo "== C tests: $(1)"
	$(CMAKE_FROM)cmake -S engine -B build/$(1) -DCUBBY_WERROR=$(WERROR) $(2) > build/log/$(1)-build.log 2>&1 \
	    || { cat build/log/$(1)-build.log; exit 1; }
	$(CMAKE_FROM)cmake --build build/$(1) -j$(JOBS) > build/log/$(1)-build.log 2>&1 \
	    || { cat build/log/$(1)-build.log; exit 1; }
	{ grep -E 'warning:' build/log/$(1)-build.log || true; } | sort -u
	$${run:-} $(CMAKE_FROM)ctest --test-dir build/$(1) --output-on-failure -j$(JOBS) $(3) 2>&1 \
	    | tee build/log/$(1).log
	{ grep -h '^SKIP' build/$(1)/Testing/Temporary/LastTest.log || true; } | tee -a build/log/$(1).log
endef

# skip_suite NAME, REASON
define skip_suite
	{ mkdir -p build/log; echo "skipped: $(2)" | tee build/log/$(1).log; exit 0; }
endef

# Sanitizers map memory at fixed places; where the machine's address randomisation reaches further
# than they allow for, it is turned off for the test programs.
define without_randomisation
	run=""
	if [ "$$(cat /proc/sys/vm/mmap_rnd_bits 2> /dev/null || echo 0)" -gt 28 ]; then
	    run="setarch $$(uname -m) -R"
	    $$run true 2> /dev/null || run="refused"
	fi
endef

.PHONY: test
test: ## everything that takes seconds: C tests, also under sanitizers, and Python tests
	@rm -rf build/log
	for suite in test-c test-asan test-asan-clang test-tsan test-python; do $(MAKE) $$suite; done
	echo
	for log in c asan asan-clang tsan python; do
	    echo "-- $$log: build/log/$$log.log"
	    grep -E '^skipped:|^SKIP|^No tests were found|tests passed|^=+ .* in .*=+$$' build/log/$$log.log
	done

.PHONY: test-c
test-c: .venv/.ready ## the C tests, optimised
	@$(call c_suite,c,,-LE stress)

.PHONY: test-asan
test-asan: .venv/.ready ## the C tests under AddressSanitizer and UBSan, gcc
	@$(without_randomisation)
	[ "$$run" != refused ] || run=""
	$(call c_suite,asan,-DCMAKE_C_COMPILER=gcc -DCUBBY_SANITIZE=address$(,)undefined,-LE stress)

# The slowest: gcc's sanitizers have seen them.
CLANG_WITHOUT = ^(test_store_(resize|watermarks|check|recovery|repair)|test_csd_kill|crash_500)$$

.PHONY: test-asan-clang
test-asan-clang: .venv/.ready ## the same with clang, if there is one
	@echo 'int main(void) { return 0; }' > .venv/probe.c
	clang -fsanitize=address,undefined -o .venv/probe .venv/probe.c 2> /dev/null \
	    || $(call skip_suite,asan-clang,no clang with its sanitizers here (Debian packages: clang libclang-rt-14-dev))
	$(without_randomisation)
	[ "$$run" != refused ] || run=""
	$(call c_suite,asan-clang,-DCMAKE_C_COMPILER=clang -DCUBBY_SANITIZE=address$(,)undefined,-LE stress -E "$(CLANG_WITHOUT)")

.PHONY: test-tsan
test-tsan: .venv/.ready ## the C tests under ThreadSanitizer (pread in place of io_uring)
	@$(without_randomisation)
	[ "$$run" != refused ] || $(call skip_suite,tsan,this machine randomises more address bits than ThreadSanitizer bears and refuses setarch -R)
	$(call c_suite,tsan,-DCMAKE_C_COMPILER=gcc -DCUBBY_SANITIZE=thread,-LE stress)

# Build the crash simulator in build/c.
define crash_build
	mkdir -p build/log
	$(CMAKE_FROM)cmake -S engine -B build/c -DCUBBY_WERROR=$(WERROR) > build/log/crash-build.log 2>&1 \
	    || { cat build/log/crash-build.log; exit 1; }
	$(CMAKE_FROM)cmake --build build/c -j$(JOBS) --target crash_simulator > build/log/crash-build.log 2>&1 \
	    || { cat build/log/crash-build.log; exit 1; }
endef

# Other seeds each time, of which no two runs have any in common.
CRASH_SECONDS ?= 600
CRASH_SEED ?= $(shell date +%s)000000

.PHONY: crash
crash: .venv/.ready ## 10 minutes of power cuts and kills at random moments, on all cores
	@$(crash_build)
	build/c/crash_simulator --seconds $(CRASH_SECONDS) --seed $(CRASH_SEED) --jobs $(JOBS) --all-points

.PHONY: crash-bugs
crash-bugs: .venv/.ready ## plant seven bugs in the store, one by one: the simulator finds each
	@$(crash_build)
	build/c/crash_simulator --plant all --jobs $(JOBS)

.PHONY: test-python
test-python: .venv/.tools .venv/.installed ## the Python tests, against the installed package
	@mkdir -p build/log
	echo "== Python tests"
	PATH="$(CURDIR)/$(BIN):$$PATH" pytest 2>&1 | tee build/log/python.log

.PHONY: test-loop
test-loop: .venv/.installed ## the store on a loop device over a served emulated drive; needs root
	@PATH="$(CURDIR)/$(BIN):$$PATH" tests/loop_device.sh

.PHONY: stress
stress: .venv/.tools .venv/.installed ## the long runs: minutes to hours
	@$(call c_suite,c,,-L stress)
	$(call c_suite,asan,-DCMAKE_C_COMPILER=gcc -DCUBBY_SANITIZE=address$(,)undefined,-L stress)
	status=0
	PATH="$(CURDIR)/$(BIN):$$PATH" pytest -m stress || status=$$?
	[ $$status = 5 ] || exit $$status # 5: there are none

# The rest ----------------------------------------------------------------------------------------
.PHONY: peers
peers: .venv/.ready ## RocksDB, LMDB and WiredTiger, for the benchmarks
	@bench/peers.sh
	rm -f build/bench/CMakeCache.txt # which remembers what was not there

.PHONY: bench-build
bench-build: .venv/.installed ## build the drivers of the benchmarks in build/bench; bench/README.md has the rest
	@mkdir -p build/log
	for step in "-S engine -B build/bench -DCUBBY_BENCH=ON -DCUBBY_WERROR=$(WERROR)" "--build build/bench -j$(JOBS)"; do
	    $(CMAKE_FROM)cmake $$step > build/log/bench-build.log 2>&1 || { cat build/log/bench-build.log; exit 1; }
	    { grep -E 'warning:|the benchmarks are without' build/log/bench-build.log || true; } | sort -u
	done

# zram where there can be some, else files; all is gone afterwards, also when it is interrupted.
BENCH_ON := $(shell [ -w /sys/class/zram-control/hot_remove ] && echo zram || echo build)
CUBBY_BENCH = PATH="$(CURDIR)/$(BIN):$$PATH" cubby bench

.venv/.bench: .venv/.ready
	@echo "installing matplotlib into .venv"
	$(PIP) install --quiet 'matplotlib>=3.8'
	touch $@

.PHONY: bench-quick
bench-quick: bench-build .venv/.bench ## YCSB, fio and a report with plots, small: under 5 minutes
	@mkdir -p build/bench-quick
	$(CUBBY_BENCH) ycsb --on $(BENCH_ON) --pairs 200000 --seconds 1 --warm 0.5 --output build/bench-quick/ycsb.json
	$(CUBBY_BENCH) fio --quick --output build/bench-quick/fio.json
	$(CUBBY_BENCH) report build/bench-quick/*.json --output build/bench-quick

# The whole matrix: 4 million pairs, each engine with memory for a tenth of them.
BENCH_MATRIX = --pairs 4000000 --keys zipfian,uniform --threads 2,8 --rounds 3 --seconds 1.5 --warm 1
.PHONY: bench
bench: bench-build .venv/.bench ## the full matrix with peers, on zram and on a disk: 75 minutes, 12 GB of memory
	@if [ $(BENCH_ON) = zram ]; then
	    $(CUBBY_BENCH) ycsb --on zram $(BENCH_MATRIX) --output bench/results/ycsb_zram.json
	fi
	$(CUBBY_BENCH) ycsb --on build $(BENCH_MATRIX) --output bench/results/ycsb_disk.json
	$(CUBBY_BENCH) ycsb --on csd --drive p4800x --pairs 400000 --rounds 3 --keys zipfian,uniform --threads 2,8 \
	    --output bench/results/ycsb_csd.json
	$(CUBBY_BENCH) fio --output bench/results/fio.json
	$(CUBBY_BENCH) report bench/results/ycsb_*.json bench/results/fio.json --output bench/results/report

# Ten million pairs, so that a tenth of them is a cache to speak of.
.PHONY: bench-large
bench-large: bench-build .venv/.bench ## 10 million pairs, RocksDB and WiredTiger beside: an hour, 16 GB of memory, root
	@$(CUBBY_BENCH) ycsb --on zram -e cubby -e rocksdb -e wiredtiger -e pread --pairs 10000000 \
	    --keys zipfian,uniform --threads 2,8 --rounds 3 --seconds 1.5 --warm 3 --output bench/results/ycsb_large.json

.PHONY: bench-instructions
bench-instructions: .venv/.ready ## instructions of a get and of a put, by callgrind: a minute or two
	@bench/instructions.sh

.PHONY: bench-memory
bench-memory: bench-build ## Nibble beside libcuckoo, TBB and others in memory: a minute or two
	@$(BIN)/python -m cubbydb.bench.memory

.PHONY: bench-fragment
bench-fragment: bench-build .venv/.bench ## what tables in memory take after pairs of other sizes: minutes, 4 GB of memory
	@$(BIN)/python -m cubbydb.bench.fragment

.PHONY: bench-churn
bench-churn: bench-build .venv/.bench ## files that come, grow and go, on Nibble and its peers: 2 minutes, 2 GB of memory
	@$(BIN)/python -m cubbydb.bench.churn

.PHONY: bench-utilisation
bench-utilisation: bench-build .venv/.bench ## Nibble from 10 to 95 % full, appending or in place: 3 minutes, 4 GB of memory
	@$(BIN)/python -m cubbydb.bench.utilisation

.PHONY: bench-sweep
bench-sweep: bench-build .venv/.bench ## Nibble's segments, blocks and cleaners: 2 minutes, 4 GB of memory
	@$(BIN)/python -m cubbydb.bench.sweep

.PHONY: bench-ordered
bench-ordered: bench-build .venv/.bench ## VoliMap beside other ordered maps: 12 minutes, 3 GB of memory
	@$(BIN)/python -m cubbydb.bench.ordered

.PHONY: bench-mmap
bench-mmap: bench-build .venv/.bench ## mmapio beside the kernel's mmap: 14 minutes, 1 GB of memory, root for zram
	@$(BIN)/python -m cubbydb.bench.mapped

.PHONY: bench-mmap-store
bench-mmap-store: bench-build .venv/.installed ## a store's gets on a mapped region beside direct I/O: 2 minutes, root for zram
	@$(BIN)/python -m cubbydb.bench.mapped_store

.PHONY: bench-breakdown
bench-breakdown: bench-build .venv/.bench ## where the time goes on mapped memory: 8 minutes, 2 GB of memory, root and perf
	@$(BIN)/python -m cubbydb.bench.breakdown

.PHONY: bench-policy
bench-policy: bench-build ## which pages mmapio keeps, beside other policies: a minute
	@$(BIN)/python -m cubbydb.bench.policy

.PHONY: bench-growth
bench-growth: bench-build ## Nibble growing, with deletes and a cleaner, beside the bare accesses: 2 minutes
	@$(BIN)/python -m cubbydb.bench.growth

.PHONY: bench-serving
bench-serving: bench-build ## gets while a store grows to ten times its size: 5 minutes, 4 GB of memory, root
	@$(BIN)/python -m cubbydb.bench.serving

.PHONY: bench-hit-ratio
bench-hit-ratio: .venv/.installed ## hits of the store's cache beside the best constant choice: 2 minutes
	@$(BIN)/python -m cubbydb.bench.hit_ratio

.PHONY: bench-durability
bench-durability: bench-build ## what a durability costs, beside RocksDB: 6 minutes, root for zram
	@$(BIN)/python -m cubbydb.bench.durability

.PHONY: lint
lint: .venv/.tools .venv/.installed ## ruff, clang-format, mypy
	@$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run -Werror $(C_FILES)
	$(BIN)/pytest -q tests/test_types.py

.PHONY: format
format: .venv/.tools ## write all sources as lint wants them
	@$(BIN)/ruff check --quiet --fix || true
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(C_FILES)

.PHONY: docs
docs: .venv/.tools .venv/.installed ## the manual of the Python API, as HTML in build/docs
	@$(BIN)/python tests/documentation.py build/docs

.PHONY: readme
readme: .venv/.tools .venv/.installed ## do every line of the README files, as a stranger would
	@$(BIN)/python tests/readme.py

.PHONY: dist
dist: .venv/.tools ## the sdist, and the wheel built from it, in dist/
	@$(BIN)/python -m build

.PHONY: clean
clean: ## remove what make has made, .venv too
	@rm -rf build dist .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

, := ,
