/* SPDX-License-Identifier: MIT */
/*
 * Under the first frame of each stack: calls the start function, which never returns. A zero x29 and an undefined return
 * address tell whoever walks the stack that it ends here. hint #36 is "bti j".
 */
	.text
	.globl	co_context_enter
	.hidden	co_context_enter
	.type	co_context_enter, %function
co_context_enter:
	.cfi_startproc
	.cfi_undefined x30
	hint	#36
	mov	x29, xzr
	mov	x30, xzr
	blr	x19
	brk	#1
	.cfi_endproc
	.size	co_context_enter, . - co_context_enter

	.section .note.GNU-stack, "", %progbits
