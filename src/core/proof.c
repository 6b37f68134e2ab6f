/*
 * proof.c
 *	  Proofs of a transaction and of a chain's growth: written, read and verified.
 *
 * Verifying asks nothing of a ledger: everything is computed from the proof and ends at the
 * history root, or the hash, of a head that a node signed.
 */
#include "proof.h"

#include <string.h>

#include "json.h"

#define PROOF_TYPE "apm proof"
#define PROOF_VERSION 1
#define PROOF_MEMBERS 9

#define CONSISTENCY_TYPE "apm consistency"
#define CONSISTENCY_VERSION 1
#define CONSISTENCY_MEMBERS 6

static bool
same(const ApmDigest *a, const ApmDigest *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* Is this an object of so many members that says it is this type and version? */
static bool
read_typed(ApmSlice text, const char *type, uint64_t version, size_t members, ApmJson *json)
{
	uint64_t got;

	return apm_json_read(text, json) == APM_OK && json->nmembers == members &&
		   apm_json_says(json, "type", type) && apm_json_number(json, "version", version, &got) &&
		   got == version;
}

static bool
read_path(const ApmJson *json, const char *name, ApmPath *out)
{
	size_t count;

	if (!apm_json_digests(json, name, APM_MERKLE_MAX_PATH, out->nodes, &count))
		return false;
	out->count = (uint32_t) count;
	return true;
}

void
apm_proof_free(ApmProof *proof)
{
	apm_buf_reset(&proof->transaction);
}

void
apm_proof_write(const ApmProof *proof, ApmBuf *out)
{
	apm_json_begin(out);
	apm_json_put_text(out, "type", PROOF_TYPE);
	apm_json_put_number(out, "version", PROOF_VERSION);
	apm_json_put_number(out, "head", proof->head);
	apm_json_put_hex(out, "header", proof->encoded, APM_HEADER_LEN);
	apm_json_put_digests(out, "history", proof->history.nodes, proof->history.count);
	apm_json_put_number(out, "position", proof->position);
	apm_json_put_digests(out, "path", proof->path.nodes, proof->path.count);
	apm_json_put_number(out, "rule", proof->rule);
	apm_json_put_base64url(out, "transaction", APM_SLICE(proof->transaction.data, proof->transaction.len));
	apm_json_end(out);
}

ApmStatus
apm_proof_read(ApmSlice text, ApmProof *out)
{
	ApmJson json;
	const ApmJsonMember *transaction;
	uint64_t position;
	uint64_t rule;

	memset(out, 0, sizeof(*out));
	if (!read_typed(text, PROOF_TYPE, PROOF_VERSION, PROOF_MEMBERS, &json) ||
		!apm_json_number(&json, "head", INT64_MAX, &out->head) ||
		!apm_json_hex(&json, "header", out->encoded, APM_HEADER_LEN) ||
		!read_path(&json, "history", &out->history) ||
		!apm_json_number(&json, "position", UINT32_MAX, &position) || !read_path(&json, "path", &out->path) ||
		!apm_json_number(&json, "rule", UINT16_MAX, &rule))
		return APM_ERR_FORMAT;
	transaction = apm_json_find(&json, "transaction", APM_JSON_STRING);
	if (transaction == NULL)
		return APM_ERR_FORMAT;
	out->position = (uint32_t) position;
	out->rule = (uint16_t) rule;
	return apm_base64url_decode((const char *) transaction->string.data, transaction->string.len,
								&out->transaction);
}

/* Does the block's hash stand at this height in the tree of the head's history? */
static ApmStatus
verify_place(uint64_t height, const ApmDigest *hash, const ApmPath *path, const ApmHead *head)
{
	ApmSlice part = APM_SLICE(hash->bytes, APM_DIGEST_LEN);
	ApmDigest leaf;
	ApmDigest root;
	ApmStatus status = apm_merkle_leaf(&part, 1, &leaf);

	if (status == APM_OK)
		status = apm_merkle_root_from_path(&leaf, height, head->header.height, path, &root);
	if (status == APM_OK && !same(&root, &head->header.history))
		status = APM_ERR_VERIFY;
	return status;
}

/* Does the transaction, with this rule, stand in the block? */
static ApmStatus
verify_entry(const ApmProof *proof)
{
	const ApmOpened *opened = &proof->opened;
	ApmEntry entry = {
		.tid = opened->tid, .kind = (uint8_t) opened->tx.kind, .rule = proof->rule, .leaf = opened->leaf};
	ApmDigest hash;
	ApmDigest root;
	ApmStatus status = apm_entry_hash(&entry, &hash);

	if (status == APM_OK)
		status = apm_merkle_root_from_path(&hash, proof->position, proof->header.count, &proof->path, &root);
	if (status == APM_OK && !same(&root, &proof->header.root))
		status = APM_ERR_VERIFY;
	return status;
}

ApmStatus
apm_proof_verify(ApmProof *proof, const ApmHead *head)
{
	const ApmHeader *header = &proof->header;
	const ApmTransaction *tx = &proof->opened.tx;
	ApmDigest hash;
	ApmStatus status;

	if (proof->head != head->header.height)
		return APM_ERR_RANGE;
	status = apm_header_decode(APM_SLICE(proof->encoded, APM_HEADER_LEN), &proof->header);
	if (status == APM_OK)
		status = apm_open_signed(APM_SLICE(proof->transaction.data, proof->transaction.len), &proof->opened);
	if (status != APM_OK)
		return status;
	if (!proof->opened.wellformed)
		return APM_ERR_FORMAT;
	/* what is refused and no query leaves no body, so there is nothing that could be proved of it */
	if (!same(&header->chain, &head->header.chain) || !same(&tx->chain, &head->header.chain) ||
		(proof->rule != APM_RULE_NONE && tx->kind != APM_KIND_QUERY))
		return APM_ERR_VERIFY;
	status = verify_entry(proof);
	if (status == APM_OK)
		status = apm_header_hash(proof->encoded, &hash);
	if (status != APM_OK)
		return status;
	if (header->height == head->header.height)
		return proof->history.count == 0 && same(&hash, &head->hash) ? APM_OK : APM_ERR_VERIFY;
	return verify_place(header->height, &hash, &proof->history, head);
}

void
apm_consistency_write(const ApmConsistency *proof, ApmBuf *out)
{
	apm_json_begin(out);
	apm_json_put_text(out, "type", CONSISTENCY_TYPE);
	apm_json_put_number(out, "version", CONSISTENCY_VERSION);
	apm_json_put_number(out, "old", proof->old_height);
	apm_json_put_number(out, "new", proof->new_height);
	apm_json_put_digests(out, "history", proof->history.nodes, proof->history.count);
	apm_json_put_digests(out, "inclusion", proof->inclusion.nodes, proof->inclusion.count);
	apm_json_end(out);
}

ApmStatus
apm_consistency_read(ApmSlice text, ApmConsistency *out)
{
	ApmJson json;

	if (!read_typed(text, CONSISTENCY_TYPE, CONSISTENCY_VERSION, CONSISTENCY_MEMBERS, &json) ||
		!apm_json_number(&json, "old", INT64_MAX, &out->old_height) ||
		!apm_json_number(&json, "new", INT64_MAX, &out->new_height) ||
		!read_path(&json, "history", &out->history) || !read_path(&json, "inclusion", &out->inclusion) ||
		out->old_height > out->new_height)
		return APM_ERR_FORMAT;
	return APM_OK;
}

ApmStatus
apm_consistency_verify(const ApmConsistency *proof, const ApmHead *old_head, const ApmHead *new_head)
{
	const ApmHeader *old_header = &old_head->header;
	const ApmHeader *new_header = &new_head->header;
	ApmStatus status;

	if (proof->old_height != old_header->height || proof->new_height != new_header->height)
		return APM_ERR_RANGE;
	if (!same(&old_header->chain, &new_header->chain) || proof->old_height > proof->new_height)
		return APM_ERR_VERIFY;
	if (proof->old_height == proof->new_height)
		return proof->history.count == 0 && proof->inclusion.count == 0 &&
					   same(&old_head->hash, &new_head->hash)
				   ? APM_OK
				   : APM_ERR_VERIFY;
	status = apm_merkle_verify_consistency(old_header->height, new_header->height, &old_header->history,
										   &new_header->history, &proof->history);
	return status == APM_OK ? verify_place(old_header->height, &old_head->hash, &proof->inclusion, new_head)
							: status;
}
