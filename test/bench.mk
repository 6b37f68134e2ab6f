# Yardsticks of the benchmarks: programs on src/core alone, built as the extension is, without
# PostgreSQL.  In test/bench, from where scripts/as-postgres takes them along.

yardsticks := $(patsubst test/bench/yardstick_%.c,test/bench/yardstick-%,$(wildcard test/bench/yardstick_*.c))

yardsticks: $(yardsticks)
.PHONY: yardsticks

test/bench/yardstick-%: test/bench/yardstick_%.c test/bench/timing.h $(patsubst %.c,%.o,$(core_sources))
	$(CC) $(core_warnings) -Isrc -D_GNU_SOURCE -O2 -o $@ $(filter-out %.h,$^) -lcrypto -lcrypt
