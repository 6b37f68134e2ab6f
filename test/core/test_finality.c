/*
 * test_finality.c
 *	  What is justified, final and best, held against a model that does nothing but the definition over all blocks and
 *	  votes there ever were; in whatever order they come.  And the safety that the two rules of voting give: neither can be left out, and
 *	  whoever broke it is known.
 */
#include "branches.h"

#define CHAINS 200
#define BLOCKS 40
#define VOTES 120
#define NODES 7
#define ORDERS 3

typedef struct Given
{
	uint32_t node;
	uint32_t source; /* blocks */
	uint32_t target;
} Given;

/* Everything there ever was, and what it means. */
typedef struct Model
{
	uint32_t nodes;
	uint32_t quorum;
	Branch blocks[BLOCKS];
	uint32_t parent[BLOCKS];
	uint32_t signer[BLOCKS];
	uint64_t work[BLOCKS];
	uint32_t count;
	Given votes[VOTES];
	uint32_t nvotes;
	bool justified[BLOCKS];
	bool final[BLOCKS];
} Model;

/* Which rule of voting the liars do not keep; the others keep both. */
typedef enum Lie
{
	NO_LIE,
	DOUBLE,
	SURROUND,
	ANY_LIE
} Lie;

static uint32_t
pick(uint32_t n)
{
	return (uint32_t) random() % n;
}

static bool
grew(const Model *m, uint32_t block, uint32_t from)
{
	while (block != from && block != 0)
		block = m->parent[block];
	return block == from;
}

static void
begin(Model *m, uint32_t nodes, uint32_t quorum)
{
	memset(m, 0, sizeof(*m));
	m->nodes = nodes;
	m->quorum = quorum;
	m->blocks[0] = branches_genesis();
	m->signer[0] = UINT32_MAX;
	m->count = 1;
	m->justified[0] = true;
	m->final[0] = true;
}

/* A block more, mostly on one of the last, by a node that may. */
static void
add_block(Model *m)
{
	uint32_t parent = pick(3) == 0 ? pick(m->count) : m->count - 1 - pick(m->count < 3 ? m->count : 3);
	uint32_t signer = pick(m->nodes);
	uint32_t at = parent;

	for (uint32_t i = 0; i < apm_diversity(m->nodes) && at != 0; i++, at = m->parent[at])
	{
		if (m->signer[at] == signer)
			return;
	}
	m->blocks[m->count] = branches_child(&m->blocks[parent], signer, pick(3));
	for (uint32_t i = 0; i < m->count; i++)
	{
		if (apm_checkpoints_equal(&m->blocks[i].at, &m->blocks[m->count].at))
			return;
	}
	m->parent[m->count] = parent;
	m->signer[m->count] = signer;
	m->work[m->count] = m->work[parent] + (UINT64_C(1) << m->blocks[m->count].header.bits);
	m->count++;
}

static uint32_t
votes_for(const Model *m, uint32_t source, uint32_t target)
{
	bool voted[NODES] = {false};
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->nvotes; i++)
	{
		if (m->votes[i].source == source && m->votes[i].target == target)
			voted[m->votes[i].node] = true;
	}
	for (uint32_t node = 0; node < NODES; node++)
		n += voted[node];
	return n;
}

/* The definition, from the beginning. */
static void
work_out(Model *m)
{
	bool more = true;

	while (more)
	{
		more = false;
		for (uint32_t s = 0; s < m->count; s++)
		{
			for (uint32_t t = s + 1; m->justified[s] && t < m->count; t++)
			{
				if (!grew(m, t, s) || votes_for(m, s, t) < m->quorum)
					continue;
				more = more || !m->justified[t];
				m->justified[t] = true;
				if (m->parent[t] == s)
					m->final[s] = true;
			}
		}
	}
}

static ApmVoteConflict
conflict(const Model *m, const Given *a, const Given *b)
{
	return apm_vote_conflict(&m->blocks[a->source].at, &m->blocks[a->target].at, &m->blocks[b->source].at,
							 &m->blocks[b->target].at);
}

