/* SPDX-License-Identifier: Apache-2.0 */
/* Behaviours that make the kernel take something in, which it then refuses; see behaviours.c. */

#define LOADING_BEHAVIOURS                                       \
	{ "load-module-file", do_load_module_file },             \
		{ "load-module-memory", do_load_module_memory }, \
		{ "load-kexec-file", do_load_kexec_file },       \
		{ "load-kexec-memory", do_load_kexec_memory },   \
	{                                                        \
		"load-by-writing", do_load_by_writing            \
	}

static void do_load_module_file(void)
{
	int fd = opened("a", O_RDONLY);

	mark();
	syscall(SYS_finit_module, fd, "", 0);
}

static void do_load_module_memory(void)
{
	mark();
	syscall(SYS_init_module, buffer, sizeof(buffer), "");
}

static void do_load_kexec_file(void)
{
	int image = opened("a", O_RDONLY), initramfs = opened("b", O_RDONLY);

	mark();
	syscall(SYS_kexec_file_load, image, initramfs, 1, "", 0);
}

/* No segment at all: it unloads what was never loaded. */
static void do_load_kexec_memory(void)
{
	mark();
	syscall(SYS_kexec_load, 0, 0, 0, 0);
}

/* FILE TEXT: what a kernel file takes as the name of something to load */
static void do_load_by_writing(void)
{
	int fd = opened(arguments[0], O_WRONLY);

	mark();
	write(fd, arguments[1], strlen(arguments[1]));
}
