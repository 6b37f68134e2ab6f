/*
 * policy.c
 *	  Values of the contract's policies as words, and the other way round.
 */
#include "policy.h"

#include <string.h>

typedef struct Word
{
	uint16_t key;
	uint64_t value;
	const char *word;
} Word;

static const Word words[] = {
	{APM_POLICY_ACCESS, APM_ACCESS_CLINICIAN, "clinician"},
	{APM_POLICY_ACCESS, APM_ACCESS_CONSENT, "consent"},
	{APM_POLICY_PURPOSE, APM_PURPOSE_OPTIONAL, "optional"},
	{APM_POLICY_PURPOSE, APM_PURPOSE_REQUIRED, "required"},
	{APM_POLICY_EMERGENCY, APM_EMERGENCY_NONE, "none"},
	{APM_POLICY_EMERGENCY, APM_EMERGENCY_UNLESS_WITHDRAWN, "unless_withdrawn"},
	{APM_POLICY_EMERGENCY, APM_EMERGENCY_ALWAYS, "always"},
	{APM_POLICY_EXPORT, APM_EXPORT_UNLESS_WITHDRAWN, "unless_withdrawn"},
	{APM_POLICY_EXPORT, APM_EXPORT_GRANTED, "granted"},
};

#define WORD_COUNT (sizeof(words) / sizeof(words[0]))

const char *
apm_policy_word(uint16_t key, uint64_t value)
{
	for (size_t i = 0; i < WORD_COUNT; i++)
	{
		if (words[i].key == key && words[i].value == value)
			return words[i].word;
	}
	return NULL;
}

static bool
read_number(const char *text, uint64_t *value)
{
	*value = 0;
	if (*text == '\0')
		return false;
	for (; *text != '\0'; text++)
	{
		uint64_t digit = (uint64_t) (*text - '0');

		if (*text < '0' || *text > '9' || *value > (UINT64_MAX - digit) / 10)
			return false;
		*value = *value * 10 + digit;
	}
	return true;
}

bool
apm_policy_value(uint16_t key, const char *text, uint64_t *value)
{
	bool has_words = false;

	if (apm_policy_name(key) == NULL)
		return false;
	for (size_t i = 0; i < WORD_COUNT; i++)
	{
		if (words[i].key != key)
			continue;
		if (strcmp(words[i].word, text) == 0)
		{
			*value = words[i].value;
			return true;
		}
		has_words = true;
	}
	return !has_words && read_number(text, value);
}
