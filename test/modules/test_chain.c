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
#include "core/pseudonym.h"
#include "keys/keyring.h"

PG_MODULE_MAGIC;

#define HOUR_US (UINT64_C(3600) * 1000 * 1000)

/* Transactions of patients that this session has put into the pool: an erasure names those of its block, too. */
#define REMEMBERED_MAX 64

static struct
{
	char apid[APM_APID_MAX + 1];
	ApmVoid voided;
} remembered[REMEMBERED_MAX];
static int nremembered = 0;

/* One transaction to be made; spoil names what is wrong with it, or is empty. */
typedef struct Order
{
	ApmTransaction tx;
	ApmDigest signer; /* id of our origin's key in force */
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
remember(const ApmTransaction *tx, const ApmDigest *leaf, const ApmUuid *tid)
{
	ApmSlice apid = apm_transaction_apid(tx);
	ApmVoid *voided = &remembered[nremembered].voided;

	if ((tx->kind != APM_KIND_PATIENT && tx->kind != APM_KIND_PRIMARY) || nremembered == REMEMBERED_MAX)
		return;
	memcpy(remembered[nremembered].apid, apid.data, apid.len);
	remembered[nremembered].apid[apid.len] = '\0';
	voided->leaf = *leaf;
	voided->tid = *tid;
	voided->kind = (uint8) tx->kind;
	memcpy(voided->actor, tx->actor, APM_STAFF_LEN);
	nremembered++;
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
	apm_check(
		apm_origin_sign(stranger != NULL ? stranger : apm_key_signer_of(APM_SIGN_ORIGIN, &order->signer),
						&leaf, 1, &proof.signature),
		"sign a transaction");
	if (order->spoil[0] == '\0')
		remember(&order->tx, &leaf, tid);
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
	order->signer = order->tx.origin;
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

/* An order of that kind; spoil_arg < 0: nothing is wrong with it. */
static void
begin(Order *order, FunctionCallInfo fcinfo, ApmKind kind, int roles_arg, int spoil_arg)
{
	memset(order, 0, sizeof(*order));
	order->spoil =
		spoil_arg < 0 || PG_ARGISNULL(spoil_arg) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(spoil_arg));
	order->tx.kind = kind;
	order->tx.time_us = now_us() + (spoilt(order, "future") ? 3 * HOUR_US : 0);
	order->tx.roles = (uint16) PG_GETARG_INT32(roles_arg);
}

/* A staff pseudonym or a study as tests name it: its text, filled up with zeros. */
static void
copy_name(text *name, uint8 *out, size_t len)
{
	ApmSlice slice = APM_SLICE_OF(name);

	memset(out, 0, len);
	memcpy(out, slice.data, Min(slice.len, len));
}

/* Bytes of an argument that may be null. */
static ApmSlice
bytes_arg(FunctionCallInfo fcinfo, int arg)
{
	bytea *value = PG_ARGISNULL(arg) ? NULL : PG_GETARG_BYTEA_PP(arg);

	return value == NULL ? APM_SLICE(NULL, 0) : APM_SLICE_OF(value);
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

	begin(&order, fcinfo, APM_KIND_PATIENT, 2, 3);
	fields = &order.tx.u.patient;
	fields->apid = APM_SLICE_OF(apid);
	fields->version = version;
	fields->old_profile = profile_of(fields->apid, version - 1);
	fields->profile = profile_of(fields->apid, version);
	tid = put(&order);
	return answer(&tid);
}

PG_FUNCTION_INFO_V1(test_pool_primary);

/*
 * test_pool_primary(apid text, rid uuid, amends uuid, record bytea, roles integer, spoil text, tokens bytea, actor text)
 * returns uuid; the last two may be left out
 */
Datum
test_pool_primary(PG_FUNCTION_ARGS)
{
	text *apid = PG_GETARG_TEXT_PP(0);
	bytea *record = PG_GETARG_BYTEA_PP(3);
	ApmPrimaryFields *fields;
	ApmUuid tid;
	Order order;

	begin(&order, fcinfo, APM_KIND_PRIMARY, 4, 5);
	fields = &order.tx.u.primary;
	fields->apid = APM_SLICE_OF(apid);
	memcpy(fields->rid.bytes, PG_GETARG_UUID_P(1)->data, UUID_LEN);
	if (!PG_ARGISNULL(2))
	{
		fields->flags = APM_PRIMARY_AMENDS;
		memcpy(fields->amends.bytes, PG_GETARG_UUID_P(2)->data, UUID_LEN);
	}
	fields->record = APM_SLICE_OF(record);
	if (PG_NARGS() > 6)
	{
		ApmSlice tokens = bytes_arg(fcinfo, 6);

		fields->tokens = (ApmTokens){.count = (uint8) (tokens.len / APM_TOKEN_LEN), .bytes = tokens.data};
		copy_name(PG_GETARG_TEXT_PP(7), order.tx.actor, APM_STAFF_LEN);
	}
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

	begin(&order, fcinfo, APM_KIND_QUERY, 2, 3);
	order.tx.u.query.scope = APM_SCOPE_RECORDS;
	order.tx.u.query.apid = APM_SLICE_OF(apid);
	order.tx.u.query.purpose = (uint16) PG_GETARG_INT32(1);
	tid = put(&order);
	return answer(&tid);
}

PG_FUNCTION_INFO_V1(test_pool_ask);

/*
 * test_pool_ask(actor text, roles integer, scope integer, apid text, purpose integer, reason integer, basis uuid, tokens bytea)
 * returns uuid: a query of any scope, whose actor is also the acting role and his only group
 */
Datum
test_pool_ask(PG_FUNCTION_ARGS)
{
	text *apid = PG_ARGISNULL(3) ? NULL : PG_GETARG_TEXT_PP(3);
	ApmSlice tokens = bytes_arg(fcinfo, 7);
	ApmQueryFields *fields;
	ApmUuid tid;
	Order order;

	begin(&order, fcinfo, APM_KIND_QUERY, 1, -1);
	copy_name(PG_GETARG_TEXT_PP(0), order.tx.actor, APM_STAFF_LEN);
	fields = &order.tx.u.query;
	fields->scope = (uint8) PG_GETARG_INT32(2);
	fields->apid = apid == NULL ? APM_SLICE(NULL, 0) : APM_SLICE_OF(apid);
	fields->purpose = (uint16) PG_GETARG_INT32(4);
	fields->reason = (uint16) PG_GETARG_INT32(5);
	if (!PG_ARGISNULL(6))
		memcpy(fields->basis, PG_GETARG_UUID_P(6)->data, UUID_LEN);
	fields->tokens = (ApmTokens){.count = (uint8) (tokens.len / APM_TOKEN_LEN), .bytes = tokens.data};
	memcpy(fields->acting, order.tx.actor, APM_STAFF_LEN);
	fields->groups = (ApmGroups){.count = 1, .ids = fields->acting};
	tid = put(&order);
	return answer(&tid);
}

PG_FUNCTION_INFO_V1(test_pool_consent);

/*
 * test_pool_consent(actor text, roles integer, action integer, apid text, grantee text, purpose integer, until_us bigint, reviewed uuid)
 * returns uuid
 */
Datum
test_pool_consent(PG_FUNCTION_ARGS)
{
	text *apid = PG_GETARG_TEXT_PP(3);
	ApmConsentFields *fields;
	ApmUuid tid;
	Order order;

	begin(&order, fcinfo, APM_KIND_CONSENT, 1, -1);
	copy_name(PG_GETARG_TEXT_PP(0), order.tx.actor, APM_STAFF_LEN);
	fields = &order.tx.u.consent;
	fields->action = (uint8) PG_GETARG_INT32(2);
	fields->apid = APM_SLICE_OF(apid);
	if (!PG_ARGISNULL(4))
		copy_name(PG_GETARG_TEXT_PP(4), fields->grantee, APM_STAFF_LEN);
	fields->purpose = (uint16) PG_GETARG_INT32(5);
	fields->until_us = (uint64) PG_GETARG_INT64(6);
	if (!PG_ARGISNULL(7))
	{
		memcpy(fields->reviewed.bytes, PG_GETARG_UUID_P(7)->data, UUID_LEN);
		fields->finding = APM_FINDING_JUSTIFIED;
	}
	fields->groups = (ApmGroups){.count = 1, .ids = order.tx.actor};
	tid = put(&order);
	return answer(&tid);
}

PG_FUNCTION_INFO_V1(test_pool_export);

/* test_pool_export(actor text, roles integer, study text, release integer, parameters bytea, rows bigint) returns uuid */
Datum
test_pool_export(PG_FUNCTION_ARGS)
{
	ApmSlice parameters = bytes_arg(fcinfo, 4);
	ApmExportFields *fields;
	ApmUuid tid;
	Order order;

	begin(&order, fcinfo, APM_KIND_EXPORT, 1, -1);
	copy_name(PG_GETARG_TEXT_PP(0), order.tx.actor, APM_STAFF_LEN);
	fields = &order.tx.u.export;
	copy_name(PG_GETARG_TEXT_PP(2), fields->study, APM_STUDY_LEN);
	fields->release = (uint32) PG_GETARG_INT32(3);
	fields->parameters = parameters;
	fields->rows = (uint64) PG_GETARG_INT64(5);
	apm_check(apm_sha256(parameters.data, parameters.len, &fields->digest), "hash a dataset");
	tid = put(&order);
	return answer(&tid);
}

PG_FUNCTION_INFO_V1(test_pool_contract);

/* test_pool_contract(roles integer, n integer, items bytea) returns uuid: n items of the contract, encoded */
Datum
test_pool_contract(PG_FUNCTION_ARGS)
{
	ApmUuid tid;
	Order order;

	begin(&order, fcinfo, APM_KIND_CONTRACT, 0, -1);
	order.tx.u.contract.count = (uint16) PG_GETARG_INT32(1);
	order.tx.u.contract.items = bytes_arg(fcinfo, 2);
	tid = put(&order);
	return answer(&tid);
}

static int
compare_voids(const void *a, const void *b)
{
	return memcmp(((const ApmVoid *) a)->leaf.bytes, ((const ApmVoid *) b)->leaf.bytes, APM_DIGEST_LEN);
}

/*
 * What the ledger has of the patient, and what this session has put into the pool since, encoded; one void that
 * stands nowhere if he has nothing.
 */
static void
collect_voids(const char *apid, ApmErasureFields *fields)
{
	ApmSlice whose = APM_SLICE(apid, strlen(apid));
	ApmVoid *all = palloc_array(ApmVoid, REMEMBERED_MAX);
	ApmBuf *encoded = palloc0(sizeof(ApmBuf));
	ApmPrivileged saved;
	ApmVoid *stored;
	int n = 0;

	apm_privileged_begin(&saved);
	SPI_connect();
	n = apm_ledger_voids(whose, &stored);
	memcpy(all, stored, sizeof(ApmVoid) * Min(n, REMEMBERED_MAX));
	SPI_finish();
	apm_privileged_end(&saved);
	for (int i = 0; i < nremembered; i++)
	{
		if (strcmp(remembered[i].apid, apid) == 0)
			all[n++] = remembered[i].voided;
	}
	if (n == 0)
		memset(&all[n++], APM_KIND_PATIENT, sizeof(ApmVoid));
	qsort(all, n, sizeof(ApmVoid), compare_voids);
	for (int i = 0; i < n; i++)
	{
		if (i > 0 && compare_voids(&all[i - 1], &all[i]) == 0)
			continue;
		apm_void_put(encoded, &all[i]);
		fields->count++;
	}
	fields->apid = whose;
	fields->voids = APM_SLICE(encoded->data, encoded->len);
}

PG_FUNCTION_INFO_V1(test_pool_erasure);

/* test_pool_erasure(apid text, reason integer, roles integer) returns uuid: of all that the ledger and this session have of him */
Datum
test_pool_erasure(PG_FUNCTION_ARGS)
{
	ApmUuid tid;
	Order order;

	begin(&order, fcinfo, APM_KIND_ERASURE, 2, -1);
	collect_voids(text_to_cstring(PG_GETARG_TEXT_PP(0)), &order.tx.u.erasure);
	order.tx.u.erasure.reason = (uint16) PG_GETARG_INT32(1);
	tid = put(&order);
	return answer(&tid);
}

PG_FUNCTION_INFO_V1(test_drop_body);

/* test_drop_body(tid uuid): deletes a body as apm's own code would */
Datum
test_drop_body(PG_FUNCTION_ARGS)
{
	static ApmStatement drop = {
		.sql = "DELETE FROM ONLY apm.body AS b WHERE b.tid = $1",
		.nargs = 1,
		.types = {UUIDOID},
	};
	Datum args[] = {PG_GETARG_DATUM(0)};
	ApmPrivileged saved;

	apm_privileged_begin(&saved);
	SPI_connect();
	apm_run_whole(&drop, args, 1);
	SPI_finish();
	apm_privileged_end(&saved);
	PG_RETURN_VOID();
}
