/*
 * test_cipher.c
 *	  AES-256-GCM against the cases that NIST's submission of GCM published, and the
 *	  padded seal: its lengths, and that nothing but the whole truth opens it.
 */
#include "check.h"
#include "core/cipher.h"
#include "core/digest.h"

#define TEXT(s) APM_SLICE((s), sizeof(s) - 1)
#define OVERHEAD (2 + 8 + 32 + 12 + 16)

#define GCM_KEY "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
#define GCM_ZERO_KEY "0000000000000000000000000000000000000000000000000000000000000000"
#define GCM_NONCE "cafebabefacedbaddecaf888"
#define GCM_60                                                                                         \
	"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525" \
	"b16aedf5aa0de657ba637b39"

/* key, nonce, AAD, plaintext, ciphertext and tag: test cases 13 to 16 */
static const char *const gcm_vectors[][5] = {
	{GCM_ZERO_KEY, "000000000000000000000000", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
	{GCM_ZERO_KEY, "000000000000000000000000", "", "00000000000000000000000000000000",
	 "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"},
	{GCM_KEY, GCM_NONCE, "", GCM_60 "1aafd255",
	 "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838"
	 "c5f61e6393ba7a0abcc9f662898015adb094dac5d93471bdec1a502270e3cc6c"},
	{GCM_KEY, GCM_NONCE, "feedfacedeadbeeffeedfacedeadbeefabaddad2", GCM_60,
	 "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838"
	 "c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"},
};

static const uint8_t key[32] = "patient key of thirty-two bytes";
static const uint8_t other_key[32] = "patient key of thirty-two bytez";
static const ApmKeyId key_id = {{1, 2, 3, 4, 5, 6, 7, 8}};
static const ApmKeyId other_id = {{1, 2, 3, 4, 5, 6, 7, 9}};
static const ApmUuid rid = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
static const ApmUuid other_rid = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17}};

/*
 * Made by a program of its own (Python, PyCryptodome) from the words of cipher.h: the record
 * "Fever", version 2 of the profile "Ahmed", and the key wrapped in generation 3.
 */
static const char golden_record[] =
	"520101020304050607087b7476eb6ea1ad8bed650efcd8a7bdbe09d72e99fdbb0f3c9fa9807769743797303132333435"
	"363738393a3b409051961567f2157551ecb3490e764c4884612a6678556d4c8e8f896f7ae40d7699d4af7561d2798213"
	"d9d4b21f7f49f22917cf4f538402b0094e6a2039ca80e80fe3d3e2d68d274024dc8bb78f8b5db1a94c6680a75502c701"
	"2bb0782fe8190b98dffa5efdf33f3bba8621e98ea7d55993b37f352f2c57b1d585e2a9a79533a6b9530750abd7dbef04"
	"c0b9ccc55d602ba6083b1199df163384ab42c4a073aed00b3326eb4e16be875d01b3609754a11c49dc41b12f01d7ad0e"
	"62dd8eb99fa34afc277f5607d30cdc917469ad74864acdde465f09348eb4e7944bc70b409b69852a1e3e4986c8524221"
	"269971df951faee0bcce812834596bc99ec73e2af1136c222a6761ce43bc2328e9a5e13632a8";
static const char golden_profile[] =
	"52010102030405060708f22befc1795d9ef7b858552248f8ece2aee4df87678a7f5680aafc1c9b4f7501303132333435"
	"363738393a3b64a058d957b7afacf92a933adb5b28a04132cb6f3ed796e4444c0d2436d05b8ece251dd617ad7cb2d516"
	"ee481f620cf348a2613ce5fcc7909b6b2ccd211ce5b3d411d7b3a061a3bc33a87e88780b63b315f890de05dbf21146b5"
	"60ffc9cab456b4c6b973630f9c6bbd3fe2e566b21efa37b78e608791f52dcb50c6a29e4a3d97cdc59c8d013f09331ae6"
	"f76fe15666cc1b9f13d20777bb0e7aac22aac07ebcc4afb0caafdf35417812885b4873f4052d6492ec6e13317e631685"
	"a3055d9cb8c3e9c048bb579e9dd58c2110bb4633840d584da90abdad786daa15a4d5f9553dd5f789b67e25e5aad908c8"
	"a1097ed76de217581cbc025c91e4c04a702f07d9388539b172db263561101a7beb90d2637319";
