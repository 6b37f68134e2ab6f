/*
 * prove.c
 *	  Proofs that a record or a read stands in the ledger, and that one digest of it grew out of another.
 *
 * A proof leads from a transaction to a head that its holder has from elsewhere, through two trees: that of its
 * block, and that over the hashes of all blocks.  The second is not stored, so its leaves are computed from the
 * hashes, 32 bytes a block in memory; what is given out has the logarithm of that.
 *
 * Every proof is verified before it is given out: a ledger that was altered gives an error, not a proof that fails in
 * somebody else's hands.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "chain/head.h"
#include "chain/ledger.h"
#include "core/proof.h"

PG_FUNCTION_INFO_V1(apm_prove);
PG_FUNCTION_INFO_V1(apm_prove_read);
PG_FUNCTION_INFO_V1(apm_prove_consistency);

/* Hashes that are read at once. */
#define HASHES_AT_ONCE 16384

/* Where a transaction stands. */
typedef struct Standing
{
	ApmUuid tid;
	int64 height;
	int32 position;
} Standing;

static void
tampered(void)
{
	ereport(ERROR, (errcode(ERRCODE_APM_TAMPERED), errmsg("the ledger does not prove what it says"),
					errhint("Run apm_verify().")));
}

/* Of the hashes of n blocks from that height on: their leaves in the tree over all of them. */
static void
read_leaves(uint64 from, int n, ApmDigest *out)
{
	static ApmStatement get = {
		.sql = "SELECT b.height, b.hash FROM ONLY apm.block AS b"
			   " WHERE b.height >= $1 AND b.height < $2 ORDER BY b.height",
		.nargs = 2,
		.types = {INT8OID, INT8OID},
	};
	Datum args[] = {Int64GetDatum((int64) from), Int64GetDatum((int64) from + n)};

	SPI_connect();
	if (apm_run(&get, args) != (uint64) n)
		tampered();
	for (int row = 0; row < n; row++)
	{
		ApmDigest hash;
		ApmSlice part = APM_SLICE(hash.bytes, APM_DIGEST_LEN);

		if (apm_row_int8(row, 1) != (int64) from + row)
			tampered();
		apm_row_digest(row, 2, &hash);
		apm_check(apm_merkle_leaf(&part, 1, &out[row]), "hash the chain");
	}
	SPI_finish();
}

/* The leaves of the tree over the hashes of blocks 0 to n - 1, in memory of the caller's. */
static ApmDigest *
history_leaves(uint64 n)
{
	ApmDigest *leaves = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ApmDigest) * Max(n, 1));

	for (uint64 from = 0; from < n; from += HASHES_AT_ONCE)
	{
		CHECK_FOR_INTERRUPTS();
		read_leaves(from, (int) Min(n - from, HASHES_AT_ONCE), leaves + from);
	}
	return leaves;
}

/* The header of the block, and its hash. */
static void
read_block(int64 height, ApmProof *proof, ApmDigest *hash)
{
	static ApmStatement get = {
		.sql = "SELECT b.hash, b.header FROM ONLY apm.block AS b WHERE b.height = $1",
		.nargs = 1,
		.types = {INT8OID},
	};
	Datum args[] = {Int64GetDatum(height)};
	ApmSlice header;

	if (apm_run(&get, args) != 1)
		tampered();
	apm_row_digest(0, 1, hash);
	header = apm_row_bytea(0, 2);
	if (header.len != APM_HEADER_LEN)
		tampered();
	memcpy(proof->encoded, header.data, APM_HEADER_LEN);
}

/* The way from the transaction to the root of its block. */
static void
read_path(const Standing *standing, const ApmDigest *block, ApmProof *proof)
{
	static ApmStatement get = {
		.sql = "SELECT l.position, l.tid, l.kind, l.rule, l.leaf FROM ONLY apm.leaf AS l"
			   " WHERE l.block = $1 ORDER BY l.position",
		.nargs = 1,
		.types = {BYTEAOID},
	};
	Datum args[] = {apm_digest_datum(block)};
	uint64 n = apm_run(&get, args);
	ApmDigest *stands = palloc_array(ApmDigest, Max(n, 1));

	if (standing->position < 0 || (uint64) standing->position >= n)
		tampered();
	for (uint64 row = 0; row < n; row++)
	{
		ApmEntry entry;

		apm_row_entry(row, 2, &entry);
		if (apm_row_int4(row, 1) != (int32) row)
			tampered();
		apm_check(apm_entry_hash(&entry, &stands[row]), "hash a block");
		if ((int32) row == standing->position)
			proof->rule = entry.rule;
	}
	proof->position = (uint32) standing->position;
	apm_check(apm_merkle_path(stands, n, proof->position, &proof->path), "prove a transaction");
}

static void
read_transaction(const Standing *standing, ApmProof *proof)
{
	ApmSigned envelope;
	ApmBody body;

	apm_ledger_bodies(&standing->tid, 1, &body);
	if (body.transaction.len == 0)
		tampered();
	memcpy(envelope.nonce, body.nonce, APM_NONCE_LEN);
	envelope.transaction = body.transaction;
	envelope.proof = body.proof;
	apm_signed_encode(&envelope, &proof->transaction);
	apm_check(apm_buf_status(&proof->transaction), "prove a transaction");
}

/* What holds of the ledger, or of nothing in it. */
static void
require_good(ApmStatus status)
{
	if (status == APM_ERR_FORMAT || status == APM_ERR_VERIFY || status == APM_ERR_RANGE)
		tampered();
	apm_check(status, "verify a proof");
}

