/*
 * anonymize.c
 *	  Where the room starts.
 */
#include "postgres.h"

#include "anonymize/anonymize.h"
#include "anonymize/attachment.h"
#include "anonymize/collect.h"

void
apm_anonymize_init(void)
{
	apm_collect_init();
	apm_label_init();
}
