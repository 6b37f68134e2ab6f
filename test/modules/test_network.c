/*
 * test_network.c
 *	  What a stranger who has the network server's public key could send, as SQL functions for the
 *	  tests of src/network.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "core/transaction.h"
#include "keys/keyring.h"

PG_MODULE_MAGIC;

static bytea *
sealed(const ApmBuf *plain)
{
	ApmBuf out = {0};

	apm_check(
		apm_sealer_seal(apm_key_sealer(false, true, false), APM_SLICE(plain->data, plain->len), 0, &out),
		"seal for the test");
	return DatumGetByteaP(apm_bytea_datum(APM_SLICE(out.data, out.len)));
}

PG_FUNCTION_INFO_V1(test_sealed);

/* test_sealed(plain bytea) returns bytea: anything, sealed for the network server */
Datum
test_sealed(PG_FUNCTION_ARGS)
{
	bytea *plain = PG_GETARG_BYTEA_PP(0);
	ApmBuf buf = {0};

	apm_put_raw(&buf, VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain));
	PG_RETURN_BYTEA_P(sealed(&buf));
}

PG_FUNCTION_INFO_V1(test_strangers_record);

/*
 * test_strangers_record(chain bytea, origin bytea, time_us bigint) returns bytea: a record of an
 * unknown patient, for that chain, said to be of that origin, signed with a key of nobody
 */
Datum
test_strangers_record(PG_FUNCTION_ARGS)
{
	ApmTransaction tx = {.kind = APM_KIND_PRIMARY};
	ApmOriginProof proof = {.size = 1};
	ApmSigned parts;
	ApmEcKey *key;
	ApmDigest leaf;
	ApmBuf body = {0};
	ApmBuf encoded_proof = {0};
	ApmBuf plain = {0};

	memcpy(tx.chain.bytes, VARDATA_ANY(PG_GETARG_BYTEA_PP(0)), APM_DIGEST_LEN);
	memcpy(tx.origin.bytes, VARDATA_ANY(PG_GETARG_BYTEA_PP(1)), APM_DIGEST_LEN);
	tx.time_us = (uint64) PG_GETARG_INT64(2);
	tx.roles = APM_ROLE_CLINICIAN;
	apm_check(apm_uuid7_random(tx.time_us / 1000, &tx.u.primary.rid), "draw a Rid");
	tx.u.primary.apid = APM_SLICE("nobody", 6);
	tx.u.primary.record = APM_SLICE("nothing", 7);
	apm_check(apm_transaction_encode(&tx, &body), "encode for the test");

	apm_check(apm_random(parts.nonce, APM_NONCE_LEN), "draw a nonce");
	parts.transaction = APM_SLICE(body.data, body.len);
	apm_check(apm_transaction_leaf(parts.nonce, parts.transaction, &leaf), "hash for the test");
	apm_check(apm_ec_generate(&key), "make a key");
	apm_check(apm_origin_sign(key, &leaf, proof.size, &proof.signature), "sign for the test");
	apm_origin_proof_encode(&proof, &encoded_proof);
	parts.proof = APM_SLICE(encoded_proof.data, encoded_proof.len);
	apm_signed_encode(&parts, &plain);
	PG_RETURN_BYTEA_P(sealed(&plain));
}
