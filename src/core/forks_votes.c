/*
 * forks_votes.c
 *	  Votes for blocks that are not final, what is justified and final by them, and what they prove against who gave
 *	  them.
 *
 * Votes of a node that is known to have broken its word count like any other: each node comes to know some of them earlier
 * and the others later, and only if all count do nodes that have seen the same agree.  The proof of safety counts
 * with them too (vote.h).
 *
 * A vote whose source lies below the last final block is of no use any more.  To make that block final a quorum voted from it to
 * its child; a vote around that link would have been a breach of rule II, and a target that is no higher than the block is
 * final or lost.
 */
#include "forks_state.h"

#include "room.h"

bool
apm_forks_accuse(ApmForks *forks, const ApmEvidence *evidence)
{
	ApmEvidence *list;

	for (size_t i = 0; i < forks->nevidence; i++)
	{
		if (forks->evidence[i].kind == evidence->kind &&
			memcmp(&forks->evidence[i].node, &evidence->node, sizeof(ApmDigest)) == 0)
			return true;
	}
	list = apm_room(forks->evidence, &forks->evidence_capacity, forks->nevidence + 1, sizeof(ApmEvidence));
	if (list == NULL)
		return false;
	forks->evidence = list;
	forks->evidence[forks->nevidence++] = *evidence;
	return true;
}

size_t
apm_forks_evidence(const ApmForks *forks, const ApmEvidence **out)
{
	*out = forks->evidence;
	return forks->nevidence;
}

/* The link of a vote, entered without votes if it is new; its place was made before. */
static ForkLink *
link_of(ApmForks *forks, const ForkVote *vote)
{
	ForkLink *link;

	for (size_t i = 0; i < forks->nlinks; i++)
	{
		link = &forks->links[i];
		if (link->source == vote->source && link->target == vote->target)
			return link;
	}
	link = &forks->links[forks->nlinks++];
	*link = (ForkLink){vote->source, vote->target, 0};
	return link;
}

void
apm_forks_move_votes(ApmForks *forks)
{
	forks->nlinks = 0;
	for (uint32_t node = 0; node < forks->line.nodes; node++)
	{
		ForkVoter *voter = &forks->voters[node];
		size_t kept = 0;

		for (size_t i = 0; i < voter->count; i++)
		{
			ForkVote vote = {forks->blocks[voter->votes[i].source].place,
							 forks->blocks[voter->votes[i].target].place};

			if (vote.source == FORK_NONE || vote.target == FORK_NONE)
				continue;
			voter->votes[kept++] = vote;
			/* there are no more links than there were, so each has a place */
			link_of(forks, &vote)->votes++;
		}
		voter->count = kept;
	}
}

/* Holds a new vote against all that are kept of its node. */
static bool
accuse_voter(ApmForks *forks, uint32_t node, const ApmVote *vote)
{
	const ForkVoter *voter = &forks->voters[node];

	for (size_t i = 0; i < voter->count; i++)
	{
		ApmEvidence evidence = {.node = vote->node,
								.source = {forks->blocks[voter->votes[i].source].at, vote->source},
								.target = {forks->blocks[voter->votes[i].target].at, vote->target}};
		ApmVoteConflict conflict =
			apm_vote_conflict(&evidence.source[0], &evidence.target[0], &vote->source, &vote->target);

		evidence.kind = conflict == APM_VOTE_DOUBLE ? APM_EVIDENCE_DOUBLE : APM_EVIDENCE_SURROUND;
		if (conflict != APM_VOTE_NO_CONFLICT && !apm_forks_accuse(forks, &evidence))
			return false;
	}
	return true;
}

/* Marks what is justified by the votes that are here. */
static void
justify(ApmForks *forks)
{
	bool more;

	do
	{
		more = false;
		for (size_t i = 0; i < forks->nlinks; i++)
		{
			const ForkLink *link = &forks->links[i];

			if (link->votes < forks->quorum || !forks->blocks[link->source].justified ||
				forks->blocks[link->target].justified)
				continue;
			forks->blocks[link->target].justified = true;
			more = true;
		}
	} while (more);
}