/* The proof of a transaction that is in the ledger. */
static ApmProof *
prove(const Standing *standing, const ApmHead *head)
{
	ApmProof *proof = palloc0(sizeof(ApmProof));
	uint64 n = head->header.height;
	ApmDigest block;

	if (standing->height > (int64) n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the digest is older than the block of what is to be proved"),
				 errhint("Give a later digest, or none: the proof is then for the end of the chain.")));
	proof->head = n;
	read_block(standing->height, proof, &block);
	read_path(standing, &block, proof);
	read_transaction(standing, proof);
	if (standing->height < (int64) n)
		apm_check(apm_merkle_path(history_leaves(n), n, (size_t) standing->height, &proof->history),
				  "prove a block");
	require_good(apm_proof_verify(proof, head));
	return proof;
}

/* The head that a proof is to lead to: that of a digest, which the ledger must have, or the tip. */
static void
choose_head(Jsonb *digest, const ApmChainIdentity *identity, ApmHead *out)
{
	if (digest == NULL)
		apm_head_tip(out);
	else
	{
		apm_head_argument(digest, out);
		apm_head_of_ledger(out, identity);
	}
}

/* What is asked for, and the answer. */
typedef struct Request
{
	ApmStatement *find; /* a Tid, height and position by an id */
	const pg_uuid_t *id;
	const char *missing; /* the message if it finds none */
	Jsonb *digest;		 /* NULL: the tip */
	Jsonb *old;			 /* of a proof of consistency */
	MemoryContext caller;
	Datum answer; /* in that memory context */
} Request;

static void
serve_proof(void *arg)
{
	Request *request = arg;
	Datum args[] = {UUIDPGetDatum(request->id)};
	ApmChainIdentity identity;
	Standing standing;
	ApmBuf text = {0};
	ApmHead head;
	ApmProof *proof;

	apm_chain_require(&identity);
	choose_head(request->digest, &identity, &head);
	if (apm_run(request->find, args) == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("%s", request->missing),
						errhint("It may still be on its way to the chain; or it was erased.")));
	apm_row_uuid(0, 1, &standing.tid);
	standing.height = apm_row_int8(0, 2);
	standing.position = apm_row_int4(0, 3);
	proof = prove(&standing, &head);
	MemoryContextSwitchTo(request->caller);
	apm_proof_write(proof, &text);
	request->answer = apm_json_datum(&text);
}

static void
serve_consistency(void *arg)
{
	Request *request = arg;
	ApmConsistency *proof = palloc0(sizeof(ApmConsistency));
	ApmChainIdentity identity;
	ApmBuf text = {0};
	ApmHead old_head;
	ApmHead new_head;
	uint64 n;

	apm_chain_require(&identity);
	apm_head_argument(request->old, &old_head);
	apm_head_of_ledger(&old_head, &identity);
	choose_head(request->digest, &identity, &new_head);
	n = new_head.header.height;
	proof->old_height = old_head.header.height;
	proof->new_height = n;
	if (proof->old_height > n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the old digest is younger than the new one"), errhint("Give the older one first.")));
	if (proof->old_height < n)
	{
		const ApmDigest *leaves = history_leaves(n);

		apm_check(apm_merkle_consistency(leaves, proof->old_height, n, &proof->history), "prove a digest");
		apm_check(apm_merkle_path(leaves, n, proof->old_height, &proof->inclusion), "prove a digest");
	}
	require_good(apm_consistency_verify(proof, &old_head, &new_head));
	MemoryContextSwitchTo(request->caller);
	apm_consistency_write(proof, &text);
	request->answer = apm_json_datum(&text);
}

/* Under one snapshot, since an erasure may take a transaction away meanwhile. */
static Datum
answer(void (*serve)(void *), Request *request)
{
	ApmPrivileged saved;

	request->caller = CurrentMemoryContext;
	apm_privileged_begin(&saved);
	SPI_connect();
	apm_sql_frozen(serve, request);
	SPI_finish();
	apm_privileged_end(&saved);
	return request->answer;
}

static Datum
prove_found(FunctionCallInfo fcinfo, ApmStatement *find, const char *missing)
{
	Request request = {.find = find, .missing = missing};

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	request.id = PG_GETARG_UUID_P(0);
	request.digest = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	return answer(serve_proof, &request);
}

/* apm_prove(rid uuid, digest jsonb) returns jsonb */
Datum
apm_prove(PG_FUNCTION_ARGS)
{
	static ApmStatement find = {
		.sql = "SELECT r.tid, r.height, r.position FROM ONLY apm.ledger_record AS r WHERE r.rid = $1",
		.nargs = 1,
		.types = {UUIDOID},
	};

	return prove_found(fcinfo, &find, "the ledger has no record of this id");
}

/* apm_prove_read(tid uuid, digest jsonb) returns jsonb */
Datum
apm_prove_read(PG_FUNCTION_ARGS)
{
	static ApmStatement find = {
		.sql = "SELECT q.tid, q.height, q.position FROM ONLY apm.ledger_query AS q WHERE q.tid = $1",
		.nargs = 1,
		.types = {UUIDOID},
	};

	return prove_found(fcinfo, &find, "the ledger has no query of this id");
}

/* apm_prove_consistency(old jsonb, new jsonb) returns jsonb */
Datum
apm_prove_consistency(PG_FUNCTION_ARGS)
{
	Request request = {0};

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	request.old = PG_GETARG_JSONB_P(0);
	request.digest = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	PG_RETURN_DATUM(answer(serve_consistency, &request));
}
