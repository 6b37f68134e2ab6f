/*
 * test_transaction.c
 *	  One encoding a transaction, and a leaf and a Tid that follow from it.
 *
 * The known answers were computed with Python's struct and hashlib alone:
 *
 *	def b4(x): return struct.pack('>I', len(x)) + x
 *	def head(kind): return (b'T\1' + bytes([kind]) + b'\xc0'*32 + b'\x0a'*32
 *		+ struct.pack('>Q', 1700000000123456) + b'\x5a'*16 + struct.pack('>H', 5))
 *	apid = b4(b'$2b$12$abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0')
 *	group = b'\1' + b'\x61'*16
 *	fields = b'\2' + b4(b'ward') + b'\3' + b4(b'B2') + b4(b'weight') + b'\1' + struct.pack('>q', -7)
 *	query = (head(3) + b4(fields) + b'\1' + apid + struct.pack('>HH', 1, 0) + bytes(48) + b'\0'
 *		+ b'\x61'*16 + group)
 *	primary = (head(2) + b4(b'') + b'\x11'*16 + apid + b'\6' + bytes(16) + b'\x44'*32
 *		+ b'\2' + b'\1'*16 + b'\2'*16 + b4(b'not really an encrypted record'))
 *	consent = head(4) + b4(b'') + b'\1' + apid + b'\x71'*16 + bytes(10) + bytes(16) + b'\0' + group
 *	export = (head(6) + b4(b'') + b'\x81'*16 + struct.pack('>I', 1) + b4(b'{}') + struct.pack('>Q', 3)
 *		+ b'\xe1'*32)
 *	contract = (head(8) + b4(b'') + struct.pack('>H', 3)
 *		+ b4(b''.join(b'\1' + struct.pack('>HQ', *p) for p in ((1, 8), (2, 1), (3, 1)))))
 *	leaf = hashlib.sha256(b'\0' + b'\x77'*32 + query).digest()
 *	bits = int.from_bytes(leaf[:10], 'big') >> 6
 *	tid = 1700000000123 << 80 | 7 << 76 | (bits >> 62) << 64 | 2 << 62 | bits & 2**62-1
 *	profile = hashlib.sha256(b'\0apm profile' + struct.pack('>II', 3, 6) + b'sealed').digest()
 *	note = hashlib.sha256(b'\0apm note' + struct.pack('>I', 6) + b'sealed').digest()
 */
#include "core/transaction.h"

#include "core/digest.h"

#include "sample.h"

static const ApmKind kinds[] = {APM_KIND_PATIENT, APM_KIND_PRIMARY, APM_KIND_QUERY,		 APM_KIND_CONSENT,
								APM_KIND_ERASURE, APM_KIND_EXPORT,	APM_KIND_MEMBERSHIP, APM_KIND_CONTRACT};

#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))
#define SCOPE_COUNT APM_SCOPE_NOTE
#define VARIANTS (KIND_COUNT + SCOPE_COUNT + APM_CONSENT_REVIEW + 3)

/* Ascending ids of 16 bytes. */
static uint8_t ids[256][16];

static ApmTransaction
good(ApmKind kind)
{
	ApmTransaction tx = sample_transaction(kind);

	if (kind == APM_KIND_MEMBERSHIP)
		tx.u.membership.member = APM_MEMBER_NODE;
	return tx;
}

static ApmTransaction
query_of(uint8_t scope)
{
	ApmTransaction tx = good(APM_KIND_QUERY);

	tx.u.query.scope = scope;
	if (scope == APM_SCOPE_SEARCH)
	{
		tx.u.query.apid = sample_text("");
		tx.u.query.tokens = (ApmTokens){3, ids[0]};
	}
	if (scope == APM_SCOPE_EMERGENCY)
	{
		tx.u.query.reason = 2;
		tx.u.query.note = sample_digest(0x99);
	}
	if (scope == APM_SCOPE_MATCH || scope == APM_SCOPE_EXPORT || scope == APM_SCOPE_NOTE)
		memset(tx.u.query.basis, 0x88, sizeof(tx.u.query.basis));
	return tx;
}

