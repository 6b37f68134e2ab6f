/*
 * derive_rows.c
 *	  Derived tables that rows are only added to: versions of profiles, tokens, items of the
 *	  contract, queries, consents, exports, counters.
 *
 * What rows a block leaves in such a table follows from its transactions alone, so it is said
 * once for each, as arrays: one statement adds them, and another finds the first that
 * is not there as it must be, when the ledger is verified.  Each row has a place of its own
 * in its table, so where the number of rows agrees as well there is none that nothing made.
 *
 * The second statement looks each row up by itself (LATERAL, LIMIT 1): a join could be
 * planned as a walk through the whole table for each block.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "chain/derive.h"
#include "chain/identity.h"

/* A table, and the rows that a block leaves in it. */
typedef struct Table
{
	const char *name;
	/* The arguments of add and missing, for n rows; places: the transaction that left each.  Returns n. */
	int (*rows)(const ApmContents *block, Datum *args, int32 **places);
	ApmStatement add;
	ApmStatement missing; /* the number, from 1, of the first row that is not there */
	ApmStatement total;
} Table;

#define ROWS(arrays, columns) " FROM unnest(" arrays ") WITH ORDINALITY AS u (" columns ", ordinality)"
#define MISSING(rows, table, condition)                                                                     \
	"SELECT u.ordinality::pg_catalog.int4" rows " LEFT JOIN LATERAL (SELECT true AS there FROM ONLY " table \
	" AS l WHERE " condition " LIMIT 1) AS s ON true WHERE s.there IS NULL ORDER BY u.ordinality LIMIT 1"
#define TOTAL(table) "SELECT pg_catalog.count(*) FROM ONLY " table

/* Valid transactions of a kind. */
static int
count_kind(const ApmContents *block, ApmKind kind)
{
	int n = 0;

	for (int i = 0; i < block->n; i++)
		n += apm_is_valid(block, i, kind);
	return n;
}

static int
profile_rows(const ApmContents *block, Datum *args, int32 **places)
{
	int most = count_kind(block, APM_KIND_PATIENT);
	int32 *positions = palloc_array(int32, most);
	ApmSlice *apids = palloc_array(ApmSlice, most);
	int32 *versions = palloc_array(int32, most);
	ApmUuid *tids = palloc_array(ApmUuid, most);
	ApmDigest *leaves = palloc_array(ApmDigest, most);
	ApmDigest *profiles = palloc_array(ApmDigest, most);
	int n = 0;

	for (int i = 0; i < block->n; i++)
	{
		const ApmPatientFields *patient = &block->opened[i].tx.u.patient;

		if (!apm_is_valid(block, i, APM_KIND_PATIENT))
			continue;
		positions[n] = block->first + i;
		apids[n] = patient->apid;
		versions[n] = (int32) patient->version;
		tids[n] = block->entries[i].tid;
		leaves[n] = block->entries[i].leaf;
		profiles[n++] = patient->profile;
	}
	args[0] = Int64GetDatum((int64) block->height);
	args[1] = apm_int4_array(positions, n);
	args[2] = apm_text_array(apids, n);
	args[3] = apm_int4_array(versions, n);
	args[4] = apm_uuid_array(tids, n);
	args[5] = apm_digest_array(leaves, n);
	args[6] = apm_digest_array(profiles, n);
	*places = positions;
	return n;
}

#define PROFILE_ROWS ROWS("$2, $3, $4, $5, $6, $7", "position, apid, version, tid, leaf, profile")
#define PROFILE_ARGS \
	.nargs = 7,      \
	.types = {INT8OID, INT4ARRAYOID, TEXTARRAYOID, INT4ARRAYOID, UUIDARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID}

