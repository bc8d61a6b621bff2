/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays a container runtime for the kernel tests, in the steps of runc: what it does inside a
 * container's cgroup before the entry point, and the workload itself.
 *
 *   runtime start CGROUP ROOT WORK...   make CGROUP, run ROOT/app WORK... in it
 *   runtime exec CGROUP ROOT WORK...    the same in a cgroup that is there, as `kubectl exec`:
 *                                       already under ROOT and with two threads when it is moved in
 *   runtime clone CGROUP ROOT WORK...   the same, cloned into the cgroup
 *   runtime init ROOT WORK...           (of itself, inside)
 *
 * In the working directory: host and host-2, files of the host. ROOT has app, which is this
 * program, and data. WORK: read; thread; exec (by a thread); host FILE FILE (under the host's root again,
 * the second file by a child).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOST_NAMESPACE 9

static void check(long result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "%s: %s\n", what, strerror(errno));
		_exit(99);
	}
}

#define DO(call) check((long)(call), #call)

static int opened(const char *name)
{
	int fd = open(name, O_RDONLY);

	check(fd, name);
	return fd;
}

static void touch(const char *name)
{
	DO(close(opened(name)));
}

static pid_t thread_id;

static void *touch_in_thread(void *name)
{
	thread_id = gettid();
	touch(name);
	return NULL;
}

/* Gone for the kernel, too, which lets the joining thread go on before that. */
static void join(pthread_t thread)
{
	DO(-pthread_join(thread, NULL));
	while (!tgkill(getpid(), thread_id, 0))
		usleep(1000);
}

static void in_thread(void *(*function)(void *), void *argument)
{
	pthread_t thread;

	DO(-pthread_create(&thread, NULL, function, argument));
	join(thread);
}

/* The namespace's root becomes ROOT, as runc does it; the host's namespace stays in a descriptor. */
static void enter_root(const char *root)
{
	DO(dup2(opened("/proc/self/ns/mnt"), HOST_NAMESPACE));
	DO(unshare(CLONE_NEWNS));
	DO(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	DO(mount(root, root, NULL, MS_BIND, NULL));
	DO(chdir(root));
	if (syscall(SYS_pivot_root, ".", ".")) {
		/* The root is the initial one, which does not move. */
		DO(mount(".", "/", NULL, MS_MOVE, NULL));
		DO(chroot("."));
	} else {
		DO(umount2(".", MNT_DETACH));
	}
	DO(chdir("/"));
}

static void become(char **work)
{
	char *words[16] = { "app", "work" };
	int i;

	for (i = 0; work[i] && i < 13; i++)
		words[i + 2] = work[i];
	execv("/app", words);
	check(-1, "execv /app");
}

static void ended(pid_t child)
{
	int status;

	DO(waitpid(child, &status, 0));
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		_exit(97);
}

static void move(pid_t process, const char *cgroup)
{
	char name[512];
	int fd;

	snprintf(name, sizeof(name), "%s/cgroup.procs", cgroup);
	fd = open(name, O_WRONLY);
	check(fd, name);
	DO(dprintf(fd, "%d", process));
	DO(close(fd));
}

/* A child that waits to be told that it has been moved. */
static pid_t waiting_child(int *tell, int *wait)
{
	int pipes[2];
	pid_t child;

	DO(pipe(pipes));
	child = fork();
	check(child, "fork");
	*tell = pipes[1];
	*wait = pipes[0];
	return child;
}

static void await(int fd)
{
	char byte;

	DO(read(fd, &byte, 1));
}

static void start(char **words)
{
	int tell, wait, self;
	char name[32];
	pid_t child;

	DO(mkdir(words[0], 0755));
	child = waiting_child(&tell, &wait);
	if (!child) {
		char *inside[16] = { "runtime", "init" };
		int i;

		await(wait);
		touch("host");
		self = opened("/proc/self/exe");
		snprintf(name, sizeof(name), "/dev/fd/%d", self);
		for (i = 1; words[i] && i < 13; i++)
			inside[i + 1] = words[i];
		execv(name, inside);
		check(-1, name);
	}
	move(child, words[0]);
	DO(write(tell, "", 1));
	ended(child);
}

/* Its own copy, inside: a process of its own makes the container's place and becomes the workload. */
static void init(char **words)
{
	pid_t child;

	in_thread(touch_in_thread, "host-2");
	child = fork();
	check(child, "fork");
	if (!child) {
		enter_root(words[0]);
		touch("/data");
		become(words + 1);
	}
	ended(child);
}

static void *wait_and_touch(void *argument)
{
	thread_id = gettid();
	await(*(int *)argument);
	touch("/data");
	return NULL;
}

static void exec_in(char **words)
{
	int tell, wait, ready[2];
	pthread_t thread;
	pid_t child;

	DO(pipe(ready));
	child = waiting_child(&tell, &wait);
	if (!child) {
		enter_root(words[1]);
		DO(-pthread_create(&thread, NULL, wait_and_touch, &wait));
		DO(write(ready[1], "", 1));
		join(thread);
		become(words + 2);
	}
	await(ready[0]);
	move(child, words[0]);
	DO(write(tell, "", 1));
	ended(child);
}

static void clone_into(char **words)
{
	int cgroup = open(words[0], O_RDONLY | O_DIRECTORY);
	struct clone_args call = { .flags = CLONE_INTO_CGROUP,
				   .exit_signal = SIGCHLD,
				   .cgroup = cgroup };
	pid_t child;

	check(cgroup, words[0]);
	child = syscall(SYS_clone3, &call, sizeof(call));
	check(child, "clone3");
	if (!child) {
		touch("host");
		DO(chdir(words[1]));
		DO(chroot("."));
		become(words + 2);
	}
	ended(child);
}

static void *exec_in_thread(void *unused)
{
	char *words[] = { "read", NULL };

	thread_id = gettid();
	become(words);
	return unused;
}

static void work(char **words)
{
	pid_t child;

	if (!strcmp(words[0], "read")) {
		touch("/data");
	} else if (!strcmp(words[0], "thread")) {
		in_thread(touch_in_thread, "/data");
	} else if (!strcmp(words[0], "exec")) {
		in_thread(exec_in_thread, NULL);
	} else if (!strcmp(words[0], "host")) {
		DO(setns(HOST_NAMESPACE, CLONE_NEWNS));
		touch(words[1]);
		child = fork();
		check(child, "fork");
		if (!child) {
			touch(words[2]);
			_exit(0);
		}
		ended(child);
	}
}

int main(int count, char **words)
{
	static const struct {
		const char *name;
		void (*act)(char **words);
	} parts[] = { { "start", start },
		      { "init", init },
		      { "exec", exec_in },
		      { "clone", clone_into },
		      { "work", work } };
	unsigned int i;

	for (i = 0; count > 2 && i < sizeof(parts) / sizeof(*parts); i++) {
		if (!strcmp(words[1], parts[i].name)) {
			parts[i].act(words + 2);
			return 0;
		}
	}
	fprintf(stderr, "no such part\n");
	return 98;
}
