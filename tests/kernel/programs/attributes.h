/* SPDX-License-Identifier: Apache-2.0 */
/* Behaviours with the attributes of inodes; see behaviours.c. */
#include <sys/xattr.h>

#define ATTRIBUTE_BEHAVIOURS                                                         \
	{ "chown", do_chown }, { "utimes", do_utimes }, { "setxattr", do_setxattr }, \
		{ "setxattr-long", do_setxattr_long }, { "getxattr", do_getxattr },  \
		{ "listxattr", do_listxattr }, { "removexattr", do_removexattr },    \
		{ "set-acl", do_set_acl },                                           \
	{                                                                            \
		"chmod-and-read", do_chmod_and_read                                  \
	}

static void do_chown(void)
{
	mark();
	DO(chown("a", 12, 34));
}

static void do_utimes(void)
{
	struct timespec times[2] = { { .tv_sec = 86400 }, { .tv_sec = 2 * 86400 } };

	mark();
	DO(utimensat(AT_FDCWD, "a", times, 0));
}

static void do_setxattr(void)
{
	mark();
	DO(setxattr("a", "trusted.colour", "a secret", 8, 0));
}

/* The longest name that there may be. */
static void do_setxattr_long(void)
{
	char name[256];

	memset(name, 'x', sizeof(name) - 1);
	memcpy(name, "trusted.", 8);
	name[sizeof(name) - 1] = 0;
	mark();
	DO(setxattr("a", name, "", 0, 0));
}

static void do_getxattr(void)
{
	DO(setxattr("a", "trusted.colour", "a secret", 8, 0));
	mark();
	DO(getxattr("a", "trusted.colour", buffer, sizeof(buffer)));
}

static void do_listxattr(void)
{
	mark();
	DO(listxattr("a", buffer, sizeof(buffer)));
}

static void do_removexattr(void)
{
	DO(setxattr("a", "trusted.colour", "a secret", 8, 0));
	mark();
	DO(removexattr("a", "trusted.colour"));
}

/* u::rw- u:1000:r-- g::--- m::r-- o::---, as linux/posix_acl_xattr.h has it */
static void do_set_acl(void)
{
	static const struct {
		unsigned int version;
		struct {
			unsigned short tag, permissions;
			unsigned int id;
		} entries[5];
	} list = { 2,
		   { { 1, 6, -1 }, { 2, 4, 1000 }, { 4, 0, -1 }, { 16, 4, -1 }, { 32, 0, -1 } } };

	mark();
	DO(setxattr("a", "system.posix_acl_access", &list, sizeof(list), 0));
	DO(getxattr("a", "system.posix_acl_access", buffer, sizeof(buffer)));
	DO(removexattr("a", "system.posix_acl_access"));
}

static void do_chmod_and_read(void)
{
	int fd = opened("a", O_RDONLY);

	mark();
	DO(chmod("a", 0600));
	DO(read(fd, buffer, BYTES));
}
