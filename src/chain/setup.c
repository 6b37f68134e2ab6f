/*
 * setup.c
 *	  apm_setup(): a new chain with this database as its first node.
 *
 * The genesis block registers this APM as an origin and this server as a node, and lays
 * down the contract: policies, purposes of reads, reasons of emergencies.  Its transactions are
 * judged like any others, at height 0, where the contract admits membership.
 *
 * apm_setup() runs in its caller's transaction, so the sign-state is written before it is
 * known whether that commits.  If it does not, a file stays behind that names a chain that
 * exists nowhere: chain ids are random, so it stands in nobody's way.
 */
#include "postgres.h"

#include "catalog/pg_type_d.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "apm_errors.h"
#include "apm_sql.h"
#include "apm_user.h"
#include "chain/make.h"
#include "chain/signing.h"
#include "core/policy.h"
#include "keys/keyring.h"
#include "keys/signstate.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(apm_setup);

/* Of the genesis block: the origin first, because it signs the others. */
#define GENESIS_ORIGIN 0
#define GENESIS_NODE 1
#define GENESIS_CONTRACT 2
#define GENESIS_COUNT 3

/* What whoever sets up a chain chooses. */
typedef struct Policies
{
	uint64 difficulty;
	uint64 access;
	bool require_purpose;
} Policies;

static uint64
access_policy(const char *access)
{
	uint64_t value;

	if (!apm_policy_value(APM_POLICY_ACCESS, access, &value))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unknown access policy"),
						errhint("It is \"clinician\" or \"consent\".")));
	return value;
}

static void
require_keys(void)
{
	if (!apm_key_have_signer(APM_SIGN_ORIGIN) || !apm_key_have_signer(APM_SIGN_NODE) ||
		!apm_key_have_private(APM_PAIR_PB) || !apm_key_have_public(APM_PAIR_NS))
		ereport(ERROR, (errcode(ERRCODE_APM_KEY_MISSING), errmsg("keys that a chain needs are missing"),
						errhint("Call apm_keygen() first.")));
}

