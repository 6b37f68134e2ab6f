/*
 * yardstick_verify.c
 *	  What a verification cannot do without: the hashes and signatures of an exported ledger,
 *	  checked one after the other and nothing else.
 *
 *		yardstick-verify FILE ROUNDS
 *
 * Reads and decodes the whole file first, which is not timed.  Then, so often: the hash and the
 * signature of each header, the leaf of each body, the root of each block's tree and of the history, each transaction's path to
 * the root of its statement, and the origin's signature of that, once for the transactions that share it: what a verifier
 * does that follows doc/format.md, no more and no cleverer.  Writes a line for each round: seconds, and how many
 * transactions there were.  No state, no verdicts, no derived rows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/contract.h"
#include "core/digest.h"
#include "core/stored.h"

static ApmStoredBlock *blocks;
static ApmBuf *lines; /* that the blocks point into */
static size_t nblocks;
static ApmEcKey *node;
static ApmEcKey *origin;

static void
fail(const char *what)
{
	fprintf(stderr, "yardstick-verify: %s\n", what);
	exit(2);
}

static void
need(bool good, const char *what)
{
	if (!good)
		fail(what);
}

static void
read_ledger(const char *path)
{
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t capacity = 0;
	size_t room = 0;
	ssize_t len;

	need(file != NULL, "cannot read the ledger");
	while ((len = getline(&line, &capacity, file)) > 0)
	{
		if (line[len - 1] == '\n')
			len--;
		if (nblocks == room)
		{
			room = room > 0 ? 2 * room : 1024;
			blocks = realloc(blocks, room * sizeof(*blocks));
			lines = realloc(lines, room * sizeof(*lines));
			need(blocks != NULL && lines != NULL, "out of memory");
		}
		memset(&lines[nblocks], 0, sizeof(*lines));
		need(apm_base64_decode(line, (size_t) len, &lines[nblocks]) == APM_OK, "not a line of a ledger");
		need(apm_stored_decode(APM_SLICE(lines[nblocks].data, lines[nblocks].len), &blocks[nblocks]) ==
				 APM_OK,
			 "not a block");
		nblocks++;
	}
	free(line);
	fclose(file);
	need(nblocks > 0, "no block");
}

static void
open_entry(const ApmStoredEntry *e, ApmBuf *encoded, ApmOpened *opened)
{
	ApmSigned s = {.transaction = e->transaction, .proof = e->proof};

	need(e->nonce.len == APM_NONCE_LEN, "a nonce of another length");
	memcpy(s.nonce, e->nonce.data, APM_NONCE_LEN);
	encoded->len = 0;
	apm_signed_encode(&s, encoded);
	need(apm_open_signed(APM_SLICE(encoded->data, encoded->len), opened) == APM_OK, "not a transaction");
}

/* The genesis block's transactions say whose signatures there are. */
static void
find_members(void)
{
	ApmBuf encoded = {0};

	for (size_t i = 0; i < blocks[0].count; i++)
	{
		ApmOpened opened;

		open_entry(&blocks[0].entries[i], &encoded, &opened);
		if (opened.tx.kind == APM_KIND_MEMBERSHIP)
			need(apm_ec_from_spki(APM_SLICE(opened.tx.u.membership.spki, APM_SPKI_LEN),
								  opened.tx.u.membership.member == APM_MEMBER_NODE ? &node : &origin) ==
					 APM_OK,
				 "not a key");
	}
	need(node != NULL && origin != NULL, "no members");
	apm_buf_reset(&encoded);
}

/* The path in full, and the signature unless it was the last one that was good. */
static bool
signed_by_origin(const ApmDigest *leaf, const ApmOriginProof *proof)
{
	static const char label[] = "apm origin";
	static ApmSignature good;
	static ApmDigest signed_message;
	uint8_t number[4] = {proof->size >> 24, proof->size >> 16, proof->size >> 8, proof->size};
	ApmDigest message;
	ApmDigest root;
	ApmSlice parts[] = {APM_SLICE(label, sizeof(label)), APM_SLICE(number, sizeof(number)),
						APM_SLICE(root.bytes, APM_DIGEST_LEN)};

	if (apm_merkle_root_from_path(leaf, proof->index, proof->size, &proof->path, &root) != APM_OK ||
		apm_sha256_parts(parts, 3, &message) != APM_OK)
		return false;
	if (memcmp(&message, &signed_message, sizeof(message)) == 0 &&
		memcmp(&proof->signature, &good, sizeof(good)) == 0)
		return true;
	if (apm_verify_signature(origin, &message, &proof->signature) != APM_OK)
		return false;
	good = proof->signature;
	signed_message = message;
	return true;
}

static uint64_t
check_entries(const ApmStoredBlock *block)
{
	static ApmEntry entries[APM_BLOCK_MAX_LEAVES];
	static ApmBuf encoded;
	ApmHeader header;
	ApmDigest root;

	for (size_t i = 0; i < block->count; i++)
	{
		const ApmStoredEntry *e = &block->entries[i];
		ApmOpened opened;

		entries[i] = (ApmEntry){.tid = e->tid, .kind = (uint8_t) e->kind, .rule = e->rule, .leaf = e->leaf};
		if (!e->kept)
			continue;
		open_entry(e, &encoded, &opened);
		need(memcmp(&opened.leaf, &e->leaf, sizeof(ApmDigest)) == 0, "not the leaf");
		need(signed_by_origin(&opened.leaf, &opened.proof), "not signed by the origin");
	}
	need(apm_header_decode(block->header, &header) == APM_OK &&
			 apm_entries_root(entries, block->count, &root) == APM_OK &&
			 memcmp(&root, &header.root, sizeof(root)) == 0,
		 "not the root");
	return block->count;
}

static uint64_t
check_all(void)
{
	ApmFrontier frontier = {0};
	uint64_t transactions = 0;

	for (size_t i = 0; i < nblocks; i++)
	{
		ApmSlice data;
		ApmSignature signature;
		ApmDigest hash;
		ApmDigest leaf;
		ApmDigest root;

		need(apm_header_hash(blocks[i].header.data, &hash) == APM_OK &&
				 memcmp(&hash, &blocks[i].hash, sizeof(hash)) == 0,
			 "not the hash");
		memcpy(signature.bytes, blocks[i].signature.data, APM_SIGNATURE_LEN);
		need(apm_block_verify(node, &hash, &signature) == APM_OK, "not signed by the node");
		data = APM_SLICE(hash.bytes, APM_DIGEST_LEN);
		need(apm_frontier_root(&frontier, &root) == APM_OK && apm_merkle_leaf(&data, 1, &leaf) == APM_OK &&
				 apm_frontier_append(&frontier, &leaf) == APM_OK,
			 "no history");
		transactions += check_entries(&blocks[i]);
	}
	return transactions;
}

int
main(int argc, char **argv)
{
	int rounds = argc == 3 ? atoi(argv[2]) : 0;

	if (rounds < 1)
		fail("usage: yardstick-verify FILE ROUNDS");
	read_ledger(argv[1]);
	find_members();
	for (int i = 0; i < rounds; i++)
	{
		struct timespec from;
		struct timespec to;
		uint64_t transactions;

		clock_gettime(CLOCK_MONOTONIC, &from);
		transactions = check_all();
		clock_gettime(CLOCK_MONOTONIC, &to);
		printf("%.6f %llu\n", (double) (to.tv_sec - from.tv_sec) + (double) (to.tv_nsec - from.tv_nsec) / 1e9,
			   (unsigned long long) transactions);
		fflush(stdout);
	}
	return 0;
}
