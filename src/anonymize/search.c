/*
 * search.c
 *	  apm_search(): records found by attributes that are declared searchable.
 *
 * A search is a read: that somebody looked for a value is in the ledger before he learns what has
 * it, and what he gets is decided patient by patient.  So it goes through the gate twice: one
 * query with the blind tokens of what is looked for, to which the ledger's list of matching
 * records is the answer, and then one query a matching patient, which rests on the first.  A
 * patient whose query the contract refuses is left out as if he had no such record; not even their
 * number is told, since "one more has this diagnosis" is an answer, too.
 *
 * Nor should the clock tell: a value that only patients have who are left out must not take one
 * block longer than a value that nobody has.  So when no patient is found, one who does not exist
 * is asked for.
 *
 * The ledger decides what is found.  The cloud has the tokens as well and is asked all the
 * same: if it names other records than the ledger, it hides, adds or moves some, and that is an
 * error before anything is given out.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "anonymize/contractcache.h"
#include "anonymize/publicfield.h"
#include "anonymize/recordset.h"
#include "anonymize/search.h"
#include "anonymize/token.h"
#include "anonymize/tombstone.h"
#include "anonymize/unicode.h"
#include "apm_errors.h"
#include "apm_loghook.h"
#include "cloud/cloud.h"
#include "core/digest.h"

PG_FUNCTION_INFO_V1(apm_search);

/* Of the cloud's answer, which has superseded records, too. */
#define CLOUD_MOST (8 * APM_GATE_MATCHES)

/* The token of each attribute of the filter; raises 22023 for what cannot be searched for. */
static void
read_filter(Jsonb *filter, ApmBuf *bytes, ApmTokens *out)
{
	ApmSection section;
	ApmDeclared declared;
	ApmFields fields;
	uint8 *tokens;

	if (!apm_fields_of(filter, &fields) || fields.n == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the filter must be an object with at least one attribute")));
	tokens = palloc((Size) fields.n * APM_TOKEN_LEN);

	apm_section_begin(&section);
	apm_declared_load(&declared);
	for (int i = 0; i < fields.n; i++)
	{
		if (!apm_declared_searchable(&declared, &fields.v[i]))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("an attribute of the filter is not declared searchable"),
							errhint("An administrator declares it with apm_declare_attribute(); records that "
									"are submitted from then on can be found by it.")));
		if (!apm_token_of(&fields.v[i], tokens + (Size) i * APM_TOKEN_LEN))
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							errmsg("an attribute of the filter has a value that cannot be searched for"),
							errhint("Texts, numbers and booleans can.")));
	}
	apm_section_end(&section);
	apm_tokens_put(tokens, fields.n, APM_SEARCH_TOKENS_MAX, bytes, out);
	pfree(tokens);
}

static void
cloud_fault(const char *fault)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_APM_TAMPERED), errmsg("the cloud does not find the records that the ledger does"),
		 errdetail("It %s.", fault),
		 errhint("No record is given out. The operator of the cloud must be asked; which record it is, an "
				 "administrator can find out by comparing its tokens with apm.ledger_token.")));
}

/*
 * Raises AP005 unless the ledger has each of these records with these tokens, in whatever version, or has erased it:
 * then the cloud is still to lose it.
 */
static void
check_added(const ApmTokens *tokens, const ApmUuid *rids, int n)
{
	bool *have = palloc(sizeof(bool) * Max(n, 1));
	bool *erased = palloc(sizeof(bool) * Max(n, 1));
	ApmSection section;

	if (n > 0)
	{
		apm_section_begin(&section);
		apm_ledger_have_tokens(tokens, rids, n, have);
		apm_tombstones_among(rids, n, erased);
		apm_section_end(&section);
	}
	for (int i = 0; i < n; i++)
	{
		if (!have[i] && !erased[i])
			cloud_fault("names a record that does not have these tokens");
	}
	pfree(erased);
	pfree(have);
}

/* Leaves out the matches of patients who are forgotten; returns how many are left. */
static int
leave_out_forgotten(ApmMatch *matches, int n)
{
	ApmSlice *apids = palloc(sizeof(ApmSlice) * Max(n, 1));
	bool *forgotten = palloc(sizeof(bool) * Max(n, 1));
	ApmSection section;
	int kept = 0;

	for (int i = 0; i < n; i++)
		apids[i] = matches[i].apid;
	apm_section_begin(&section);
	apm_patients_forgotten(apids, n, forgotten);
	apm_section_end(&section);
	for (int i = 0; i < n; i++)
	{
		if (!forgotten[i])
			matches[kept++] = matches[i];
	}
	pfree(forgotten);
	pfree(apids);
	return kept;
}

