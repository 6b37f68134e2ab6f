/*
 * make_vectors.c
 *	  Writes test/vectors: examples of everything that doc/format.md describes, for whoever writes another
 *	  implementation.  "make vectors" runs it.
 *
 * What is drawn at random (keys, nonces, signatures) differs each time, so the vectors in the tree are those of one
 * run.  test_vectors.c holds the C code against them, check_vectors.py the Python verifier.
 *
 * A file of vectors is a JSON array with an object a line, whose members are strings, whole numbers and arrays of
 * strings; bytes are in hexadecimal.
 */
#include "core/cipher.h"
#include "core/digest.h"
#include "core/envelope.h"
#include "core/json.h"
#include "core/pseudonym.h"
#include "proofs.h"

static const char *directory;

/* Writes a text, and its last line's end if that lacks one. */
static void
write_file(const char *name, ApmSlice text)
{
	bool ended = text.len > 0 && text.data[text.len - 1] == '\n';
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "w");
	if (file == NULL || fwrite(text.data, 1, text.len, file) != text.len ||
		(!ended && fputc('\n', file) == EOF) || fclose(file) != 0)
	{
		fprintf(stderr, "make_vectors: cannot write %s\n", path);
		exit(2);
	}
}

/* An array of objects, one a line. */

static void
begin(ApmBuf *out, const char *name)
{
	apm_put_raw(out, out->len == 0 ? "[\n" : ",\n", 2);
	apm_json_begin(out);
	apm_json_put_text(out, "name", name);
}

static void
finish(ApmBuf *out, const char *file)
{
	apm_put_raw(out, "\n]\n", 3);
	CHECK_OK(apm_buf_status(out));
	write_file(file, slice_of(out));
	apm_buf_reset(out);
}

static void
put_hex(ApmBuf *out, const char *name, ApmSlice bytes)
{
	apm_json_put_hex(out, name, bytes.data, bytes.len);
}

static void
put_digest(ApmBuf *out, const char *name, const ApmDigest *digest)
{
	apm_json_put_hex(out, name, digest->bytes, APM_DIGEST_LEN);
}

static void
put_path(ApmBuf *out, const char *name, const ApmPath *path)
{
	apm_json_put_digests(out, name, path->nodes, path->count);
}

/* transactions.json: one of each kind, scope and action, all under one signature. */

#define TRANSACTIONS_MAX 24

typedef struct Named
{
	const char *name;
	ApmTransaction tx;
} Named;

static const uint8_t ids[3 * APM_STAFF_LEN] = {[0] = 0x11, [16] = 0x22, [32] = 0x33};

static size_t
queries(Named *out)
{
	static const char *const names[] = {"",
										"query records",
										"query history",
										"query search",
										"query match",
										"query export",
										"query emergency",
										"query note"};
	ApmPublicField fields[] = {
		{.name = sample_text("shift"), .type = APM_FIELD_INTEGER, .number = -3},
		{.name = sample_text("urgent"), .type = APM_FIELD_BOOLEAN, .number = 1},
		{.name = sample_text("ward"), .type = APM_FIELD_CODE, .code = sample_text("B-7")}};
	static ApmBuf public;
	size_t n = 0;

	CHECK_OK(apm_fields_encode(fields, 3, &public));
	for (uint8_t scope = APM_SCOPE_RECORDS; scope <= APM_SCOPE_NOTE; scope++)
	{
		ApmTransaction tx = sample_transaction(APM_KIND_QUERY);
		ApmQueryFields *f = &tx.u.query;

		f->scope = scope;
		f->groups = (ApmGroups){3, ids};
		if (scope == APM_SCOPE_RECORDS)
			tx.fields = slice_of(&public);
		if (scope == APM_SCOPE_SEARCH)
		{
			f->apid = APM_SLICE(NULL, 0);
			f->tokens = (ApmTokens){2, ids};
		}
		if (scope == APM_SCOPE_MATCH || scope == APM_SCOPE_EXPORT || scope == APM_SCOPE_NOTE)
			memset(f->basis, 0xb5, sizeof(f->basis));
		if (scope == APM_SCOPE_EMERGENCY)
		{
			f->reason = 2;
			f->note = sample_digest(0x4e);
		}
		out[n++] = (Named){names[scope], tx};
	}
	return n;
}

