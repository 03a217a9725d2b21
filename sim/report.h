/* SPDX-License-Identifier: MIT */
/* What a run says when it fails, and that it fails on a signal too. The process has one report. */
#ifndef CORRAL_SIM_REPORT_H
#define CORRAL_SIM_REPORT_H

/* The command that repeats what runs now, and what else to say when it fails. */
void sim_report_replay(const char *command);
void sim_report_last_words(void (*say)(void));
/* From now on an abort or a wild pointer is reported as a violation. */
void sim_report_signals(void);

#endif