/* A record of the ledger's list. */
typedef struct Listed
{
	ApmUuid rid; /* key */
	bool named;	 /* by the cloud, too */
} Listed;

/*
 * Asks the cloud for the same and raises AP005 if it hides one of n records that the ledger lists, or
 * adds one.  It may name more: what is superseded, and what came after the search's block.  Returns how many matches are
 * left: whom the cloud has lost because he is forgotten was so before it answered.
 */
static int
compare_with_cloud(const ApmTokens *tokens, ApmMatch *matches, int n)
{
	HASHCTL control = {.keysize = APM_UUID_LEN, .entrysize = sizeof(Listed), .hcxt = CurrentMemoryContext};
	HTAB *listed = hash_create("apm records listed", 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ApmUuid *rids;
	int answered = apm_cloud_match(tokens->bytes, tokens->count, CLOUD_MOST, &rids);
	int others = 0;

	n = leave_out_forgotten(matches, n);
	for (int i = 0; i < n; i++)
	{
		Listed *entry = hash_search(listed, matches[i].place.rid.bytes, HASH_ENTER, NULL);

		entry->named = false;
	}
	for (int i = 0; i < answered; i++)
	{
		Listed *entry = hash_search(listed, rids[i].bytes, HASH_FIND, NULL);

		if (entry != NULL)
			entry->named = true;
		else
			rids[others++] = rids[i];
	}
	for (int i = 0; i < n; i++)
	{
		Listed *entry = hash_search(listed, matches[i].place.rid.bytes, HASH_FIND, NULL);

		if (!entry->named)
			cloud_fault("hides one");
	}
	check_added(tokens, rids, others);
	hash_destroy(listed);
	pfree(rids);
	return n;
}

/* Whose a match is: his place among the patients. */
typedef struct Numbered
{
	char apid[APM_APID_MAX + 1]; /* key */
	int number;
} Numbered;

/* The patients of n matches, numbered as they come; of_match[i] is the number of match i. */
static int
number_patients(const ApmMatch *matches, int n, int *of_match)
{
	HASHCTL control = {
		.keysize = APM_APID_MAX + 1, .entrysize = sizeof(Numbered), .hcxt = CurrentMemoryContext};
	HTAB *numbered =
		hash_create("apm patients found", 256, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	int count = 0;

	for (int i = 0; i < n; i++)
	{
		char apid[APM_APID_MAX + 1] = {0};
		Numbered *entry;
		bool there;

		if (matches[i].apid.len > APM_APID_MAX)
			apm_raise(APM_ERR_FORMAT, "read what a search found");
		memcpy(apid, matches[i].apid.data, matches[i].apid.len);
		entry = hash_search(numbered, apid, HASH_ENTER, &there);
		if (!there)
			entry->number = count++;
		of_match[i] = entry->number;
	}
	hash_destroy(numbered);
	return count;
}

static void
group_by_patient(const ApmMatch *matches, int n, ApmSearchResult *out)
{
	int *of_match = palloc(sizeof(int) * Max(n, 1));
	ApmPlace *places = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ApmPlace) * (Size) Max(n, 1));

	out->npatients = number_patients(matches, n, of_match);
	out->patients = palloc0(sizeof(ApmSearched) * Max(out->npatients, 1));
	for (int i = 0; i < n; i++)
	{
		out->patients[of_match[i]].apid = matches[i].apid;
		out->patients[of_match[i]].nrecords++;
	}
	for (int p = 0; p < out->npatients; p++)
	{
		out->patients[p].records = places;
		places += out->patients[p].nrecords;
		out->patients[p].nrecords = 0;
	}
	for (int i = 0; i < n; i++)
	{
		ApmSearched *patient = &out->patients[of_match[i]];

		patient->records[patient->nrecords++] = matches[i].place;
	}
	pfree(of_match);
}

void
apm_search_run(Jsonb *filter, uint16 purpose, ApmSlice fields, ApmSearchResult *out)
{
	ApmAsk ask = {.scope = APM_SCOPE_SEARCH, .list = APM_GATE_CURRENT, .purpose = purpose, .fields = fields};
	ApmSlice nobody = APM_SLICE("", 0);
	ApmBuf bytes = {0};
	ApmGateQuestion *answer;

	read_filter(filter, &bytes, &ask.tokens);
	answer = apm_gate_ask(&ask, &nobody, 1);
	apm_gate_require(answer);
	if (answer->nmatches > APM_GATE_MATCHES)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("more than %d records match", APM_GATE_MATCHES),
						errhint("Search for more attributes at once.")));
	answer->nmatches = compare_with_cloud(&ask.tokens, answer->matches, answer->nmatches);
	apm_buf_reset(&bytes);

	out->tid = answer->tid;
	group_by_patient(answer->matches, answer->nmatches, out);
}

