/*
 * yardstick_register.c
 *	  bcrypt's own rate, on all processors at once.
 *
 *		yardstick-register PROCESSES ROUNDS CALLS
 *
 * So many processes call crypt_rn() so often each, at a cost of ROUNDS, on a secret as long as a pseudonym's.
 * Writes calls a second of all together, by the clock, where what they compete for is part of the measurement; and calls a second of
 * processor time.
 */
#include <crypt.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "timing.h"

#define SECRET_LEN 44

static void
hash_so_often(uint64_t rounds, uint64_t calls)
{
	static struct crypt_data work;
	char setting[CRYPT_GENSALT_OUTPUT_SIZE];
	char secret[SECRET_LEN + 1];

	for (uint64_t i = 0; i < calls; i++)
	{
		const char *hash;

		memset(secret, 'a' + (int) (i % 26), SECRET_LEN);
		secret[SECRET_LEN] = '\0';
		timing_need(crypt_gensalt_rn("$2b$", rounds, NULL, 0, setting, sizeof(setting)) != NULL,
					"no setting for bcrypt");
		hash = crypt_rn(secret, setting, &work, (int) sizeof(work));
		timing_need(hash != NULL && hash[0] != '*', "bcrypt failed");
	}
}

static double
seconds(const struct timeval *time)
{
	return (double) time->tv_sec + (double) time->tv_usec / 1e6;
}

int
main(int argc, char **argv)
{
	uint64_t processes;
	uint64_t rounds;
	uint64_t calls;
	double started;
	double elapsed;
	struct rusage used;

	timing_need(argc == 4, "usage: yardstick-register PROCESSES ROUNDS CALLS");
	processes = timing_number(argv[1]);
	rounds = timing_number(argv[2]);
	calls = timing_number(argv[3]);
	started = timing_of(CLOCK_MONOTONIC);
	for (uint64_t i = 0; i < processes; i++)
	{
		pid_t child = fork();

		timing_need(child >= 0, "no process could be made");
		if (child == 0)
		{
			hash_so_often(rounds, calls);
			_exit(EXIT_SUCCESS);
		}
	}
	for (uint64_t i = 0; i < processes; i++)
	{
		int status;

		timing_need(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS,
					"a process failed");
	}
	elapsed = timing_of(CLOCK_MONOTONIC) - started;
	timing_need(getrusage(RUSAGE_CHILDREN, &used) == 0, "no processor time");
	printf("%.6f %.6f\n", (double) (processes * calls) / elapsed,
		   (double) (processes * calls) / (seconds(&used.ru_utime) + seconds(&used.ru_stime)));
	return EXIT_SUCCESS;
}
