/*
 * test_policy.c
 *	  Words for the values of policies.
 */
#include <string.h>

#include "check.h"
#include "core/policy.h"

static bool
stands_for(uint16_t key, const char *text, uint64_t expected)
{
	uint64_t value;

	return apm_policy_value(key, text, &value) && value == expected;
}

static bool
stands_for_nothing(uint16_t key, const char *text)
{
	uint64_t value;

	return !apm_policy_value(key, text, &value);
}

/* Every word stands for the value that it is the word for, and a choice has no numbers. */
static void
test_words(void)
{
	int words = 0;

	for (uint16_t key = 1; apm_policy_name(key) != NULL; key++)
	{
		for (uint64_t value = 0; value < 10; value++)
		{
			const char *word = apm_policy_word(key, value);

			if (word == NULL)
				continue;
			words++;
			CHECK(stands_for(key, word, value));
			CHECK(stands_for_nothing(key, "1"));
		}
	}
	CHECK(words == 9);
	CHECK(strcmp(apm_policy_word(APM_POLICY_ACCESS, APM_ACCESS_CONSENT), "consent") == 0);
	CHECK(apm_policy_word(APM_POLICY_ACCESS, 0) == NULL && apm_policy_word(0, 1) == NULL);
	CHECK(apm_policy_word(APM_POLICY_FETCH_CAP, 1) == NULL);
	CHECK(stands_for_nothing(APM_POLICY_ACCESS, "granted"));
	CHECK(stands_for_nothing(APM_POLICY_ACCESS, ""));
}

static void
test_numbers(void)
{
	CHECK(stands_for(APM_POLICY_FETCH_CAP, "0", 0));
	CHECK(stands_for(APM_POLICY_QUERY_RATE, "0120", 120));
	CHECK(stands_for(APM_POLICY_DIFFICULTY, "18446744073709551615", UINT64_MAX));
	CHECK(stands_for_nothing(APM_POLICY_DIFFICULTY, "18446744073709551616"));
	CHECK(stands_for_nothing(APM_POLICY_FETCH_CAP, ""));
	CHECK(stands_for_nothing(APM_POLICY_FETCH_CAP, "-1"));
	CHECK(stands_for_nothing(APM_POLICY_FETCH_CAP, "1 "));
	CHECK(stands_for_nothing(APM_POLICY_FETCH_CAP, "any"));
	CHECK(stands_for_nothing(0, "1"));
	CHECK(stands_for_nothing(APM_POLICY_QUERY_RATE + 1, "1"));
}

int
main(void)
{
	test_words();
	test_numbers();
	return check_summary();
}