static const char golden_wrap[] =
	"303132333435363738393a3b07f4bff79e0469fd7f93e11ee546650b59325aa4a3955363e1e89b9198df030c41952774"
	"73380a65b65bce0c891a17fa";

/* and "Fever" waiting, under other_key as the wrapping key of generation 3 */
static const char golden_waiting[] =
	"52011d69d2d55f62d1fa10bf290f5de15746d904e28f08a878bda135d5202c2a5b0ad662d82c11dbe68d303132333435"
	"363738393a3b5a916ea8bd909ceadf00d6d1183bc9f223af9a567eacf96e56320be44e33513ae2ddaefe2a14f30dd594"
	"5af5b9fb61082f5f2aa4e0debcc250de846cf40af1ad398d70872bdd3f380943e658a2dea576dd9affbad28628765de7"
	"be0cfce3754176f4524213b5ede3e8153dcdf822f3e856ad8fd78ee860c5a36c158ec3732f798cd2d630dbffa3572ea5"
	"8c2f2aa9d9fed87ed4cb41e1ca50cd822bfa5c046eb852d4ef7c4da8cd4ad2b39204eb2d92723d29ce8ada92ad5e5458"
	"b4e6eae07bb56a9d83ab7636cf3a0e798667640fd2b8adc3e0d8aeb5d8b9790af90b0d42ab2a8452e977cdf98031f189"
	"173432a7c677bb7dcd74cd3a9623ffcbcbcb953a9792132d8adce3b7cad86cf2d26b5cc29792";

static void
test_gcm_vectors(void)
{
	for (size_t i = 0; i < sizeof(gcm_vectors) / sizeof(gcm_vectors[0]); i++)
	{
		ApmSlice k = check_unhex(gcm_vectors[i][0]);
		ApmSlice nonce = check_unhex(gcm_vectors[i][1]);
		ApmSlice aad = check_unhex(gcm_vectors[i][2]);
		ApmSlice plain = check_unhex(gcm_vectors[i][3]);
		uint8_t sealed[96];
		uint8_t opened[96];
		bool refused = true;

		CHECK_OK(apm_gcm_seal(k.data, nonce.data, aad, plain, sealed));
		CHECK_HEX(sealed, plain.len + 16, gcm_vectors[i][4]);
		CHECK_OK(apm_gcm_open(k.data, nonce.data, aad, APM_SLICE(sealed, plain.len + 16), opened));
		CHECK(memcmp(opened, plain.data, plain.len) == 0);

		/* each bit counts, and what does not open leaves no plaintext */
		for (size_t bit = 0; bit < 8 * (plain.len + 16); bit++)
		{
			sealed[bit / 8] ^= (uint8_t) (1 << bit % 8);
			memset(opened, 0x55, sizeof(opened));
			refused = refused && apm_gcm_open(k.data, nonce.data, aad, APM_SLICE(sealed, plain.len + 16),
											  opened) == APM_ERR_OPEN;
			for (size_t at = 0; at < plain.len; at++)
				refused = refused && opened[at] == 0;
			sealed[bit / 8] ^= (uint8_t) (1 << bit % 8);
		}
		/* a tag of 0 to 15 bytes is none */
		for (size_t len = 0; len < 16; len++)
			refused = refused &&
					  apm_gcm_open(k.data, nonce.data, aad, APM_SLICE(sealed, len), opened) == APM_ERR_OPEN;
		CHECK(refused);
	}
}

