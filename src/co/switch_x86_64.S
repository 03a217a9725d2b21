/* SPDX-License-Identifier: MIT */
/*
 * Under the first frame of each stack: calls the start function, which never returns. The call aligns the stack as the
 * ABI wants it. Whoever walks the stack ends here: by the unwind table (undefined), by the frame pointer (zero), or by the
 * return address (zero; two of them for the alignment).
 */
	.text
	.globl	co_context_enter
	.hidden	co_context_enter
	.type	co_context_enter, @function
co_context_enter:
	.cfi_startproc
	.cfi_undefined rip
	endbr64
	xorl	%ebp, %ebp
	pushq	$0
	pushq	$0
	call	*%rbx
	ud2
	.cfi_endproc
	.size	co_context_enter, . - co_context_enter

	.section .note.GNU-stack, "", @progbits