static int
item_rows(const ApmContents *block, Datum *args, int32 **places)
{
	int n = 0;
	int32 *positions;
	int32 *ordinals;
	ApmSlice *items;

	for (int i = 0; i < block->n; i++)
		n += apm_is_valid(block, i, APM_KIND_CONTRACT) ? block->opened[i].tx.u.contract.count : 0;
	positions = palloc_array(int32, n);
	ordinals = palloc_array(int32, n);
	items = palloc_array(ApmSlice, n);
	n = 0;
	for (int i = 0; i < block->n; i++)
	{
		const ApmContractFields *fields = &block->opened[i].tx.u.contract;
		ApmReader reader;

		if (!apm_is_valid(block, i, APM_KIND_CONTRACT))
			continue;
		apm_reader_init(&reader, fields->items);
		for (int k = 0; k < fields->count; k++)
		{
			const uint8 *start = reader.pos;
			ApmItem item;

			apm_item_get(&reader, &item);
			positions[n] = block->first + i;
			ordinals[n] = k;
			items[n++] = APM_SLICE(start, reader.pos - start);
		}
	}
	args[0] = Int64GetDatum((int64) block->height);
	args[1] = Int64GetDatum((int64) block->time_us);
	args[2] = apm_int4_array(positions, n);
	args[3] = apm_int4_array(ordinals, n);
	args[4] = apm_bytea_array(items, n);
	*places = positions;
	return n;
}

#define ITEM_ROWS ROWS("$3, $4, $5", "position, ordinal, item")
#define ITEM_ARGS .nargs = 5, .types = {INT8OID, INT8OID, INT4ARRAYOID, INT4ARRAYOID, BYTEAARRAYOID}

static int
token_rows(const ApmContents *block, Datum *args, int32 **places)
{
	int n = 0;
	ApmSlice *tokens;
	ApmUuid *rids;

	for (int i = 0; i < block->n; i++)
		n += apm_is_valid(block, i, APM_KIND_PRIMARY) ? block->opened[i].tx.u.primary.tokens.count : 0;
	*places = palloc_array(int32, n);
	tokens = palloc_array(ApmSlice, n);
	rids = palloc_array(ApmUuid, n);
	n = 0;
	for (int i = 0; i < block->n; i++)
	{
		const ApmPrimaryFields *primary = &block->opened[i].tx.u.primary;

		if (!apm_is_valid(block, i, APM_KIND_PRIMARY))
			continue;
		for (int k = 0; k < primary->tokens.count; k++)
		{
			(*places)[n] = block->first + i;
			tokens[n] = APM_SLICE(primary->tokens.bytes + k * APM_TOKEN_LEN, APM_TOKEN_LEN);
			rids[n++] = primary->rid;
		}
	}
	args[0] = apm_bytea_array(tokens, n);
	args[1] = apm_uuid_array(rids, n);
	return n;
}

#define TOKEN_ROWS ROWS("$1, $2", "token, rid")
#define TOKEN_ARGS .nargs = 2, .types = {BYTEAARRAYOID, UUIDARRAYOID}

/* Queries are kept whatever became of them. */
static int
query_rows(const ApmContents *block, Datum *args, int32 **places)
{
	int32 *positions = palloc_array(int32, block->n);
	ApmUuid *tids = palloc_array(ApmUuid, block->n);
	ApmSlice *apids = palloc_array(ApmSlice, block->n);
	int16 *scopes = palloc_array(int16, block->n);
	int16 *rules = palloc_array(int16, block->n);
	ApmSlice *actors = palloc_array(ApmSlice, block->n);
	ApmSlice *acting = palloc_array(ApmSlice, block->n);
	int n = 0;

	for (int i = 0; i < block->n; i++)
	{
		const ApmTransaction *tx = &block->opened[i].tx;

		if (block->entries[i].kind != APM_KIND_QUERY)
			continue;
		positions[n] = block->first + i;
		tids[n] = block->entries[i].tid;
		apids[n] = tx->u.query.apid.len > 0 ? tx->u.query.apid : APM_SLICE(NULL, 0);
		scopes[n] = tx->u.query.scope;
		rules[n] = (int16) block->entries[i].rule;
		actors[n] = APM_SLICE(tx->actor, APM_STAFF_LEN);
		acting[n++] = APM_SLICE(tx->u.query.acting, APM_STAFF_LEN);
	}
	args[0] = Int64GetDatum((int64) block->height);
	args[1] = apm_int4_array(positions, n);
	args[2] = apm_uuid_array(tids, n);
	args[3] = apm_text_array(apids, n);
	args[4] = apm_int2_array(scopes, n);
	args[5] = apm_int2_array(rules, n);
	args[6] = apm_bytea_array(actors, n);
	args[7] = apm_bytea_array(acting, n);
	*places = positions;
	return n;
}