/* Two set-ups at once would both find no chain; the second waits here for the first. */
static void
require_no_chain(void)
{
	static ApmStatement lock = {.sql = "LOCK TABLE ONLY apm.chain IN SHARE ROW EXCLUSIVE MODE"};
	static ApmStatement get = {.sql =
								   "SELECT FROM ONLY apm.chain UNION ALL SELECT FROM ONLY apm.block LIMIT 1"};

	apm_run(&lock, NULL);
	if (apm_run(&get, NULL) > 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this database takes part in a chain already")));
}

static void
new_identity(ApmChainIdentity *identity)
{
	apm_check(apm_random(identity->chain.bytes, APM_DIGEST_LEN), "draw a chain id");
	apm_ec_id(apm_key_signer(APM_SIGN_NODE), &identity->node);
	apm_ec_id(apm_key_signer(APM_SIGN_ORIGIN), &identity->origin);
	identity->node_home = identity->node;
	identity->origin_home = identity->origin;
}

static void
put_item(const ApmItem *item, ApmBuf *out, ApmContractFields *contract)
{
	apm_check(apm_item_put(item, out), "encode an item of the contract");
	contract->count++;
}

/* A list of names by code, as the genesis block has it. */
static void
put_names(uint8 type, const char *(*name_of)(uint16_t code), ApmBuf *out, ApmContractFields *contract)
{
	const char *name;

	for (uint16 code = 1; (name = name_of(code)) != NULL; code++)
	{
		ApmItem item = {.type = type, .key = code, .name = APM_SLICE(name, strlen(name))};

		put_item(&item, out, contract);
	}
}

static void
genesis_contract(const Policies *policies, ApmContractFields *contract)
{
	const ApmPolicy chosen[] = {
		{APM_POLICY_DIFFICULTY, policies->difficulty},
		{APM_POLICY_ACCESS, policies->access},
		{APM_POLICY_PURPOSE, policies->require_purpose ? APM_PURPOSE_REQUIRED : APM_PURPOSE_OPTIONAL},
	};
	ApmBuf items = {0};

	for (size_t i = 0; i < lengthof(chosen); i++)
	{
		ApmItem item = {.type = APM_ITEM_POLICY, .key = chosen[i].key, .value = chosen[i].value};

		put_item(&item, &items, contract);
	}
	put_names(APM_ITEM_PURPOSE, apm_genesis_purpose, &items, contract);
	put_names(APM_ITEM_REASON, apm_genesis_reason, &items, contract);
	apm_check(apm_buf_status(&items), "encode the contract");
	contract->items = APM_SLICE(items.data, items.len);
}

static void
genesis_transactions(const ApmChainIdentity *identity, const Policies *policies, uint64 now,
					 ApmTransaction txs[GENESIS_COUNT])
{
	memset(txs, 0, sizeof(ApmTransaction) * GENESIS_COUNT);
	for (int i = 0; i < GENESIS_COUNT; i++)
	{
		txs[i].kind = APM_KIND_MEMBERSHIP;
		txs[i].chain = identity->chain;
		txs[i].origin = identity->origin;
		txs[i].time_us = now;
		txs[i].roles = APM_ROLE_ADMIN;
	}
	txs[GENESIS_ORIGIN].u.membership.member = APM_MEMBER_ORIGIN;
	apm_ec_spki(apm_key_signer(APM_SIGN_ORIGIN), txs[GENESIS_ORIGIN].u.membership.spki);
	txs[GENESIS_NODE].u.membership.member = APM_MEMBER_NODE;
	apm_ec_spki(apm_key_signer(APM_SIGN_NODE), txs[GENESIS_NODE].u.membership.spki);

	txs[GENESIS_CONTRACT].kind = APM_KIND_CONTRACT;
	genesis_contract(policies, &txs[GENESIS_CONTRACT].u.contract);
}

/* Signs the transactions as the origin, under one signature, and opens them as a node would. */
static void
sign_transactions(const ApmTransaction *txs, ApmOpened *opened)
{
	uint8 nonces[GENESIS_COUNT][APM_NONCE_LEN];
	ApmBuf encoded[GENESIS_COUNT] = {0};
	ApmDigest leaves[GENESIS_COUNT];
	ApmPath paths[GENESIS_COUNT];
	ApmOriginProof proof = {.size = GENESIS_COUNT};
	ApmDigest root;

	for (int i = 0; i < GENESIS_COUNT; i++)
	{
		apm_check(apm_random(nonces[i], APM_NONCE_LEN), "draw a nonce");
		apm_check(apm_transaction_encode(&txs[i], &encoded[i]), "encode a transaction");
		apm_check(apm_transaction_leaf(nonces[i], APM_SLICE(encoded[i].data, encoded[i].len), &leaves[i]),
				  "hash a transaction");
	}
	apm_check(apm_merkle_all_paths(leaves, GENESIS_COUNT, paths, &root), "hash transactions");
	apm_check(apm_origin_sign(apm_key_signer(APM_SIGN_ORIGIN), &root, GENESIS_COUNT, &proof.signature),
			  "sign transactions");
	for (int i = 0; i < GENESIS_COUNT; i++)
	{
		ApmSigned envelope = {.transaction = APM_SLICE(encoded[i].data, encoded[i].len)};
		ApmBuf proof_bytes = {0};
		ApmBuf out = {0};

		memcpy(envelope.nonce, nonces[i], APM_NONCE_LEN);
		proof.index = i;
		proof.path = paths[i];
		apm_origin_proof_encode(&proof, &proof_bytes);
		envelope.proof = APM_SLICE(proof_bytes.data, proof_bytes.len);
		apm_signed_encode(&envelope, &out);
		apm_check(apm_buf_status(&proof_bytes), "encode a signature");
		apm_check(apm_buf_status(&out), "encode a transaction");
		apm_check(apm_open_signed(APM_SLICE(out.data, out.len), &opened[i]), "read a transaction");
	}
}

static void
put_chain(const ApmChainIdentity *identity)
{
	static ApmStatement chain = {
		.sql = "INSERT INTO apm.chain (chain, node, origin) VALUES ($1, $2, $3)",
		.nargs = 3,
		.types = {BYTEAOID, BYTEAOID, BYTEAOID},
	};
	static ApmStatement cloud = {
		.sql = "INSERT INTO apm.cloud_target (relation) VALUES ('apm.cloud_record'::pg_catalog.regclass)"
			   " ON CONFLICT (one) DO NOTHING",
	};
	Datum args[] = {
		apm_digest_datum(&identity->chain),
		apm_digest_datum(&identity->node_home),
		apm_digest_datum(&identity->origin_home),
	};

	apm_run(&chain, args);
	apm_run(&cloud, NULL);
}

static void
make_genesis(const ApmChainIdentity *identity, const Policies *policies)
{
	ApmTransaction txs[GENESIS_COUNT];
	ApmOpened *opened = palloc_array(ApmOpened, GENESIS_COUNT);
	ApmEntry entries[GENESIS_COUNT] = {0};
	ApmBatch batch = {
		.context = CurrentMemoryContext,
		.n = GENESIS_COUNT,
		.opened = opened,
		.entries = entries,
		.time_us = apm_now_us(),
	};
	ApmNewBlock block;

	genesis_transactions(identity, policies, batch.time_us, txs);
	sign_transactions(txs, opened);
	apm_contract_judge_again(&batch, &identity->chain);
	for (int i = 0; i < GENESIS_COUNT; i++)
	{
		if (entries[i].rule != APM_RULE_NONE)
			ereport(ERROR, (errcode(ERRCODE_APM_REFUSED_BY_CONTRACT),
							errmsg("the contract refuses the genesis block: rule \"%s\"",
								   apm_rule_name(entries[i].rule))));
	}
	apm_block_fill(&block, identity, NULL, &batch);
	apm_block_mine(&block);

	if (!apm_signstate_lock(&identity->chain))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("another server uses this chain's sign-state")));
	apm_signing_record(&identity->chain, 0, &block.hash);
	apm_check(apm_block_sign(apm_key_signer(APM_SIGN_NODE), &block.hash, &block.signature), "sign a block");
	apm_ledger_append(&block);
}

