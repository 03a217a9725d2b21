/* SPDX-License-Identifier: MIT */
/* What a stack overflow looks like from outside: each case is a child process, whose last words and death are looked at. */
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pthread.h>

#include "co/sched.h"
#include "host.h"

struct death {
	int status;
	char words[4096];
};

static struct death die_in_child(void (*child)(void))
{
	struct death death = {0};
	size_t used = 0;
	ssize_t got;
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		/* cmocka and the sanitizers have handlers of their own. */
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		dup2(fds[1], STDERR_FILENO);
		child();
		_exit(77);
	}
	close(fds[1]);
	while ((got = read(fds[0], death.words + used, sizeof(death.words) - 1 - used)) > 0)
		used += (size_t)got;
	close(fds[0]);
	assert_int_equal(waitpid(pid, &death.status, 0), pid);
	return death;
}

static void assert_killed_by(const struct death *death, int signal)
{
	assert_true(WIFSIGNALED(death->status));
	assert_int_equal(WTERMSIG(death->status), signal);
}

/* ---- the children ---- */

static volatile unsigned ground = UINT32_MAX; /* the compiler shall not know that there is none */

static unsigned fall(struct co *co, unsigned depth)
{
	volatile char room[512];

	room[depth % sizeof(room)] = (char)depth;
	if (depth == ground)
		return 0;
	return fall(co, depth + 1) + (unsigned)room[depth % sizeof(room)];
}

static void falling(struct co *co, void *arg)
{
	(void)arg;
	co_yield(co);
	fall(co, 0);
}

static void idle(struct co *co, void *arg)
{
	(void)arg;
	co_yield(co);
	co_yield(co);
}

static void run_falling(void)
{
	struct world w;

	world_init(&w);
	go(&w, "bystander", idle, NULL);
	go(&w, "falling \"down\"", falling, NULL);
	co_sched_run(w.sched);
}

static void overflow(void)
{
	must(co_report_overflow());
	must(co_report_overflow());
	run_falling();
}

static void overflow_unreported(void) { run_falling(); }

static void *thread_main(void *arg)
{
	(void)arg;
	run_falling();
	return NULL;
}

static void overflow_in_another_thread(void)
{
	struct world w;
	pthread_t thread;

	world_init(&w);
	must(co_report_overflow());
	must(pthread_create(&thread, NULL, thread_main, NULL));
	pthread_join(thread, NULL);
}

static void write_to(struct co *co, void *arg)
{
	(void)co;
	*(volatile char *)arg = 1;
}

static void fault_elsewhere(void)
{
	void *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct world w;

	must(co_report_overflow());
	world_init(&w);
	must(co_main(w.sched, "writer", write_to, nowhere));
}

static void handler_of_before(int signal, siginfo_t *info, void *context)
{
	static const char words[] = "the handler of before\n";

	(void)signal, (void)context;
	if (info->si_addr && write(STDERR_FILENO, words, sizeof(words) - 1) > 0)
		raise(SIGKILL);
}

static void install_handler_of_before(void)
{
	struct sigaction action = {.sa_sigaction = handler_of_before, .sa_flags = SA_SIGINFO};

	must(sigaction(SIGSEGV, &action, NULL));
}

static void fault_elsewhere_with_handler(void)
{
	install_handler_of_before();
	fault_elsewhere();
}

static char *low;

static void remember(struct co *co, void *arg)
{
	(void)arg;
	low = co->stack.low;
}

static void write_below(struct co *co, void *arg)
{
	(void)arg;
	write_to(co, low - 1);
}

/* The guard of a stack that nobody runs on: a stray pointer, no overflow. */
static void fault_below_a_free_stack(void)
{
	struct world w;

	install_handler_of_before();
	must(co_report_overflow());
	world_init(&w);
	go(&w, "gone", remember, NULL);
	go(&w, "stray", write_below, NULL);
	co_sched_run(w.sched);
}