#define QUERY_ROWS ROWS("$2, $3, $4, $5, $6, $7, $8", "position, tid, apid, scope, rule, actor, acting")
#define QUERY_ARGS                                                                 \
	.nargs = 8, .types = {INT8OID,		INT4ARRAYOID, UUIDARRAYOID,	 TEXTARRAYOID, \
						  INT2ARRAYOID, INT2ARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID}

static int
consent_rows(const ApmContents *block, Datum *args, int32 **places)
{
	int most = count_kind(block, APM_KIND_CONSENT);
	int32 *positions = palloc_array(int32, most);
	ApmUuid *tids = palloc_array(ApmUuid, most);
	ApmSlice *apids = palloc_array(ApmSlice, most);
	int16 *actions = palloc_array(int16, most);
	ApmSlice *grantees = palloc_array(ApmSlice, most);
	int16 *purposes = palloc_array(int16, most);
	int64 *ends = palloc_array(int64, most);
	ApmUuid *reviewed = palloc_array(ApmUuid, most);
	int16 *findings = palloc_array(int16, most);
	ApmSlice *actors = palloc_array(ApmSlice, most);
	int n = 0;

	for (int i = 0; i < block->n; i++)
	{
		const ApmTransaction *tx = &block->opened[i].tx;
		const ApmConsentFields *consent = &tx->u.consent;

		if (!apm_is_valid(block, i, APM_KIND_CONSENT))
			continue;
		positions[n] = block->first + i;
		tids[n] = block->entries[i].tid;
		apids[n] = consent->apid;
		actions[n] = consent->action;
		grantees[n] = APM_SLICE(consent->grantee, APM_STAFF_LEN);
		purposes[n] = (int16) consent->purpose;
		ends[n] = (int64) consent->until_us;
		reviewed[n] = consent->reviewed;
		findings[n] = consent->finding;
		actors[n++] = APM_SLICE(tx->actor, APM_STAFF_LEN);
	}
	args[0] = Int64GetDatum((int64) block->height);
	args[1] = apm_int4_array(positions, n);
	args[2] = apm_uuid_array(tids, n);
	args[3] = apm_text_array(apids, n);
	args[4] = apm_int2_array(actions, n);
	args[5] = apm_bytea_array(grantees, n);
	args[6] = apm_int2_array(purposes, n);
	args[7] = apm_int8_array(ends, n);
	args[8] = apm_uuid_array(reviewed, n);
	args[9] = apm_int2_array(findings, n);
	args[10] = apm_bytea_array(actors, n);
	*places = positions;
	return n;
}

/* A Tid of zeros stands for none. */
#define REVIEWED "nullif(u.reviewed, '00000000-0000-0000-0000-000000000000'::pg_catalog.uuid)"
#define CONSENT_ROWS                                 \
	ROWS("$2, $3, $4, $5, $6, $7, $8, $9, $10, $11", \
		 "position, tid, apid, action, grantee, purpose, until_us, reviewed, finding, actor")
#define CONSENT_ARGS                                                                               \
	.nargs = 11,                                                                                   \
	.types = {INT8OID,		INT4ARRAYOID, UUIDARRAYOID, TEXTARRAYOID, INT2ARRAYOID, BYTEAARRAYOID, \
			  INT2ARRAYOID, INT8ARRAYOID, UUIDARRAYOID, INT2ARRAYOID, BYTEAARRAYOID}