static ApmTransaction
consent_of(uint8_t action)
{
	ApmTransaction tx = good(APM_KIND_CONSENT);

	tx.u.consent.action = action;
	tx.u.consent.groups = (ApmGroups){2, ids[5]};
	if (action == APM_CONSENT_REVIEW)
	{
		memset(tx.u.consent.grantee, 0, APM_STAFF_LEN);
		tx.u.consent.reviewed = sample_uuid(0x66);
		tx.u.consent.finding = APM_FINDING_UNJUSTIFIED;
	}
	else
		tx.u.consent.purpose = 7;
	if (action == APM_CONSENT_GRANT)
		tx.u.consent.until_us = SAMPLE_TIME;
	return tx;
}

static ApmTransaction
succession(void)
{
	ApmTransaction tx = good(APM_KIND_MEMBERSHIP);
	ApmMembershipFields *f = &tx.u.membership;

	f->member = APM_MEMBER_ORIGIN;
	memset(f->spki, 0x21, sizeof(f->spki));
	f->replaces = sample_digest(0x31);
	memset(&f->endorsement, 0x32, sizeof(f->endorsement));
	return tx;
}

/* One item of each type. */
static ApmTransaction
contract_of_all(void)
{
	const ApmItem items[] = {
		{.type = APM_ITEM_POLICY, .key = 65535, .value = UINT64_MAX},
		{.type = APM_ITEM_PURPOSE, .key = 8, .name = sample_text("teaching")},
		{.type = APM_ITEM_REASON, .key = 999, .name = sample_text("other_9")},
		{.type = APM_ITEM_TEMPLATE,
		 .name = sample_text("ward"),
		 .kind = APM_KIND_QUERY,
		 .body = sample_text("a template")},
		{.type = APM_ITEM_RULE,
		 .name = sample_text("at-night"),
		 .kind = APM_KIND_QUERY,
		 .body = sample_text("a predicate")},
		{.type = APM_ITEM_DATA_RULE,
		 .name = sample_text("steady"),
		 .attribute = sample_text("Blutgruppe \xc3\xbc"),
		 .body = sample_text("{\"constant\":true}"),
		 .violation = APM_VIOLATION_FLAG},
		{.type = APM_ITEM_DROP_TEMPLATE, .name = sample_text("a")},
		{.type = APM_ITEM_DROP_RULE, .name = sample_text("b")},
		{.type = APM_ITEM_DROP_DATA_RULE, .name = sample_text("c")},
	};
	ApmTransaction tx = good(APM_KIND_CONTRACT);

	sample_items(items, sizeof(items) / sizeof(items[0]), &tx.u.contract);
	return tx;
}

/* Good transactions that use every field of every kind. */
static ApmTransaction
variant(size_t i)
{
	ApmTransaction tx;

	if (i < KIND_COUNT)
		return good(kinds[i]);
	i -= KIND_COUNT;
	if (i < SCOPE_COUNT)
		return query_of((uint8_t) (i + 1));
	i -= SCOPE_COUNT;
	if (i < APM_CONSENT_REVIEW)
		return consent_of((uint8_t) (i + 1));
	i -= APM_CONSENT_REVIEW;
	if (i == 0)
		return contract_of_all();
	if (i == 1)
		return succession();
	tx = good(APM_KIND_PRIMARY);
	tx.fields = check_unhex("01 00000004 77617264 03 00000002 4232");
	tx.u.primary.flags = APM_PRIMARY_AMENDS | APM_PRIMARY_FLAGGED | APM_PRIMARY_LATE;
	tx.u.primary.amends = sample_uuid(0x22);
	tx.u.primary.ruleset = sample_digest(0x44);
	tx.u.primary.tokens = (ApmTokens){2, ids[1]};
	return tx;
}

static void
digest_is(const ApmTransaction *tx, const char *hex)
{
	ApmBuf buf = {0};
	ApmDigest digest;

	CHECK_OK(apm_transaction_encode(tx, &buf));
	CHECK_OK(apm_sha256(buf.data, buf.len, &digest));
	CHECK_HEX(digest.bytes, APM_DIGEST_LEN, hex);
	apm_buf_reset(&buf);
}

