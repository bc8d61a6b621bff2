// SPDX-License-Identifier: Apache-2.0
/*
 * Small files made, written to, read, renamed and removed, as a mail server does (after the idea of
 * PostMark, Katcher 1997): what a program costs that does nothing but system calls on files.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 200
#define TRANSACTIONS 2000

static char content[4096];

static void check(long result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
}

static void name_of(char *path, unsigned int number)
{
	sprintf(path, "d%u/f%u", number % 10, number);
}

static void write_file(unsigned int number, int flags, size_t size)
{
	char path[32];
	int fd;

	name_of(path, number);
	fd = open(path, flags, 0600);
	check(fd, path);
	check(write(fd, content, size), "write");
	check(close(fd), "close");
}

static void read_file(unsigned int number)
{
	char path[32], piece[512];
	long got;
	int fd;

	name_of(path, number);
	fd = open(path, O_RDONLY);
	check(fd, path);
	do {
		got = read(fd, piece, sizeof(piece));
		check(got, "read");
	} while (got > 0);
	check(close(fd), "close");
}

int main(void)
{
	unsigned int each;
	char path[32];

	memset(content, 'x', sizeof(content));
	srand(1);
	for (each = 0; each < 10; each++) {
		sprintf(path, "d%u", each);
		check(mkdir(path, 0700), path);
	}
	for (each = 0; each < FILES; each++)
		write_file(each, O_CREAT | O_WRONLY, 500 + rand() % 3500);
	for (each = 0; each < TRANSACTIONS; each++) {
		unsigned int number = rand() % FILES;

		if (rand() % 2)
			read_file(number);
		else
			write_file(number, O_WRONLY | O_APPEND, 100 + rand() % 400);
		if (rand() % 2) {
			name_of(path, number);
			check(unlink(path), path);
			write_file(number, O_CREAT | O_WRONLY, 500 + rand() % 3500);
		} else {
			name_of(path, number);
			check(rename(path, "moved"), path);
			check(rename("moved", path), path);
		}
	}
	for (each = 0; each < FILES; each++) {
		name_of(path, each);
		check(unlink(path), path);
	}
	return 0;
}