/* The highest block that is final by the votes that are here, FORK_NONE if that is none above block 0. */
static uint32_t
newly_final(const ApmForks *forks)
{
	uint32_t final = 0;

	for (size_t i = 0; i < forks->nlinks; i++)
	{
		const ForkLink *link = &forks->links[i];

		if (link->votes >= forks->quorum && forks->blocks[link->source].justified &&
			forks->blocks[link->target].parent == link->source &&
			forks->blocks[link->source].at.height > forks->blocks[final].at.height)
			final = link->source;
	}
	return final == 0 ? FORK_NONE : final;
}

/* The blocks of a vote; anything but APM_FORK_TAKEN says why it is not for here. */
static ApmForkResult
place_vote(const ApmForks *forks, const ApmVote *vote, ForkVote *out)
{
	uint64_t final = forks->blocks[0].at.height;

	if (vote->target.height <= final || vote->source.height < final)
		return APM_FORK_STALE;
	out->source = apm_forks_find(forks, &vote->source.hash);
	out->target = apm_forks_find(forks, &vote->target.hash);
	if (out->source == FORK_NONE && vote->source.height == final)
		return APM_FORK_STALE;
	if (out->source == FORK_NONE || out->target == FORK_NONE)
		return APM_FORK_UNKNOWN;
	if (forks->blocks[out->source].at.height != vote->source.height ||
		forks->blocks[out->target].at.height != vote->target.height)
		return APM_FORK_HEIGHT;
	if (out->source == out->target || !apm_forks_grew(forks, out->target, out->source))
		return APM_FORK_LINK;
	return APM_FORK_TAKEN;
}

/* Room for a vote more of this node, and for its link. */
static bool
make_room(ApmForks *forks, ForkVoter *voter)
{
	ForkVote *votes = apm_room(voter->votes, &voter->capacity, voter->count + 1, sizeof(ForkVote));
	ForkLink *links;

	if (votes == NULL)
		return false;
	voter->votes = votes;
	links = apm_room(forks->links, &forks->links_capacity, forks->nlinks + 1, sizeof(ForkLink));
	if (links == NULL)
		return false;
	forks->links = links;
	return true;
}

ApmForkResult
apm_forks_vote(ApmForks *forks, const ApmVote *vote)
{
	uint32_t node = apm_forks_node(forks, &vote->node);
	ForkVoter *voter;
	ForkVote placed;
	uint32_t final;
	ApmForkResult result;

	if (memcmp(&vote->chain, &forks->chain, sizeof(ApmDigest)) != 0)
		return APM_FORK_CHAIN;
	if (node == FORK_NONE)
		return APM_FORK_STRANGER;
	result = place_vote(forks, vote, &placed);
	if (result != APM_FORK_TAKEN)
		return result;
	voter = &forks->voters[node];
	for (size_t i = 0; i < voter->count; i++)
	{
		if (voter->votes[i].source == placed.source && voter->votes[i].target == placed.target)
			return APM_FORK_KNOWN;
	}
	if (!accuse_voter(forks, node, vote))
		return APM_FORK_MEMORY;
	if (voter->count >= forks->limit)
		return APM_FORK_FULL;
	if (!make_room(forks, voter))
		return APM_FORK_MEMORY;

	voter->votes[voter->count++] = placed;
	link_of(forks, &placed)->votes++;
	justify(forks);
	final = newly_final(forks);
	if (final != FORK_NONE)
		apm_forks_finalize(forks, final);
	else
		apm_forks_choose(forks);
	return APM_FORK_TAKEN;
}

bool
apm_forks_next_vote(const ApmForks *forks, const ApmDigest *node, const ApmVoteRecord *last, ApmVote *out)
{
	const ApmCheckpoint *source = apm_forks_justified(forks);
	const ApmCheckpoint *target = apm_forks_head(forks);

	if (apm_forks_node(forks, node) == FORK_NONE || !apm_vote_allowed(last, source, target))
		return false;
	*out = (ApmVote){forks->chain, *node, *source, *target};
	return true;
}