/* Raises 54000 if the contract would refuse to let one statement read that many patients. */
static void
check_cap(int npatients)
{
	ApmSection section;
	uint64 serial;
	uint64 cap;

	apm_section_begin(&section);
	cap = apm_contract_policy(apm_contract_now(&serial), APM_POLICY_FETCH_CAP);
	apm_section_end(&section);
	if (cap == 0 || cap > APM_GATE_QUESTIONS)
		cap = APM_GATE_QUESTIONS;
	if ((uint64) npatients > cap)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("more patients match than one statement may read"),
				 errhint("None was read. Search for more attributes at once; how many one statement may "
						 "read is the contract's policy \"fetch_cap\".")));
}

ApmSlice
apm_search_nobody(const ApmUuid *tid)
{
	char *apid = palloc(APM_APID_MAX + 1);
	ApmDigest index;

	apm_check(apm_sha256(tid->bytes, APM_UUID_LEN, &index), "search");
	apm_apid_stand_in(&index, apid);
	return APM_SLICE(apid, strlen(apid));
}

/*
 * Asks for the patients that a search found; those that the contract allows are in *answers with the records that
 * were found, and in *apids.  Returns how many.  Raises AP001 if it refuses anybody for another reason than himself.
 */
static int
ask_for_patients(const ApmSearchResult *found, uint16 purpose, ApmSlice fields, ApmGateQuestion **answers,
				 ApmSlice **apids)
{
	ApmAsk ask = {.scope = APM_SCOPE_MATCH,
				  .list = APM_GATE_NOTHING,
				  .purpose = purpose,
				  .basis = found->tid.bytes,
				  .fields = fields};
	int n = Max(found->npatients, 1);
	int allowed = 0;

	*apids = palloc(sizeof(ApmSlice) * n);
	(*apids)[0] = apm_search_nobody(&found->tid);
	for (int i = 0; i < found->npatients; i++)
		(*apids)[i] = found->patients[i].apid;
	*answers = apm_gate_ask(&ask, *apids, n);
	for (int i = 0; i < found->npatients; i++)
	{
		if (apm_gate_concerns_patient(&(*answers)[i]))
			continue;
		apm_gate_require(&(*answers)[i]);
		(*answers)[allowed] = (*answers)[i];
		(*answers)[allowed].nrecords = found->patients[i].nrecords;
		(*answers)[allowed].records = found->patients[i].records;
		(*apids)[allowed++] = found->patients[i].apid;
	}
	return allowed;
}

static void
put_reading(const ApmReading *reading, void *closure)
{
	const ApmBuf *known = &reading->patient->pid;
	ApmBuf pid = {.secret = true};

	apm_server_text_put(&pid, APM_SLICE(known->data, known->len), "a pid");
	apm_recordset_put(closure, reading, APM_SLICE(pid.data, pid.len));
	apm_buf_reset(&pid);
}

/*
 * apm_search(filter jsonb, purpose text DEFAULT NULL, fields jsonb DEFAULT NULL): pid, rid, recorded_at,
 * record, flags; patient by patient.
 */
Datum
apm_search(PG_FUNCTION_ARGS)
{
	MemoryContext memory;
	MemoryContext caller;
	ApmBuf encoded = {0};
	ApmGateQuestion *answers;
	ApmSearchResult found;
	ApmRecordSet set;
	ApmSlice fields;
	ApmSlice *apids;
	uint16 purpose;
	int allowed;

	apm_hide_statement();
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the filter must not be null")));
	apm_recordset_start(fcinfo, &set);
	memory = AllocSetContextCreate(CurrentMemoryContext, "apm search", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(memory);

	apm_public_fields_read(PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2), &encoded);
	fields = APM_SLICE(encoded.data, encoded.len);
	purpose = apm_gate_purpose(PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	apm_search_run(PG_GETARG_JSONB_P(0), purpose, fields, &found);
	check_cap(found.npatients);
	allowed = ask_for_patients(&found, purpose, fields, &answers, &apids);
	apm_reading_run(answers, apids, allowed, put_reading, &set);

	MemoryContextSwitchTo(caller);
	MemoryContextDelete(memory);
	return (Datum) 0;
}
