/*
 * replay_state.h
 *	  What the parts of a replay share, and the steps that a block is verified in.  Private to
 *	  src/core; others use replay.h.
 */
#ifndef APM_CORE_REPLAY_STATE_H
#define APM_CORE_REPLAY_STATE_H

#include "map.h"
#include "pseudonym.h"
#include "replay.h"

/* An erasure of the chain, as the first pass found it. */
typedef struct ApmErasing
{
	uint64_t height;
	size_t position;
	ApmDigest origin; /* id of the key that signed it */
	size_t apid_len;
	uint8_t apid[APM_APID_MAX];
} ApmErasing;

/* A leaf that an erasure voids. */
typedef struct ApmForeseen
{
	ApmVoid voided;
	size_t erasing; /* of ApmForesight.erasings */
	uint64_t sight; /* the last ApmSight.serial in which an entry has this leaf */
	bool met;		/* its entry was taken */
} ApmForeseen;

/* What the first pass keeps. */
typedef struct ApmForesight
{
	ApmErasing *erasings;
	size_t count;
	size_t capacity;
	ApmMap voids;	 /* leaf to ApmForeseen */
	ApmMap replaced; /* id of an origin's key to that of the key before it; zeros: of the genesis block */
	bool has_first;
	ApmDigest first; /* the first origin of the genesis block */
} ApmForesight;

extern ApmStatus apm_foresight_init(ApmForesight *f);
extern void apm_foresight_free(ApmForesight *f);
extern ApmStatus apm_foresight_block(ApmForesight *f, const ApmStoredBlock *block);
/* The void of an entry at this place that has this leaf; NULL: no erasure behind it has it. */
extern ApmForeseen *apm_foresight_find(const ApmForesight *f, const ApmDigest *leaf, uint64_t height,
									   size_t position);
/* id of the first key of the origin that signed the erasure */
extern const ApmDigest *apm_foresight_home(const ApmForesight *f, const ApmErasing *erasing);

struct ApmReplay
{
	ApmContractState *state; /* as of before the next block; NULL before genesis */
	uint64_t height;		 /* of the next block */
	ApmHeader parent;
	ApmDigest parent_hash;
	ApmFrontier frontier;
	ApmForesight foresight;
	ApmReplayCounts counts;
	uint64_t sights;
};

/* A block taken apart. */
typedef struct ApmSight
{
	uint64_t serial;
	ApmHeader header;
	ApmDigest hash;
	size_t count;
	ApmEntry *entries;
	ApmOpened *opened;	 /* of entries that have a body; points into the stored block */
	ApmForeseen **voids; /* of entries that are void; else NULL */
} ApmSight;

extern void apm_sight_free(ApmSight *sight);

/*
 * The steps of a block.  Each answers as apm_replay_block() does.  The first two change nothing but the sight (and a genesis
 * block's header begins the chain's state), and are for one block once each; then comes each entry in order, and the end.
 */
extern ApmStatus apm_replay_header(ApmReplay *r, const ApmStoredBlock *block, ApmSight *sight,
								   ApmFault *fault);
extern ApmStatus apm_replay_entries(ApmReplay *r, const ApmStoredBlock *block, ApmSight *sight,
									ApmFault *fault);
extern ApmStatus apm_replay_entry(ApmReplay *r, const ApmStoredBlock *block, const ApmSight *sight, size_t i,
								  ApmFault *fault);
extern ApmStatus apm_replay_end(ApmReplay *r, const ApmStoredBlock *block, const ApmSight *sight,
								ApmFault *fault);

/* Notes what was found, of an entry (position) or of the block (-1); always APM_OK. */
extern ApmStatus apm_replay_found(ApmFault *fault, ApmFaultRule rule, uint64_t height, int64_t position);

#endif /* APM_CORE_REPLAY_STATE_H */
