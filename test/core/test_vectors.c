/*
 * test_vectors.c
 *	  The examples in test/vectors, which other implementations are held against: what was written with them
 *	  must be read today, and as the same.
 */
#include "core/cipher.h"
#include "core/envelope.h"
#include "core/json.h"
#include "core/predicate.h"
#include "core/proof.h"
#include "core/pseudonym.h"
#include "core/replay.h"
#include "sample.h"

#define DIRECTORY "test/vectors/"
#define LEAVES_MAX 16
#define PEM_MAX 8192

static ApmSlice
slice_of(const ApmBuf *buf)
{
	return APM_SLICE(buf->data, buf->len);
}

static ApmBuf
read_file(const char *name)
{
	ApmBuf out = {0};
	char path[256];
	char piece[4096];
	size_t len;
	FILE *file;

	snprintf(path, sizeof(path), "%s%s", DIRECTORY, name);
	file = fopen(path, "r");
	if (!CHECK(file != NULL))
		exit(2);
	while ((len = fread(piece, 1, sizeof(piece), file)) > 0)
		apm_put_raw(&out, piece, len);
	fclose(file);
	return out;
}

/* The next line of a text, without its end; false behind the last. */
static bool
next_line(ApmSlice text, size_t *at, ApmSlice *line)
{
	const uint8_t *end;

	if (*at >= text.len)
		return false;
	end = memchr(text.data + *at, '\n', text.len - *at);
	*line = APM_SLICE(text.data + *at, end == NULL ? text.len - *at : (size_t) (end - text.data) - *at);
	*at += line->len + 1;
	return true;
}

/* Calls test for each vector of a file: an array with an object a line. */
static void
each_vector(const char *file, void (*test)(const ApmJson *vector))
{
	static ApmJson vector;
	ApmBuf text = read_file(file);
	ApmSlice line;
	size_t at = 0;
	int n = 0;

	while (next_line(slice_of(&text), &at, &line))
	{
		if (line.len == 1)
			continue; /* a bracket */
		if (line.data[line.len - 1] == ',')
			line.len--;
		if (!CHECK_OK(apm_json_read(line, &vector)))
			continue;
		test(&vector);
		n++;
	}
	CHECK(n > 0);
	apm_buf_reset(&text);
}

static bool
has(const ApmJson *vector, const char *member)
{
	return apm_json_find(vector, member, APM_JSON_STRING) != NULL;
}

static bool
is_named(const ApmJson *vector, const char *name)
{
	return apm_json_says(vector, "name", name);
}

static ApmSlice
string_of(const ApmJson *vector, const char *member)
{
	const ApmJsonMember *found = apm_json_find(vector, member, APM_JSON_STRING);

	return CHECK(found != NULL) ? found->string : APM_SLICE(NULL, 0);
}

/* Bytes of a member in hexadecimal, in memory that is never given back. */
static ApmSlice
bytes_of(const ApmJson *vector, const char *member)
{
	static uint8_t store[1 << 20];
	static size_t used = 0;
	ApmSlice hex = string_of(vector, member);
	ApmSlice out = APM_SLICE(store + used, hex.len / 2);

	if (used + out.len > sizeof(store))
		exit(2);
	CHECK_OK(apm_hex_decode((const char *) hex.data, hex.len, store + used));
	used += out.len;
	return out;
}

static ApmDigest
digest_of(const ApmJson *vector, const char *member)
{
	ApmDigest out = {{0}};

	CHECK(apm_json_hex(vector, member, out.bytes, sizeof(out.bytes)));
	return out;
}

static uint64_t
number_of(const ApmJson *vector, const char *member)
{
	uint64_t out = 0;

	CHECK(apm_json_number(vector, member, INT64_MAX, &out));
	return out;
}

