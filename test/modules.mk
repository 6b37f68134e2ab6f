# Libraries that only tests load, each from one file; they use what apm.so exports.
test_modules = $(patsubst %.c,%.so,$(wildcard $(srcdir)/test/modules/*.c))

test-modules: $(test_modules)

test/modules/%.so: test/modules/%.c $(wildcard $(srcdir)/src/*.h $(srcdir)/src/*/*.h)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(CFLAGS_SL) -shared -o $@ $<

.PHONY: test-modules
