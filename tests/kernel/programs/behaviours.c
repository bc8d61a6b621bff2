/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel tests capture: one behaviour per run, as few system calls as can be. A behaviour
 * prepares, then asks twice for its own process group (a getpgid edge each) and does between the
 * two what the test is about.
 *
 *   behaviours enter CGROUP COMMAND...    enter a cgroup, then execute COMMAND
 *   behaviours BEHAVIOUR [ARGUMENT...]    in the working directory
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES 23

static char buffer[4096];
static char **arguments;

static void check(long result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "%s: %s\n", what, strerror(errno));
		_exit(99);
	}
}

#define DO(call) check((long)(call), #call)

static void mark(void)
{
	DO(syscall(SYS_getpgid, getpid()));
}

static int opened(const char *name, int flags)
{
	int fd = open(name, flags, 0644);

	check(fd, name);
	return fd;
}

/*
 * Wait until another process sleeps in a system call. Its status is the file of /proc
 * that shows this and is no look into its memory (proc_pid_status asks no LSM hook).
 */
static void await_sleep(pid_t process)
{
	char path[64], text[4096] = "";
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/status", process);
	while (!strstr(text, "State:\tS")) {
		DO(usleep(10000));
		fd = opened(path, O_RDONLY);
		length = read(fd, text, sizeof(text) - 1);
		check(length, "read a process's status");
		text[length] = 0;
		close(fd);
	}
}

static void do_nothing(void)
{
	mark();
}

static void do_open(void)
{
	mark();
	opened("a", O_RDONLY);
}

static void do_create(void)
{
	mark();
	opened("new", O_WRONLY | O_CREAT | O_EXCL);
}

static void do_read(void)
{
	int fd = opened("a", O_RDONLY);

	mark();
	DO(read(fd, buffer, BYTES));
}

static void do_read_again(void)
{
	int fd = opened("a", O_RDONLY);

	mark();
	DO(read(fd, buffer, BYTES));
	DO(read(fd, buffer, BYTES));
	DO(read(fd, buffer, BYTES));
}

static void do_write(void)
{
	int fd = opened("a", O_WRONLY);

	mark();
	DO(write(fd, buffer, BYTES));
	DO(write(fd, buffer, BYTES));
}

static void do_copy(void)
{
	int from = opened("a", O_RDONLY), to = opened("b", O_WRONLY | O_CREAT);

	mark();
	DO(read(from, buffer, BYTES));
	DO(write(to, buffer, BYTES));
	DO(read(from, buffer, BYTES));
	DO(write(to, buffer, BYTES));
}

static void do_list(void)
{
	int fd = opened(".", O_RDONLY | O_DIRECTORY);

	mark();
	DO(syscall(SYS_getdents64, fd, buffer, sizeof(buffer)));
}

static void do_ioctl(void)
{
	int fd = opened("a", O_RDONLY), available;

	mark();
	DO(ioctl(fd, FIONREAD, &available));
}

static void do_lock(void)
{
	int fd = opened("a", O_RDONLY);

	mark();
	DO(flock(fd, LOCK_EX));
}

static void do_pipe(void)
{
	int ends[2];

	mark();
	DO(pipe(ends));
	DO(write(ends[1], buffer, BYTES));
	DO(read(ends[0], buffer, BYTES));
}

static void do_free_pipe(void)
{
	int ends[2];

	DO(pipe(ends));
	DO(write(ends[1], buffer, BYTES));
	mark();
	DO(close(ends[0]));
	DO(close(ends[1]));
}

static void do_free_file(void)
{
	int fd = opened("a", O_RDONLY);

	DO(unlink("a"));
	mark();
	DO(close(fd));
}

static void pass_descriptor(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec data = { buffer, 1 };
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(int));
	DO(sendmsg(socket, &message, 0));
}

