# Programs beside the extension, with nothing of PostgreSQL in them: apm-verify is src/core and its own files.

apm_verify := contrib/apm-verify/apm-verify
apm_verify_objects := $(patsubst %.c,%.o,$(sort $(wildcard contrib/apm-verify/*.c)))
apm_version := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" apm.control)

all: $(apm_verify)

contrib/apm-verify/%.o: contrib/apm-verify/%.c
	$(CC) $(CFLAGS) -Isrc -D_GNU_SOURCE -DAPM_VERSION='"$(apm_version)"' -c -o $@ $<

$(apm_verify): $(apm_verify_objects) $(patsubst %.c,%.o,$(sort $(wildcard src/core/*.c)))
	$(CC) $(CFLAGS) -o $@ $^ $(LDFLAGS_EX) -lcrypto -lcrypt

install: install-apm-verify
install-apm-verify: $(apm_verify)
	$(MKDIR_P) '$(DESTDIR)$(bindir)'
	$(INSTALL_PROGRAM) $(apm_verify) '$(DESTDIR)$(bindir)/apm-verify'

uninstall: uninstall-apm-verify
uninstall-apm-verify:
	rm -f '$(DESTDIR)$(bindir)/apm-verify'

.PHONY: install-apm-verify uninstall-apm-verify

-include $(apm_verify_objects:.o=.d)
