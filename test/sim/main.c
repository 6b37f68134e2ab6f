/*
 * main.c
 *	  simulator [--seeds N] [--first SEED] [--fault NAME] | --faults | --curves
 *
 * With seeds: runs so many (100), tells each violation with its seed and ends with "N passed, N failed".  A fault is planted in all
 * honest nodes; then finding it once is to pass.  --faults plants each of them in turn, and
 * --curves prints what doc/scaling.md shows as CSV.
 */
#include "sim.h"

#include <string.h>

#define TRIES 2000 /* seeds in which a planted fault must be found */

static const char *const fault_names[FAULTS] = {
	[FAULT_NONE] = "none",	   [FAULT_TWO_VOTES] = "two-votes",		[FAULT_SURROUND] = "surround",
	[FAULT_HEIGHT] = "height", [FAULT_FORGET_POOL] = "forget-pool", [FAULT_QUORUM] = "quorum"};

static const uint32_t curve_nodes[] = {3, 5, 7, 10, 20, 50, 100, 200};
static const uint32_t curve_delays_ms[] = {1, 5, 20, 50, 100, 200, 500};

/* Runs seeds without a fault; how many of them broke something? */
static long
run_seeds(uint64_t first, uint64_t n)
{
	long failed = 0;

	for (uint64_t seed = first; seed < first + n; seed++)
	{
		Scenario scenario = scenario_of(seed, FAULT_NONE);
		Figures figures;

		scenario_run(&scenario, &figures);
		if (figures.violation[0] == '\0')
			continue;
		failed++;
		printf("seed %llu (%u nodes, %u malicious): %s\n", (unsigned long long) seed, scenario.nodes,
			   scenario.malicious, figures.violation);
	}
	return failed;
}

/* Looks for a planted fault; false if it was not found. */
static bool
find_fault(Fault fault, uint64_t first)
{
	for (uint64_t seed = first; seed < first + TRIES; seed++)
	{
		Scenario scenario = scenario_of(seed, fault);
		Figures figures;

		scenario_run(&scenario, &figures);
		if (figures.violation[0] == '\0')
			continue;
		printf("planted %s: found with seed %llu (%u nodes) %s\n", fault_names[fault],
			   (unsigned long long) seed, scenario.nodes, figures.violation);
		return true;
	}
	printf("planted %s: not found in %d seeds\n", fault_names[fault], TRIES);
	return false;
}

static void
print_curve(uint32_t nodes, uint32_t delay_ms)
{
	Scenario scenario = scenario_of_curve(1, nodes, (uint64_t) delay_ms * 1000);
	Figures figures;
	double blocks;

	scenario_run(&scenario, &figures);
	blocks = figures.final_blocks;
	printf("%u,%u,%.2f,%.4f,%.3f,%.0f%s%s\n", nodes, delay_ms, blocks / figures.seconds,
		   figures.stale_blocks / (blocks + figures.stale_blocks), figures.finality_s,
		   (double) figures.messages / blocks, figures.violation[0] != '\0' ? "," : "", figures.violation);
	fflush(stdout);
}

static void
print_curves(void)
{
	puts("nodes,delay_ms,final_blocks_per_second,stale_share,seconds_to_finality,messages_per_block");
	for (size_t i = 0; i < sizeof(curve_nodes) / sizeof(curve_nodes[0]); i++)
		print_curve(curve_nodes[i], 50);
	for (size_t i = 0; i < sizeof(curve_delays_ms) / sizeof(curve_delays_ms[0]); i++)
	{
		if (curve_delays_ms[i] != 50)
			print_curve(10, curve_delays_ms[i]);
	}
}

static int
usage(void)
{
	fputs("usage: simulator [--seeds N] [--first SEED] [--fault NAME] | --faults | --curves\nfaults:",
		  stderr);
	for (int fault = 1; fault < FAULTS; fault++)
		fprintf(stderr, " %s", fault_names[fault]);
	fputs("\n", stderr);
	return 2;
}

static Fault
fault_called(const char *name)
{
	for (int fault = 1; fault < FAULTS; fault++)
	{
		if (strcmp(name, fault_names[fault]) == 0)
			return (Fault) fault;
	}
	exit(usage());
}

int
main(int argc, char **argv)
{
	uint64_t seeds = 100;
	uint64_t first = 1;
	Fault fault = FAULT_NONE;
	bool faults = false;
	long passed = 0;
	long failed = 0;

	for (int i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "--curves") == 0)
		{
			print_curves();
			return EXIT_SUCCESS;
		}
		if (strcmp(argv[i], "--faults") == 0)
			faults = true;
		else if (i + 1 < argc && strcmp(argv[i], "--seeds") == 0)
			seeds = strtoull(argv[++i], NULL, 10);
		else if (i + 1 < argc && strcmp(argv[i], "--first") == 0)
			first = strtoull(argv[++i], NULL, 10);
		else if (i + 1 < argc && strcmp(argv[i], "--fault") == 0)
			fault = fault_called(argv[++i]);
		else
			return usage();
	}
	for (int f = 1; f < FAULTS; f++)
	{
		if (!faults && (Fault) f != fault)
			continue;
		if (find_fault((Fault) f, first))
			passed++;
		else
			failed++;
	}
	if (fault == FAULT_NONE && seeds > 0)
	{
		long broken = run_seeds(first, seeds);

		passed += (long) seeds - broken;
		failed += broken;
	}
	printf("%ld passed, %ld failed\n", passed, failed);
	return failed == 0 && passed > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
