/*
 * head.c
 *	  apm_digest(): the head of the chain, for whoever keeps it where this server's operators cannot write.
 *
 * A digest needs no signature of its own: the block that the node signed last stands for everything before it.  What
 * is given out is checked as a stranger will check it, so that a ledger whose end was altered gives an
 * error and no digest that nobody accepts later.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "chain/head.h"

PG_FUNCTION_INFO_V1(apm_digest);

ApmSlice
apm_json_argument(Jsonb *argument)
{
	char *text = JsonbToCString(NULL, &argument->root, VARSIZE(argument));

	return APM_SLICE(text, strlen(text));
}

Datum
apm_json_datum(ApmBuf *text)
{
	Datum json;

	apm_put_u8(text, '\0');
	apm_check(apm_buf_status(text), "write a digest or a proof");
	json = DirectFunctionCall1(jsonb_in, CStringGetDatum(text->data));
	apm_buf_reset(text);
	return json;
}

void
apm_head_argument(Jsonb *argument, ApmHead *out)
{
	ApmStatus status = apm_head_read(apm_json_argument(argument), out);

	if (status == APM_ERR_FORMAT)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("this is not a digest of a ledger"),
						errhint("Give it as apm_digest() gave it.")));
	if (status == APM_ERR_VERIFY)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the digest contradicts itself, or its node did not sign it"),
						errhint("It was altered. Give it as apm_digest() gave it.")));
	apm_check(status, "read a digest");
}

void
apm_head_of_chain(const ApmHead *head, const ApmChainIdentity *identity)
{
	if (memcmp(&head->header.chain, &identity->chain, sizeof(ApmDigest)) != 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the digest is of another chain"),
			 errhint("The member \"chain\" of a digest says which; apm_setup() has returned this one's.")));
}

void
apm_head_of_ledger(const ApmHead *head, const ApmChainIdentity *identity)
{
	static ApmStatement find = {
		.sql = "SELECT FROM ONLY apm.block AS b WHERE b.hash = $1 AND b.height = $2",
		.nargs = 2,
		.types = {BYTEAOID, INT8OID},
	};
	Datum args[] = {apm_digest_datum(&head->hash), Int64GetDatum((int64) head->header.height)};

	apm_head_of_chain(head, identity);
	if (apm_run(&find, args) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_APM_TAMPERED), errmsg("the ledger does not have the head of the digest"),
				 errhint("It was cut or rewritten since, or set back. Run apm_verify(digest).")));
}

/* From a row of SPI_tuptable (header, signature, the node's key), of which any may be null or wrong. */
static bool
head_of_row(uint64 row, ApmHead *out)
{
	ApmSlice header;
	ApmSlice signature;
	ApmSlice node;
	ApmStatus status;

	if (apm_row_null(row, 1) || apm_row_null(row, 3))
		return false;
	header = apm_row_bytea(row, 1);
	signature = apm_row_bytea(row, 2);
	node = apm_row_bytea(row, 3);
	if (header.len != APM_HEADER_LEN || signature.len != APM_SIGNATURE_LEN || node.len != APM_SPKI_LEN)
		return false;
	memset(out, 0, sizeof(*out));
	memcpy(out->encoded, header.data, APM_HEADER_LEN);
	memcpy(out->signature.bytes, signature.data, APM_SIGNATURE_LEN);
	memcpy(out->node, node.data, APM_SPKI_LEN);
	status = apm_head_check(out);
	if (status == APM_ERR_FORMAT || status == APM_ERR_VERIFY)
		return false;
	apm_check(status, "check the head of the chain");
	return true;
}

bool
apm_chain_head(ApmHead *out)
{
	/* a header names its node in bytes 187 to 218 */
	static ApmStatement last = {
		.sql =
			"SELECT b.header, b.signature, m.spki FROM ONLY apm.tip AS t"
			" LEFT JOIN ONLY apm.block AS b ON b.hash = t.hash"
			" LEFT JOIN ONLY apm.member AS m ON m.id = pg_catalog.substring(b.header, 187, 32) AND m.member = $1",
		.nargs = 1,
		.types = {INT2OID},
	};
	Datum args[] = {Int16GetDatum(APM_MEMBER_NODE)};

	if (apm_run(&last, args) == 0)
		return false;
	if (!head_of_row(0, out))
		ereport(ERROR,
				(errcode(ERRCODE_APM_TAMPERED), errmsg("the ledger does not end with a block of its node"),
				 errhint("Run apm_verify().")));
	return true;
}

void
apm_head_tip(ApmHead *out)
{
	if (!apm_chain_head(out))
		ereport(ERROR, (errcode(ERRCODE_APM_TAMPERED), errmsg("the ledger has no block"),
						errhint("Run apm_verify().")));
}

/* apm_digest() returns jsonb */
Datum
apm_digest(PG_FUNCTION_ARGS)
{
	ApmChainIdentity identity;
	ApmPrivileged saved;
	ApmBuf text = {0};
	ApmHead head;

	apm_privileged_begin(&saved);
	SPI_connect();
	apm_chain_require(&identity);
	apm_head_tip(&head);
	SPI_finish();
	apm_privileged_end(&saved);
	apm_head_write(&head, &text);
	PG_RETURN_DATUM(apm_json_datum(&text));
}