static int
export_rows(const ApmContents *block, Datum *args, int32 **places)
{
	int most = count_kind(block, APM_KIND_EXPORT);
	int32 *positions = palloc_array(int32, most);
	ApmUuid *tids = palloc_array(ApmUuid, most);
	ApmSlice *studies = palloc_array(ApmSlice, most);
	int32 *releases = palloc_array(int32, most);
	ApmSlice *parameters = palloc_array(ApmSlice, most);
	int64 *rows = palloc_array(int64, most);
	ApmDigest *digests = palloc_array(ApmDigest, most);
	ApmSlice *actors = palloc_array(ApmSlice, most);
	int n = 0;

	for (int i = 0; i < block->n; i++)
	{
		const ApmTransaction *tx = &block->opened[i].tx;

		if (!apm_is_valid(block, i, APM_KIND_EXPORT))
			continue;
		positions[n] = block->first + i;
		tids[n] = block->entries[i].tid;
		studies[n] = APM_SLICE(tx->u.export.study, APM_STUDY_LEN);
		releases[n] = (int32) tx->u.export.release;
		parameters[n] = tx->u.export.parameters;
		rows[n] = (int64) tx->u.export.rows;
		digests[n] = tx->u.export.digest;
		actors[n++] = APM_SLICE(tx->actor, APM_STAFF_LEN);
	}
	args[0] = Int64GetDatum((int64) block->height);
	args[1] = apm_int4_array(positions, n);
	args[2] = apm_uuid_array(tids, n);
	args[3] = apm_bytea_array(studies, n);
	args[4] = apm_int4_array(releases, n);
	args[5] = apm_bytea_array(parameters, n);
	args[6] = apm_int8_array(rows, n);
	args[7] = apm_digest_array(digests, n);
	args[8] = apm_bytea_array(actors, n);
	*places = positions;
	return n;
}

#define EXPORT_ROWS \
	ROWS("$2, $3, $4, $5, $6, $7, $8, $9", "position, tid, study, release, parameters, rows, digest, actor")
#define EXPORT_ARGS                                                                                \
	.nargs = 9, .types = {INT8OID,		 INT4ARRAYOID, UUIDARRAYOID,  BYTEAARRAYOID, INT4ARRAYOID, \
						  BYTEAARRAYOID, INT8ARRAYOID, BYTEAARRAYOID, BYTEAARRAYOID}

/* By how much a block moves a counter of an actor. */
typedef struct Move
{
	uint8 counter;
	const uint8 *actor;
	int32 place; /* the first transaction that does */
} Move;

static int
compare_moves(const void *a, const void *b)
{
	const Move *left = a;
	const Move *right = b;
	int order = (left->counter > right->counter) - (left->counter < right->counter);

	if (order == 0)
		order = memcmp(left->actor, right->actor, APM_STAFF_LEN);
	if (order == 0)
		order = (left->place > right->place) - (left->place < right->place);
	return order;
}

/* The counters that a valid entry moves, and whose; what is void counts for its actor still. */
static int
moved_by(const ApmContents *block, int i, uint8 counters[APM_COUNTERS], const uint8 **actor)
{
	ApmTransaction voided;

	if (block->entries[i].rule != APM_RULE_NONE)
		return 0;
	if (!apm_is_void(block, i))
	{
		*actor = block->opened[i].tx.actor;
		return apm_contract_counters(&block->opened[i].tx, counters);
	}
	*actor = block->voids[i].actor;
	memset(&voided, 0, sizeof(voided));
	voided.kind = block->voids[i].kind;
	return apm_contract_counters(&voided, counters);
}

/* Every move of an actor's counter, sorted by counter and actor. */
static Move *
collect_moves(const ApmContents *block, int *n)
{
	Move *moves = palloc_array(Move, block->n * APM_COUNTERS);

	*n = 0;
	for (int i = 0; i < block->n; i++)
	{
		uint8 counters[APM_COUNTERS];
		const uint8 *actor;
		int moved = moved_by(block, i, counters, &actor);

		for (int k = 0; k < moved; k++)
		{
			if (!apm_counter_of_patient(counters[k]))
				moves[(*n)++] = (Move){.counter = counters[k], .actor = actor, .place = block->first + i};
		}
	}
	qsort(moves, *n, sizeof(Move), compare_moves);
	return moves;
}

