/*
 * gate_letter.c
 *	  What goes through the query gate's letter box, as bytes.
 *
 * Both sides are ours, so that a letter that is not well-formed is a fault of the program; it is
 * found all the same, because a process that runs on with half a letter is worse than an error.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "apm_sql.h"
#include "network/gate_letter.h"

#define PLACE_LEN (2 * APM_UUID_LEN + APM_DIGEST_LEN + 1)
#define MATCH_LEN_MIN (PLACE_LEN + 4)
#define RULE_NAME_MAX 255

void
apm_gate_put_request(ApmBuf *out, const ApmGateRequest *head, const ApmGateQuestion *questions)
{
	apm_put_raw(out, head->staff, APM_STAFF_LEN);
	apm_put_bytes(out, head->acting.data, head->acting.len);
	apm_put_bytes(out, head->login.data, head->login.len);
	apm_put_u32(out, head->n);
	for (uint32 i = 0; i < head->n; i++)
	{
		apm_put_u8(out, questions[i].list);
		apm_put_bytes(out, questions[i].query.data, questions[i].query.len);
		apm_put_bytes(out, questions[i].note.data, questions[i].note.len);
	}
}

bool
apm_gate_get_request(ApmSlice in, ApmGateRequest *out)
{
	apm_reader_init(&out->questions, in);
	apm_get_raw(&out->questions, out->staff, APM_STAFF_LEN);
	out->acting = apm_get_bytes(&out->questions, NAMEDATALEN - 1);
	out->login = apm_get_bytes(&out->questions, NAMEDATALEN - 1);
	out->n = apm_get_u32(&out->questions);
	return !out->questions.failed && out->n > 0 && out->n <= APM_GATE_QUESTIONS;
}

bool
apm_gate_get_question(ApmGateRequest *request, ApmGateQuestion *out)
{
	uint8 list = apm_get_u8(&request->questions);

	memset(out, 0, sizeof(*out));
	out->list = (ApmGateList) list;
	out->query = apm_get_bytes(&request->questions, MaxAllocSize);
	out->note = apm_get_bytes(&request->questions, MaxAllocSize);
	return !request->questions.failed && list <= APM_GATE_ALL;
}

static void
put_patient(ApmBuf *out, const ApmPatientState *patient)
{
	apm_put_u8(out, patient->known);
	apm_put_u8(out, patient->erased);
	apm_put_raw(out, patient->origin.bytes, APM_DIGEST_LEN);
	apm_put_u32(out, patient->version);
	apm_put_raw(out, patient->profile.bytes, APM_DIGEST_LEN);
}

static void
get_patient(ApmReader *r, ApmPatientState *out)
{
	out->known = apm_get_u8(r) != 0;
	out->erased = apm_get_u8(r) != 0;
	apm_get_raw(r, out->origin.bytes, APM_DIGEST_LEN);
	out->version = apm_get_u32(r);
	apm_get_raw(r, out->profile.bytes, APM_DIGEST_LEN);
}

static void
put_place(ApmBuf *out, const ApmPlace *place)
{
	apm_put_raw(out, place->rid.bytes, APM_UUID_LEN);
	apm_put_raw(out, place->leaf.bytes, APM_DIGEST_LEN);
	apm_put_u8(out, place->superseded);
	apm_put_raw(out, place->superseded_by.bytes, APM_UUID_LEN);
}

static void
get_place(ApmReader *r, ApmPlace *out)
{
	apm_get_raw(r, out->rid.bytes, APM_UUID_LEN);
	apm_get_raw(r, out->leaf.bytes, APM_DIGEST_LEN);
	out->superseded = apm_get_u8(r) != 0;
	apm_get_raw(r, out->superseded_by.bytes, APM_UUID_LEN);
}

void
apm_gate_put_answer(ApmBuf *out, const ApmGateQuestion *question)
{
	const char *name = question->rule_name != NULL ? question->rule_name : "";

	apm_put_bytes(out, name, strlen(name));
	apm_put_u16(out, question->rule);
	apm_put_raw(out, question->tid.bytes, APM_UUID_LEN);
	apm_put_u64(out, question->height);
	put_patient(out, &question->patient);
	apm_put_u32(out, (uint32) question->nrecords);
	for (int i = 0; i < question->nrecords; i++)
		put_place(out, &question->records[i]);
	apm_put_u32(out, (uint32) question->nmatches);
	for (int i = 0; i < question->nmatches; i++)
	{
		put_place(out, &question->matches[i].place);
		apm_put_bytes(out, question->matches[i].apid.data, question->matches[i].apid.len);
	}
}

/* A count of things of at least that length each; -1 if they are not there. */
static int
get_count(ApmReader *r, size_t least)
{
	uint32 n = apm_get_u32(r);

	if (r->failed || n > (size_t) (r->end - r->pos) / least || n > INT_MAX)
		return -1;
	return (int) n;
}

static bool
get_answer(ApmReader *r, ApmGateQuestion *out)
{
	ApmSlice name = apm_get_bytes(r, RULE_NAME_MAX);

	out->rule_name = r->failed || name.len == 0 ? NULL : pnstrdup((const char *) name.data, name.len);
	out->rule = apm_get_u16(r);
	apm_get_raw(r, out->tid.bytes, APM_UUID_LEN);
	out->height = apm_get_u64(r);
	get_patient(r, &out->patient);

	out->nrecords = get_count(r, PLACE_LEN);
	if (out->nrecords < 0)
		return false;
	out->records = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ApmPlace) * Max(out->nrecords, 1));
	for (int i = 0; i < out->nrecords; i++)
		get_place(r, &out->records[i]);

	out->nmatches = get_count(r, MATCH_LEN_MIN);
	if (out->nmatches < 0)
		return false;
	out->matches = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ApmMatch) * Max(out->nmatches, 1));
	for (int i = 0; i < out->nmatches; i++)
	{
		get_place(r, &out->matches[i].place);
		out->matches[i].apid = apm_slice_copy(CurrentMemoryContext, apm_get_bytes(r, MaxAllocSize));
	}
	return !r->failed;
}

bool
apm_gate_get_answers(ApmSlice in, ApmGateQuestion *questions, int n)
{
	ApmReader r;

	apm_reader_init(&r, in);
	for (int i = 0; i < n; i++)
	{
		if (!get_answer(&r, &questions[i]))
			return false;
	}
	return apm_reader_done(&r);
}