static size_t
consents(Named *out)
{
	ApmTransaction grant = sample_transaction(APM_KIND_CONSENT);
	ApmTransaction revocation = grant;
	ApmTransaction review = grant;

	grant.u.consent.until_us = SAMPLE_TIME + 86400 * SECOND;
	grant.u.consent.purpose = 7;
	revocation.u.consent.action = APM_CONSENT_REVOKE;
	memset(revocation.u.consent.grantee, 0, APM_STAFF_LEN);
	review.u.consent.action = APM_CONSENT_REVIEW;
	memset(review.u.consent.grantee, 0, APM_STAFF_LEN);
	review.u.consent.reviewed = sample_uuid(0x6e);
	review.u.consent.finding = APM_FINDING_UNJUSTIFIED;
	out[0] = (Named){"consent grant", grant};
	out[1] = (Named){"consent revocation", revocation};
	out[2] = (Named){"consent review", review};
	return 3;
}

/* One item of each type. */
static ApmTransaction
contract_change(void)
{
	static ApmBuf specs;
	static ApmBuf body;
	ApmFieldSpec spec = {
		.name = sample_text("shift"), .type = APM_FIELD_INTEGER, .required = true, .least = -5, .most = 5};
	ApmItem items[9] = {{.type = APM_ITEM_POLICY, .key = APM_POLICY_QUERY_RATE, .value = 200},
						{.type = APM_ITEM_PURPOSE, .name = sample_text("quality-audit")},
						{.type = APM_ITEM_REASON, .key = 11, .name = sample_text("power-cut")},
						{.type = APM_ITEM_TEMPLATE, .name = sample_text("by-shift"), .kind = APM_KIND_QUERY},
						{.type = APM_ITEM_RULE, .name = sample_text("seldom"), .kind = APM_KIND_QUERY},
						{.type = APM_ITEM_DATA_RULE,
						 .name = sample_text("pulse-range"),
						 .attribute = sample_text("pulse"),
						 .body = sample_text("{\"max\":300}"),
						 .violation = APM_VIOLATION_FLAG},
						{.type = APM_ITEM_DROP_TEMPLATE, .name = sample_text("by-shift")},
						{.type = APM_ITEM_DROP_RULE, .name = sample_text("seldom")},
						{.type = APM_ITEM_DROP_DATA_RULE, .name = sample_text("pulse-range")}};
	ApmTransaction tx = sample_transaction(APM_KIND_CONTRACT);

	CHECK_OK(apm_specs_encode(&spec, 1, &specs));
	p_limit(&body, APM_COUNT_ACTOR_QUERIES, 3600, 20);
	items[3].body = slice_of(&specs);
	items[4].body = slice_of(&body);
	sample_items(items, 9, &tx.u.contract);
	return tx;
}

static size_t
all_transactions(const ApmEcKey *const members[2], Named *out)
{
	ApmTransaction amendment = sample_transaction(APM_KIND_PRIMARY);
	size_t n = 0;

	amendment.u.primary.flags = APM_PRIMARY_AMENDS | APM_PRIMARY_LATE;
	amendment.u.primary.amends = sample_uuid(0x12);
	amendment.u.primary.ruleset = sample_digest(0xd7);
	amendment.u.primary.tokens = (ApmTokens){3, ids};
	out[n++] = (Named){"patient", sample_transaction(APM_KIND_PATIENT)};
	out[n++] = (Named){"primary", sample_transaction(APM_KIND_PRIMARY)};
	out[n++] = (Named){"primary amendment", amendment};
	n += queries(out + n);
	n += consents(out + n);
	out[n++] = (Named){"erasure", sample_transaction(APM_KIND_ERASURE)};
	out[n++] = (Named){"export", sample_transaction(APM_KIND_EXPORT)};
	out[n++] = (Named){"membership, first key", sample_membership(APM_MEMBER_NODE, members[0])};
	out[n++] = (Named){"membership, successor", sample_succession(APM_MEMBER_ORIGIN, members[0], members[1])};
	out[n++] = (Named){"contract", contract_change()};
	return n;
}

