/*
 * seal.c
 *	  Sealing a dataset for a researcher's OpenPGP key (RFC 4880), by pgcrypto.
 *
 * pgcrypto is in a schema of the administrator's choice; its functions are called by their full
 * names, since what a search path finds could be anybody's.  Its own errors tell of the key and of
 * nothing else, but they come in many shapes, so all become one that says what to do.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "apm_errors.h"
#include "apm_memory.h"
#include "apm_sql.h"
#include "export/seal.h"

/* The schema of pgcrypto, quoted. */
static const char *
pgcrypto_schema(void)
{
	static ApmStatement get = {
		.sql = "SELECT n.nspname::pg_catalog.text FROM pg_catalog.pg_extension AS e"
			   " JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pgcrypto'",
	};
	ApmSlice name;

	if (apm_run(&get, NULL) == 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("pgcrypto is not installed"),
						errhint("CREATE EXTENSION pgcrypto.")));
	name = apm_row_text(0, 1);
	return quote_identifier(pnstrdup((const char *) name.data, name.len));
}

/* Runs one of pgcrypto's functions, named by a format that takes the schema; the result is in SPI_tuptable. */
static void
run_pgcrypto(const char *format, int nargs, Oid *types, Datum *args)
{
	MemoryContext caller = CurrentMemoryContext;
	const char *schema = pgcrypto_schema();
	char *sql = psprintf(format, schema, schema);

	PG_TRY();
	{
		(void) SPI_execute_with_args(sql, nargs, types, args, NULL, true, 1);
	}
	PG_CATCH();
	{
		int sqlstate = geterrcode();

		if (sqlstate != ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION &&
			sqlstate != ERRCODE_INVALID_PARAMETER_VALUE)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the recipient's key is not an OpenPGP public key that can be sealed for"),
				 errhint("It is the ASCII-armored public key, as gpg --armor --export writes it; pgcrypto "
						 "seals for RSA and Elgamal encryption subkeys.")));
	}
	PG_END_TRY();
}

void
apm_pgp_check(ApmSlice armored_key)
{
	Oid types[] = {TEXTOID};
	Datum args[] = {apm_text_datum(armored_key)};

	/* sealing a byte asks of the key all that sealing a file asks */
	run_pgcrypto("SELECT %s.pgp_pub_encrypt_bytea('\\x00', %s.dearmor($1))", 1, types, args);
}

/* The file as a bytea: each line and a line feed. */
static bytea *
make_file(const ApmDataset *set)
{
	bytea *file;
	char *at;

	if (set->bytes > MaxAllocSize - VARHDRSZ)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the dataset is too large to be sealed in one piece"),
						errhint("Export a selection, or fewer attributes.")));
	file = palloc(set->bytes + VARHDRSZ);
	SET_VARSIZE(file, set->bytes + VARHDRSZ);
	at = VARDATA(file);
	for (int64 i = 0; i < set->n; i++)
	{
		memcpy(at, set->lines[i].data, set->lines[i].len);
		at += set->lines[i].len;
		*at++ = '\n';
	}
	return file;
}

Datum
apm_pgp_seal(const ApmDataset *set, ApmSlice armored_key)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid types[] = {BYTEAOID, TEXTOID};
	bytea *file = make_file(set);
	Datum args[] = {PointerGetDatum(file), apm_text_datum(armored_key)};
	ApmSlice sealed;
	Datum result;

	run_pgcrypto("SELECT %s.pgp_pub_encrypt_bytea($1, %s.dearmor($2), 'cipher-algo=aes256')", 2, types, args);
	apm_wipe(file, VARSIZE(file));
	pfree(file);
	sealed = apm_row_bytea(0, 1);
	MemoryContextSwitchTo(caller);
	result = apm_bytea_datum(sealed);
	return result;
}