static bool
same(const ApmDigest *a, const ApmDigest *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static void
test_transaction(const ApmJson *vector)
{
	ApmSlice bytes = bytes_of(vector, "transaction");
	ApmDigest leaf = digest_of(vector, "leaf");
	ApmUuid tid;
	ApmTransaction tx;
	ApmOpened opened;
	ApmOriginProof proof;
	ApmEcKey *origin;
	ApmBuf again = {0};

	CHECK(apm_json_hex(vector, "tid", tid.bytes, sizeof(tid.bytes)));
	CHECK_OK(apm_transaction_decode(bytes, &tx));
	CHECK(tx.kind == (ApmKind) number_of(vector, "kind") && tx.time_us == number_of(vector, "time"));
	CHECK_OK(apm_transaction_encode(&tx, &again));
	CHECK(apm_slices_equal(slice_of(&again), bytes));
	apm_buf_reset(&again);

	CHECK_OK(apm_open_signed(bytes_of(vector, "signed"), &opened));
	CHECK(opened.wellformed && same(&opened.leaf, &leaf));
	CHECK(memcmp(&opened.tid, &tid, sizeof(tid)) == 0);
	CHECK_OK(apm_origin_proof_decode(bytes_of(vector, "proof"), &proof));
	CHECK_OK(apm_ec_from_spki(bytes_of(vector, "origin"), &origin));
	CHECK_OK(apm_origin_verify(origin, &leaf, &proof));
	apm_ec_free(origin);
}

static ApmStatus
open_padded(const ApmJson *vector, const uint8_t key[32], ApmSlice sealed, ApmBuf *out)
{
	ApmSlice apid = has(vector, "apid") ? string_of(vector, "apid") : APM_SLICE(NULL, 0);
	ApmUuid rid = {{0}};
	ApmKeyId id;

	CHECK_OK(apm_secret_key_id(key, &id));
	if (has(vector, "rid"))
		CHECK(apm_json_hex(vector, "rid", rid.bytes, sizeof(rid.bytes)));
	if (is_named(vector, "waiting record"))
		return apm_waiting_record_open(key, (uint32_t) number_of(vector, "generation"), &rid, sealed, out);
	if (is_named(vector, "profile"))
		return apm_profile_open(key, &id, apid, (uint32_t) number_of(vector, "version"), sealed, out);
	if (is_named(vector, "note"))
		return apm_note_open(key, &id, apid, sealed, out);
	if (is_named(vector, "last values"))
		return apm_last_values_open(key, &id, apid, sealed, out);
	return apm_record_open(key, &id, &rid, apid, sealed, out);
}

static void
test_padded(const ApmJson *vector)
{
	ApmSlice sealed = bytes_of(vector, "sealed");
	ApmBuf text = {.secret = true};
	ApmDigest digest;
	ApmDigest expected;

	CHECK_OK(open_padded(vector, bytes_of(vector, "key").data, sealed, &text));
	CHECK(apm_slices_equal(slice_of(&text), bytes_of(vector, "text")));
	apm_buf_reset(&text);
	if (!has(vector, "digest"))
		return;
	expected = digest_of(vector, "digest");
	if (is_named(vector, "profile"))
		CHECK_OK(apm_profile_digest((uint32_t) number_of(vector, "version"), sealed, &digest));
	else
		CHECK_OK(apm_note_digest(sealed, &digest));
	CHECK(same(&digest, &expected));
}

static void
test_wrapped(const ApmJson *vector)
{
	uint8_t key[32];

	CHECK_OK(apm_key_unwrap(bytes_of(vector, "wrapping").data, (uint32_t) number_of(vector, "generation"),
							string_of(vector, "apid"), bytes_of(vector, "wrapped").data, key));
	CHECK(memcmp(key, bytes_of(vector, "key").data, sizeof(key)) == 0);
}

/* An identity's pseudonym cannot be asked for again; the Python side does that one. */
static void
test_pseudonym(const ApmJson *vector)
{
	uint8_t blind[APM_BLIND_LEN];
	char pseudonym[APM_PSEUDONYM_LEN + 1] = {0};
	bool matches = false;

	if (!is_named(vector, "pseudonym"))
		return;
	CHECK_OK(apm_pseudonym_blind(bytes_of(vector, "key").data, blind));
	memcpy(pseudonym, string_of(vector, "pseudonym").data, APM_PSEUDONYM_LEN);
	CHECK_OK(apm_pseudonym_check(bytes_of(vector, "pepper").data, blind, bytes_of(vector, "name 1"),
								 bytes_of(vector, "value 1"), pseudonym, &matches));
	CHECK(matches);
}

/* A private key stands in its vector as PEM with bars for line breaks. */
static ApmRsa *
private_key(const ApmJson *vector, const char *member)
{
	ApmSlice text = string_of(vector, member);
	char pem[PEM_MAX];
	ApmRsa *key;

	if (text.len > sizeof(pem))
		exit(2);
	for (size_t i = 0; i < text.len; i++)
		pem[i] = text.data[i] == '|' ? '\n' : (char) text.data[i];
	if (!CHECK_OK(apm_rsa_from_pem(APM_SLICE(pem, text.len), &key)))
		exit(2);
	return key;
}

static void
test_envelope(const ApmJson *vector)
{
	static const char *const members[] = {"private 1", "private 2"};

	for (int i = 0; i < 2; i++)
	{
		ApmBuf text = {.secret = true};
		ApmOpener *opener;
		ApmRsa *key;

		if (!has(vector, members[i]))
			continue;
		key = private_key(vector, members[i]);
		CHECK_OK(apm_opener_new(&opener));
		CHECK_OK(apm_opener_add(opener, key));
		CHECK_OK(apm_opener_open(opener, bytes_of(vector, "sealed"), &text));
		CHECK(apm_slices_equal(slice_of(&text), bytes_of(vector, "text")));
		apm_opener_free(opener);
		apm_rsa_free(key);
		apm_buf_reset(&text);
	}
}

static void
test_sealed(const ApmJson *vector)
{
	if (has(vector, "wrapped"))
		test_wrapped(vector);
	else if (has(vector, "pseudonym"))
		test_pseudonym(vector);
	else if (has(vector, "private 1"))
		test_envelope(vector);
	else
		test_padded(vector);
}

static void
test_path(const ApmJson *vector)
{
	ApmDigest expected = digest_of(vector, "root");
	uint64_t index = number_of(vector, "index");
	ApmDigest leaves[LEAVES_MAX];
	ApmDigest root;
	ApmPath path;
	ApmPath read;
	size_t count;
	size_t steps;

	CHECK(apm_json_digests(vector, "leaves", LEAVES_MAX, leaves, &count));
	CHECK(apm_json_digests(vector, "path", APM_MERKLE_MAX_PATH, read.nodes, &steps));
	CHECK_OK(apm_merkle_root(leaves, count, &root));
	CHECK(same(&root, &expected));
	CHECK_OK(apm_merkle_path(leaves, count, index, &path));
	CHECK(path.count == steps && memcmp(path.nodes, read.nodes, steps * sizeof(ApmDigest)) == 0);
	CHECK_OK(apm_merkle_root_from_path(&leaves[index], index, count, &path, &root));
	CHECK(same(&root, &expected));
}

static void
test_growth(const ApmJson *vector)
{
	ApmDigest old_root = digest_of(vector, "old root");
	ApmDigest new_root = digest_of(vector, "new root");
	ApmPath path;
	size_t steps;

	CHECK(apm_json_digests(vector, "path", APM_MERKLE_MAX_PATH, path.nodes, &steps));
	path.count = (uint32_t) steps;
	CHECK_OK(apm_merkle_verify_consistency(number_of(vector, "old"), number_of(vector, "new"), &old_root,
										   &new_root, &path));
}

static void
test_tree(const ApmJson *vector)
{
	if (is_named(vector, "path"))
		test_path(vector);
	else
		test_growth(vector);
}

static void
test_predicate(const ApmJson *vector)
{
	ApmKind kind = (ApmKind) number_of(vector, "kind");
	bool good = apm_predicate_check(bytes_of(vector, "predicate"), kind, NULL, NULL) == APM_OK;

	CHECK(good == (number_of(vector, "good") == 1));
}

static void
test_entries(const ApmJson *vector)
{
	ApmDigest expected = digest_of(vector, "root");
	ApmSlice bytes = bytes_of(vector, "entries");
	ApmDigest root;
	ApmEntry *entries;
	ApmBuf again = {0};
	size_t n;

	CHECK_OK(apm_entries_decode(bytes, &entries, &n));
	CHECK_OK(apm_entries_root(entries, n, &root));
	CHECK(same(&root, &expected));
	apm_entries_encode(entries, n, &again);
	CHECK(apm_slices_equal(slice_of(&again), bytes));
	apm_buf_reset(&again);
	apm_core_free(entries);
}

/* The members of the digest's contract have no keys here, so only its items are held against today's decoder. */
static void
test_items(const ApmJson *vector)
{
	const ApmJsonMember *items = apm_json_find(vector, "items", APM_JSON_ARRAY);

	for (size_t i = 0; CHECK(items != NULL) && i < items->count; i++)
	{
		ApmSlice hex = vector->elements[items->first + i];
		uint8_t bytes[512];
		ApmReader r;
		ApmItem item;

		CHECK_OK(apm_hex_decode((const char *) hex.data, hex.len, bytes));
		apm_reader_init(&r, APM_SLICE(bytes, hex.len / 2));
		apm_item_get(&r, &item);
		CHECK(apm_reader_done(&r));
	}
}

static void
test_contract(const ApmJson *vector)
{
	if (is_named(vector, "predicate"))
		test_predicate(vector);
	else if (is_named(vector, "entries"))
		test_entries(vector);
	else
		test_items(vector);
}

/* Hands the ledger's blocks to the first pass, and then to the second. */
static void
test_ledger(void)
{
	ApmBuf text = read_file("ledger.txt");
	ApmReplay *replay;
	ApmReplayCounts counts;
	ApmSlice line;

	CHECK_OK(apm_replay_new(&replay));
	for (int pass = 1; pass <= 2; pass++)
	{
		for (size_t at = 0; next_line(slice_of(&text), &at, &line);)
		{
			ApmBuf bytes = {0};
			ApmStoredBlock block;
			ApmFault fault = {.rule = APM_FAULT_NONE};

			CHECK_OK(apm_base64_decode((const char *) line.data, line.len, &bytes));
			CHECK_OK(apm_stored_decode(slice_of(&bytes), &block));
			if (pass == 1)
				CHECK_OK(apm_replay_foresee(replay, &block));
			else
				CHECK_OK(apm_replay_block(replay, &block, &fault));
			CHECK(fault.rule == APM_FAULT_NONE);
			apm_stored_free(&block);
			apm_buf_reset(&bytes);
		}
	}
	apm_replay_counts(replay, &counts);
	CHECK(counts.blocks > 0 && counts.refused > 0 && counts.erased > 0);
	apm_replay_free(replay);
	apm_buf_reset(&text);
}

static ApmHead
head_of(const char *file)
{
	ApmBuf text = read_file(file);
	ApmHead head;

	CHECK_OK(apm_head_read(slice_of(&text), &head));
	apm_buf_reset(&text);
	return head;
}

static void
test_proofs(void)
{
	static const char *const files[] = {"proof-record.json", "proof-refused-query.json"};
	ApmHead old_head = head_of("old-digest.json");
	ApmHead head = head_of("digest.json");
	ApmBuf text = read_file("consistency.json");
	ApmConsistency growth;

	CHECK_OK(apm_consistency_read(slice_of(&text), &growth));
	CHECK_OK(apm_consistency_verify(&growth, &old_head, &head));
	apm_buf_reset(&text);
	for (int i = 0; i < 2; i++)
	{
		ApmProof proof;

		text = read_file(files[i]);
		CHECK_OK(apm_proof_read(slice_of(&text), &proof));
		CHECK_OK(apm_proof_verify(&proof, &head));
		CHECK((proof.rule == APM_RULE_NONE) == (i == 0));
		apm_proof_free(&proof);
		apm_buf_reset(&text);
	}
}

int
main(void)
{
	each_vector("transactions.json", test_transaction);
	each_vector("sealed.json", test_sealed);
	each_vector("contract.json", test_contract);
	each_vector("trees.json", test_tree);
	test_ledger();
	test_proofs();
	return check_summary();
}