static void
put_transaction(ApmBuf *out, const Named *named, ApmSlice signed_bytes, const uint8_t spki[APM_SPKI_LEN])
{
	ApmOpened opened;

	CHECK_OK(apm_open_signed(signed_bytes, &opened));
	begin(out, named->name);
	apm_json_put_number(out, "kind", named->tx.kind);
	apm_json_put_number(out, "time", named->tx.time_us);
	apm_json_put_hex(out, "nonce", opened.envelope.nonce, APM_NONCE_LEN);
	put_hex(out, "transaction", opened.envelope.transaction);
	put_digest(out, "leaf", &opened.leaf);
	apm_json_put_hex(out, "tid", opened.tid.bytes, APM_UUID_LEN);
	put_hex(out, "proof", opened.envelope.proof);
	apm_json_put_hex(out, "origin", spki, APM_SPKI_LEN);
	put_hex(out, "signed", signed_bytes);
	apm_json_end(out);
}

static void
make_transactions(void)
{
	ApmEcKey *keys[3] = {sample_key(), sample_key(), sample_key()};
	uint8_t spki[APM_SPKI_LEN];
	uint8_t nonces[TRANSACTIONS_MAX][APM_NONCE_LEN];
	ApmDigest leaves[TRANSACTIONS_MAX];
	ApmPath paths[TRANSACTIONS_MAX];
	ApmBuf bodies[TRANSACTIONS_MAX] = {{0}};
	Named named[TRANSACTIONS_MAX];
	ApmOriginProof proof = {.index = 0};
	ApmDigest root;
	ApmBuf out = {0};
	size_t n = all_transactions((const ApmEcKey *const *) keys, named);

	apm_ec_spki(keys[2], spki);
	for (size_t i = 0; i < n; i++)
	{
		apm_ec_id(keys[2], &named[i].tx.origin);
		CHECK_OK(apm_random(nonces[i], APM_NONCE_LEN));
		CHECK_OK(apm_transaction_encode(&named[i].tx, &bodies[i]));
		CHECK_OK(apm_transaction_leaf(nonces[i], slice_of(&bodies[i]), &leaves[i]));
	}
	CHECK_OK(apm_merkle_all_paths(leaves, n, paths, &root));
	CHECK_OK(apm_origin_sign(keys[2], &root, (uint32_t) n, &proof.signature));
	proof.size = (uint32_t) n;
	for (size_t i = 0; i < n; i++)
	{
		ApmSigned whole = {.transaction = slice_of(&bodies[i])};
		ApmBuf encoded = {0};
		ApmBuf bytes = {0};

		proof.index = (uint32_t) i;
		proof.path = paths[i];
		apm_origin_proof_encode(&proof, &encoded);
		memcpy(whole.nonce, nonces[i], APM_NONCE_LEN);
		whole.proof = slice_of(&encoded);
		apm_signed_encode(&whole, &bytes);
		put_transaction(&out, &named[i], slice_of(&bytes), spki);
		apm_buf_reset(&encoded);
		apm_buf_reset(&bytes);
		apm_buf_reset(&bodies[i]);
	}
	finish(&out, "transactions.json");
	for (int i = 0; i < 3; i++)
		apm_ec_free(keys[i]);
}

/* sealed.json: what is encrypted, with the keys that open it. */

#define APID "r.AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
#define TEXT "{\"sex\":\"F\",\"pulse\":72}"

/* Begins a vector of something that is sealed under this key, for this patient. */
static void
begin_sealed(ApmBuf *out, const char *name, const uint8_t key[32], const char *text, ApmBuf *sealed)
{
	begin(out, name);
	apm_json_put_hex(out, "key", key, 32);
	put_hex(out, "text", sample_text(text));
	put_hex(out, "sealed", slice_of(sealed));
	apm_buf_reset(sealed);
}