/* apm_setup(difficulty integer, access text, require_purpose boolean) returns text */
Datum
apm_setup(PG_FUNCTION_ARGS)
{
	int32 difficulty;
	Policies policies;
	char hex[2 * APM_DIGEST_LEN + 1];
	ApmChainIdentity identity;
	ApmPrivileged saved;

	apm_require_admin("set up a chain");
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("no argument of apm_setup may be null")));
	difficulty = PG_GETARG_INT32(0);
	if (difficulty < 0 || difficulty > APM_MAX_DIFFICULTY)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("difficulty is out of bounds"),
						errhint("It is a number of bits from 0 to %d; each one doubles the work of a block.",
								APM_MAX_DIFFICULTY)));
	policies.difficulty = (uint64) difficulty;
	policies.access = access_policy(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	policies.require_purpose = PG_GETARG_BOOL(2);
	require_keys();

	apm_privileged_begin(&saved);
	SPI_connect();
	require_no_chain();
	new_identity(&identity);
	put_chain(&identity);
	make_genesis(&identity, &policies);
	for (int kind = 0; kind < APM_WORKER_KINDS; kind++)
		apm_wake_at_commit((ApmWorkerKind) kind);
	SPI_finish();
	apm_privileged_end(&saved);

	apm_hex_encode(identity.chain.bytes, APM_DIGEST_LEN, hex);
	PG_RETURN_TEXT_P(cstring_to_text(hex));
}