/* Encrypting where the text lies gives the same. */
static void
test_gcm_in_place(void)
{
	ApmSlice k = check_unhex(GCM_KEY);
	ApmSlice nonce = check_unhex(GCM_NONCE);
	ApmSlice plain = check_unhex(GCM_60);
	uint8_t bytes[76];

	memcpy(bytes, plain.data, plain.len);
	CHECK_OK(apm_gcm_seal(k.data, nonce.data, (ApmSlice){NULL, 0}, APM_SLICE(bytes, 60), bytes));
	CHECK(memcmp(bytes, plain.data, 60) != 0);
	CHECK_OK(apm_gcm_open(k.data, nonce.data, (ApmSlice){NULL, 0}, APM_SLICE(bytes, 76), bytes));
	CHECK(memcmp(bytes, plain.data, 60) == 0);
}

static void
round_trip(const uint8_t *text, size_t len, size_t want_body)
{
	ApmBuf sealed = {0};
	ApmBuf opened = {.secret = true};

	apm_put_raw(&sealed, "before", 6);
	CHECK_OK(apm_record_seal(key, &key_id, &rid, TEXT("apid"), APM_SLICE(text, len), &sealed));
	CHECK(sealed.len == 6 + OVERHEAD + want_body);
	CHECK(memcmp(sealed.data, "beforeR\x01", 8) == 0);
	apm_put_raw(&opened, "before", 6);
	CHECK_OK(apm_record_open(key, &key_id, &rid, TEXT("apid"), APM_SLICE(sealed.data + 6, sealed.len - 6),
							 &opened));
	CHECK(opened.len == 6 + len && (len == 0 || memcmp(opened.data + 6, text, len) == 0));
	apm_buf_reset(&sealed);
	apm_buf_reset(&opened);
}

static void
test_lengths(void)
{
	const size_t ten_mb = 10 * 1024 * 1024;
	uint8_t *text = calloc(1, ten_mb);
	ApmBuf male = {0};
	ApmBuf female = {0};

	for (size_t i = 0; i < ten_mb; i++)
		text[i] = (uint8_t) (i * 7);
	round_trip(text, 0, 256);
	round_trip(text, 1, 256);
	round_trip(text, 251, 256);
	round_trip(text, 252, 256);
	round_trip(text, 253, 512);
	round_trip(text, 508, 512);
	round_trip(text, 509, 768);
	round_trip(text, ten_mb, ten_mb + 256);
	free(text);

	CHECK_OK(apm_record_seal(key, &key_id, &rid, TEXT("apid"), TEXT("Male"), &male));
	CHECK_OK(apm_record_seal(key, &key_id, &rid, TEXT("apid"), TEXT("Female"), &female));
	CHECK(male.len == female.len);
	apm_buf_reset(&male);
	apm_buf_reset(&female);
	CHECK_STATUS(apm_record_seal(key, &key_id, &rid, TEXT("apid"),
								 (ApmSlice){(const uint8_t *) "", (size_t) APM_TEXT_MAX + 1}, &male),
				 APM_ERR_RANGE);
	CHECK(male.len == 0);
}

/* Is it refused, and is out left as it was? */
static bool
record_refused(const uint8_t *k, const ApmKeyId *id, const ApmUuid *r, ApmSlice apid, ApmSlice sealed)
{
	ApmBuf out = {.secret = true};
	bool refused;

	apm_put_u8(&out, 'x');
	refused = apm_record_open(k, id, r, apid, sealed, &out) == APM_ERR_OPEN && out.len == 1;
	apm_buf_reset(&out);
	return refused;
}

