/* SPDX-License-Identifier: MIT */
/* The bare switch: registers, floating point, the end of a backtrace. */
#include <execinfo.h>

#include "co/stack.h"
#include "co/switch.h"
#include "host.h"

static struct co_stack *stacks[2];
static struct co_context outside, flows[2];

static void init_flows(co_context_start *start)
{
	for (int i = 0; i < 2; i++)
		co_context_init(&flows[i], stacks[i]->low, stacks[i], start);
}

/* ---- registers ---- */

/*
 * Fills every register that a called function must keep with values made of seed, calls fn(arg), and returns 0 if
 * all are as they were.
 */
uint64_t call_with_registers(void (*fn)(void *), void *arg, uint64_t seed);

#if defined(__x86_64__)
__asm__(".pushsection .text\n"
	".type call_with_registers, @function\n"
	"call_with_registers:\n"
	"push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15; push %rdx\n"
	"lea 1(%rdx), %rbx; lea 2(%rdx), %rbp; lea 3(%rdx), %r12\n"
	"lea 4(%rdx), %r13; lea 5(%rdx), %r14; lea 6(%rdx), %r15\n"
	"mov %rdi, %rax; mov %rsi, %rdi; call *%rax\n"
	"pop %rdx; xor %eax, %eax\n"
	"lea 1(%rdx), %rcx; xor %rbx, %rcx; or %rcx, %rax\n"
	"lea 2(%rdx), %rcx; xor %rbp, %rcx; or %rcx, %rax\n"
	"lea 3(%rdx), %rcx; xor %r12, %rcx; or %rcx, %rax\n"
	"lea 4(%rdx), %rcx; xor %r13, %rcx; or %rcx, %rax\n"
	"lea 5(%rdx), %rcx; xor %r14, %rcx; or %rcx, %rax\n"
	"lea 6(%rdx), %rcx; xor %r15, %rcx; or %rcx, %rax\n"
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp; ret\n"
	".popsection\n");
#define HAVE_CALL_WITH_REGISTERS 1
#elif defined(__aarch64__)
#define TO(r, n) "add " #r ", x2, #" #n "\n"
#define BACK(r, n) "add x3, x2, #" #n "; eor x3, x3, " #r "; orr x0, x0, x3\n"
#define TO_D(r, n) "add x3, x2, #" #n "; fmov " #r ", x3\n"
#define BACK_D(r, n) "fmov x4, " #r "\n" BACK(x4, n)
/* clang-format off */
__asm__(".pushsection .text\n"
	".type call_with_registers, %function\n"
	"call_with_registers:\n"
	"stp x29, x30, [sp, #-176]!\n"
	"stp x19, x20, [sp, #16]; stp x21, x22, [sp, #32]; stp x23, x24, [sp, #48]; stp x25, x26, [sp, #64]\n"
	"stp x27, x28, [sp, #80]; stp d8, d9, [sp, #96]; stp d10, d11, [sp, #112]; stp d12, d13, [sp, #128]\n"
	"stp d14, d15, [sp, #144]; str x2, [sp, #160]\n"
	TO(x19, 1) TO(x20, 2) TO(x21, 3) TO(x22, 4) TO(x23, 5) TO(x24, 6) TO(x25, 7) TO(x26, 8) TO(x27, 9) TO(x28, 10)
	TO(x29, 11) TO_D(d8, 12) TO_D(d9, 13) TO_D(d10, 14) TO_D(d11, 15) TO_D(d12, 16) TO_D(d13, 17) TO_D(d14, 18)
	TO_D(d15, 19)
	"mov x9, x0; mov x0, x1; blr x9\n"
	"ldr x2, [sp, #160]; mov x0, #0\n"
	BACK(x19, 1) BACK(x20, 2) BACK(x21, 3) BACK(x22, 4) BACK(x23, 5) BACK(x24, 6) BACK(x25, 7) BACK(x26, 8)
	BACK(x27, 9) BACK(x28, 10) BACK(x29, 11) BACK_D(d8, 12) BACK_D(d9, 13) BACK_D(d10, 14) BACK_D(d11, 15)
	BACK_D(d12, 16) BACK_D(d13, 17) BACK_D(d14, 18) BACK_D(d15, 19)
	"ldp x19, x20, [sp, #16]; ldp x21, x22, [sp, #32]; ldp x23, x24, [sp, #48]; ldp x25, x26, [sp, #64]\n"
	"ldp x27, x28, [sp, #80]; ldp d8, d9, [sp, #96]; ldp d10, d11, [sp, #112]; ldp d12, d13, [sp, #128]\n"
	"ldp d14, d15, [sp, #144]; ldp x29, x30, [sp], #176; ret\n"
	".popsection\n");
