/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Behaviours of one process towards another: tracing, reading and writing its memory. */
#ifndef TRACING_H
#define TRACING_H

#include <linux/kcmp.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static char victims_word[16] = "word";

/* A process that does nothing until it is killed. */
static pid_t victim(void)
{
	pid_t child = fork();

	DO(child);
	if (!child)
		for (;;)
			pause();
	mark();
	return child;
}

static void end_victim(pid_t child)
{
	int status;

	DO(kill(child, SIGKILL));
	DO(waitpid(child, &status, __WALL));
}

static void do_ptrace_seize(void)
{
	pid_t child = victim();

	DO(ptrace(PTRACE_SEIZE, child, 0, 0));
	end_victim(child);
}

static void do_ptrace_traceme(void)
{
	pid_t child;
	int status;

	mark();
	child = fork();
	DO(child);
	if (!child) {
		DO(ptrace(PTRACE_TRACEME, 0, 0, 0));
		_exit(0);
	}
	DO(waitpid(child, &status, 0));
}

static void do_process_vm_readv(void)
{
	char word[sizeof(victims_word)];
	struct iovec here = { word, sizeof(word) };
	struct iovec there = { victims_word, sizeof(victims_word) };
	pid_t child = victim();

	DO(process_vm_readv(child, &here, 1, &there, 1, 0));
	end_victim(child);
}

static void do_process_vm_writev(void)
{
	struct iovec here = { "other", 6 }, there = { victims_word, 6 };
	pid_t child = victim();

	DO(process_vm_writev(child, &here, 1, &there, 1, 0));
	end_victim(child);
}

static void do_kcmp(void)
{
	pid_t child = victim();

	DO(syscall(SYS_kcmp, getpid(), child, KCMP_VM, 0, 0));
	end_victim(child);
}

static void do_pidfd_getfd(void)
{
	int ends[2], pid_fd;
	pid_t child;

	DO(pipe(ends));
	child = victim();
	pid_fd = syscall(SYS_pidfd_open, child, 0);
	check(pid_fd, "pidfd_open");
	DO(syscall(SYS_pidfd_getfd, pid_fd, ends[1], 0));
	end_victim(child);
}

/* trace-other PID: of a process that is not a child */
static void do_trace_other(void)
{
	mark();
	DO(ptrace(PTRACE_SEIZE, atoi(arguments[0]), 0, 0));
}

#define TRACING_BEHAVIOURS                                                            \
	{ "ptrace-seize", do_ptrace_seize }, { "ptrace-traceme", do_ptrace_traceme }, \
		{ "process-vm-readv", do_process_vm_readv },                          \
		{ "process-vm-writev", do_process_vm_writev }, { "kcmp", do_kcmp },   \
		{ "pidfd-getfd", do_pidfd_getfd },                                    \
	{                                                                             \
		"trace-other", do_trace_other                                         \
	}

#endif
