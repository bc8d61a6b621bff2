/* SPDX-License-Identifier: Apache-2.0 */
/* Behaviours between processes without a file between them; see behaviours.c. */
#include <mqueue.h>
#include <stdbool.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/shm.h>

#define IPC_BEHAVIOURS                                                                          \
	{ "message", do_message }, { "message-waiting", do_message_waiting },                   \
		{ "message-copy", do_message_copy }, { "message-removed", do_message_removed }, \
		{ "posix-message", do_posix_message }, { "segment", do_segment },               \
		{ "segment-flows", do_segment_flows },                                          \
		{ "segment-read-only", do_segment_read_only },                                  \
		{ "segment-between", do_segment_between },                                      \
		{ "segment-removed", do_segment_removed }, { "posix-memory", do_posix_memory }, \
	{                                                                                       \
		"memfd", do_memfd                                                               \
	}

static struct {
	long type;
	char text[BYTES];
} letter = { 7, "a secret" };

/* What is left of a behaviour goes when it is over, behind its last mark. */
static int left_queue, left_segment;

static void remove_queue(void)
{
	DO(msgctl(left_queue, IPC_RMID, 0));
}

static void remove_segment(void)
{
	DO(shmctl(left_segment, IPC_RMID, 0));
}

static int a_queue(void)
{
	left_queue = msgget(IPC_PRIVATE, 0600);
	check(left_queue, "msgget");
	atexit(remove_queue);
	return left_queue;
}

static void do_message(void)
{
	int queue = a_queue();

	mark();
	DO(msgsnd(queue, &letter, BYTES, 0));
	DO(msgrcv(queue, &letter, BYTES, 0, 0));
}

/* A receiver that waits gets the message from the sender's hand. */
static void do_message_waiting(void)
{
	int queue = a_queue(), to = opened("b", O_WRONLY);
	pid_t child;

	child = fork();
	check(child, "fork");
	if (!child) {
		DO(msgrcv(queue, &letter, BYTES, 0, 0));
		DO(write(to, buffer, BYTES));
		_exit(0);
	}
	await_sleep(child);
	mark();
	DO(msgsnd(queue, &letter, BYTES, 0));
	DO(waitpid(child, 0, 0));
}

static void do_message_copy(void)
{
	int queue = a_queue();

	DO(msgsnd(queue, &letter, BYTES, 0));
	mark();
	DO(msgrcv(queue, &letter, BYTES, 0, 040000 /* MSG_COPY */ | IPC_NOWAIT));
}

static void do_message_removed(void)
{
	int queue = msgget(IPC_PRIVATE, 0600);

	check(queue, "msgget");
	DO(msgsnd(queue, &letter, BYTES, 0));
	mark();
	DO(msgctl(queue, IPC_RMID, 0));
}

static void do_posix_message(void)
{
	struct mq_attr attributes = { .mq_maxmsg = 1, .mq_msgsize = BYTES };
	mqd_t queue;

	mark();
	queue = mq_open("/headwater", O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
	check(queue, "mq_open");
	DO(mq_unlink("/headwater"));
	DO(mq_send(queue, letter.text, BYTES, 5));
	DO(mq_receive(queue, buffer, BYTES, 0));
	DO(mq_close(queue));
}

static int a_segment(bool ends)
{
	left_segment = shmget(IPC_PRIVATE, sizeof(buffer), 0600);
	check(left_segment, "shmget");
	if (ends)
		atexit(remove_segment);
	return left_segment;
}

static void attach(int segment, int flags)
{
	DO(shmat(segment, 0, flags) == (void *)-1 ? -1 : 0);
}

static void do_segment(void)
{
	int segment;

	mark();
	segment = a_segment(true);
	attach(segment, 0);
}

/* What is read may go into the segment, and out of it into what is written. */
static void through_segment(int flags)
{
	int segment = a_segment(true);
	int from = opened("b", O_RDONLY), to = opened("c", O_WRONLY | O_CREAT);

	attach(segment, flags);
	mark();
	DO(read(from, buffer, BYTES));
	DO(write(to, buffer, BYTES));
}

static void do_segment_flows(void)
{
	through_segment(0);
}

static void do_segment_read_only(void)
{
	through_segment(SHM_RDONLY);
}

static void do_segment_between(void)
{
	int segment = a_segment(true);
	int from = opened("b", O_RDONLY), to = opened("c", O_WRONLY | O_CREAT);
	pid_t child;

	child = fork();
	check(child, "fork");
	if (!child) {
		attach(segment, SHM_RDONLY);
		raise(SIGSTOP);
		DO(write(to, buffer, BYTES));
		_exit(0);
	}
	attach(segment, 0);
	DO(waitpid(child, 0, WUNTRACED));
	mark();
	DO(read(from, buffer, BYTES));
	DO(kill(child, SIGCONT));
	DO(waitpid(child, 0, 0));
}

static void do_segment_removed(void)
{
	int segment = a_segment(false);

	mark();
	DO(shmctl(segment, IPC_RMID, 0));
}

static void do_posix_memory(void)
{
	int fd, from = opened("b", O_RDONLY), to = opened("c", O_WRONLY | O_CREAT);

	mark();
	fd = shm_open("/headwater", O_RDWR | O_CREAT | O_EXCL, 0600);
	check(fd, "shm_open");
	DO(shm_unlink("/headwater"));
	DO(ftruncate(fd, sizeof(buffer)));
	map(PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	DO(read(from, buffer, BYTES));
	DO(write(to, buffer, BYTES));
}

static void do_memfd(void)
{
	int fd, from = opened("b", O_RDONLY), to = opened("c", O_WRONLY | O_CREAT);

	mark();
	fd = memfd_create("a name", 0);
	check(fd, "memfd_create");
	DO(write(fd, buffer, BYTES));
	map(PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	DO(read(from, buffer, BYTES));
	DO(write(to, buffer, BYTES));
}
