/*
 * program.c
 *	  A shell command, or a function, that runs beside the worker.
 *
 * What leaves the server by somebody's script, or onto somebody's file system, may take any time, and may never end.  The
 * worker that starts it has readers to serve, so it does not wait: it looks now and then.  What runs is the leader of a
 * process group, so that what it has started goes with it.  A process that hangs in the kernel, on a file server that
 * is gone, is not even killed; then there is no other before it is gone.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libpq/pqsignal.h"
#include "postmaster/fork_process.h"
#include "storage/ipc.h"
#include "storage/pg_shmem.h"

#include "cloud/program.h"

extern char **environ;

/* How long one that is killed is waited for. */
#define KILLED_MS 100

static pid_t running = 0; /* 0: none */

bool
apm_program_ended(int *status)
{
	pid_t ended;

	if (running == 0)
		return true;
	do
		ended = waitpid(running, status, WNOHANG);
	while (ended < 0 && errno == EINTR);
	if (ended == 0)
		return false;
	if (ended < 0)
		*status = -1; /* nobody knows how */
	running = 0;
	return true;
}

void
apm_program_kill(void)
{
	int status;

	if (running == 0)
		return;
	kill(-running, SIGKILL);
	for (int waited = 0; !apm_program_ended(&status) && waited < KILLED_MS; waited++)
		pg_usleep(1000);
}

static void
kill_at_exit(int code, Datum arg)
{
	apm_program_kill();
}

/* A pipe's end to read from, in which the input stands already; -1 with errno. */
static int
open_input(ApmSlice input)
{
	int ends[2];
	int saved;

	Assert(input.len <= APM_PROGRAM_INPUT_MAX);
	if (pipe(ends) != 0)
		return -1;
	errno = 0;
	/* the command must not have the end to write to, or it would wait for more */
	if (fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0 && fcntl(ends[1], F_SETFD, FD_CLOEXEC) == 0 &&
		fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0 &&
		write(ends[1], input.data, input.len) == (ssize_t) input.len)
	{
		close(ends[1]);
		return ends[0];
	}
	saved = errno != 0 ? errno : EAGAIN;
	close(ends[0]);
	close(ends[1]);
	errno = saved;
	return -1;
}

/* The command with that standard input, no signal blocked or ignored, in a process group of its own. */
static int
spawn(const char *line, int input, pid_t *pid)
{
	char *const argv[] = {"sh", "-c", unconstify(char *, line), NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;
	sigset_t all;
	int failure;

	sigemptyset(&none);
	sigfillset(&all);
	failure = posix_spawnattr_init(&attributes);
	if (failure != 0)
		return failure;
	failure = posix_spawn_file_actions_init(&actions);
	if (failure == 0)
	{
		posix_spawnattr_setpgroup(&attributes, 0);
		posix_spawnattr_setsigmask(&attributes, &none);
		posix_spawnattr_setsigdefault(&attributes, &all);
		posix_spawnattr_setflags(&attributes,
								 POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
		failure = posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
		if (failure == 0)
			failure = posix_spawn(pid, "/bin/sh", &actions, &attributes, argv, environ);
		posix_spawn_file_actions_destroy(&actions);
	}
	posix_spawnattr_destroy(&attributes);
	return failure;
}

/* Is there none, not even one that was killed?  From now on none outlives the worker. */
static bool
is_free(void)
{
	static bool registered = false;
	int status;

	if (!registered)
		on_proc_exit(kill_at_exit, 0);
	registered = true;
	return apm_program_ended(&status);
}

int
apm_program_start(const char *line, ApmSlice input)
{
	int failure;
	int fd;

	if (!is_free())
		return EBUSY;
	fd = open_input(input);
	if (fd < 0)
		return errno;
	failure = spawn(line, fd, &running);
	close(fd);
	if (failure != 0)
		running = 0;
	return failure;
}

int
apm_program_call(int (*function)(const char *argument), const char *argument)
{
	int failure;
	pid_t pid;

	if (!is_free())
		return EBUSY;
	sigprocmask(SIG_SETMASK, &BlockSig, NULL);
	pid = fork_process();
	failure = errno;
	if (pid == 0)
	{
		/* it may be there for longer than the server, which must be able to start anew */
		(void) setpgid(0, 0);
		PGSharedMemoryDetach();
		(void) close_range(0, ~0U, 0);
		_exit(function(argument));
	}
	sigprocmask(SIG_SETMASK, &UnBlockSig, NULL);
	if (pid < 0)
		return failure;
	(void) setpgid(pid, pid); /* whoever comes first */
	running = pid;
	return 0;
}
