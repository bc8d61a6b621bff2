/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Behaviours of one process towards another: tracing, its memory, signals. */
#ifndef TRACING_H
#define TRACING_H

#include <linux/kcmp.h>
#include <signal.h>
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

/* A process that waits and ignores what it is sent. */
static pid_t listener(void)
{
	pid_t child;

	signal(SIGUSR1, SIG_IGN);
	signal(SIGUSR2, SIG_IGN);
	child = fork();
	DO(child);
	if (!child)
		for (;;)
			pause();
	mark();
	return child;
}

static void do_signals(void)
{
	pid_t child = listener();

	DO(kill(child, 0));
	DO(kill(child, SIGUSR1));
	DO(kill(child, SIGUSR1));
	DO(kill(child, SIGUSR2));
	DO(syscall(SYS_tgkill, child, child, SIGWINCH));
	DO(kill(getpid(), SIGUSR1));
	DO(raise(SIGUSR2));
	end_victim(child);
}

static void do_signal_queue(void)
{
	union sigval value = { .sival_int = 1 };
	pid_t child = listener();
	int pid_fd = syscall(SYS_pidfd_open, child, 0);

	check(pid_fd, "pidfd_open");
	DO(sigqueue(child, SIGUSR1, value));
	DO(syscall(SYS_pidfd_send_signal, pid_fd, SIGUSR2, 0, 0));
	end_victim(child);
}

/* signal-group: to all processes of a group, of which the sender is none */
static void do_signal_group(void)
{
	pid_t first, second;
	int status;

	first = fork();
	DO(first);
	if (!first)
		for (;;)
			pause();
	DO(setpgid(first, first));
	second = fork();
	DO(second);
	if (!second)
		for (;;)
			pause();
	DO(setpgid(second, first));
	mark();
	DO(kill(-first, SIGTERM));
	DO(waitpid(first, &status, 0));
	DO(waitpid(second, &status, 0));
}

/* signal-back: what a signalled process writes then is of who signalled it */
static volatile sig_atomic_t told;

static void hear(int number)
{
	told = number;
}

static void do_signal_back(void)
{
	int fd = opened("b", O_WRONLY), status;
	sigset_t blocked, before;
	pid_t child;

	signal(SIGUSR1, hear);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	DO(sigprocmask(SIG_BLOCK, &blocked, &before));
	child = fork();
	DO(child);
	if (!child) {
		while (!told)
			sigsuspend(&before);
		DO(write(fd, buffer, BYTES));
		_exit(0);
	}
	mark();
	DO(kill(child, SIGUSR1));
	DO(waitpid(child, &status, 0));
}

/* signal-other PID: of a process that is not a child */
static void do_signal_other(void)
{
	mark();
	DO(kill(atoi(arguments[0]), SIGTERM));
}

#define TRACING_BEHAVIOURS                                                            \
	{ "signals", do_signals }, { "signal-queue", do_signal_queue },               \
		{ "signal-group", do_signal_group }, { "signal-back", do_signal_back },  \
		{ "signal-other", do_signal_other },                                  \
	{ "ptrace-seize", do_ptrace_seize }, { "ptrace-traceme", do_ptrace_traceme }, \
		{ "process-vm-readv", do_process_vm_readv },                          \
		{ "process-vm-writev", do_process_vm_writev }, { "kcmp", do_kcmp },   \
		{ "pidfd-getfd", do_pidfd_getfd },                                    \
	{                                                                             \
		"trace-other", do_trace_other                                         \
	}

#endif
