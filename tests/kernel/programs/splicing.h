/* SPDX-License-Identifier: Apache-2.0 */
/* Behaviours that move data without reading it; see behaviours.c. */
#include <sys/sendfile.h>
#include <sys/uio.h>

#define SPLICING_BEHAVIOURS                                                               \
	{ "splice-in", do_splice_in }, { "splice-in-again", do_splice_in_again },         \
		{ "splice-out", do_splice_out }, { "splice-between", do_splice_between }, \
		{ "splice-waiting", do_splice_waiting }, { "tee", do_tee },               \
		{ "vmsplice-in", do_vmsplice_in }, { "vmsplice-out", do_vmsplice_out },   \
		{ "sendfile", do_sendfile },                                              \
	{                                                                                 \
		"copy-file-range", do_copy_file_range                                     \
	}

static void do_splice_in(void)
{
	int ends[2], from = opened("a", O_RDONLY);

	DO(pipe(ends));
	mark();
	DO(splice(from, 0, ends[1], 0, BYTES, 0));
}

/* The second pipe gets what the task has read before. */
static void do_splice_in_again(void)
{
	int ends[2], others[2], from = opened("a", O_RDONLY);
	loff_t start = 0;

	DO(pipe(ends));
	DO(pipe(others));
	DO(splice(from, &start, ends[1], 0, BYTES, 0));
	mark();
	start = 0;
	DO(splice(from, &start, others[1], 0, BYTES, 0));
}

static void do_splice_out(void)
{
	int ends[2], to = opened("b", O_WRONLY);

	DO(pipe(ends));
	DO(write(ends[1], buffer, BYTES));
	mark();
	DO(splice(ends[0], 0, to, 0, BYTES, 0));
}

static void do_splice_between(void)
{
	int ends[2], others[2];

	DO(pipe(ends));
	DO(pipe(others));
	DO(write(ends[1], buffer, BYTES));
	mark();
	DO(splice(ends[0], 0, others[1], 0, BYTES, 0));
}

/* The child waits in its read for what the parent splices. */
static void do_splice_waiting(void)
{
	int ends[2], from = opened("a", O_RDONLY), to = opened("b", O_WRONLY);
	pid_t child;

	DO(pipe(ends));
	child = fork();
	check(child, "fork");
	if (!child) {
		DO(read(ends[0], buffer, BYTES));
		DO(write(to, buffer, BYTES));
		_exit(0);
	}
	await_sleep(child);
	mark();
	DO(splice(from, 0, ends[1], 0, BYTES, 0));
	DO(waitpid(child, 0, 0));
}

static void do_tee(void)
{
	int ends[2], others[2];

	DO(pipe(ends));
	DO(pipe(others));
	DO(write(ends[1], buffer, BYTES));
	mark();
	DO(tee(ends[0], others[1], BYTES, 0));
}

static void do_vmsplice_in(void)
{
	struct iovec part = { buffer, BYTES };
	int ends[2];

	DO(pipe(ends));
	mark();
	DO(vmsplice(ends[1], &part, 1, 0));
}

static void do_vmsplice_out(void)
{
	struct iovec part = { buffer, BYTES };
	int ends[2];

	DO(pipe(ends));
	DO(write(ends[1], buffer, BYTES));
	mark();
	DO(vmsplice(ends[0], &part, 1, 0));
}

static void do_sendfile(void)
{
	int from = opened("a", O_RDONLY), to = opened("b", O_WRONLY);

	mark();
	DO(sendfile(to, from, 0, BYTES));
}

static void do_copy_file_range(void)
{
	int from = opened("a", O_RDONLY), to = opened("b", O_WRONLY);

	mark();
	DO(copy_file_range(from, 0, to, 0, BYTES, 0));
}
