/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of bench.kernel_cost. Prints one line each: name, ns per operation.
 *
 * The least of many short rounds, because guest time counts instructions: what
 * differs between rounds is the timer's interrupt and nothing else.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 40
#define OPERATIONS 50
#define FILE_PATH "/dev/shm/kernel_cost"

static int zero, null, file, ends[2], sockets[2];
static char page[4096];

static void check(long result)
{
	if (result < 0) {
		perror("kernel_cost");
		exit(1);
	}
}

static void do_getppid(void)
{
	check(syscall(SYS_getppid));
}

static void do_read(void)
{
	check(read(zero, page, 1));
}

static void do_write(void)
{
	check(write(null, page, 1));
}

static void do_pread(void)
{
	check(pread(file, page, sizeof(page), 0));
}

static void do_pwrite(void)
{
	check(pwrite(file, page, sizeof(page), 0));
}

static void do_stat(void)
{
	struct stat status;

	check(stat(FILE_PATH, &status));
}

static void do_open(void)
{
	int opened = open(FILE_PATH, O_RDONLY);

	check(opened);
	check(close(opened));
}

static void do_pipe(void)
{
	check(write(ends[1], page, 1));
	check(read(ends[0], page, 1));
}

static void do_unix(void)
{
	check(write(sockets[1], page, 1));
	check(read(sockets[0], page, 1));
}

static long now_ns(void)
{
	struct timespec now;

	check(clock_gettime(CLOCK_MONOTONIC, &now));
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

static void measure(const char *name, void (*operation)(void))
{
	long best = 0;

	for (int i = 0; i < OPERATIONS; i++)
		operation();
	for (int round = 0; round < ROUNDS; round++) {
		long begin = now_ns(), took;

		for (int i = 0; i < OPERATIONS; i++)
			operation();
		took = now_ns() - begin;
		if (!round || took < best)
			best = took;
	}
	printf("%s\t%.1f\n", name, (double)best / OPERATIONS);
}

int main(void)
{
	check(zero = open("/dev/zero", O_RDONLY));
	check(null = open("/dev/null", O_WRONLY));
	check(file = open(FILE_PATH, O_RDWR | O_CREAT, 0600));
	check(pwrite(file, page, sizeof(page), 0));
	check(pipe(ends));
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	measure("getppid", do_getppid);
	measure("read 1 B /dev/zero", do_read);
	measure("write 1 B /dev/null", do_write);
	measure("pread 4 kB tmpfs", do_pread);
	measure("pwrite 4 kB tmpfs", do_pwrite);
	measure("stat", do_stat);
	measure("open+close", do_open);
	measure("pipe write+read", do_pipe);
	measure("unix socket write+read", do_unix);
	return 0;
}
