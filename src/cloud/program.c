/*
 * program.c
 *	  A shell command that runs beside the worker.
 *
 * What leaves the server by somebody's script may take any time, and may never end.  The worker that starts it has
 * readers to serve, so it does not wait: it looks now and then.  The command is the leader of a process group, so that what
 * it has started goes with it.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/ipc.h"

#include "cloud/program.h"

extern char **environ;

static pid_t running = 0; /* 0: none */

void
apm_program_kill(void)
{
	int status;

	if (running == 0)
		return;
	kill(-running, SIGKILL);
	while (waitpid(running, &status, 0) < 0 && errno == EINTR)
		;
	running = 0;
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

int
apm_program_start(const char *line, ApmSlice input)
{
	static bool registered = false;
	int failure;
	int fd;

	Assert(running == 0);
	if (!registered)
		on_proc_exit(kill_at_exit, 0);
	registered = true;
	fd = open_input(input);
	if (fd < 0)
		return errno;
	failure = spawn(line, fd, &running);
	close(fd);
	if (failure != 0)
		running = 0;
	return failure;
}

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