/* Is the vote what a node gives that keeps the rules, but for this one? */
static bool
keeps(const Model *m, const Given *vote, Lie lie)
{
	for (uint32_t i = 0; i < m->nvotes; i++)
	{
		ApmVoteConflict c =
			m->votes[i].node == vote->node ? conflict(m, &m->votes[i], vote) : APM_VOTE_NO_CONFLICT;

		if (memcmp(&m->votes[i], vote, sizeof(*vote)) == 0)
			return false; /* once is enough */
		if ((c == APM_VOTE_DOUBLE && lie != DOUBLE && lie != ANY_LIE) ||
			(c == APM_VOTE_SURROUND && lie != SURROUND && lie != ANY_LIE))
			return false;
	}
	return true;
}

/* A vote more, often one that others gave already; mostly from a justified block.  Nodes below liars may tell that lie. */
static void
add_vote(Model *m, uint32_t liars, Lie lie)
{
	Given vote = {pick(m->nodes), pick(m->count), pick(m->count)};

	if (pick(3) == 0)
		vote.source = m->parent[vote.target];
	else if (m->nvotes > 0 && pick(3) > 0)
	{
		vote = m->votes[m->nvotes - 1 - pick(m->nvotes < 4 ? m->nvotes : 4)];
		vote.node = pick(m->nodes);
	}
	if (vote.source == vote.target || !grew(m, vote.target, vote.source))
		return;
	work_out(m);
	if (!m->justified[vote.source] && pick(4) > 0)
		return;
	if (keeps(m, &vote, vote.node < liars ? lie : NO_LIE))
		m->votes[m->nvotes++] = vote;
}

static void
grow(Model *m, uint32_t liars, Lie lie)
{
	for (int i = 0; i < 4 * VOTES; i++)
	{
		if (pick(5) == 0 && m->count < BLOCKS)
			add_block(m);
		else if (m->nvotes < VOTES)
			add_vote(m, liars, lie);
	}
	work_out(m);
}

/* The last final or justified block: the highest, then the one with the lower hash. */
static uint32_t
last_of(const Model *m, const bool *which)
{
	uint32_t last = 0;

	for (uint32_t i = 0; i < m->count; i++)
	{
		uint64_t height = m->blocks[i].at.height;
		uint64_t highest = m->blocks[last].at.height;

		if (which[i] && (height > highest || (height == highest && memcmp(&m->blocks[i].at.hash,
																		  &m->blocks[last].at.hash, 32) < 0)))
			last = i;
	}
	return last;
}

static uint32_t
best(const Model *m, uint32_t justified)
{
	uint32_t head = justified;

	for (uint32_t i = 0; i < m->count; i++)
	{
		if (grew(m, i, justified) &&
			(m->work[i] > m->work[head] || (m->work[i] == m->work[head] &&
											memcmp(&m->blocks[i].at.hash, &m->blocks[head].at.hash, 32) < 0)))
			head = i;
	}
	return head;
}

/* Offers everything in some order, what is not for now again and again, until nothing more is taken. */
static void
feed(ApmForks *forks, const Model *m)
{
	uint32_t order[BLOCKS + VOTES];
	uint32_t n = m->count + m->nvotes;
	bool more = true;

	for (uint32_t i = 0; i < n; i++)
		order[i] = i;
	for (uint32_t i = n - 1; i > 0; i--)
	{
		uint32_t j = pick(i + 1);
		uint32_t swap = order[i];

		order[i] = order[j];
		order[j] = swap;
	}
	while (more)
	{
		more = false;
		for (uint32_t i = 0; i < n; i++)
		{
			ApmForkResult result;

			if (order[i] < m->count)
				result = apm_forks_block(forks, &m->blocks[order[i]].header, &m->blocks[order[i]].at.hash,
										 BRANCHES_NOW);
			else
			{
				const Given *given = &m->votes[order[i] - m->count];
				ApmVote vote =
					branches_vote(given->node, &m->blocks[given->source], &m->blocks[given->target]);

				result = apm_forks_vote(forks, &vote);
			}
			more = more || result == APM_FORK_TAKEN;
		}
	}
}