static int
count_rows(const ApmContents *block, Datum *args, int32 **places)
{
	int nmoves;
	Move *moves = collect_moves(block, &nmoves);
	int16 *counters = palloc_array(int16, nmoves);
	ApmSlice *actors = palloc_array(ApmSlice, nmoves);
	int64 *moved = palloc_array(int64, nmoves);
	int n = 0;

	*places = palloc_array(int32, nmoves);
	for (int i = 0; i < nmoves; i++)
	{
		if (n == 0 || counters[n - 1] != moves[i].counter ||
			memcmp(actors[n - 1].data, moves[i].actor, APM_STAFF_LEN) != 0)
		{
			counters[n] = moves[i].counter;
			actors[n] = APM_SLICE(moves[i].actor, APM_STAFF_LEN);
			moved[n] = 0;
			(*places)[n++] = moves[i].place;
		}
		moved[n - 1]++;
	}
	args[0] = Int64GetDatum((int64) block->height);
	args[1] = apm_int2_array(counters, n);
	args[2] = apm_bytea_array(actors, n);
	args[3] = apm_int8_array(moved, n);
	return n;
}

#define COUNT_ROWS ROWS("$2, $3, $4", "counter, actor, moved")
#define COUNT_ARGS .nargs = 4, .types = {INT8OID, INT2ARRAYOID, BYTEAARRAYOID, INT8ARRAYOID}
#define COUNT_TOTAL                                                                                  \
	"u.moved + coalesce((SELECT e.total FROM ONLY apm.ledger_count AS e WHERE e.counter = u.counter" \
	" AND e.actor = u.actor AND e.height < $1 ORDER BY e.height DESC LIMIT 1), 0)"

