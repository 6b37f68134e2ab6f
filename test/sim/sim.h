/*
 * sim.h
 *	  Many nodes, one chain, one process: what the parts of the simulator share.
 *
 * The nodes decide with nothing but the functions of src/core (forks.h, vote.h, turn.h, blocktime.h).  Everything else is
 * made up here, from one seed: a network that delays, loses and splits, servers that crash and come back with what was
 * durable, clocks that are wrong, members that cheat, and people who submit transactions.  The same seed is the same run.
 *
 *	  world.c	  time, chance, events, the network; blocks, votes and transactions, which are known to all parts by number
 *	  node.c	  a node that keeps the rules: what arrives, what it votes for, what it mines
 *	  repair.c	  how nodes that have missed something get it: asking, and comparing now and then; crash and restart
 *	  malice.c	  what a member that cheats does instead
 *	  oracle.c	  what must hold, looked at from outside with code of its own
 *	  scenario.c  what happens in a run, drawn from its seed
 *	  main.c	  the command line: many seeds, planted faults, curves
 */
#ifndef APM_SIM_H
#define APM_SIM_H

#include <stdio.h>
#include <stdlib.h>

#include "core/forks.h"

#define MAX_NODES 200
#define MAX_BLOCKS 6000
#define MAX_TXS 6000
#define SECOND UINT64_C(1000000)
#define EPOCH (UINT64_C(1700000000) * SECOND)
#define BASE_BITS 8 /* nothing is searched for; the time that mining takes is drawn */
#define NOTHING UINT32_MAX

/* Faults that can be planted in all honest nodes, each of which the oracle must find. */
typedef enum Fault
{
	FAULT_NONE,
	FAULT_TWO_VOTES,   /* two votes for one height */
	FAULT_SURROUND,	   /* a vote around another */
	FAULT_HEIGHT,	   /* the longest branch instead of that with most work */
	FAULT_FORGET_POOL, /* transactions of a branch that is left are not returned to the pool */
	FAULT_QUORUM,	   /* a quorum of n / 2 */
	FAULTS
} Fault;

/* What a malicious node does, bits of Node.malice; one that is not says everything to everybody in time. */
#define EQUIVOCATES 1  /* mines two blocks and gives each to half of the others */
#define VOTES_TWICE 2  /* votes for every branch that it sees */
#define WITHHOLDS 4	   /* votes for nothing; gives its blocks late, or never */
#define LIES_IN_TIME 8 /* blocks as far ahead as is taken, and a bit further; or as old as is taken */
#define GREEDY 16	   /* does not wait for its turn */

typedef struct Scenario
{
	uint64_t seed;
	uint32_t nodes;
	ApmQuorum quorum;
	uint32_t malicious; /* the last so many nodes */
	uint32_t malice;	/* of which these are drawn */
	uint64_t delay_us;	/* mean between two nodes */
	double jitter;		/* the share of it that is drawn anew for each message */
	double loss;
	uint64_t mine_us; /* mean at BASE_BITS */
	uint64_t step_us;
	uint64_t sync_us;
	uint64_t drift_us;	 /* clocks are wrong by up to this */
	uint64_t trouble_us; /* how long the troubles below may happen */
	uint32_t partitions;
	uint32_t crashes;
	bool difficulty;	/* some transactions change it */
	uint64_t submit_us; /* mean between two transactions of all */
	uint32_t txs;
	uint32_t block_max;
	uint64_t limit_us; /* after the troubles: how long until all is final */
	Fault fault;
} Scenario;

typedef struct Block
{
	ApmHeader header;
	ApmDigest hash;
	uint32_t parent;
	uint32_t node;
	uint64_t work; /* from genesis */
	uint32_t next_bits;
	uint32_t *txs;
	uint32_t ntxs;
} Block;

typedef struct Vote
{
	uint32_t node;
	uint32_t source;
	uint32_t target;
} Vote;

typedef struct Tx
{
	uint32_t node;		/* where it was submitted */
	uint32_t bits;		/* 0, or the difficulty that it brings */
	uint64_t submitted; /* the submitter has his answer: it must not be lost */
	uint64_t final;		/* where it was submitted; 0: not yet */
	uint32_t block;		/* the final one that it is in, NOTHING: none yet */
} Tx;

typedef enum EventType
{
	EVENT_BLOCK, /* a: block */
	EVENT_VOTE,	 /* a: vote */
	EVENT_TX,	 /* a: transaction */
	EVENT_ASK,	 /* a: block that the sender wants */
	EVENT_STATUS, /* a: the sender's head, b: height of its last final block, c: is a reply, d: its justified one */
	EVENT_MINE, /* a: generation of the plan */
	EVENT_SYNC,
	EVENT_SUBMIT,
	EVENT_CRASH,
	EVENT_RESTART,
	EVENT_SPLIT, /* a: how many sides; 1 heals */
	EVENT_CALM	 /* no more crashes and partitions from here on */
} EventType;

typedef struct Event
{
	uint64_t at;
	uint64_t order;
	EventType type;
	uint32_t from;
	uint32_t to;
	uint32_t a, b, c, d;
} Event;

typedef struct VoteList
{
	uint32_t *votes;
	uint32_t count;
	uint32_t capacity;
} VoteList;

/* What a transaction is to a node. */
typedef enum TxState
{
	TX_UNKNOWN,
	TX_POOL,
	TX_BRANCH, /* in a block of the branch that it follows */
	TX_FINAL
} TxState;