static void do_receive_descriptor(void)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec data = { buffer, 1 };
	struct msghdr message = { .msg_iov = &data,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	int pair[2], fd = opened("a", O_RDONLY);

	DO(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	pass_descriptor(pair[0], fd);
	mark();
	DO(recvmsg(pair[1], &message, 0));
}

/* --- memory ------------------------------------------------------------------------------- */

static void map(int protection, int flags, int fd)
{
	DO(mmap(0, sizeof(buffer), protection, flags, fd, 0) == MAP_FAILED ? -1 : 0);
}

static void do_map_shared(void)
{
	int fd = opened("a", O_RDWR);

	mark();
	map(PROT_READ | PROT_WRITE, MAP_SHARED, fd);
}

static void do_map_many(void)
{
	int count = atoi(arguments[0]);
	char name[16];

	mark();
	while (count-- > 0) {
		snprintf(name, sizeof(name), "m%d", count);
		map(PROT_READ, MAP_SHARED, opened(name, O_RDWR | O_CREAT));
	}
}

static void do_map_private(void)
{
	int fd = opened("a", O_RDONLY);

	mark();
	map(PROT_READ, MAP_PRIVATE, fd);
}

/* What is read may go into the mapping, and out of it into what is written. */
static void through_mapping(int flags)
{
	int mapped = opened("a", flags), from = opened("b", O_RDONLY);
	int to = opened("c", O_WRONLY | O_CREAT);

	map(flags == O_RDWR ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, mapped);
	mark();
	DO(read(from, buffer, BYTES));
	DO(write(to, buffer, BYTES));
}

static void do_map_flows(void)
{
	through_mapping(O_RDWR);
}

static void do_map_flows_read_only(void)
{
	through_mapping(O_RDONLY);
}

/* Two processes, one mapping: what one of them reads may be in what the other writes. */
static void do_map_between(void)
{
	int mapped = opened("a", O_RDWR), from = opened("b", O_RDONLY);
	int to = opened("c", O_WRONLY | O_CREAT), status;
	pid_t child;

	map(PROT_READ | PROT_WRITE, MAP_SHARED, mapped);
	mark();
	DO(read(from, buffer, BYTES));
	child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	DO(child);
	if (!child) {
		DO(write(to, buffer, BYTES));
		_exit(0);
	}
	DO(waitpid(child, &status, 0));
}

/* map-together FILES: two processes map a new file shared at one moment, then use it */
static void do_map_together(void)
{
	volatile unsigned int *arrived = mmap(0, sizeof(*arrived), PROT_READ | PROT_WRITE,
					      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int files = atoi(arguments[0]), i, side, status;
	char name[32];

	mark();
	for (i = 0; i < files; i++) {
		snprintf(name, sizeof(name), "together%d", i);
		close(opened(name, O_RDWR | O_CREAT));
		*arrived = 0;
		for (side = 0; side < 2; side++) {
			pid_t child = fork();

			check(child, "fork");
			if (child)
				continue;
			int fd = opened(name, O_RDWR);

			__sync_fetch_and_add(arrived, 1);
			while (*arrived < 2)
				;
			if (mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED)
				_exit(1);
			DO(write(fd, buffer, BYTES));
			DO(read(fd, buffer, BYTES));
			_exit(0);
		}
		for (side = 0; side < 2; side++) {
			DO(wait(&status));
			check(status ? -1 : 0, "a mapping process");
		}
	}
}

/* --- processes ---------------------------------------------------------------------------- */

static void do_fork(void)
{
	int status;
	pid_t child;

	mark();
	child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	DO(child);
	if (!child)
		_exit(0);
	DO(waitpid(child, &status, 0));
}

static int thread_body(void *fd)
{
	DO(write(*(int *)fd, buffer, BYTES));
	syscall(SYS_exit, 0);
	return 0;
}

static void do_thread(void)
{
	static char stack[65536];
	int fd = opened("a", O_WRONLY), thread;

	mark();
	thread = clone(thread_body, stack + sizeof(stack),
		       CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, &fd);
	DO(thread);
	/* It is over when its number is free again. */
	while (!syscall(SYS_tgkill, getpid(), thread, 0))
		sched_yield();
}

static void do_exec(void)
{
	static char *none[] = { 0 };

	mark();
	DO(execve("./behaviours", arguments, none));
}

/* The environment is what no record may hold. */
static void do_exec_with_environment(void)
{
	static char *environment[] = { "SECRET=environment-of-the-test", 0 };

	mark();
	DO(execve("./behaviours", arguments, environment));
}

static void do_script(void)
{
	static char *words[] = { "script", 0 }, *none[] = { 0 };

	mark();
	DO(execve("./script", words, none));
}

static void do_failing_exec(void)
{
	static char *words[] = { "a", 0 }, *none[] = { 0 };

	mark();
	execve("./a", words, none);
}

static void do_setuid(void)
{
	int fd = opened("a", O_RDONLY);

	mark();
	DO(syscall(SYS_setuid, 1234));
	DO(read(fd, buffer, BYTES));
}

static void do_setpgid(void)
{
	mark();
	DO(setpgid(0, 0));
}

static void do_getpgid(void)
{
	mark();
	DO(syscall(SYS_getpgid, getppid()));
}

/* --- inodes ------------------------------------------------------------------------------- */

static void do_mkdir(void)
{
	mark();
	DO(mkdir("directory", 0755));
}

static void do_mknod(void)
{
	mark();
	DO(mknod("fifo", S_IFIFO | 0644, 0));
}

static void do_link(void)
{
	mark();
	DO(link("a", "b"));
}

static void do_rename(void)
{
	mark();
	DO(rename("a", "b"));
}

/* rename-there FROM TO, link-there FROM TO, unlink-there PATH: by whole paths */
static void do_rename_there(void)
{
	mark();
	DO(rename(arguments[0], arguments[1]));
}

static void do_link_there(void)
{
	mark();
	DO(link(arguments[0], arguments[1]));
}

static void do_unlink_there(void)
{
	mark();
	DO(unlink(arguments[0]));
}

static void do_chmod(void)
{
	mark();
	DO(chmod("a", 0600));
}

static void do_truncate(void)
{
	mark();
	DO(truncate("a", 7));
	DO(truncate("a", 7));
}

static void do_unlink(void)
{
	mark();
	DO(unlink("a"));
}

static void do_rmdir(void)
{
	mark();
	DO(rmdir("directory"));
}

static void do_symlink(void)
{
	mark();
	DO(symlink("a", "link"));
}

static void do_readlink(void)
{
	mark();
	DO(readlink("link", buffer, sizeof(buffer)));
}

static void do_stat(void)
{
	struct stat status;

	mark();
	DO(stat("a", &status));
}

static void do_access(void)
{
	mark();
	DO(access("a", R_OK));
}

static void do_open_names(void)
{
	char **name;

	mark();
	for (name = arguments; *name; name++)
		opened(*name, O_RDONLY);
}

static void do_open_deleted(void)
{
	int fd = opened("a", O_WRONLY | O_CREAT);

	DO(unlink("a"));
	mark();
	snprintf(buffer, sizeof(buffer), "/proc/self/fd/%d", fd);
	opened(buffer, O_WRONLY);
}

/* --- sockets ------------------------------------------------------------------------------ */

static struct sockaddr_un unix_address = { .sun_family = AF_UNIX, .sun_path = "socket" };

static struct sockaddr_in loopback(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET };

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return address;
}

static void do_socket(void)
{
	mark();
	DO(socket(AF_INET, SOCK_STREAM, 0));
}

static void do_socket_pair(void)
{
	int pair[2];

	mark();
	DO(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
}

static void do_free_socket(void)
{
	int one = socket(AF_UNIX, SOCK_STREAM, 0);

	mark();
	DO(close(one));
}

static void do_inet(void)
{
	struct sockaddr_in address = loopback();
	socklen_t length = sizeof(address);
	int listening = socket(AF_INET, SOCK_STREAM, 0);
	int calling = socket(AF_INET, SOCK_STREAM, 0), accepted;

	mark();
	DO(bind(listening, (void *)&address, sizeof(address)));
	DO(listen(listening, 1));
	DO(syscall(SYS_getsockname, listening, &address, &length));
	DO(connect(calling, (void *)&address, sizeof(address)));
	accepted = accept(listening, 0, 0);
	DO(accepted);
	DO(send(calling, buffer, BYTES, 0));
	DO(recv(accepted, buffer, BYTES, 0));
}

static void do_unix(void)
{
	int listening = socket(AF_UNIX, SOCK_STREAM, 0);
	int calling = socket(AF_UNIX, SOCK_STREAM, 0), accepted;

	mark();
	DO(bind(listening, (void *)&unix_address, sizeof(unix_address)));
	DO(listen(listening, 1));
	DO(connect(calling, (void *)&unix_address, sizeof(unix_address)));
	accepted = accept(listening, 0, 0);
	DO(accepted);
	DO(send(calling, buffer, BYTES, 0));
	DO(recv(accepted, buffer, BYTES, 0));
}

static void do_socket_files(void)
{
	int pair[2];

	DO(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	mark();
	DO(write(pair[0], buffer, BYTES));
	DO(read(pair[1], buffer, BYTES));
}

static void do_datagram(void)
{
	int pair[2];

	DO(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	mark();
	DO(send(pair[0], buffer, BYTES, 0));
	DO(recv(pair[1], buffer, BYTES, 0));
}

/*
 * A child that waits in its only read until there is data, then passes it on to b.
 * Channels: pipe, fifo, stream, datagram, seqpacket.
 */
static void do_waiting(void)
{
	const char *channel = arguments[0];
	int ends[2], to;
	pid_t child;

	to = opened("b", O_WRONLY);
	if (!strcmp(channel, "pipe")) {
		DO(pipe(ends));
	} else if (!strcmp(channel, "fifo")) {
		DO(mkfifo("fifo", 0600));
		ends[0] = opened("fifo", O_RDWR);
		ends[1] = ends[0];
	} else {
		int type = !strcmp(channel, "stream")	? SOCK_STREAM :
			   !strcmp(channel, "datagram") ? SOCK_DGRAM :
							  SOCK_SEQPACKET;

		DO(socketpair(AF_UNIX, type, 0, ends));
	}
	child = fork();
	check(child, "fork");
	if (!child) {
		DO(read(ends[0], buffer, BYTES));
		DO(write(to, buffer, BYTES));
		_exit(0);
	}
	await_sleep(child);
	mark();
	DO(write(ends[1], buffer, BYTES));
	DO(waitpid(child, 0, 0));
}

/* --- several at once ---------------------------------------------------------------------- */

/* Write, say so, wait to be told, write: the test does something between the two. */
static void do_two_steps(void)
{
	int fd = opened("a", O_WRONLY);

	mark();
	DO(write(fd, buffer, BYTES));
	DO(write(1, "x", 1));
	DO(read(0, buffer, 1));
	DO(write(fd, buffer, BYTES));
}

static void do_flood(void)
{
	int fd = opened("a", O_RDWR), count = atoi(arguments[0]);

	mark();
	while (count-- > 0) {
		DO(pread(fd, buffer, BYTES, 0));
		DO(pwrite(fd, buffer, BYTES, 0));
	}
}

#define CHURN_FILES 7

struct churning {
	unsigned int seed;
	int steps;
	int pair[2];
	int pipe[2];
};

/* Whatever fails here fails because another thread was first, which is the point. */
static void churn_once(struct churning *with)
{
	unsigned int choice = rand_r(&with->seed), status;
	char name[16], other[16];
	char own[BYTES];
	pid_t child;
	int fd;

	snprintf(name, sizeof(name), "f%u", choice / 16 % CHURN_FILES);
	snprintf(other, sizeof(other), "f%u", choice / 256 % CHURN_FILES);
	switch (choice % 13) {
	case 0:
	case 1:
	case 2:
		fd = open(name, O_RDONLY);
		status = read(fd, own, BYTES);
		close(fd);
		break;
	case 3:
	case 4:
	case 5:
		fd = open(name, O_WRONLY | O_CREAT, 0644);
		status = write(fd, own, BYTES);
		close(fd);
		break;
	case 6:
		status = write(with->pipe[1], own, BYTES);
		break;
	case 7:
		status = read(with->pipe[0], own, BYTES);
		break;
	case 8:
		send(with->pair[0], own, BYTES, MSG_DONTWAIT);
		break;
	case 9:
		recv(with->pair[1], own, BYTES, MSG_DONTWAIT);
		break;
	case 10:
		rename(name, other);
		break;
	case 11:
		/* These stay: a process has room for few shared mappings. */
		snprintf(name, sizeof(name), "m%u", choice / 16 % 3);
		fd = open(name, O_RDWR | O_CREAT, 0644);
		mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
		close(fd);
		break;
	case 12:
		if (choice / 4096 % 4)
			break;
		child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (!child) {
			fd = open(name, O_RDWR);
			status = write(fd, own, BYTES);
			_exit(0);
		}
		waitpid(child, (int *)&status, 0);
		break;
	}
}

static void *churn_thread(void *with)
{
	struct churning *own = with;

	while (own->steps-- > 0)
		churn_once(own);
	return 0;
}

/* churn SEED THREADS STEPS: two processes of so many threads on the same files */
static void do_churn(void)
{
	static struct churning each[16];
	static pthread_t threads[16];
	int seed = atoi(arguments[0]), count = atoi(arguments[1]), i, status;
	int ends[2], pair[2];
	pid_t child;

	DO(pipe2(ends, O_NONBLOCK));
	DO(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	mark();
	child = fork();
	DO(child);
	for (i = 0; i < count && i < 16; i++) {
		each[i] = (struct churning){ .seed = seed * 101 + i * 7 + !child,
					     .steps = atoi(arguments[2]),
					     .pair = { pair[0], pair[1] },
					     .pipe = { ends[0], ends[1] } };
		pthread_create(&threads[i], 0, churn_thread, &each[i]);
	}
	while (i-- > 0)
		pthread_join(threads[i], 0);
	if (!child)
		_exit(0);
	DO(waitpid(child, &status, 0));
}

/*
 * steps: the lines of the file "steps", each a letter and what it needs. Numbers are
 * descriptors, which the script chooses.
 *
 *   o FD FLAGS NAME   open             r FD   read a byte    w FD   write a byte
 *   c FD NAME         create           g FD   fstat          l FD   flock
 *   p READ WRITE      pipe             x FD   close
 *   L NAME NEW        link             N NAME NEW   rename
 *   F                 fork: the child does what follows up to its E, the parent waits
 */
static char steps[65536];

static void place(int fd, int wanted)
{
	check(fd, "a descriptor");
	if (fd == wanted)
		return;
	DO(dup2(fd, wanted));
	DO(close(fd));
}

static char *step(char *line)
{
	char name[64] = "", other[64] = "";
	int one = 0, two = 0, ends[2], depth, status;
	char *end = strchr(line, '\n');
	pid_t child;

	*end = 0;
	switch (*line) {
	case 'o':
		sscanf(line + 1, "%d %d %63s", &one, &two, name);
		place(open(name, two), one);
		break;
	case 'c':
		sscanf(line + 1, "%d %63s", &one, name);
		place(open(name, O_WRONLY | O_CREAT | O_EXCL, 0644), one);
		break;
	case 'p':
		sscanf(line + 1, "%d %d", &one, &two);
		DO(pipe(ends));
		place(ends[0], one);
		place(ends[1], two);
		break;
	case 'L':
	case 'N':
		sscanf(line + 1, "%63s %63s", name, other);
		DO(*line == 'L' ? link(name, other) : rename(name, other));
		break;
	case 'F':
		child = fork();
		check(child, "fork");
		if (!child)
			break;
		DO(waitpid(child, &status, 0));
		if (status)
			_exit(97);
		for (depth = 1; depth;) {
			line = end + 1;
			end = strchr(line, '\n');
			depth += (*line == 'F') - (*line == 'E');
		}
		break;
	case 'E':
		_exit(0);
	default:
		sscanf(line + 1, "%d", &one);
		if (*line == 'r')
			DO(read(one, buffer, 1));
		else if (*line == 'w')
			DO(write(one, "x", 1));
		else if (*line == 'g')
			DO(syscall(SYS_fstat, one, buffer));
		else if (*line == 'l')
			DO(flock(one, LOCK_SH));
		else if (*line == 'x')
			DO(close(one));
	}
	return end + 1;
}

static void do_steps(void)
{
	int fd = opened("steps", O_RDONLY);
	char *line = steps;

	DO(read(fd, steps, sizeof(steps) - 1));
	DO(close(fd));
	mark();
	while (*line)
		line = step(line);
}

#include "attributes.h"
#include "ipc.h"
#include "loading.h"
#include "addresses.h"
#include "splicing.h"
#include "tracing.h"

static const struct {
	const char *name;
	void (*act)(void);
} behaviours[] = {
	{ "nothing", do_nothing },
	{ "open", do_open },
	{ "create", do_create },
	{ "read", do_read },
	{ "read-again", do_read_again },
	{ "write", do_write },
	{ "copy", do_copy },
	{ "list", do_list },
	{ "ioctl", do_ioctl },
	{ "lock", do_lock },
	{ "pipe", do_pipe },
	{ "free-pipe", do_free_pipe },
	{ "free-file", do_free_file },
	{ "receive-descriptor", do_receive_descriptor },
	{ "map-shared", do_map_shared },
	{ "map-many", do_map_many },
	{ "map-private", do_map_private },
	{ "map-flows", do_map_flows },
	{ "map-flows-read-only", do_map_flows_read_only },
	{ "map-between", do_map_between },
	{ "map-together", do_map_together },
	{ "fork", do_fork },
	{ "thread", do_thread },
	{ "exec", do_exec },
	{ "exec-with-environment", do_exec_with_environment },
	{ "script", do_script },
	{ "failing-exec", do_failing_exec },
	{ "setuid", do_setuid },
	{ "setpgid", do_setpgid },
	{ "getpgid", do_getpgid },
	{ "mkdir", do_mkdir },
	{ "mknod", do_mknod },
	{ "link", do_link },
	{ "rename", do_rename },
	{ "rename-there", do_rename_there },
	{ "link-there", do_link_there },
	{ "unlink-there", do_unlink_there },
	{ "chmod", do_chmod },
	{ "truncate", do_truncate },
	{ "unlink", do_unlink },
	{ "rmdir", do_rmdir },
	{ "symlink", do_symlink },
	{ "readlink", do_readlink },
	{ "stat", do_stat },
	{ "access", do_access },
	{ "open-names", do_open_names },
	{ "open-deleted", do_open_deleted },
	{ "socket", do_socket },
	{ "socket-pair", do_socket_pair },
	{ "free-socket", do_free_socket },
	{ "inet", do_inet },
	{ "unix", do_unix },
	{ "socket-files", do_socket_files },
	{ "datagram", do_datagram },
	{ "waiting", do_waiting },
	{ "two-steps", do_two_steps },
	{ "flood", do_flood },
	{ "churn", do_churn },
	{ "steps", do_steps },
	ATTRIBUTE_BEHAVIOURS,
	IPC_BEHAVIOURS,
	LOADING_BEHAVIOURS,
	ADDRESS_BEHAVIOURS,
	SPLICING_BEHAVIOURS,
	TRACING_BEHAVIOURS,
};

static void enter(char **words)
{
	int directory = opened(words[0], O_PATH);
	int fd = openat(directory, "cgroup.procs", O_WRONLY);

	check(fd, "cgroup.procs");
	DO(write(fd, "0", 1));
	DO(close(fd));
	DO(close(directory));
	DO(execv(words[1], words + 1));
}

int main(int count, char **words)
{
	unsigned int i;

	if (count > 3 && !strcmp(words[1], "enter"))
		enter(words + 2);
	arguments = words + (count > 1 ? 2 : 1);
	for (i = 0; count > 1 && i < sizeof(behaviours) / sizeof(*behaviours); i++) {
		if (!strcmp(words[1], behaviours[i].name)) {
			behaviours[i].act();
			mark();
			return 0;
		}
	}
	fprintf(stderr, "no such behaviour\n");
	return 98;
}