static void
test_record_refusals(void)
{
	ApmBuf sealed = {0};
	ApmBuf longer = {0};
	ApmSlice all;
	bool refused = true;

	CHECK_OK(apm_record_seal(key, &key_id, &rid, TEXT("apid"), TEXT("Seasonal fever"), &sealed));
	all = APM_SLICE(sealed.data, sealed.len);
	CHECK(record_refused(other_key, &key_id, &rid, TEXT("apid"), all));
	CHECK(record_refused(key, &other_id, &rid, TEXT("apid"), all));
	CHECK(record_refused(key, &key_id, &other_rid, TEXT("apid"), all));
	CHECK(record_refused(key, &key_id, &rid, TEXT("apie"), all));
	CHECK(record_refused(key, &key_id, &rid, TEXT("api"), all));
	CHECK(record_refused(key, &key_id, &rid, TEXT(""), all));

	/* tag, version, key id, commitment, nonce, ciphertext, tag: every bit of them */
	for (size_t bit = 0; bit < 8 * sealed.len; bit++)
	{
		sealed.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
		refused = refused && record_refused(key, &key_id, &rid, TEXT("apid"), all);
		sealed.data[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}
	CHECK(refused);
	for (size_t len = 0; len < sealed.len; len++)
		refused = refused && record_refused(key, &key_id, &rid, TEXT("apid"), APM_SLICE(sealed.data, len));
	CHECK(refused);
	apm_put_raw(&longer, sealed.data, sealed.len);
	apm_put_u8(&longer, 0);
	CHECK(record_refused(key, &key_id, &rid, TEXT("apid"), APM_SLICE(longer.data, longer.len)));
	apm_buf_reset(&longer);
	apm_buf_reset(&sealed);
}

/* A record does not open as a profile, nor one version of a profile as another. */
static void
test_profile(void)
{
	ApmBuf sealed = {0};
	ApmBuf out = {.secret = true};
	ApmSlice all;

	CHECK_OK(apm_profile_seal(key, &key_id, TEXT("apid"), 2, TEXT("Ahmed"), &sealed));
	all = APM_SLICE(sealed.data, sealed.len);
	CHECK_OK(apm_profile_open(key, &key_id, TEXT("apid"), 2, all, &out));
	CHECK(out.len == 5 && memcmp(out.data, "Ahmed", 5) == 0);
	CHECK_STATUS(apm_profile_open(key, &key_id, TEXT("apid"), 1, all, &out), APM_ERR_OPEN);
	CHECK_STATUS(apm_profile_open(key, &key_id, TEXT("apix"), 2, all, &out), APM_ERR_OPEN);
	CHECK_STATUS(apm_profile_open(other_key, &key_id, TEXT("apid"), 2, all, &out), APM_ERR_OPEN);
	CHECK_STATUS(apm_record_open(key, &key_id, &rid, TEXT("apid"), all, &out), APM_ERR_OPEN);
	CHECK(out.len == 5);
	apm_buf_reset(&sealed);
	apm_buf_reset(&out);
}

/* A note opens for its patient only, and as nothing else; nor does a profile open as a note. */
static void
test_note(void)
{
	ApmBuf sealed = {0};
	ApmBuf profile = {0};
	ApmBuf out = {.secret = true};
	ApmSlice all;

	CHECK_OK(apm_note_seal(key, &key_id, TEXT("apid"), TEXT("found unconscious"), &sealed));
	CHECK_OK(apm_profile_seal(key, &key_id, TEXT("apid"), 1, TEXT("Ahmed"), &profile));
	all = APM_SLICE(sealed.data, sealed.len);
	CHECK_OK(apm_note_open(key, &key_id, TEXT("apid"), all, &out));
	CHECK(out.len == 17 && memcmp(out.data, "found unconscious", 17) == 0);
	CHECK_STATUS(apm_note_open(key, &key_id, TEXT("apix"), all, &out), APM_ERR_OPEN);
	CHECK_STATUS(apm_note_open(other_key, &key_id, TEXT("apid"), all, &out), APM_ERR_OPEN);
	CHECK_STATUS(apm_profile_open(key, &key_id, TEXT("apid"), 1, all, &out), APM_ERR_OPEN);
	CHECK_STATUS(apm_note_open(key, &key_id, TEXT("apid"), APM_SLICE(profile.data, profile.len), &out),
				 APM_ERR_OPEN);
	CHECK(out.len == 17);
	apm_buf_reset(&sealed);
	apm_buf_reset(&profile);
	apm_buf_reset(&out);
}

/* A patient's last values likewise; they are no note of his either. */
static void
test_last_values(void)
{
	ApmBuf sealed = {0};
	ApmBuf out = {.secret = true};
	ApmSlice all;

	CHECK_OK(apm_last_values_seal(key, &key_id, TEXT("apid"), TEXT("blood A"), &sealed));
	all = APM_SLICE(sealed.data, sealed.len);
	CHECK_OK(apm_last_values_open(key, &key_id, TEXT("apid"), all, &out));
	CHECK(out.len == 7 && memcmp(out.data, "blood A", 7) == 0);
	CHECK_STATUS(apm_last_values_open(key, &key_id, TEXT("apix"), all, &out), APM_ERR_OPEN);
	CHECK_STATUS(apm_last_values_open(other_key, &key_id, TEXT("apid"), all, &out), APM_ERR_OPEN);
	CHECK_STATUS(apm_note_open(key, &key_id, TEXT("apid"), all, &out), APM_ERR_OPEN);
	CHECK(out.len == 7);
	apm_buf_reset(&sealed);
	apm_buf_reset(&out);
}

/*
 * A sealer that writes a good tag over a plaintext of another form: a length beyond it, more
 * padding than there must be, padding that is not zeros.
 */
static void
test_padding_refusals(void)
{
	static const struct
	{
		uint32_t len;
		size_t body;
		uint8_t last;
		ApmStatus want;
	} cases[] = {
		{3, 256, 0, APM_OK},
		{3, 256, 1, APM_ERR_OPEN},
		{3, 512, 0, APM_ERR_OPEN},
		{253, 256, 0, APM_ERR_OPEN},
		{252, 256, 9, APM_OK},
		{UINT32_MAX, 256, 0, APM_ERR_OPEN},
		{UINT32_MAX - 3, 256, 0, APM_ERR_OPEN},
		{3, 255, 0, APM_ERR_OPEN},
		{0, 0, 0, APM_ERR_OPEN},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		ApmBuf sealed = {0};
		ApmBuf aad = {0};
		ApmBuf out = {.secret = true};
		uint8_t body[512] = {0};
		uint8_t derived[64];

		/* head, commitment and nonce of an honest seal of the same key and salt */
		CHECK_OK(apm_padded_seal(key, &key_id, TEXT("salt"), TEXT("context"), TEXT(""), &sealed));
		for (int at = 0; at < 4; at++)
			body[at] = (uint8_t) (cases[i].len >> (24 - 8 * at));
		if (cases[i].body > 0)
			body[cases[i].body - 1] = cases[i].last;
		apm_put_raw(&aad, sealed.data, 10);
		apm_put_raw(&aad, "context", 7);
		sealed.len = 54;
		CHECK(apm_buf_reserve(&sealed, sizeof(body) + 16));
		CHECK_OK(apm_hkdf_sha256(key, 32, "salt", 4, "apm padded seal", 15, derived, sizeof(derived)));
		CHECK(memcmp(derived + 32, sealed.data + 10, 32) == 0);
		CHECK_OK(apm_gcm_seal(derived, sealed.data + 42, APM_SLICE(aad.data, aad.len),
							  APM_SLICE(body, cases[i].body), sealed.data + 54));
		sealed.len = 54 + cases[i].body + 16;
		CHECK_STATUS(apm_padded_open(key, &key_id, TEXT("salt"), TEXT("context"),
									 APM_SLICE(sealed.data, sealed.len), &out),
					 cases[i].want);
		CHECK(out.len == (cases[i].want == APM_OK ? cases[i].len : 0));
		apm_buf_reset(&sealed);
		apm_buf_reset(&aad);
		apm_buf_reset(&out);
	}
}

/* What another program sealed, word for word after the headers, opens here. */
static void
test_golden(void)
{
	ApmBuf out = {.secret = true};
	uint8_t unwrapped[32];

	CHECK_OK(apm_record_open(key, &key_id, &rid, TEXT("apid"), check_unhex(golden_record), &out));
	CHECK(out.len == 5 && memcmp(out.data, "Fever", 5) == 0);
	apm_buf_reset(&out);
	CHECK_OK(apm_profile_open(key, &key_id, TEXT("apid"), 2, check_unhex(golden_profile), &out));
	CHECK(out.len == 5 && memcmp(out.data, "Ahmed", 5) == 0);
	apm_buf_reset(&out);
	CHECK_OK(apm_waiting_record_open(other_key, 3, &rid, check_unhex(golden_waiting), &out));
	CHECK(out.len == 5 && memcmp(out.data, "Fever", 5) == 0);
	apm_buf_reset(&out);
	CHECK_OK(apm_key_unwrap(other_key, 3, TEXT("apid"), check_unhex(golden_wrap).data, unwrapped));
	CHECK(memcmp(unwrapped, key, 32) == 0);
}

static void
test_waiting(void)
{
	ApmBuf sealed = {0};
	ApmBuf record = {0};
	ApmBuf out = {.secret = true};
	ApmSlice all;

	CHECK_OK(apm_waiting_record_seal(key, 3, &rid, TEXT("pulse"), &sealed));
	all = APM_SLICE(sealed.data, sealed.len);
	CHECK(sealed.len == OVERHEAD + 256);
	CHECK_OK(apm_waiting_record_open(key, 3, &rid, all, &out));
	CHECK(out.len == 5 && memcmp(out.data, "pulse", 5) == 0);
	CHECK_STATUS(apm_waiting_record_open(key, 2, &rid, all, &out), APM_ERR_OPEN);
	CHECK_STATUS(apm_waiting_record_open(key, 3, &other_rid, all, &out), APM_ERR_OPEN);
	CHECK_STATUS(apm_waiting_record_open(other_key, 3, &rid, all, &out), APM_ERR_OPEN);
	CHECK_OK(apm_record_seal(key, &key_id, &rid, TEXT("apid"), TEXT("pulse"), &record));
	CHECK_STATUS(apm_waiting_record_open(key, 3, &rid, APM_SLICE(record.data, record.len), &out),
				 APM_ERR_OPEN);
	sealed.data[sealed.len - 1] ^= 1;
	CHECK_STATUS(apm_waiting_record_open(key, 3, &rid, all, &out), APM_ERR_OPEN);
	CHECK(out.len == 5);
	apm_buf_reset(&sealed);
	apm_buf_reset(&record);
	apm_buf_reset(&out);
}

static void
test_key_wrap(void)
{
	uint8_t wrapped[APM_WRAPPED_KEY_LEN];
	uint8_t again[APM_WRAPPED_KEY_LEN];
	uint8_t out[32];
	bool refused = true;

	CHECK_OK(apm_key_wrap(other_key, 3, TEXT("apid"), key, wrapped));
	CHECK_OK(apm_key_wrap(other_key, 3, TEXT("apid"), key, again));
	CHECK(memcmp(wrapped, again, sizeof(wrapped)) != 0);
	CHECK_OK(apm_key_unwrap(other_key, 3, TEXT("apid"), wrapped, out));
	CHECK(memcmp(out, key, 32) == 0);
	CHECK_STATUS(apm_key_unwrap(key, 3, TEXT("apid"), wrapped, out), APM_ERR_OPEN);
	CHECK_STATUS(apm_key_unwrap(other_key, 2, TEXT("apid"), wrapped, out), APM_ERR_OPEN);
	CHECK_STATUS(apm_key_unwrap(other_key, 3, TEXT("apie"), wrapped, out), APM_ERR_OPEN);
	for (size_t bit = 0; bit < 8 * sizeof(wrapped); bit++)
	{
		wrapped[bit / 8] ^= (uint8_t) (1 << bit % 8);
		refused = refused && apm_key_unwrap(other_key, 3, TEXT("apid"), wrapped, out) == APM_ERR_OPEN;
		wrapped[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}
	CHECK(refused);
}

static void
test_key_id(void)
{
	ApmKeyId id;

	/* echo -n "apm key id" | openssl dgst -sha256 -mac hmac, key 00 01 ... 1f */
	CHECK_OK(apm_secret_key_id(
		check_unhex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f").data, &id));
	CHECK_HEX(id.bytes, 8, "84bdf6cd1a13ec22");
}

static ApmStatus
record_body(void)
{
	ApmBuf sealed = {0};
	ApmBuf opened = {.secret = true};
	ApmStatus status = apm_record_seal(key, &key_id, &rid, TEXT("apid"), TEXT("text"), &sealed);

	if (status == APM_OK)
		status =
			apm_record_open(key, &key_id, &rid, TEXT("apid"), APM_SLICE(sealed.data, sealed.len), &opened);
	apm_buf_reset(&sealed);
	apm_buf_reset(&opened);
	return status;
}

static ApmStatus
profile_body(void)
{
	ApmBuf sealed = {0};
	ApmBuf opened = {.secret = true};
	ApmStatus status = apm_profile_seal(key, &key_id, TEXT("apid"), 1, TEXT("text"), &sealed);

	if (status == APM_OK)
		status = apm_profile_open(key, &key_id, TEXT("apid"), 1, APM_SLICE(sealed.data, sealed.len), &opened);
	apm_buf_reset(&sealed);
	apm_buf_reset(&opened);
	return status;
}

static ApmStatus
note_body(void)
{
	ApmBuf sealed = {0};
	ApmBuf opened = {.secret = true};
	ApmStatus status = apm_note_seal(key, &key_id, TEXT("apid"), TEXT("text"), &sealed);

	if (status == APM_OK)
		status = apm_note_open(key, &key_id, TEXT("apid"), APM_SLICE(sealed.data, sealed.len), &opened);
	apm_buf_reset(&sealed);
	apm_buf_reset(&opened);
	return status;
}

static ApmStatus
waiting_body(void)
{
	ApmBuf sealed = {0};
	ApmBuf opened = {.secret = true};
	ApmStatus status = apm_waiting_record_seal(key, 1, &rid, TEXT("text"), &sealed);

	if (status == APM_OK)
		status = apm_waiting_record_open(key, 1, &rid, APM_SLICE(sealed.data, sealed.len), &opened);
	apm_buf_reset(&sealed);
	apm_buf_reset(&opened);
	return status;
}

static ApmStatus
wrap_body(void)
{
	uint8_t wrapped[APM_WRAPPED_KEY_LEN];
	uint8_t out[32];
	ApmStatus status = apm_key_wrap(key, 1, TEXT("apid"), other_key, wrapped);

	if (status == APM_OK)
		status = apm_key_unwrap(key, 1, TEXT("apid"), wrapped, out);
	return status;
}

int
main(void)
{
	test_gcm_vectors();
	test_gcm_in_place();
	test_lengths();
	test_record_refusals();
	test_profile();
	test_note();
	test_last_values();
	test_padding_refusals();
	test_golden();
	test_waiting();
	test_key_wrap();
	test_key_id();
	CHECK_EACH_ALLOCATION(record_body);
	CHECK_EACH_ALLOCATION(profile_body);
	CHECK_EACH_ALLOCATION(note_body);
	CHECK_EACH_ALLOCATION(waiting_body);
	CHECK_EACH_ALLOCATION(wrap_body);
	return check_summary();
}