static void sent_signal(void)
{
	must(co_report_overflow());
	raise(SIGSEGV);
}

/* ---- the tests ---- */

static void assert_overflow_is_told(const struct death *death)
{
	static const char told[] = "corral: stack overflow in coroutine \"falling \"down\"\" (";
	const char *at = strstr(death->words, told);
	unsigned number = 0;
	char end = 0;

	assert_non_null(at);
	assert_int_equal(sscanf(at + strlen(told), "%u KiB)%c", &number, &end), 2);
	assert_int_equal(end, '\n');
	assert_in_range(number, CO_STACK_BYTES / 1024, 8 * CO_STACK_BYTES / 1024);
	assert_null(strstr(death->words, "bystander"));
	assert_killed_by(death, SIGSEGV);
}

static void test_overflow_names_its_coroutine(void **state)
{
	struct death death = die_in_child(overflow);

	(void)state;
	assert_overflow_is_told(&death);
}

static void test_schedulers_made_later_and_elsewhere(void **state)
{
	struct death death = die_in_child(overflow_in_another_thread);

	(void)state;
	assert_overflow_is_told(&death);
}

static void test_without_being_asked_it_is_silent(void **state)
{
	struct death death = die_in_child(overflow_unreported);

	(void)state;
	assert_null(strstr(death.words, "corral:"));
	assert_killed_by(&death, SIGSEGV);
}

static void test_other_faults_take_their_course(void **state)
{
	struct death death = die_in_child(fault_elsewhere);

	(void)state;
	assert_null(strstr(death.words, "corral:"));
	assert_killed_by(&death, SIGSEGV);
}

static void test_a_free_stack_does_not_overflow(void **state)
{
	struct death death = die_in_child(fault_below_a_free_stack);

	(void)state;
	assert_non_null(strstr(death.words, "the handler of before"));
	assert_null(strstr(death.words, "corral:"));
	assert_killed_by(&death, SIGKILL);
}

static void test_other_faults_go_to_the_handler_of_before(void **state)
{
	struct death death = die_in_child(fault_elsewhere_with_handler);

	(void)state;
	assert_non_null(strstr(death.words, "the handler of before"));
	assert_null(strstr(death.words, "corral:"));
	assert_killed_by(&death, SIGKILL);
}

static void test_a_signal_that_was_sent(void **state)
{
	struct death death = die_in_child(sent_signal);

	(void)state;
	assert_null(strstr(death.words, "corral:"));
	assert_killed_by(&death, SIGSEGV);
}

static void see_signal_stack(struct co *co, void *arg)
{
	(void)co;
	must(sigaltstack(NULL, arg));
}

static void test_signal_stack_is_lent(void **state)
{
	stack_t before, inside, after;
	struct world w;

	(void)state;
	world_init(&w);
	assert_int_equal(sigaltstack(NULL, &before), 0);
	assert_int_equal(co_main(w.sched, "see", see_signal_stack, &inside), 0);
	assert_int_equal(sigaltstack(NULL, &after), 0);
	assert_false(inside.ss_flags & SS_DISABLE);
	assert_int_equal(after.ss_flags, before.ss_flags);
	if (!(before.ss_flags & SS_DISABLE)) {
		assert_ptr_equal(inside.ss_sp, before.ss_sp);
		assert_ptr_equal(after.ss_sp, before.ss_sp);
	}
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_overflow_names_its_coroutine),
		cmocka_unit_test(test_schedulers_made_later_and_elsewhere),
		cmocka_unit_test(test_without_being_asked_it_is_silent),
		cmocka_unit_test(test_other_faults_take_their_course),
		cmocka_unit_test(test_a_free_stack_does_not_overflow),
		cmocka_unit_test(test_other_faults_go_to_the_handler_of_before),
		cmocka_unit_test(test_a_signal_that_was_sent),
		cmocka_unit_test(test_signal_stack_is_lent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