static Table tables[] = {
	[APM_DERIVED_PROFILE] =
		{
			.name = "apm.ledger_profile",
			.rows = profile_rows,
			.add = {.sql =
						"INSERT INTO apm.ledger_profile (apid, version, tid, height, position, leaf, profile)"
						" SELECT u.apid, u.version, u.tid, $1, u.position, u.leaf, u.profile" PROFILE_ROWS,
					PROFILE_ARGS},
			.missing = {.sql = MISSING(
							PROFILE_ROWS, "apm.ledger_profile",
							"l.apid = u.apid AND l.version = u.version AND l.tid = u.tid AND l.height = $1"
							" AND l.position = u.position AND l.leaf = u.leaf AND l.profile = u.profile"),
						PROFILE_ARGS},
			.total = {.sql = TOTAL("apm.ledger_profile")},
		},
	[APM_DERIVED_ITEM] =
		{
			.name = "apm.contract_item",
			.rows = item_rows,
			.add = {.sql = "INSERT INTO apm.contract_item (height, position, ordinal, item, block_time)"
						   " SELECT $1, u.position, u.ordinal, u.item, $2" ITEM_ROWS,
					ITEM_ARGS},
			.missing = {.sql = MISSING(ITEM_ROWS, "apm.contract_item",
									   "l.height = $1 AND l.position = u.position AND l.ordinal = u.ordinal"
									   " AND l.item = u.item AND l.block_time = $2"),
						ITEM_ARGS},
			.total = {.sql = TOTAL("apm.contract_item")},
		},
	[APM_DERIVED_TOKEN] =
		{
			.name = "apm.ledger_token",
			.rows = token_rows,
			.add = {.sql = "INSERT INTO apm.ledger_token (token, rid) SELECT u.token, u.rid" TOKEN_ROWS,
					TOKEN_ARGS},
			.missing = {.sql = MISSING(TOKEN_ROWS, "apm.ledger_token", "l.token = u.token AND l.rid = u.rid"),
						TOKEN_ARGS},
			.total = {.sql = TOTAL("apm.ledger_token")},
		},
	[APM_DERIVED_QUERY] =
		{
			.name = "apm.ledger_query",
			.rows = query_rows,
			.add =
				{.sql =
					 "INSERT INTO apm.ledger_query (tid, apid, scope, rule, actor, acting, height, position)"
					 " SELECT u.tid, u.apid, u.scope, u.rule, u.actor, u.acting, $1, u.position" QUERY_ROWS,
				 QUERY_ARGS},
			.missing = {.sql = MISSING(
							QUERY_ROWS, "apm.ledger_query",
							"l.tid = u.tid AND l.apid IS NOT DISTINCT FROM u.apid AND l.scope = u.scope"
							" AND l.rule = u.rule AND l.actor = u.actor AND l.acting = u.acting"
							" AND l.height = $1 AND l.position = u.position"),
						QUERY_ARGS},
			.total = {.sql = TOTAL("apm.ledger_query")},
		},
	[APM_DERIVED_CONSENT] =
		{
			.name = "apm.ledger_consent",
			.rows = consent_rows,
			.add =
				{.sql =
					 "INSERT INTO apm.ledger_consent (height, position, tid, apid, action, grantee, purpose,"
					 " until_us, reviewed, finding, actor)"
					 " SELECT $1, u.position, u.tid, u.apid, u.action, u.grantee, u.purpose, u.until_us, " REVIEWED
					 ", u.finding, u.actor" CONSENT_ROWS,
				 CONSENT_ARGS},
			.missing = {.sql = MISSING(
							CONSENT_ROWS, "apm.ledger_consent",
							"l.height = $1 AND l.position = u.position AND l.tid = u.tid AND l.apid = u.apid"
							" AND l.action = u.action AND l.grantee = u.grantee AND l.purpose = u.purpose"
							" AND l.until_us = u.until_us AND l.reviewed IS NOT DISTINCT FROM " REVIEWED
							" AND l.finding = u.finding AND l.actor = u.actor"),
						CONSENT_ARGS},
			.total = {.sql = TOTAL("apm.ledger_consent")},
		},
	[APM_DERIVED_EXPORT] =
		{
			.name = "apm.ledger_export",
			.rows = export_rows,
			.add = {.sql =
						"INSERT INTO apm.ledger_export (study, release, tid, parameters, rows, digest, actor,"
						" height, position) SELECT u.study, u.release, u.tid, u.parameters, u.rows, u.digest,"
						" u.actor, $1, u.position" EXPORT_ROWS,
					EXPORT_ARGS},
			.missing = {.sql = MISSING(
							EXPORT_ROWS, "apm.ledger_export",
							"l.study = u.study AND l.release = u.release AND l.tid = u.tid"
							" AND l.parameters = u.parameters AND l.rows = u.rows AND l.digest = u.digest"
							" AND l.actor = u.actor AND l.height = $1 AND l.position = u.position"),
						EXPORT_ARGS},
			.total = {.sql = TOTAL("apm.ledger_export")},
		},
	[APM_DERIVED_COUNT] =
		{
			.name = "apm.ledger_count",
			.rows = count_rows,
			.add = {.sql = "INSERT INTO apm.ledger_count (counter, actor, height, total)"
						   " SELECT u.counter, u.actor, $1, " COUNT_TOTAL COUNT_ROWS,
					COUNT_ARGS},
			.missing = {.sql = MISSING(COUNT_ROWS, "apm.ledger_count",
									   "l.counter = u.counter AND l.actor = u.actor AND l.height = $1"
									   " AND l.total = " COUNT_TOTAL),
						COUNT_ARGS},
			.total = {.sql = TOTAL("apm.ledger_count")},
		},
};

const char *
apm_derived_name(ApmDerived table)
{
	return tables[table].name;
}

void
apm_derived_add(ApmDerived table, const ApmContents *block)
{
	Datum args[APM_STATEMENT_ARGS];
	int32 *places;
	int n = tables[table].rows(block, args, &places);

	if (n > 0)
		apm_run_whole(&tables[table].add, args, (uint64) n);
	if (n > 0 && table == APM_DERIVED_ITEM)
		apm_chain_identity_changed();
}

int
apm_derived_check(ApmDerived table, const ApmContents *block, int32 *missing)
{
	Datum args[APM_STATEMENT_ARGS];
	int32 *places;
	int n = tables[table].rows(block, args, &places);

	*missing = -1;
	if (n > 0 && apm_run(&tables[table].missing, args) > 0)
		*missing = places[apm_row_int4(0, 1) - 1];
	return n;
}

int64
apm_derived_total(ApmDerived table)
{
	apm_run(&tables[table].total, NULL);
	return apm_row_int8(0, 1);
}