static void
put_padded(ApmBuf *out, const uint8_t key[32])
{
	static const char long_text[] =
		"{\"pulse\":72,\"report\":\"0123456789012345678901234567890123456789012345"
		"6789012345678901234567890123456789012345678901234567890123456789012345"
		"6789012345678901234567890123456789012345678901234567890123456789012345"
		"67890123456789012345678901234567890123456789012345678901234567890123\"}";
	ApmSlice apid = sample_text(APID);
	ApmUuid rid = sample_uuid(0x1d);
	ApmKeyId id;
	ApmBuf sealed = {0};
	ApmDigest digest;

	CHECK_OK(apm_secret_key_id(key, &id));
	for (int i = 0; i < 2; i++)
	{
		const char *text = i == 0 ? TEXT : long_text;

		CHECK_OK(apm_record_seal(key, &id, &rid, apid, sample_text(text), &sealed));
		begin_sealed(out, i == 0 ? "record" : "long record", key, text, &sealed);
		apm_json_put_hex(out, "rid", rid.bytes, APM_UUID_LEN);
		apm_json_put_text(out, "apid", APID);
		apm_json_end(out);
	}
	CHECK_OK(apm_profile_seal(key, &id, apid, 3, sample_text(TEXT), &sealed));
	CHECK_OK(apm_profile_digest(3, slice_of(&sealed), &digest));
	begin_sealed(out, "profile", key, TEXT, &sealed);
	apm_json_put_text(out, "apid", APID);
	apm_json_put_number(out, "version", 3);
	put_digest(out, "digest", &digest);
	apm_json_end(out);
	CHECK_OK(apm_last_values_seal(key, &id, apid, sample_text(TEXT), &sealed));
	begin_sealed(out, "last values", key, TEXT, &sealed);
	apm_json_put_text(out, "apid", APID);
	apm_json_end(out);
	CHECK_OK(apm_note_seal(key, &id, apid, sample_text("brought in by ambulance"), &sealed));
	CHECK_OK(apm_note_digest(slice_of(&sealed), &digest));
	begin_sealed(out, "note", key, "brought in by ambulance", &sealed);
	apm_json_put_text(out, "apid", APID);
	put_digest(out, "digest", &digest);
	apm_json_end(out);
	CHECK_OK(apm_waiting_record_seal(key, 2, &rid, sample_text(TEXT), &sealed));
	begin_sealed(out, "waiting record", key, TEXT, &sealed);
	apm_json_put_hex(out, "rid", rid.bytes, APM_UUID_LEN);
	apm_json_put_number(out, "generation", 2);
	apm_json_end(out);
}

static void
put_wrapped_key(ApmBuf *out, const uint8_t wrapping[32], const uint8_t key[32])
{
	uint8_t wrapped[APM_WRAPPED_KEY_LEN];

	CHECK_OK(apm_key_wrap(wrapping, 2, sample_text(APID), key, wrapped));
	begin(out, "wrapped key");
	apm_json_put_hex(out, "wrapping", wrapping, 32);
	apm_json_put_number(out, "generation", 2);
	apm_json_put_text(out, "apid", APID);
	apm_json_put_hex(out, "key", key, 32);
	apm_json_put_hex(out, "wrapped", wrapped, sizeof(wrapped));
	apm_json_end(out);
}

static void
put_pseudonym(ApmBuf *out, const uint8_t pepper[32], const uint8_t key[32])
{
	static const ApmAttribute identity[] = {
		{{(const uint8_t *) "name", 4}, {(const uint8_t *) "Mo\xc3\xab", 4}},
		{{(const uint8_t *) "birth", 5}, {(const uint8_t *) "1970-01-31", 10}}};
	uint8_t blind[APM_BLIND_LEN];
	char pseudonym[APM_PSEUDONYM_LEN + 1];

	CHECK_OK(apm_pseudonym_blind(key, blind));
	for (int n = 1; n <= 2; n++)
	{
		CHECK_OK(apm_identity(pepper, blind, identity, (size_t) n, APM_SALTING_ROUNDS_MIN, pseudonym));
		begin(out, n == 1 ? "pseudonym" : "identity");
		apm_json_put_hex(out, "pepper", pepper, 32);
		apm_json_put_hex(out, "key", key, 32);
		put_hex(out, "name 1", identity[0].name);
		put_hex(out, "value 1", identity[0].value);
		if (n == 2)
		{
			put_hex(out, "name 2", identity[1].name);
			put_hex(out, "value 2", identity[1].value);
		}
		apm_json_put_text(out, "pseudonym", pseudonym);
		apm_json_end(out);
	}
}