static void
test_known_query(void)
{
	const ApmPublicField fields[] = {
		{.name = sample_text("ward"), .type = APM_FIELD_CODE, .code = sample_text("B2")},
		{.name = sample_text("weight"), .type = APM_FIELD_INTEGER, .number = -7}};
	ApmTransaction tx = good(APM_KIND_QUERY);
	uint8_t nonce[APM_NONCE_LEN];
	ApmBuf public = {0};
	ApmBuf buf = {0};
	ApmDigest leaf;
	ApmUuid tid;

	CHECK_OK(apm_fields_encode(fields, 2, &public));
	tx.fields = APM_SLICE(public.data, public.len);
	CHECK_OK(apm_transaction_encode(&tx, &buf));
	CHECK_HEX(buf.data, buf.len,
			  "540103c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0"
			  "c0c0c00a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"
			  "0a0a0a00060a24182022405a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a0005000000"
			  "23020000000477617264030000000242320000000677656967687401ffffffff"
			  "fffffff9010000003c243262243132246162636465666768696a6b6c6d6e6f70"
			  "7172737475767778797a4142434445464748494a4b4c4d4e4f50515253545556"
			  "5758595a30000100000000000000000000000000000000000000000000000000"
			  "0000000000000000000000000000000000000000000000000000616161616161"
			  "616161616161616161610161616161616161616161616161616161");
	memset(nonce, 0x77, sizeof(nonce));
	CHECK_OK(apm_transaction_leaf(nonce, APM_SLICE(buf.data, buf.len), &leaf));
	CHECK_HEX(leaf.bytes, APM_DIGEST_LEN, "eec452304bb4e28a9758afe639643b8cf81fd94fa86912a182e1ded7b0a1a7cf");
	apm_transaction_tid(tx.time_us, &leaf, &tid);
	CHECK_HEX(tid.bytes, APM_UUID_LEN, "018bcfe5687b7eec9148c12ed38a2a5d");
	apm_buf_reset(&public);
	apm_buf_reset(&buf);
}

static void
test_known_answers(void)
{
	ApmTransaction tx;
	ApmDigest digest;

	tx = good(APM_KIND_CONSENT);
	digest_is(&tx, "375ea4214f3c359dad6b19f82b39dbd91547b238815e2dd936f5d9d3b5967ec8");
	tx = good(APM_KIND_ERASURE);
	digest_is(&tx, "fc682709041656594d0dcfa5cfc67e722a919483bbd2ff5df9d9019b9ca1f270");
	tx = succession();
	digest_is(&tx, "d004406d38b6507d866529c12255b98766a31c8ffe9927ca0ecc97b99a43c32b");
	tx = good(APM_KIND_EXPORT);
	digest_is(&tx, "951e938319392baba88eb33f82d33e51e5cea47331f37bcb6de3a826be5fb63f");
	tx = good(APM_KIND_CONTRACT);
	digest_is(&tx, "7dd9956bcc40306ceacab8c17dc763674b1d60689b5fff5f4df4b25a4fdb5d32");
	tx = good(APM_KIND_PRIMARY);
	tx.u.primary.flags = APM_PRIMARY_FLAGGED | APM_PRIMARY_LATE;
	tx.u.primary.ruleset = sample_digest(0x44);
	tx.u.primary.tokens = (ApmTokens){2, check_unhex("01010101010101010101010101010101"
													 "02020202020202020202020202020202")
											 .data};
	digest_is(&tx, "62e503f61e10be35303ee294028933b764864fedb01423e749c54bda1c10e0bc");

	CHECK_OK(apm_profile_digest(3, sample_text("sealed"), &digest));
	CHECK_HEX(digest.bytes, APM_DIGEST_LEN,
			  "017b0556d5d0a54ddbdf623a5c3aec0523241eab9e200ece0e8f840df5b06e37");
	CHECK_OK(apm_note_digest(sample_text("sealed"), &digest));
	CHECK_HEX(digest.bytes, APM_DIGEST_LEN,
			  "a535795197123284779312b1768de0418d0c4ac13bd20b15b21d21662bab5ddd");
}

