/*
 * sealed.c
 *	  How much of the cloud a key opens: both sides of the mailbox.
 *
 * A generation of PK_APM's pair can go when nothing is sealed for it any more.  An envelope says in its head for whom it is,
 * in clear, so the store counts by itself, page by page, since it may have a great many rows, and only numbers
 * come back.  A store that counts wrong harms its own rows alone.
 *
 * Request: 8-byte key id, a Rid.  Answer: u64 number among the rows of the page that begins there, u8 whether it was the
 * last page, the Rid at its end.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "cloud/cloud.h"
#include "cloud/letter.h"
#include "cloud/store.h"

#define PAGE_ROWS 10000

typedef struct ApmSealedPage
{
	ApmKeyId key;
	ApmUuid from;
	ApmUuid last;
	bool more;
	int64 rows;
} ApmSealedPage;

/* Asks for a page. */
static void
ask(ApmSealedPage *page)
{
	ApmBuf request = {0};
	ApmReader r;
	void *answer;
	Size len;

	apm_put_u8(&request, APM_ASK_SEALED);
	apm_put_raw(&request, page->key.bytes, APM_KEY_ID_LEN);
	apm_put_raw(&request, page->from.bytes, APM_UUID_LEN);
	apm_check(apm_buf_status(&request), "ask what is sealed for a key");
	apm_mailbox_call(APM_WORKER_CLOUD, request.data, request.len, &answer, &len);
	apm_buf_reset(&request);

	apm_reader_init(&r, APM_SLICE(answer, len));
	page->rows = (int64) apm_get_u64(&r);
	page->more = apm_get_u8(&r) != 0;
	apm_get_raw(&r, page->last.bytes, APM_UUID_LEN);
	if (!apm_reader_done(&r))
		apm_raise(APM_ERR_FORMAT, "read the cloud worker's answer");
}

int64
apm_cloud_sealed_for(const ApmKeyId *key)
{
	ApmSealedPage page = {.key = *key, .more = true};
	int64 rows = 0;

	while (page.more)
	{
		CHECK_FOR_INTERRUPTS();
		ask(&page);
		rows += page.rows;
		page.more = page.more && apm_uuid_next(&page.last, &page.from);
	}
	return rows;
}

/* A visit. */
static void
count_page(void *closure)
{
	ApmSealedPage *page = closure;
	Oid target;

	apm_turn_begin("counting in the cloud");
	target = apm_store_target();
	apm_store_knock();
	page->more = apm_store_page(target, &page->from, PAGE_ROWS, &page->last);
	page->rows = apm_store_sealed(target, &page->from, &page->last, &page->key);
	apm_store_answered();
	apm_turn_commit_async();
}

static void
serve(const ApmLetter *letter)
{
	ApmSealedPage page = {0};
	ApmVisitFailure failure;
	ApmBuf out = {0};
	ApmReader r;

	apm_reader_init(&r, APM_SLICE(letter->request, letter->request_len));
	apm_expect_u8(&r, APM_ASK_SEALED);
	apm_get_raw(&r, page.key.bytes, APM_KEY_ID_LEN);
	apm_get_raw(&r, page.from.bytes, APM_UUID_LEN);
	if (!apm_reader_done(&r))
	{
		apm_letter_refuse(letter);
		return;
	}
	apm_store_visit(count_page, &page, &failure);
	apm_put_u64(&out, (uint64) page.rows);
	apm_put_u8(&out, page.more);
	apm_put_raw(&out, page.last.bytes, APM_UUID_LEN);
	apm_letter_answer(letter, &failure, &out);
}

void
apm_sealed_serve(const ApmLetter *letters, int n)
{
	apm_letters_each(letters, n, serve);
}