/* No vote of a node that kept the rules is evidence against it. */
static bool
only_liars_accused(const ApmForks *forks, uint32_t liars)
{
	const ApmEvidence *evidence;
	size_t n = apm_forks_evidence(forks, &evidence);

	for (size_t i = 0; i < n; i++)
	{
		if ((evidence[i].kind == APM_EVIDENCE_DOUBLE || evidence[i].kind == APM_EVIDENCE_SURROUND) &&
			(liars == 0 || memcmp(&evidence[i].node, branches_node(liars - 1), 32) > 0))
			return false;
	}
	return true;
}

/* Trees agree with the model and with one another while fewer lie than a breach of safety takes. */
static void
test_model(void)
{
	static Model m;
	long wrong = 0;
	long finals = 0;

	for (int chain = 0; chain < CHAINS; chain++)
	{
		uint32_t nodes = 1 + pick(NODES);
		uint32_t quorum = apm_quorum(pick(2) == 0 ? APM_QUORUM_MAJORITY : APM_QUORUM_TWO_THIRDS, nodes);
		uint32_t liars = pick(2 * quorum - nodes);
		uint32_t justified;

		begin(&m, nodes, quorum);
		grow(&m, liars, ANY_LIE);
		justified = last_of(&m, m.justified);
		finals += last_of(&m, m.final) != 0;
		for (int i = 0; i < ORDERS; i++)
		{
			ApmForksSetup setup = branches_setup(nodes, quorum, 256);
			ApmForks *forks;

			CHECK_OK(apm_forks_new(&setup, &forks));
			feed(forks, &m);
			wrong += !apm_checkpoints_equal(apm_forks_final(forks), &m.blocks[last_of(&m, m.final)].at);
			wrong += !apm_checkpoints_equal(apm_forks_justified(forks), &m.blocks[justified].at);
			wrong += !apm_checkpoints_equal(apm_forks_head(forks), &m.blocks[best(&m, justified)].at);
			wrong += !only_liars_accused(forks, liars);
			apm_forks_free(forks);
		}
	}
	CHECK(wrong == 0);
	CHECK(finals > CHAINS / 4);
}

/* How many nodes gave two votes that are in conflict? */
static uint32_t
guilty(const Model *m)
{
	bool is[NODES] = {false};
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->nvotes; i++)
	{
		for (uint32_t j = 0; j < i; j++)
		{
			if (m->votes[i].node == m->votes[j].node &&
				conflict(m, &m->votes[i], &m->votes[j]) != APM_VOTE_NO_CONFLICT)
				is[m->votes[i].node] = true;
		}
	}
	for (uint32_t node = 0; node < NODES; node++)
		n += is[node];
	return n;
}

static bool
two_histories(const Model *m)
{
	for (uint32_t i = 0; i < m->count; i++)
	{
		for (uint32_t j = i + 1; j < m->count; j++)
		{
			if (m->final[i] && m->final[j] && !grew(m, j, i) && !grew(m, i, j))
				return true;
		}
	}
	return false;
}

/* In how many chains, of nodes that all may tell this lie, are two blocks final that exclude one another? */
static long
broken(Lie lie, long *unexplained)
{
	static Model m;
	long found = 0;

	for (int chain = 0; chain < CHAINS; chain++)
	{
		uint32_t nodes = 1 + pick(3);

		begin(&m, nodes, apm_quorum(APM_QUORUM_MAJORITY, nodes));
		grow(&m, nodes, lie);
		if (!two_histories(&m))
			continue;
		found++;
		*unexplained += guilty(&m) < 2 * m.quorum - nodes;
	}
	return found;
}

/* Casper's theorem of accountable safety, and that it takes both rules. */
static void
test_safety(void)
{
	long unexplained = 0;

	CHECK(broken(NO_LIE, &unexplained) == 0);
	CHECK(broken(DOUBLE, &unexplained) > 0);
	CHECK(broken(SURROUND, &unexplained) > 0);
	CHECK(broken(ANY_LIE, &unexplained) > 0);
	CHECK(unexplained == 0);
}

int
main(void)
{
	srandom(1);
	test_model();
	test_safety();
	return check_summary();
}