/* Encoding, decoding and encoding again gives the same bytes; a byte less or more is refused. */
static void
test_round_trip(void)
{
	for (size_t k = 0; k < VARIANTS; k++)
	{
		ApmTransaction tx = variant(k);
		ApmTransaction back;
		ApmBuf first = {0};
		ApmBuf second = {0};

		CHECK_OK(apm_transaction_encode(&tx, &first));
		CHECK_OK(apm_transaction_decode(APM_SLICE(first.data, first.len), &back));
		CHECK_OK(apm_transaction_encode(&back, &second));
		CHECK(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
		for (size_t len = 0; len < first.len; len++)
			CHECK_STATUS(apm_transaction_decode(APM_SLICE(first.data, len), &back), APM_ERR_FORMAT);
		apm_put_u8(&first, 0);
		CHECK_STATUS(apm_transaction_decode(APM_SLICE(first.data, first.len), &back), APM_ERR_FORMAT);
		apm_buf_reset(&first);
		apm_buf_reset(&second);
	}
}

static void
refused(ApmTransaction tx)
{
	ApmBuf buf = {0};

	CHECK_STATUS(apm_transaction_encode(&tx, &buf), APM_ERR_RANGE);
	CHECK(buf.len == 0);
	apm_buf_reset(&buf);
}

/* refused() of a good transaction of which one assignment is changed */
#define REFUSED(base, change)       \
	do                              \
	{                               \
		ApmTransaction tx = (base); \
		change;                     \
		refused(tx);                \
	} while (0)

static void
test_common_bounds(void)
{
	static const uint8_t odd[] = {' ', 0, '\n', 0x7f, 0x80, 0xff};
	char apid[APM_DIGEST_LEN * 3];
	ApmTransaction query = good(APM_KIND_QUERY);

	for (int kind = KIND_COUNT + 1; kind < 12; kind++)
		REFUSED(query, tx.kind = (ApmKind) kind);
	REFUSED(query, tx.kind = (ApmKind) 0);
	REFUSED(query, tx.time_us = UINT64_MAX);
	REFUSED(query, tx.roles = 0x0040);
	REFUSED(query, tx.fields = sample_text("\1"));
	REFUSED(query, tx.fields = APM_SLICE("\0", 1)); /* none is written as nothing */

	memset(apid, 'a', sizeof(apid));
	REFUSED(query, tx.u.query.apid = APM_SLICE(apid, 0));
	REFUSED(query, tx.u.query.apid = APM_SLICE(apid, 65));
	for (size_t i = 0; i < sizeof(odd); i++)
	{
		apid[63] = (char) odd[i];
		REFUSED(query, tx.u.query.apid = APM_SLICE(apid, 64));
	}
}

static void
test_record_bounds(void)
{
	static const uint8_t twice[2 * APM_TOKEN_LEN];
	ApmTransaction primary = good(APM_KIND_PRIMARY);

	REFUSED(good(APM_KIND_PATIENT), tx.u.patient.version = 0);
	REFUSED(primary, tx.u.primary.flags = 0x08);
	REFUSED(primary, tx.u.primary.amends = sample_uuid(1));
	REFUSED(primary, tx.u.primary.record.len = 0);
	REFUSED(primary, tx.u.primary.record.len = (size_t) APM_PRIMARY_MAX + 1);
	REFUSED(primary, tx.u.primary.tokens = ((ApmTokens){APM_TOKENS_MAX + 1, ids[0]}));
	REFUSED(primary, tx.u.primary.tokens = ((ApmTokens){2, twice}));
}

static void
test_query_bounds(void)
{
	static const uint8_t descending[32] = {1};

	for (uint8_t scope = 0; scope <= SCOPE_COUNT + 1; scope++)
	{
		bool known = scope >= 1 && scope <= SCOPE_COUNT;
		ApmTransaction query = query_of(scope);

		CHECK((apm_scope_name(scope) != NULL) == known);
		if (!known)
		{
			refused(query);
			continue;
		}
		REFUSED(query, tx.u.query.groups = ((ApmGroups){2, descending}));
		if (scope == APM_SCOPE_SEARCH)
		{
			REFUSED(query, tx.u.query.apid = sample_text(SAMPLE_APID));
			REFUSED(query, tx.u.query.tokens.count = 0);
			REFUSED(query, tx.u.query.tokens.count = APM_SEARCH_TOKENS_MAX + 1);
			REFUSED(query, tx.u.query.tokens = ((ApmTokens){2, descending}));
		}
		else
		{
			REFUSED(query, tx.u.query.apid = sample_text(""));
			REFUSED(query, tx.u.query.tokens = ((ApmTokens){1, ids[0]}));
		}
		if (scope != APM_SCOPE_EMERGENCY)
		{
			REFUSED(query, tx.u.query.reason = 1);
			REFUSED(query, tx.u.query.note.bytes[31] = 1);
		}
		if (scope != APM_SCOPE_MATCH && scope != APM_SCOPE_EXPORT && scope != APM_SCOPE_NOTE)
			REFUSED(query, tx.u.query.basis[15] = 1);
	}
}

static void
test_consent_bounds(void)
{
	ApmTransaction grant = consent_of(APM_CONSENT_GRANT);
	ApmTransaction revoke = consent_of(APM_CONSENT_REVOKE);
	ApmTransaction review = consent_of(APM_CONSENT_REVIEW);
	ApmBuf buf = {0};

	REFUSED(grant, tx.u.consent.action = 0);
	REFUSED(grant, tx.u.consent.action = 4);
	REFUSED(grant, tx.u.consent.apid = sample_text(""));
	REFUSED(grant, memset(tx.u.consent.grantee, 0, APM_STAFF_LEN)); /* to everybody: no such grant */
	REFUSED(grant, tx.u.consent.until_us = UINT64_MAX);
	REFUSED(grant, tx.u.consent.groups.ids = (const uint8_t[32]){1});
	REFUSED(revoke, tx.u.consent.until_us = 1);
	REFUSED(revoke, tx.u.consent.reviewed = sample_uuid(1));
	REFUSED(revoke, tx.u.consent.finding = APM_FINDING_JUSTIFIED);
	REFUSED(grant, tx.u.consent.reviewed = sample_uuid(1));
	REFUSED(grant, tx.u.consent.finding = APM_FINDING_JUSTIFIED);
	REFUSED(review, tx.u.consent.finding = 0);
	REFUSED(review, tx.u.consent.finding = 3);
	REFUSED(review, tx.u.consent.grantee[0] = 1);
	REFUSED(review, tx.u.consent.purpose = 1);
	REFUSED(review, tx.u.consent.until_us = 1);

	memset(revoke.u.consent.grantee, 0, APM_STAFF_LEN); /* of everybody: a withdrawal */
	CHECK_OK(apm_transaction_encode(&revoke, &buf));
	apm_buf_reset(&buf);
}

static void
test_other_bounds(void)
{
	static const char parameters[APM_PARAMETERS_MAX + 1] = "{}";
	ApmTransaction dataset = good(APM_KIND_EXPORT);
	ApmTransaction contract = good(APM_KIND_CONTRACT);

	REFUSED(dataset, tx.u.export.release = 0);
	REFUSED(dataset, tx.u.export.release = UINT32_C(1) << 31);
	REFUSED(dataset, tx.u.export.rows = UINT64_C(1) << 63);
	REFUSED(dataset, tx.u.export.parameters.len = 0);
	REFUSED(dataset, tx.u.export.parameters = APM_SLICE(parameters, sizeof(parameters)));
	REFUSED(good(APM_KIND_MEMBERSHIP), tx.u.membership.member = 3);
	REFUSED(contract, tx.u.contract.count = 0);
	REFUSED(contract, tx.u.contract.count = 2);
	REFUSED(contract, tx.u.contract.count = 4);
	REFUSED(contract, tx.u.contract.items.len--);
}

/* Bytes of a void, as doc/format.md has them. */
#define KIND_AT 32

static void
test_erasure_bounds(void)
{
	ApmTransaction erasure = good(APM_KIND_ERASURE);
	uint8_t voids[2 * APM_VOID_LEN];

	REFUSED(erasure, tx.u.erasure.apid = sample_text(""));
	REFUSED(erasure, tx.u.erasure.reason = 0);
	REFUSED(erasure, tx.u.erasure.count = 0);
	REFUSED(erasure, tx.u.erasure.count = 1);
	REFUSED(erasure, tx.u.erasure.count = 3);
	REFUSED(erasure, tx.u.erasure.voids.len--);
	REFUSED(erasure, tx.u.erasure.count = 0; tx.u.erasure.voids.len = 0);
	memcpy(voids, erasure.u.erasure.voids.data, sizeof(voids));
	erasure.u.erasure.voids.data = voids;
	for (int kind = 0; kind < 10; kind++)
	{
		voids[KIND_AT] = (uint8_t) kind;
		if (kind != APM_KIND_PATIENT && kind != APM_KIND_PRIMARY)
			refused(erasure);
	}
	voids[KIND_AT] = APM_KIND_PATIENT;
	memcpy(voids + APM_VOID_LEN, voids, APM_VOID_LEN); /* one leaf twice */
	refused(erasure);
	voids[APM_VOID_LEN + KIND_AT] = APM_KIND_PRIMARY; /* in whichever kind */
	refused(erasure);
	voids[0] = 2; /* not ascending */
	refused(erasure);
	REFUSED(succession(), memset(&tx.u.membership.replaces, 0, APM_DIGEST_LEN));
	REFUSED(succession(), memset(&tx.u.membership.endorsement, 0, APM_SIGNATURE_LEN));
}

/* As many voids as there may be; one more is refused, by who reads, too. */
static void
test_many_voids(void)
{
	const size_t most = (size_t) APM_VOIDS_MAX * APM_VOID_LEN;
	uint8_t *voids = calloc(most + APM_VOID_LEN, 1);
	ApmTransaction tx = good(APM_KIND_ERASURE);
	ApmErasureFields *f = &tx.u.erasure;
	ApmTransaction back;
	ApmDigest leaf = {0};
	ApmVoid got;
	ApmBuf buf = {0};
	uint32_t at;

	for (uint32_t i = 0; i <= APM_VOIDS_MAX; i++)
	{
		uint8_t *v = voids + (size_t) i * APM_VOID_LEN;

		v[0] = (uint8_t) (i >> 16);
		v[1] = (uint8_t) (i >> 8);
		v[2] = (uint8_t) i;
		v[KIND_AT] = APM_KIND_PRIMARY;
	}
	f->voids = APM_SLICE(voids, most);
	f->count = APM_VOIDS_MAX;
	CHECK_OK(apm_transaction_encode(&tx, &buf));
	CHECK(buf.len <= APM_TRANSACTION_MAX);
	CHECK_OK(apm_transaction_decode(APM_SLICE(buf.data, buf.len), &back));
	CHECK(back.u.erasure.count == APM_VOIDS_MAX);
	apm_erasure_void(&back.u.erasure, APM_VOIDS_MAX - 1, &got);
	CHECK(got.kind == APM_KIND_PRIMARY && apm_erasure_find(f, &got.leaf, &at) && at == APM_VOIDS_MAX - 1);
	CHECK(apm_erasure_find(f, &leaf, &at) && at == 0);
	leaf.bytes[31] = 1;
	CHECK(!apm_erasure_find(f, &leaf, &at));
	leaf.bytes[0] = 0xff;
	CHECK(!apm_erasure_find(f, &leaf, &at));

	f->voids.len += APM_VOID_LEN;
	f->count++;
	refused(tx);
	buf.data[buf.len - most - 1]++; /* the count; then one more void */
	apm_put_raw(&buf, voids + most, APM_VOID_LEN);
	CHECK_STATUS(apm_transaction_decode(APM_SLICE(buf.data, buf.len), &back), APM_ERR_FORMAT);
	apm_buf_reset(&buf);
	free(voids);
}

/* Items up to their number and to their size; no more. */
static void
test_many_items(void)
{
	static char predicate[APM_ITEMS_BYTES];
	ApmItem items[APM_ITEMS_MAX + 1];
	ApmTransaction tx = good(APM_KIND_CONTRACT);
	ApmBuf buf = {0};

	for (int i = 0; i <= APM_ITEMS_MAX; i++)
		items[i] = (ApmItem){.type = APM_ITEM_POLICY, .key = (uint16_t) i};
	sample_items(items, APM_ITEMS_MAX, &tx.u.contract);
	CHECK_OK(apm_transaction_encode(&tx, &buf));
	apm_buf_reset(&buf);
	sample_items(items, APM_ITEMS_MAX + 1, &tx.u.contract);
	refused(tx);

	items[0] = (ApmItem){.type = APM_ITEM_RULE,
						 .name = sample_text("long"),
						 .kind = APM_KIND_QUERY,
						 .body = APM_SLICE(predicate, sizeof(predicate) - 14)};
	sample_items(items, 1, &tx.u.contract);
	CHECK(tx.u.contract.items.len == APM_ITEMS_BYTES);
	CHECK_OK(apm_transaction_encode(&tx, &buf));
	apm_buf_reset(&buf);
	items[0].body.len++;
	sample_items(items, 1, &tx.u.contract);
	refused(tx);
}

/* Whatever byte stands in any place, what a reader takes is what a writer writes. */
static void
test_every_byte(void)
{
	for (size_t k = 0; k < VARIANTS; k++)
	{
		ApmTransaction tx = variant(k);
		ApmBuf buf = {0};

		CHECK_OK(apm_transaction_encode(&tx, &buf));
		for (size_t i = 0; i < buf.len; i++)
		{
			uint8_t was = buf.data[i];

			for (int value = 0; value < 256; value++)
			{
				ApmTransaction got;
				ApmBuf again = {0};

				buf.data[i] = (uint8_t) value;
				if (apm_transaction_decode(APM_SLICE(buf.data, buf.len), &got) != APM_OK)
					continue;
				if (apm_transaction_encode(&got, &again) != APM_OK || again.len != buf.len ||
					memcmp(again.data, buf.data, buf.len) != 0)
					CHECK(!"a second encoding of one transaction");
				apm_buf_reset(&again);
			}
			buf.data[i] = was;
		}
		apm_buf_reset(&buf);
	}
}

static void
test_names(void)
{
	static const char *const policies[] = {"difficulty", "access",	  "purpose",   "emergency",
										   "export",	 "fetch_cap", "query_rate"};
	static const uint16_t keys[] = {APM_POLICY_DIFFICULTY, APM_POLICY_ACCESS, APM_POLICY_PURPOSE,
									APM_POLICY_EMERGENCY,  APM_POLICY_EXPORT, APM_POLICY_FETCH_CAP,
									APM_POLICY_QUERY_RATE};

	for (int i = 0; i < 7; i++)
	{
		CHECK(apm_policy_code(policies[i]) == keys[i]);
		CHECK(strcmp(apm_policy_name(keys[i]), policies[i]) == 0);
	}
	CHECK(apm_policy_code("") == 0 && apm_policy_code("Access") == 0);
	CHECK(apm_policy_name(0) == NULL && apm_policy_name(8) == NULL && apm_policy_name(65535) == NULL);
	CHECK(strcmp(apm_kind_name(APM_KIND_CONTRACT), "contract") == 0);
	CHECK(apm_kind_name((ApmKind) 0) == NULL && apm_kind_name((ApmKind) 9) == NULL);
	CHECK(strcmp(apm_scope_name(APM_SCOPE_NOTE), "note") == 0);
	CHECK(strcmp(apm_consent_name(APM_CONSENT_REVIEW), "review") == 0);
	CHECK(apm_consent_name(0) == NULL && apm_consent_name(4) == NULL);
}

static void
test_groups(void)
{
	const ApmGroups groups = {3, ids[7]};
	const ApmGroups none = {0, NULL};

	CHECK(!apm_groups_have(&groups, ids[6]) && apm_groups_have(&groups, ids[7]));
	CHECK(apm_groups_have(&groups, ids[9]) && !apm_groups_have(&groups, ids[10]));
	CHECK(!apm_groups_have(&none, ids[0]));
}

static void
test_apids(void)
{
	for (size_t k = 0; k < VARIANTS; k++)
	{
		ApmTransaction tx = variant(k);
		bool has = tx.kind == APM_KIND_PATIENT || tx.kind == APM_KIND_PRIMARY ||
				   tx.kind == APM_KIND_CONSENT || tx.kind == APM_KIND_ERASURE ||
				   (tx.kind == APM_KIND_QUERY && tx.u.query.scope != APM_SCOPE_SEARCH);

		CHECK(apm_transaction_apid(&tx).len == (has ? strlen(SAMPLE_APID) : 0));
	}
}

int
main(void)
{
	for (int i = 0; i < 256; i++)
		ids[i][15] = (uint8_t) i;
	test_known_query();
	test_known_answers();
	test_round_trip();
	test_common_bounds();
	test_record_bounds();
	test_query_bounds();
	test_consent_bounds();
	test_other_bounds();
	test_erasure_bounds();
	test_many_voids();
	test_many_items();
	test_every_byte();
	test_names();
	test_groups();
	test_apids();
	return check_summary();
}