/* A private key in PEM, without its line breaks, which a string could not have. */
static void
put_private_key(ApmBuf *out, const char *name, const ApmRsa *key)
{
	ApmBuf pem = {.secret = true};
	char text[8192];
	size_t len = 0;

	CHECK_OK(apm_rsa_private_pem(key, &pem));
	for (size_t i = 0; i < pem.len && len + 1 < sizeof(text); i++)
		text[len++] = pem.data[i] == '\n' ? '|' : (char) pem.data[i];
	text[len] = '\0';
	apm_json_put_text(out, name, text);
	apm_buf_reset(&pem);
}

static void
put_envelopes(ApmBuf *out)
{
	ApmRsa *keys[2];
	ApmSealer *sealer;
	ApmBuf sealed = {0};

	CHECK_OK(apm_rsa_generate(3072, &keys[0]));
	CHECK_OK(apm_rsa_generate(3072, &keys[1]));
	for (size_t n = 1; n <= 2; n++)
	{
		CHECK_OK(apm_sealer_new((const ApmRsa *const *) keys, n, &sealer));
		CHECK_OK(apm_sealer_seal(sealer, sample_text(TEXT), 1, &sealed));
		begin(out, n == 1 ? "envelope" : "envelope for two");
		put_private_key(out, "private 1", keys[0]);
		if (n == 2)
			put_private_key(out, "private 2", keys[1]);
		put_hex(out, "text", sample_text(TEXT));
		put_hex(out, "sealed", slice_of(&sealed));
		apm_json_end(out);
		apm_sealer_free(sealer);
		apm_buf_reset(&sealed);
	}
	apm_rsa_free(keys[0]);
	apm_rsa_free(keys[1]);
}

static void
make_sealed(void)
{
	uint8_t key[32];
	uint8_t other[32];
	ApmBuf out = {0};

	CHECK_OK(apm_random(key, sizeof(key)));
	CHECK_OK(apm_random(other, sizeof(other)));
	put_padded(&out, key);
	put_wrapped_key(&out, other, key);
	put_pseudonym(&out, other, key);
	put_envelopes(&out);
	finish(&out, "sealed.json");
}

/* trees.json: roots, paths and consistency of trees of several sizes; entries of a block and what stands for them. */

#define LEAVES 9

static void
make_trees(void)
{
	static const size_t sizes[] = {1, 2, 3, 7, 8, LEAVES};
	ApmDigest leaves[LEAVES];
	ApmDigest root;
	ApmPath path;
	ApmBuf out = {0};

	for (uint8_t i = 0; i < LEAVES; i++)
		CHECK_OK(apm_merkle_leaf(&APM_SLICE(&i, 1), 1, &leaves[i]));
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
	{
		for (size_t index = 0; index<sizes[s]; index += sizes[s]> 3 ? 3 : 1)
		{
			CHECK_OK(apm_merkle_root(leaves, sizes[s], &root));
			CHECK_OK(apm_merkle_path(leaves, sizes[s], index, &path));
			begin(&out, "path");
			apm_json_put_digests(&out, "leaves", leaves, sizes[s]);
			put_digest(&out, "root", &root);
			apm_json_put_number(&out, "index", index);
			put_path(&out, "path", &path);
			apm_json_end(&out);
		}
	}
	for (size_t old_size = 1; old_size < LEAVES; old_size++)
	{
		CHECK_OK(apm_merkle_consistency(leaves, old_size, LEAVES, &path));
		CHECK_OK(apm_merkle_root(leaves, old_size, &root));
		begin(&out, "consistency");
		apm_json_put_number(&out, "old", old_size);
		apm_json_put_number(&out, "new", LEAVES);
		put_digest(&out, "old root", &root);
		CHECK_OK(apm_merkle_root(leaves, LEAVES, &root));
		put_digest(&out, "new root", &root);
		put_path(&out, "path", &path);
		apm_json_end(&out);
	}
	finish(&out, "trees.json");
}

/* A ledger of a few blocks, with digests and proofs of it. */

#define BLOCKS 6

