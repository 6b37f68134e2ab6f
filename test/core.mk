# The core without PostgreSQL: its C tests and fuzz targets, under AddressSanitizer and
# UndefinedBehaviorSanitizer.  Everything is built below build/.

core_sources := $(sort $(wildcard src/core/*.c))
core_tests := $(patsubst test/core/%.c,build/asan/%,$(sort $(wildcard test/core/test_*.c)))
core_fuzzers := $(patsubst test/fuzz/%.c,build/fuzz/%,$(sort $(wildcard test/fuzz/fuzz_*.c)))

core_warnings := -Wall -Wextra -Werror
core_cppflags := -Isrc -MMD -MP -D_GNU_SOURCE
sanitize := -g -O1 -fno-omit-frame-pointer -fno-sanitize-recover=all

core-tests: $(core_tests) build/asan/apm-verify
fuzzers: $(core_fuzzers)
.PHONY: core-tests fuzzers
.SECONDARY:

build/asan/core/%.o: src/core/%.c
	@mkdir -p $(@D)
	gcc $(core_warnings) $(core_cppflags) $(sanitize) -fsanitize=address,undefined -c -o $@ $<

build/asan/test_%.o: test/core/test_%.c
	@mkdir -p $(@D)
	gcc $(core_warnings) $(core_cppflags) -Itest/core $(sanitize) -fsanitize=address,undefined -c -o $@ $<

build/asan/test_%: build/asan/test_%.o $(core_sources:src/core/%.c=build/asan/core/%.o)
	gcc $(sanitize) -fsanitize=address,undefined -o $@ $^ -lcrypto -lcrypt

# apm-verify as test_apm_verify runs it, with a bound for lines that a test can reach
build/asan/apm-verify: $(wildcard contrib/apm-verify/*.[ch]) $(core_sources:src/core/%.c=build/asan/core/%.o)
	gcc $(core_warnings) $(filter-out -M%,$(core_cppflags)) -DAPM_VERSION='"test"' -DLINE_MAX_LEN=65536 $(sanitize) -fsanitize=address,undefined \
		-o $@ $(filter-out %.h,$^) -lcrypto -lcrypt

build/fuzz/core/%.o: src/core/%.c
	@mkdir -p $(@D)
	clang $(core_warnings) $(core_cppflags) $(sanitize) -fsanitize=fuzzer-no-link,address,undefined -c -o $@ $<

build/fuzz/fuzz_%.o: test/fuzz/fuzz_%.c
	@mkdir -p $(@D)
	clang $(core_warnings) $(core_cppflags) -Itest/fuzz $(sanitize) -fsanitize=fuzzer-no-link,address,undefined -c -o $@ $<

build/fuzz/fuzz_%: build/fuzz/fuzz_%.o $(core_sources:src/core/%.c=build/fuzz/core/%.o)
	clang $(sanitize) -fsanitize=fuzzer,address,undefined -o $@ $^ -lcrypto -lcrypt

# Many nodes, one chain, in one process (test/sim/README.md)
simulator: build/sim/simulator
.PHONY: simulator

build/sim/simulator: $(wildcard test/sim/*.[ch]) $(core_sources) $(wildcard src/core/*.h)
	@mkdir -p $(@D)
	gcc $(core_warnings) -Isrc -D_GNU_SOURCE -g -O2 -o $@ $(filter %.c,$^) -lcrypto -lcrypt -lm

# What doc/scaling.md shows, drawn anew
scaling: build/sim/simulator
	scripts/packages gnuplot-nox
	@mkdir -p doc/plots
	$< --curves > doc/plots/scaling.csv
	gnuplot test/sim/scaling.gnuplot
	sed -i 's/[[:space:]]*$$//' doc/plots/scaling-*.svg
.PHONY: scaling

# Examples of every format, for other implementations; made anew only when a format changes.
vectors: build/make_vectors
	$< test/vectors
	test/python/worked_example.py --write test/vectors/ledger.txt doc/format.md
.PHONY: vectors

build/make_vectors: $(wildcard test/vectors/*.c) $(core_sources)
	@mkdir -p $(@D)
	gcc $(core_warnings) -Isrc -Itest/core -D_GNU_SOURCE -g -O1 -o $@ $^ -lcrypto -lcrypt

-include $(wildcard build/*/*.d build/*/*/*.d)
