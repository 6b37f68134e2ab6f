/*
 * fault.c
 *	  The names of what a verification can find.
 */
#include "fault.h"

static const struct
{
	const char *name;
	const char *text;
} faults[] = {
	[APM_FAULT_NONE] = {"ok", "nothing is wrong"},
	[APM_FAULT_FORMAT] = {"format", "the block's header or signature cannot be read"},
	[APM_FAULT_HASH] = {"hash", "the block is not stored under its hash"},
	[APM_FAULT_HEIGHT] = {"height", "there is no block of this height, or a second one"},
	[APM_FAULT_CHAIN] = {"chain", "the block belongs to another chain"},
	[APM_FAULT_LINK] = {"link", "the block does not follow the one before it"},
	[APM_FAULT_HISTORY] = {"history", "the block's history root is not that of the blocks before it"},
	[APM_FAULT_TIME] = {"time", "the block is earlier than the one before it"},
	[APM_FAULT_DIFFICULTY] = {"difficulty", "the block has not the difficulty of the contract"},
	[APM_FAULT_WORK] = {"work", "the block's hash does not meet its difficulty"},
	[APM_FAULT_COUNT] = {"count", "the block has not as many transactions as its header says"},
	[APM_FAULT_ROOT] = {"root", "the block's root is not that of its transactions"},
	[APM_FAULT_CONTRACT] = {"contract", "the block does not lead to the contract that its header names"},
	[APM_FAULT_SIGNER] = {"signer", "the block names a node that may not sign it"},
	[APM_FAULT_SIGNATURE] = {"signature", "the block's signature is not that of its node"},
	[APM_FAULT_POSITION] = {"position", "there is no transaction at this place"},
	[APM_FAULT_BODY] = {"body", "what is kept is not a signed transaction"},
	[APM_FAULT_RULE] = {"rule", "the contract has no such rule"},
	[APM_FAULT_MISSING] = {"missing", "the transaction is gone, though nothing erased it"},
	[APM_FAULT_UNWANTED] = {"unwanted", "the transaction is there, though it was refused or erased"},
	[APM_FAULT_LEAF] = {"leaf", "the leaf is not that of the transaction"},
	[APM_FAULT_TID] = {"tid", "the transaction id is not that of the transaction"},
	[APM_FAULT_KIND] = {"kind", "the kind is not that of the transaction"},
	[APM_FAULT_VERDICT] = {"verdict", "the verdict is not the contract's"},
	[APM_FAULT_VOID] = {"void", "the erasure names what does not stand before it, or is erased already"},
	[APM_FAULT_DERIVED] = {"derived", "what follows from the transaction was stored otherwise"},
	[APM_FAULT_PROFILE] = {"profile", "the profile is not the one that the ledger names"},
	[APM_FAULT_TIP] = {"tip", "the chain does not end where the server says"},
	[APM_FAULT_ROW] = {"row", "a row cannot be read"},
	[APM_FAULT_DIGEST] = {"digest", "the chain is not the one that the digest was taken of"},
};

#define NFAULTS (sizeof(faults) / sizeof(faults[0]))

const char *
apm_fault_name(ApmFaultRule rule)
{
	return (size_t) rule < NFAULTS ? faults[rule].name : NULL;
}

const char *
apm_fault_text(ApmFaultRule rule)
{
	return (size_t) rule < NFAULTS ? faults[rule].text : NULL;
}

ApmFaultRule
apm_fault_of_block(ApmBlockFault fault)
{
	switch (fault)
	{
		case APM_BLOCK_OK:
		case APM_BLOCK_UNDECIDED:
			return APM_FAULT_NONE;
		case APM_BLOCK_CHAIN:
			return APM_FAULT_CHAIN;
		case APM_BLOCK_HEIGHT:
			return APM_FAULT_HEIGHT;
		case APM_BLOCK_LINK:
			return APM_FAULT_LINK;
		case APM_BLOCK_HISTORY:
			return APM_FAULT_HISTORY;
		case APM_BLOCK_TIME:
			return APM_FAULT_TIME;
		case APM_BLOCK_DIFFICULTY:
			return APM_FAULT_DIFFICULTY;
		case APM_BLOCK_WORK:
			return APM_FAULT_WORK;
		case APM_BLOCK_ROOT:
			return APM_FAULT_ROOT;
		case APM_BLOCK_COUNT:
			return APM_FAULT_COUNT;
		case APM_BLOCK_CONTRACT:
			return APM_FAULT_CONTRACT;
		case APM_BLOCK_SIGNER:
			return APM_FAULT_SIGNER;
		case APM_BLOCK_SIGNATURE:
			return APM_FAULT_SIGNATURE;
		case APM_BLOCK_FORMAT:
			return APM_FAULT_FORMAT;
	}
	return APM_FAULT_NONE;
}
