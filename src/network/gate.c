/*
 * gate.c
 *	  The query gate, the reader's side: nobody reads without a trace.
 *
 * What a backend writes goes with its transaction; so a reader does not write the trace
 * of his reading.  He hands his query to the network server and waits.  That writes it
 * in a transaction of its own and answers when the chain has judged it and the block is
 * final: gatekeeper.c.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "utils/memutils.h"

#include "apm_errors.h"
#include "network/gate.h"
#include "worker/mailbox.h"

#define PLACE_LEN (2 * APM_UUID_LEN + APM_DIGEST_LEN + 8 + 4)

void
apm_gate_encode_request(const ApmGateRequest *request, ApmBuf *out)
{
	apm_put_raw(out, request->staff, APM_STAFF_LEN);
	apm_put_bytes(out, request->acting.data, request->acting.len);
	apm_put_bytes(out, request->login.data, request->login.len);
	apm_put_bytes(out, request->query.data, request->query.len);
}

bool
apm_gate_decode_request(ApmSlice in, ApmGateRequest *out)
{
	ApmReader r;

	apm_reader_init(&r, in);
	apm_get_raw(&r, out->staff, APM_STAFF_LEN);
	out->acting = apm_get_bytes(&r, NAMEDATALEN - 1);
	out->login = apm_get_bytes(&r, NAMEDATALEN - 1);
	out->query = apm_get_bytes(&r, MaxAllocSize);
	return apm_reader_done(&r);
}

void
apm_gate_encode_answer(const ApmGateAnswer *answer, ApmBuf *out)
{
	apm_put_raw(out, answer->tid.bytes, APM_UUID_LEN);
	apm_put_u64(out, answer->height);
	apm_put_u8(out, answer->patient.known);
	apm_put_u8(out, answer->patient.erased);
	apm_put_raw(out, answer->patient.origin.bytes, APM_DIGEST_LEN);
	apm_put_u32(out, answer->patient.version);
	apm_put_raw(out, answer->patient.profile.bytes, APM_DIGEST_LEN);
	apm_put_u32(out, (uint32_t) answer->nrecords);
	for (int i = 0; i < answer->nrecords; i++)
	{
		const ApmPlace *place = &answer->records[i];

		apm_put_raw(out, place->rid.bytes, APM_UUID_LEN);
		apm_put_raw(out, place->tid.bytes, APM_UUID_LEN);
		apm_put_raw(out, place->leaf.bytes, APM_DIGEST_LEN);
		apm_put_u64(out, place->height);
		apm_put_u32(out, place->position);
	}
}

bool
apm_gate_decode_answer(ApmSlice in, ApmGateAnswer *out)
{
	ApmReader r;
	uint32 n;

	memset(out, 0, sizeof(*out));
	apm_reader_init(&r, in);
	apm_get_raw(&r, out->tid.bytes, APM_UUID_LEN);
	out->height = apm_get_u64(&r);
	out->patient.known = apm_get_u8(&r) != 0;
	out->patient.erased = apm_get_u8(&r) != 0;
	apm_get_raw(&r, out->patient.origin.bytes, APM_DIGEST_LEN);
	out->patient.version = apm_get_u32(&r);
	apm_get_raw(&r, out->patient.profile.bytes, APM_DIGEST_LEN);
	n = apm_get_u32(&r);
	if (r.failed || n > in.len / PLACE_LEN)
		return false;

	out->nrecords = (int) n;
	out->records = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ApmPlace) * Max(n, 1));
	for (uint32 i = 0; i < n; i++)
	{
		ApmPlace *place = &out->records[i];

		apm_get_raw(&r, place->rid.bytes, APM_UUID_LEN);
		apm_get_raw(&r, place->tid.bytes, APM_UUID_LEN);
		apm_get_raw(&r, place->leaf.bytes, APM_DIGEST_LEN);
		place->height = apm_get_u64(&r);
		place->position = apm_get_u32(&r);
	}
	return apm_reader_done(&r);
}

void
apm_gate_query(ApmSlice signed_query, const uint8 staff[APM_STAFF_LEN], const char *acting, const char *login,
			   ApmGateAnswer *answer)
{
	ApmGateRequest request = {
		.acting = APM_SLICE(acting, strlen(acting)),
		.login = APM_SLICE(login, strlen(login)),
		.query = signed_query,
	};
	ApmBuf out = {0};
	void *in;
	Size len;

	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("a standby serves no reads"),
						errhint("Every read leaves a trace, which only the primary server can write.")));

	memcpy(request.staff, staff, APM_STAFF_LEN);
	apm_gate_encode_request(&request, &out);
	apm_check(apm_buf_status(&out), "ask the network server");
	apm_mailbox_call(APM_WORKER_NETWORK, out.data, out.len, &in, &len);
	apm_buf_reset(&out);
	if (!apm_gate_decode_answer(APM_SLICE(in, len), answer))
		apm_raise(APM_ERR_FORMAT, "read the network server's answer");
}
