/*
 * check.h
 *	  What every C test of src/core is written with.
 *
 * A test is one program a module: main() calls test functions, each says with CHECK
 * what must hold, and returns check_summary().  A check that fails names its place and
 * its text and the program goes on, so that one run shows all that is wrong; the exit
 * status tells whether anything was.
 *
 * check_each_allocation() runs a function again and again, each time with memory for one
 * allocation more, until it has enough: under AddressSanitizer that walks every path on
 * which memory runs out.
 */
#ifndef APM_TEST_CHECK_H
#define APM_TEST_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/bytes.h"

static long check_passed = 0;
static long check_failed = 0;

static inline bool
check_record(bool holds, const char *text, const char *file, int line)
{
	if (holds)
		check_passed++;
	else
	{
		check_failed++;
		fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, text);
	}
	return holds;
}

/* Says that cond must hold; gives cond back, so that a test can stop where going on is useless. */
#define CHECK(cond) check_record((cond), #cond, __FILE__, __LINE__)
#define CHECK_OK(call) CHECK((call) == APM_OK)
#define CHECK_STATUS(call, want) CHECK((call) == (want))

/* Do the bytes equal this hexadecimal text (blanks allowed)? */
static inline bool
check_hex_equal(const void *data, size_t len, const char *hex)
{
	const uint8_t *bytes = data;
	size_t digits = 0;

	for (; *hex != '\0'; hex++)
	{
		const char *at;

		if (*hex == ' ' || *hex == '\n')
			continue;
		at = strchr("0123456789abcdef", *hex);
		if (at == NULL || digits >= 2 * len)
			return false;
		if (((bytes[digits / 2] >> (digits % 2 == 0 ? 4 : 0)) & 0x0f) != (uint8_t) (at - "0123456789abcdef"))
			return false;
		digits++;
	}
	return digits == 2 * len;
}

#define CHECK_HEX(data, len, hex) CHECK(check_hex_equal((data), (len), (hex)))

/*
 * Bytes of a hexadecimal text (blanks allowed) in memory that is never given back;
 * a test's vectors live as long as the test.
 */
static inline ApmSlice
check_unhex(const char *hex)
{
	static uint8_t store[1 << 16];
	static size_t used = 0;
	uint8_t *start = store + used;
	size_t digits = 0;

	for (; *hex != '\0'; hex++)
	{
		const char *at;

		if (*hex == ' ' || *hex == '\n')
			continue;
		at = strchr("0123456789abcdef", *hex);
		if (at == NULL || used + digits / 2 >= sizeof(store))
		{
			fprintf(stderr, "check_unhex: bad or too much text in a test\n");
			exit(2);
		}
		if (digits % 2 == 0)
			start[digits / 2] = (uint8_t) ((at - "0123456789abcdef") << 4);
		else
			start[digits / 2] |= (uint8_t) (at - "0123456789abcdef");
		digits++;
	}
	used += digits / 2;
	return (ApmSlice){start, digits / 2};
}

/* An allocator that has memory for so many more allocations. */
static long check_allocations_left = 0;
static bool check_allocation_failed = false;

static inline void *
check_scarce_alloc(size_t size, bool secret)
{
	(void) secret;
	if (check_allocations_left == 0)
	{
		check_allocation_failed = true;
		return NULL;
	}
	check_allocations_left--;
	return malloc(size);
}

/*
 * Runs body with memory for no allocation, for one, for two, ...  body answers the status
 * of what it tried and frees what it got.  As long as an allocation fails it must answer
 * APM_ERR_MEMORY, and APM_OK in the first run in which none does.
 */
static inline void
check_each_allocation(ApmStatus (*body)(void), const char *file, int line)
{
	static const ApmAllocator scarce = {check_scarce_alloc, free};

	apm_core_set_allocator(&scarce);
	for (long n = 0; n < 10000; n++)
	{
		ApmStatus status;

		check_allocations_left = n;
		check_allocation_failed = false;
		status = body();
		if (!check_allocation_failed)
		{
			check_record(status == APM_OK, "success once no allocation fails", file, line);
			break;
		}
		if (!check_record(status == APM_ERR_MEMORY, "APM_ERR_MEMORY when an allocation fails", file, line))
			break;
	}
	apm_core_set_allocator(NULL);
}

#define CHECK_EACH_ALLOCATION(body) check_each_allocation((body), __FILE__, __LINE__)

/* The last line of a test program and its exit status. */
static inline int
check_summary(void)
{
	printf("%ld passed, %ld failed\n", check_passed, check_failed);
	return check_failed == 0 && check_passed > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif /* APM_TEST_CHECK_H */
