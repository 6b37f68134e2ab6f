# apm: build, installation and tests.
#
#   make, make install, make installcheck    as with every PostgreSQL extension
#   make test     everything: packages, build, install, all test suites, lint
#   make demo     the whole journey on two servers, told in plain sentences
#   make lint     the conventions that a machine can check
#   make bench    speed as ratios, side by side, into build/bench; BENCH=name runs one, BENCH_DOC=1 writes into doc
#   make fuzz     the fuzz targets for FUZZ_SECONDS (120) each
#   make soak     the long forms: records survive every death, verifiers agree, 10,000 simulated networks
#   make scaling  the curves of doc/scaling.md, drawn anew
#
# PG_CONFIG chooses the PostgreSQL that is built against, installed into and tested.

MODULE_big = apm
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
EXTENSION = apm
DATA = $(sort $(wildcard apm--*.sql))
PGFILEDESC = "apm - anonymous and provable health records"

PG_CONFIG ?= pg_config
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))

# Our objects compile without a warning; PostgreSQL's headers are not ours to judge, and
# its calling conventions (PG_FUNCTION_ARGS, hooks) make unused parameters normal.
# -MMD -MP: a changed header rebuilds what includes it, also where PostgreSQL itself was
# configured without dependency tracking.
PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server) -I$(srcdir)/src
PG_CFLAGS = -Wall -Wextra -Werror -Wno-unused-parameter -MMD -MP
# clang is given the flags that PostgreSQL was configured with for gcc, and does not know them all
CLANG_PARDONS = -Wno-unknown-warning-option -Wno-ignored-optimization-argument -Wno-ignored-attributes
PG_CFLAGS += $(if $(findstring clang,$(CC)),$(CLANG_PARDONS))
SHLIB_LINK = -lcrypto -lcrypt

# PGXS exports every function that is not static unless a list names what to export.
SHLIB_EXPORTS = src/exports.txt

# Bitcode lets the JIT inline a C function into a query.  None of ours is small enough to gain.
override with_llvm = no

REGRESS := $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
REGRESS_OPTS = --inputdir=$(srcdir)
# of the databases that the tests make, whatever the server's own are
ENCODING = UTF8
NO_LOCALE = 1
ISOLATION := $(sort $(patsubst test/isolation/specs/%.spec,%,$(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=$(srcdir)/test/isolation --load-extension=pgcrypto --load-extension=apm

EXTRA_CLEAN = $(OBJS:.o=.d) src/exports.list build tmp_check log test/modules/*.so test/modules/*.d \
	$(addprefix contrib/apm-verify/,apm-verify *.o *.d) $(yardsticks)

ifneq ($(PGXS),)
include $(PGXS)
else
# make test and make demo install PostgreSQL and then call make again
all install installcheck clean:
	@echo 'make: $(PG_CONFIG) names no PostgreSQL to build against; scripts/packages installs it' >&2; exit 1
endif

-include $(OBJS:.o=.d)

include contrib/contrib.mk
include test/core.mk
include test/modules.mk
include test/bench.mk

# Everything, from nothing.  Installing may need more rights than building.
test:
	scripts/packages
	$(MAKE) -j$$(nproc) all
	$(MAKE) install-for-test
	scripts/test

# One suite, after building and installing: make check-tap TESTS='keys'
check-core check-sim check-fuzz check-lint: check-%:
	scripts/test $*
check-regress check-isolation check-tap: check-%: all
	$(MAKE) install-for-test
	scripts/test $*

install-for-test: all test-modules
	@if [ -w '$(DESTDIR)$(pkglibdir)' ]; then $(MAKE) -s install; \
	else sudo $(MAKE) -s install PG_CONFIG=$(PG_CONFIG) || { \
		echo 'make: installing needs root or sudo; or test with a private copy of PostgreSQL:' >&2; \
		echo '      make test PG_CONFIG=$$(scripts/private-server DIR)' >&2; exit 1; }; fi

lint: all
	scripts/lint

# The other compiler's opinion; the build itself uses the one that PostgreSQL was built with.
clang-check:
	clang $(filter-out -MMD -MP,$(CFLAGS)) $(CLANG_PARDONS) $(CPPFLAGS) \
		-fsyntax-only $(OBJS:.o=.c)

format:
	clang-format -i $(wildcard src/*.[ch] src/*/*.[ch] test/*/*.[ch] contrib/*/*.[ch])

fuzz: FUZZ_SECONDS ?= 120
fuzz:
	FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/test fuzz

soak: export APM_RECORDS ?= 100000
soak: export APM_ROUNDS ?= 20
soak: export APM_STRIDE ?= 1
soak: export APM_ALTERATIONS ?= 3000
soak: export SIM_SEEDS ?= 10000
soak:
	scripts/packages
	$(MAKE) all
	$(MAKE) install-for-test
	TESTS='exactly_once agreement simulator' scripts/test sim tap

bench: export BENCH_JSON = $(if $(BENCH_DOC),doc,build/bench)/bench.json
bench: export BENCH_PLOTS = $(if $(BENCH_DOC),doc/plots,build/bench)
bench: export BRING_BACK = $(BENCH_JSON) $(BENCH_PLOTS)
bench:
	scripts/packages gnuplot-nox
	$(MAKE) -j$$(nproc) all yardsticks
	$(MAKE) install-for-test
	scripts/as-postgres scripts/bench

demo:
	scripts/packages
	$(MAKE) -j$$(nproc) all
	$(MAKE) install-for-test
	scripts/as-postgres scripts/demo

.PHONY: test lint clang-check format fuzz bench demo install-for-test