/* clang-format on */
#define HAVE_CALL_WITH_REGISTERS 1
#else
#define HAVE_CALL_WITH_REGISTERS 0
#endif

/* To the other flow. */
static void leave(void *arg)
{
	struct co_context *self = arg;

	if (co_context_switch(self, &flows[self == &flows[0]]) != self)
		abort();
}

static void come_in(void *arg) { co_context_switch(&outside, arg); }

#if HAVE_CALL_WITH_REGISTERS
static unsigned passes;

/* Two flows that each keep their own values, switching to each other from deep within. */
static void keep_registers(struct co_context *self)
{
	uint64_t seed = self == &flows[0] ? UINT64_C(0x1111222233334444) : UINT64_C(0xeeeeddddccccbbbb);

	for (unsigned i = 0; i < 5; i++) {
		if (call_with_registers(leave, self, seed + 100 * i) == 0)
			passes++;
	}
	co_context_switch(self, &outside);
}

static void test_registers_survive(void **state)
{
	(void)state;
	passes = 0;
	init_flows(keep_registers);
	assert_int_equal(call_with_registers(come_in, &flows[0], UINT64_C(0x0123456789abcdef)), 0);
	assert_int_equal(passes, 5 + 4);
}
#endif

/* ---- floating point ---- */

static double sums[2];
static long double long_sums[2];

static void add_up(struct co_context *self)
{
	int which = self == &flows[1];
	double sum = 0, factor = which ? 1.0 / 3 : 1.0 / 7;
	long double long_sum = 0;

	for (int i = 1; i <= 100; i++) {
		sum += factor / i;
		long_sum += (long double)factor / i;
		leave(self);
	}
	sums[which] = sum;
	long_sums[which] = long_sum;
	if (which)
		co_context_switch(self, &outside);
	else
		leave(self);
	abort();
}

static void test_floating_point_values_survive(void **state)
{
	(void)state;
	init_flows(add_up);
	come_in(&flows[0]);
	for (int which = 0; which < 2; which++) {
		volatile double sum = 0, factor = which ? 1.0 / 3 : 1.0 / 7;
		volatile long double long_sum = 0;

		for (int i = 1; i <= 100; i++) {
			sum += factor / i;
			long_sum += (long double)factor / i;
		}
		assert_true(sums[which] == sum);
		assert_true(long_sums[which] == long_sum);
	}
}

/* ---- the first frame ---- */

static int frames;

static void walk(struct co_context *self)
{
	void *addresses[64];

	frames = backtrace(addresses, 64);
	co_context_switch(self, &outside);
}

static void test_backtrace_ends_at_the_entry(void **state)
{
	(void)state;
	init_flows(walk);
	come_in(&flows[0]);
	assert_in_range(frames, 2, 5);
}

static uintptr_t misaligned;

static void see_alignment(struct co_context *self)
{
	char wide[64] __attribute__((aligned(16)));
	char *volatile at = wide;

	misaligned = (uintptr_t)at & 15;
	co_context_switch(self, &outside);
}

static void test_stack_is_aligned(void **state)
{
	(void)state;
	misaligned = 1;
	for (int shift = 0; shift < 16; shift++) {
		co_context_init(&flows[0], stacks[0]->low, (char *)stacks[0] - shift, see_alignment);
		come_in(&flows[0]);
		assert_int_equal(misaligned, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#if HAVE_CALL_WITH_REGISTERS
		cmocka_unit_test(test_registers_survive),
#endif
		cmocka_unit_test(test_floating_point_values_survive),
		cmocka_unit_test(test_backtrace_ends_at_the_entry),
		cmocka_unit_test(test_stack_is_aligned),
	};
	struct co_stack_pool pool;
	int rc;

	if (co_stack_pool_init(&pool, CO_STACK_BYTES, 2, sizeof(struct co_stack)) != 0)
		return 1;
	must(co_stack_take(&pool, &stacks[0]));
	must(co_stack_take(&pool, &stacks[1]));
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	co_stack_pool_fini(&pool);
	return rc;
}
