/*
 * test_turn.c
 *	  The line and the distance: least recent signer first, a place lost once a round, a chain that grows with
 *	  floor((n - 1) / 2) nodes down, and a minority that comes to its end.
 */
#include "core/turn.h"

#include "check.h"

/* Those of nodes 0 .. up - 1 who may mine the next block, first in line; the others are down.  n: nobody may. */
static uint32_t
first_of(const ApmLine *line, uint32_t up, uint64_t height)
{
	uint32_t best = line->nodes;
	uint32_t rank = APM_NODES_MAX;

	for (uint32_t node = 0; node < up; node++)
	{
		uint32_t its = apm_line_rank(line, node, height);

		if (its < rank)
		{
			rank = its;
			best = node;
		}
	}
	return best;
}

/* While all take their turns, the next is always who signed longest ago. */
static void
test_least_recent(void)
{
	ApmLine line;

	CHECK_OK(apm_line_init(&line, 7));
	for (uint64_t height = 1; height < 40; height++)
	{
		uint32_t next = first_of(&line, 7, height);

		CHECK(next == (height - 1) % 7);
		CHECK(apm_line_rank(&line, next, height) == 0);
		for (uint32_t other = 0; other < 7; other++)
			CHECK(line.last_signed[next] == APM_NEVER || line.last_signed[next] <= line.last_signed[other]);
		apm_line_step(&line, next, height);
	}
	apm_line_free(&line);
}

/* How many blocks nodes 0 .. up - 1 make from here on by themselves; more than all of them is for ever. */
static uint32_t
branch_of(const ApmLine *line, uint32_t up, uint64_t height)
{
	ApmLine branch;
	uint32_t made = 0;
	uint32_t next;

	CHECK_OK(apm_line_init(&branch, line->nodes));
	apm_line_copy(&branch, line);
	while (made <= line->nodes && (next = first_of(&branch, up, height + made)) < line->nodes)
		apm_line_step(&branch, next, height + made++);
	apm_line_free(&branch);
	return made;
}

/* With floor((n - 1) / 2) down it grows for ever; with one more it ends, after as many blocks as are up. */
static void
test_down(void)
{
	for (uint32_t n = 1; n <= 40; n++)
	{
		uint32_t up = n - (n - 1) / 2;
		uint64_t waited = 0;
		uint64_t height;
		ApmLine line;

		CHECK_OK(apm_line_init(&line, n));
		for (height = 1; height <= 200; height++)
		{
			uint32_t next = first_of(&line, up, height);

			if (!CHECK(next < n))
				break;
			waited += apm_line_rank(&line, next, height);
			apm_line_step(&line, next, height);
		}
		/* who is down is waited for once a round: fewer than one a block, after the first round */
		CHECK(waited <= 200 + n);

		for (uint32_t few = 0; few < up; few++)
			CHECK(branch_of(&line, few, height) <= few);
		apm_line_free(&line);
	}
}

/* The line stays a line, whoever mines. */
static void
test_order(void)
{
	ApmLine line;
	long wrong = 0;

	srandom(2);
	CHECK_OK(apm_line_init(&line, 11));
	for (uint64_t height = 1; height < 2000; height++)
	{
		bool seen[11] = {false};
		uint32_t node = (uint32_t) random() % 11;

		if (apm_line_rank(&line, node, height) == APM_NODES_MAX)
		{
			wrong += apm_diverse(11, line.last_signed[node], height);
			node = first_of(&line, 11, height);
		}
		apm_line_step(&line, node, height);
		wrong += line.order[10] != node || line.last_signed[node] != height;
		for (int i = 0; i < 11; i++)
			seen[line.order[i]] = true;
		for (int i = 0; i < 11; i++)
			wrong += !seen[i];
	}
	CHECK(wrong == 0);
	apm_line_free(&line);
}

/* Who let his turn pass stands behind those whose turn is still to come. */
static void
test_passed(void)
{
	ApmLine line;

	CHECK_OK(apm_line_init(&line, 5));
	apm_line_step(&line, 2, 1);
	CHECK(apm_line_rank(&line, 3, 2) == 0 && apm_line_rank(&line, 4, 2) == 1);
	CHECK(apm_line_rank(&line, 0, 2) == 2 && apm_line_rank(&line, 1, 2) == 3);
	CHECK(apm_line_rank(&line, 2, 2) == APM_NODES_MAX && apm_line_rank(&line, 2, 3) == APM_NODES_MAX);
	CHECK(apm_line_rank(&line, 2, 4) == 4);
	apm_line_free(&line);
}

static void
test_bounds(void)
{
	ApmLine line;

	CHECK_STATUS(apm_line_init(&line, 0), APM_ERR_RANGE);
	CHECK_STATUS(apm_line_init(&line, APM_NODES_MAX + 1), APM_ERR_RANGE);
	CHECK_OK(apm_line_init(&line, 1));
	apm_line_step(&line, 0, 1);
	CHECK(apm_line_rank(&line, 0, 2) == 0);
	apm_line_free(&line);
	CHECK(apm_diverse(3, APM_NEVER, 1) && !apm_diverse(3, 4, 5) && apm_diverse(3, 4, 6) &&
		  !apm_diverse(3, 4, 4));

	CHECK(apm_turn_wait(0, 0, 100) == 0 && apm_turn_wait(3, 0, 100) == 300 &&
		  apm_turn_wait(1, 2, 100) == 600);
	CHECK(apm_turn_wait(0, UINT64_MAX, 100) == APM_PATIENCE * 100 &&
		  apm_turn_wait(0, APM_PATIENCE - 1, 100) == APM_PATIENCE * 100);
}

int
main(void)
{
	test_least_recent();
	test_down();
	test_order();
	test_passed();
	test_bounds();
	return check_summary();
}