#define TX_STATE 0x0f
#define TX_LISTED 0x80 /* is in Node.pool */

typedef struct Node
{
	uint32_t number;
	ApmDigest id;
	bool up;
	uint32_t malice;  /* 0: honest */
	int64_t clock_us; /* ahead of the true time */
	uint32_t side;	  /* of a partition */

	/* durable */
	uint32_t *chain; /* final blocks by height */
	uint32_t final;	 /* height of the last one */
	uint8_t *known;	 /* blocks that it took, by number */
	uint32_t *open;	 /* those not final, in the order in which they came */
	uint32_t nopen;
	VoteList *votes; /* that it took, by target */
	uint8_t *txs;	 /* TxState */
	uint32_t *pool;	 /* in the order in which they came; some are not TX_POOL any more */
	uint32_t npool;
	ApmVoteRecord record;
	uint32_t last_vote; /* as which that was given, NOTHING: none */
	ApmMineRecord mined;

	/* lost in a crash */
	ApmForks *forks;
	uint32_t head;
	uint32_t justified;
	uint64_t since;		  /* when the head became it, or was justified */
	bool planned;		  /* it is going to mine, on this head */
	uint32_t generation;  /* of that plan */
	uint32_t waiting[64]; /* blocks whose parents are not here */
	uint32_t nwaiting;
	uint64_t *asked; /* when, by block */
} Node;

typedef struct World
{
	Scenario scenario;
	uint64_t now;
	uint64_t chance;
	Event *events; /* a heap */
	size_t nevents, events_capacity;
	uint64_t order;
	bool calm;

	Block *blocks;
	uint32_t nblocks;
	uint32_t *by_hash; /* a hash table of blocks */
	Vote *votes;
	size_t nvotes, votes_capacity;
	Tx *txs;
	uint32_t ntxs;
	ApmDigest chain;
	ApmDigest *ids;

	Node *nodes;
	uint32_t *final_at;	 /* by height: what the first node said */
	uint32_t top;		 /* the greatest of those heights */
	char violation[200]; /* the first one; empty: none */
	uint64_t messages;
} World;

/* What came of a run, without its first blocks, while the network found its pace. */
typedef struct Figures
{
	char violation[200];
	double seconds;
	uint32_t final_blocks;
	uint32_t stale_blocks;
	uint32_t txs;
	double finality_s; /* median from submission to final where it was submitted */
	uint64_t messages;
} Figures;

/* world.c */
extern uint64_t chance_below(World *w, uint64_t n);
extern double chance_share(World *w);				  /* in [0, 1) */
extern uint64_t chance_wait(World *w, uint64_t mean); /* exponential */
extern void world_begin(World *w, const Scenario *scenario);
extern void world_end(World *w);
extern void world_at(World *w, uint64_t at, Event event);
extern bool world_next(World *w, Event *out);
extern void world_send(World *w, uint32_t from, uint32_t to, Event event);
extern void world_send_all(World *w, uint32_t from, Event event);
extern uint32_t world_block(World *w, const ApmHeader *header, uint32_t parent, const uint32_t *txs,
							uint32_t ntxs);
extern uint32_t world_find(const World *w, const ApmDigest *hash);
extern uint32_t world_vote(World *w, uint32_t node, uint32_t source, uint32_t target);
extern bool world_grew(const World *w, uint32_t block, uint32_t from);
extern uint32_t world_parent_at(const World *w, uint32_t block, uint64_t height);

/* node.c */
extern uint64_t node_clock(const World *w, const Node *node);
extern void node_submit(World *w, Node *node, uint32_t tx);
extern void node_take_tx(World *w, Node *node, uint32_t tx);
extern void node_take_block(World *w, Node *node, uint32_t block, uint32_t from);
extern void node_take_vote(World *w, Node *node, uint32_t vote, uint32_t from);
extern void node_mine(World *w, Node *node, uint32_t generation);
extern void node_follow(World *w, Node *node); /* after anything has changed */
extern bool node_has(const World *w, const Node *node, uint32_t block);
extern ApmForkResult node_offer_block(World *w, Node *node, uint32_t block);
extern ApmForkResult node_offer_vote(World *w, Node *node, uint32_t vote);
extern uint32_t node_candidate(World *w, Node *node, uint64_t time_us, uint32_t drop);
extern void node_pool_tx(Node *node, uint32_t tx);

/* repair.c */
extern void node_start(World *w, Node *node);
extern void node_crash(World *w, Node *node);
extern void node_ask(World *w, Node *node, uint32_t block, uint32_t from);
extern void node_answer(World *w, Node *node, uint32_t block, uint32_t to);
extern void node_sync(World *w, Node *node);
extern void node_compare(World *w, Node *node, const Event *status);

/* malice.c */
extern void malice_publish(World *w, Node *node);
extern void malice_vote(World *w, Node *node, uint32_t block);

/* oracle.c */
extern void violation(World *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern void oracle_final(World *w, const Node *node, uint32_t block);
extern void oracle_head(World *w, const Node *node);
extern bool oracle_settled(const World *w);
extern void oracle_end(World *w);
extern void oracle_figures(const World *w, Figures *out);

/* scenario.c */
extern Scenario scenario_of(uint64_t seed, Fault fault);
extern Scenario scenario_of_curve(uint64_t seed, uint32_t nodes, uint64_t delay_us);
extern void scenario_run(const Scenario *scenario, Figures *out);

#endif /* APM_SIM_H */