static void
small_story(Story *s)
{
	ApmTransaction tx;

	memset(s, 0, sizeof(*s));
	for (int i = 0; i < 2; i++)
	{
		s->nodes[i] = sample_key();
		s->origins[i] = sample_key();
	}
	s->other = sample_key();
	chain_open(&s->chain, s->nodes[0], BLOCKS);
	story_genesis(s);

	/* the worked example: one registration, and a record of somebody who is not registered */
	s->chain.time_us += 60 * SECOND;
	tx = story_profile(s, 2);
	story_put(s, &tx);
	tx = story_record(s, 1);
	tx.u.primary.apid = sample_text("r.nobody");
	story_put(s, &tx);
	chain_seal(&s->chain);

	s->chain.time_us += 60 * SECOND;
	for (int n = 0; n < 2; n++)
	{
		tx = story_profile(s, n);
		story_put(s, &tx);
	}
	story_add_record(s, 0, false, 3);
	story_add_record(s, 1, false, 1);
	story_rules(s);
	story_succession(s, APM_MEMBER_NODE, (const ApmEcKey *const *) s->nodes);
	chain_seal(&s->chain);
	s->chain.node = s->nodes[1];

	s->chain.time_us += 60 * SECOND;
	tx = story_query(s, 0, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN);
	story_put(s, &tx);
	story_put(s, &tx);
	story_search(s, 1);
	story_emergency(s, 1);
	story_add_record(s, 1, true, 1);
	chain_seal(&s->chain);

	s->chain.time_us += 60 * SECOND;
	story_review(s, 1);
	story_consent(s, 1, APM_CONSENT_REVOKE);
	CHECK(chain_erase(&s->chain, story_origin(s), story_patient(0)) == APM_RULE_NONE);
	chain_seal(&s->chain);

	s->chain.time_us += 60 * SECOND;
	tx = story_query(s, 1, APM_SCOPE_RECORDS, APM_ROLE_CLINICIAN);
	story_put(s, &tx);
	chain_seal(&s->chain);
}

static ApmHead
small_head(const Story *s, size_t height)
{
	return chain_head(&s->chain, height, s->nodes[height > 2]);
}

static void
write_head(const Story *s, size_t height, const char *file)
{
	ApmHead head = small_head(s, height);
	ApmBuf out = {0};

	apm_head_write(&head, &out);
	write_file(file, slice_of(&out));
	apm_buf_reset(&out);
}

static void
write_proof(const Story *s, size_t height, size_t position, const char *file)
{
	ApmProof proof = proof_of(s->chain.blocks, height, position, BLOCKS - 1);
	ApmBuf out = {0};

	apm_proof_write(&proof, &out);
	write_file(file, slice_of(&out));
	apm_buf_reset(&out);
	apm_proof_free(&proof);
}

static void
write_ledger(const Story *s)
{
	ApmBuf out = {0};

	for (size_t i = 0; i < BLOCKS; i++)
	{
		ApmBuf line = {0};
		char *text;

		apm_stored_encode(&s->chain.blocks[i].stored, &line);
		text = malloc(apm_base64_len(line.len) + 1);
		apm_base64_encode(line.data, line.len, text);
		apm_put_raw(&out, text, apm_base64_len(line.len));
		apm_put_u8(&out, '\n');
		free(text);
		apm_buf_reset(&line);
	}
	write_file("ledger.txt", slice_of(&out));
	apm_buf_reset(&out);
}

static void
make_ledger(void)
{
	static Story s;
	ApmConsistency growth;
	ApmBuf out = {0};

	small_story(&s);
	write_ledger(&s);
	write_head(&s, 2, "old-digest.json");
	write_head(&s, BLOCKS - 1, "digest.json");
	write_proof(&s, 2, 3, "proof-record.json");
	write_proof(&s, 3, 1, "proof-refused-query.json");
	growth = consistency_of(s.chain.blocks, 2, BLOCKS - 1);
	apm_consistency_write(&growth, &out);
	write_file("consistency.json", slice_of(&out));
	apm_buf_reset(&out);
	story_close(&s);
}

int
main(int argc, char **argv)
{
	if (argc != 2)
	{
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		return 2;
	}
	directory = argv[1];
	make_transactions();
	make_sealed();
	make_trees();
	make_ledger();
	return check_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
