/* SPDX-License-Identifier: MIT */
/* bench-timed COMMAND...: runs it, and prints what it needed as JSON. A small program, since the memory of who starts a
 * process counts as the most that the process had. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec / 1e6; }

int main(int argc, char **argv)
{
	extern char **environ;
	posix_spawn_file_actions_t quiet;
	struct rusage u;
	double begun = now();
	int status;
	pid_t pid;

	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
	if (argc < 2 || posix_spawnp(&pid, argv[1], &quiet, NULL, argv + 1, environ) != 0)
		return 2;
	if (wait4(pid, &status, 0, &u) != pid || status != 0)
		return 1;
	printf("{\"seconds\": %.6f, \"cpu\": %.6f, \"rss\": %.2f}\n", now() - begun,
		seconds(u.ru_utime) + seconds(u.ru_stime), (double)u.ru_maxrss / 1024);
	return 0;
}
