/*
 * outgoing.c
 *	  Transactions on their way out of the APM: nonce, leaf, Tid, one signature over all,
 *	  and the sealed form that the network server takes.
 *
 * A signature a record would be the dearest step of storing many.  All that one statement
 * sends stands in one Merkle tree, whose root is signed; each transaction carries its path.
 * One that is withdrawn after that leaves no trace: its leaf is a blinded digest of nothing
 * that anybody else has.
 */
#include "postgres.h"

#include "anonymize/outgoing.h"
#include "apm_errors.h"
#include "chain/chain.h"
#include "keys/keyring.h"
#include "network/network.h"

void
apm_outgoing_start(ApmOutgoing *out, const ApmActing *who)
{
	memset(out, 0, sizeof(*out));
	out->who = who;
	if (!apm_chain_identity(&out->chain, &out->origin))
		ereport(ERROR, (errcode(ERRCODE_APM_NOT_SET_UP), errmsg("apm is not set up in this database"),
						errhint("A superuser calls apm_setup() once.")));
	out->capacity = 8;
	out->items = palloc(sizeof(ApmOutgoingItem) * out->capacity);
}

int
apm_outgoing_add(ApmOutgoing *out, ApmTransaction *tx)
{
	ApmOutgoingItem *item;

	tx->chain = out->chain;
	tx->origin = out->origin;
	if (tx->time_us == 0)
	{
		tx->time_us = apm_now_us();
		memcpy(tx->actor, out->who->staff, APM_STAFF_LEN);
		tx->roles = out->who->actor.roles;
	}

	if (out->n == out->capacity)
	{
		out->capacity *= 2;
		out->items = repalloc_huge(out->items, sizeof(ApmOutgoingItem) * out->capacity);
	}
	item = &out->items[out->n];
	memset(item, 0, sizeof(*item));
	apm_check(apm_random(item->nonce, APM_NONCE_LEN), "draw a nonce");
	apm_check(apm_transaction_encode(tx, &item->transaction), "encode a transaction");
	apm_check(apm_transaction_leaf(item->nonce, APM_SLICE(item->transaction.data, item->transaction.len),
								   &item->leaf),
			  "encode a transaction");
	apm_transaction_tid(tx->time_us, &item->leaf, &item->tid);
	return out->n++;
}

/* One signature over all, and the path of each; the caller frees the paths. */
static ApmPath *
sign_all(const ApmOutgoing *out, ApmSignature *signature)
{
	ApmDigest *leaves = palloc(sizeof(ApmDigest) * out->n);
	ApmPath *paths = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ApmPath) * out->n);
	ApmDigest root;

	for (int i = 0; i < out->n; i++)
		leaves[i] = out->items[i].leaf;
	apm_check(apm_merkle_all_paths(leaves, out->n, paths, &root), "sign transactions");
	apm_check(
		apm_origin_sign(apm_key_signer_of(APM_SIGN_ORIGIN, &out->origin), &root, (uint32) out->n, signature),
		"sign transactions");
	pfree(leaves);
	return paths;
}

/* Appends the signed form of item i, of which sign_all() answered signature and path. */
static void
put_signed(const ApmOutgoing *all, int i, const ApmSignature *signature, const ApmPath *path, ApmBuf *out)
{
	const ApmOutgoingItem *item = &all->items[i];
	ApmOriginProof proof = {
		.signature = *signature, .index = (uint32) i, .size = (uint32) all->n, .path = *path};
	ApmBuf encoded = {0};
	ApmSigned form;

	apm_origin_proof_encode(&proof, &encoded);
	apm_check(apm_buf_status(&encoded), "sign transactions");
	memcpy(form.nonce, item->nonce, APM_NONCE_LEN);
	form.transaction = APM_SLICE(item->transaction.data, item->transaction.len);
	form.proof = APM_SLICE(encoded.data, encoded.len);
	apm_signed_encode(&form, out);
	apm_check(apm_buf_status(out), "sign transactions");
	apm_buf_reset(&encoded);
}

void
apm_outgoing_signed(const ApmOutgoing *out, ApmBuf *signed_forms)
{
	ApmSignature signature;
	ApmPath *paths = sign_all(out, &signature);

	for (int i = 0; i < out->n; i++)
		put_signed(out, i, &signature, &paths[i], &signed_forms[i]);
	pfree(paths);
}

void
apm_outgoing_send(ApmOutgoing *out)
{
	ApmSignature signature;
	ApmPath *paths;
	ApmUuid *tids;
	ApmSlice *sealed;
	ApmSealer *sealer;
	int n = 0;

	if (out->n == 0)
		return;
	paths = sign_all(out, &signature);

	tids = palloc(sizeof(ApmUuid) * out->n);
	sealed = palloc(sizeof(ApmSlice) * out->n);
	sealer = apm_key_sealer(false, true, false);
	for (int i = 0; i < out->n; i++)
	{
		ApmOutgoingItem *item = &out->items[i];
		ApmBuf form = {0};
		ApmBuf envelope = {0};

		if (!item->withdrawn)
		{
			put_signed(out, i, &signature, &paths[i], &form);
			apm_check(apm_sealer_seal(sealer, APM_SLICE(form.data, form.len), apm_now_us(), &envelope),
					  "seal a transaction");
			tids[n] = item->tid;
			sealed[n++] = APM_SLICE(envelope.data, envelope.len);
		}
		apm_buf_reset(&form);
		apm_buf_reset(&item->transaction);
	}
	pfree(paths);
	out->n = 0;

	if (n > 0)
		apm_queue_put(tids, sealed, n);
	for (int i = 0; i < n; i++)
		apm_core_free(unconstify(uint8 *, sealed[i].data));
	pfree(sealed);
	pfree(tids);
}
