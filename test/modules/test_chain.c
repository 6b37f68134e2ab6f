/*
 * test_chain.c
 *	  Puts transactions of every kind, good and spoilt, straight into the pool: what the
 *	  tests of src/chain feed the miner with.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "chain/chain.h"
#include "core/digest.h"
#include "keys/keyring.h"

PG_MODULE_MAGIC;

#define HOUR_US (UINT64_C(3600) * 1000 * 1000)

/* One transaction to be made; spoil names what is wrong with it, or is empty. */
typedef struct Order
{
	ApmTransaction tx;
	const char *spoil;
} Order;

static uint64
now_us(void)
{
	const int64 epoch = (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;

	return (uint64) (GetCurrentTimestamp() + epoch);
}

/* The profile digest of a version, so that the next one can name it. */
static ApmDigest
profile_of(ApmSlice apid, uint32 version)
{
	ApmSlice parts[] = {apid, APM_SLICE(&version, sizeof(version))};
	ApmDigest digest;

	memset(&digest, 0, sizeof(digest));
	if (version > 0)
		apm_check(apm_sha256_parts(parts, 2, &digest), "hash a profile");
	return digest;
}

static bool
spoilt(const Order *order, const char *how)
{
	return strcmp(order->spoil, how) == 0;
}

static void
sign(const Order *order, ApmBuf *out, ApmUuid *tid)
{
	ApmEcKey *stranger = NULL;
	ApmBuf encoded = {0};
	ApmBuf proof_bytes = {0};
	ApmOriginProof proof = {.size = 1};
	ApmSigned envelope;
	ApmDigest leaf;

	apm_check(apm_random(envelope.nonce, APM_NONCE_LEN), "draw a nonce");
	apm_check(apm_transaction_encode(&order->tx, &encoded), "encode a transaction");
	if (spoilt(order, "template"))
		apm_put_u8(&encoded, 0);
	envelope.transaction = APM_SLICE(encoded.data, encoded.len);
	apm_check(apm_transaction_leaf(envelope.nonce, envelope.transaction, &leaf), "hash a transaction");
	apm_transaction_tid(spoilt(order, "template") ? 0 : order->tx.time_us, &leaf, tid);
	if (spoilt(order, "signature"))
		apm_check(apm_ec_generate(&stranger), "make a key");
	apm_check(apm_origin_sign(stranger != NULL ? stranger : apm_key_signer(APM_SIGN_ORIGIN), &leaf, 1,
							  &proof.signature),
			  "sign a transaction");
	apm_ec_free(stranger);
	apm_origin_proof_encode(&proof, &proof_bytes);
	envelope.proof = APM_SLICE(proof_bytes.data, proof_bytes.len);
	apm_signed_encode(&envelope, out);
	apm_check(apm_buf_status(out), "encode a transaction");
}

static ApmUuid
put(Order *order)
{
	ApmBuf plain = {0};
	ApmBuf sealed = {0};
	ApmPrivileged saved;
	ApmSlice pt;
	ApmUuid tid;

	apm_privileged_begin(&saved);
	SPI_connect();
	if (!apm_chain_identity(&order->tx.chain, &order->tx.origin))
		elog(ERROR, "there is no chain");
	if (spoilt(order, "chain"))
		order->tx.chain.bytes[0] ^= 1;
	if (spoilt(order, "origin"))
		order->tx.origin.bytes[0] ^= 1;
	sign(order, &plain, &tid);
	if (spoilt(order, "garbage"))
		plain.data[0] ^= 1;
	apm_check(apm_sealer_seal(apm_key_sealer(false, false, true), APM_SLICE(plain.data, plain.len), now_us(),
							  &sealed),
			  "seal a transaction");
	if (spoilt(order, "envelope"))
		sealed.data[sealed.len - 1] ^= 1;
	if (spoilt(order, "tid"))
		tid.bytes[15] ^= 1;
	pt = APM_SLICE(sealed.data, sealed.len);
	apm_pool_put(&tid, &pt, 1);
	SPI_finish();
	apm_privileged_end(&saved);
	return tid;
}

static void
begin(Order *order, FunctionCallInfo fcinfo, int roles_arg, int spoil_arg)
{
	memset(order, 0, sizeof(*order));
	order->spoil = PG_ARGISNULL(spoil_arg) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(spoil_arg));
	order->tx.time_us = now_us() + (spoilt(order, "future") ? 3 * HOUR_US : 0);
	order->tx.roles = (uint16) PG_GETARG_INT32(roles_arg);
}

static Datum
answer(const ApmUuid *tid)
{
	pg_uuid_t *out = palloc(sizeof(pg_uuid_t));

	memcpy(out->data, tid->bytes, UUID_LEN);
	return UUIDPGetDatum(out);
}

PG_FUNCTION_INFO_V1(test_pool_patient);

/* test_pool_patient(apid text, version integer, roles integer, spoil text) returns uuid */
Datum
test_pool_patient(PG_FUNCTION_ARGS)
{
	text *apid = PG_GETARG_TEXT_PP(0);
	uint32 version = (uint32) PG_GETARG_INT32(1);
	ApmPatientFields *fields;
	ApmUuid tid;
	Order order;

	begin(&order, fcinfo, 2, 3);
	order.tx.kind = APM_KIND_PATIENT;
	fields = &order.tx.u.patient;
	fields->apid = APM_SLICE_OF(apid);
	fields->version = version;
	fields->old_profile = profile_of(fields->apid, version - 1);
	fields->profile = profile_of(fields->apid, version);
	tid = put(&order);
	return answer(&tid);
}

PG_FUNCTION_INFO_V1(test_pool_primary);

/* test_pool_primary(apid text, rid uuid, amends uuid, record bytea, roles integer, spoil text) returns uuid */
Datum
test_pool_primary(PG_FUNCTION_ARGS)
{
	text *apid = PG_GETARG_TEXT_PP(0);
	bytea *record = PG_GETARG_BYTEA_PP(3);
	ApmPrimaryFields *fields;
	ApmUuid tid;
	Order order;

	begin(&order, fcinfo, 4, 5);
	order.tx.kind = APM_KIND_PRIMARY;
	fields = &order.tx.u.primary;
	fields->apid = APM_SLICE_OF(apid);
	memcpy(fields->rid.bytes, PG_GETARG_UUID_P(1)->data, UUID_LEN);
	if (!PG_ARGISNULL(2))
	{
		fields->flags = APM_PRIMARY_AMENDS;
		memcpy(fields->amends.bytes, PG_GETARG_UUID_P(2)->data, UUID_LEN);
	}
	fields->record = APM_SLICE_OF(record);
	tid = put(&order);
	return answer(&tid);
}

PG_FUNCTION_INFO_V1(test_pool_query);

/* test_pool_query(apid text, purpose integer, roles integer, spoil text) returns uuid */
Datum
test_pool_query(PG_FUNCTION_ARGS)
{
	text *apid = PG_GETARG_TEXT_PP(0);
	ApmUuid tid;
	Order order;

	begin(&order, fcinfo, 2, 3);
	order.tx.kind = APM_KIND_QUERY;
	order.tx.u.query.apid = APM_SLICE_OF(apid);
	order.tx.u.query.purpose = (uint16) PG_GETARG_INT32(1);
	tid = put(&order);
	return answer(&tid);
}
