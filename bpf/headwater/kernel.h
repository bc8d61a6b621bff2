/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the programs need to know of the kernel: constants that are no types (so
 * BTF does not have them) and one getter for everything that is not a plain
 * field access. Kernel differences live here and nowhere else.
 */
#ifndef HEADWATER_KERNEL_H
#define HEADWATER_KERNEL_H

/*
 * The layout of every struct that is named in this text is checked against BTF
 * (headwater_agent/btf_headers.py). These are only reached through others.
 */
struct css_set;
struct path;
struct qstr;
struct sock_common;
struct super_block;

#define READ(target, field) bpf_probe_read_kernel(&(target), sizeof(target), &(field))

/*
 * A field of what a hook is given, by a pointer that the verifier knows. Mode
 * tracepoint finds its objects by descriptors, behind pointers that are plain
 * numbers to the verifier: there a field is copied.
 */
#ifdef HW_MODE_TRACEPOINT
/* Through a word (of a little-endian CPU), because a field may be const. */
#define HW_GET(pointer, field)                                                             \
	({                                                                                 \
		u64 got_ = 0;                                                              \
		bpf_probe_read_kernel(&got_, sizeof((pointer)->field), &(pointer)->field); \
		(__typeof__((pointer)->field))got_;                                        \
	})
#else
#define HW_GET(pointer, field) ((pointer)->field)
#endif

#define S_IFMT 00170000
#define S_IFSOCK 0140000
#define S_IFLNK 0120000
#define S_IFREG 0100000
#define S_IFBLK 0060000
#define S_IFDIR 0040000
#define S_IFCHR 0020000
#define S_IFIFO 0010000

#define MAY_EXEC 0x01
#define MAY_WRITE 0x02
#define MAY_READ 0x04
#define MAY_APPEND 0x08
#define MAY_NOT_BLOCK 0x80

/* What of a struct iattr is set. */
#define ATTR_MODE (1 << 0)
#define ATTR_UID (1 << 1)
#define ATTR_GID (1 << 2)
#define ATTR_SIZE (1 << 3)

#define EEXIST 17
#define S_PRIVATE (1 << 9)
#define SOCKFS_MAGIC 0x534f434b
#define SHM_RDONLY 010000
#define AF_UNSPEC 0
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define TCP_ESTABLISHED 1
#define TCP_CLOSE_WAIT 8
#define SOCK_DGRAM 2
#define MAP_SHARED 0x01
#define PROT_WRITE 0x02

/*
 * A value of which the compiler knows nothing: what is computed from it stays
 * arithmetic, where a branch would double what the verifier has to walk through.
 */
static __always_inline u32 hw_opaque(u32 value)
{
	asm volatile("" : "+r"(value));
	return value;
}

/* 1 for the mode of a socket, else 0. */
static __always_inline u32 hw_is_socket_mode(u32 mode)
{
	return hw_opaque(1U << (S_IFSOCK >> 12) >> ((mode & S_IFMT) >> 12)) & 1;
}

/*
 * A file that the kernel opened below another one (overlayfs, backing files):
 * the access was already mediated for the file above it. Since 6.5 such files
 * carry FMODE_BACKING (62d53c4a1dfe "fs: use backing_file container") and their own
 * path; before, they pair the upper path with the lower inode.
 */
/* In file->f_flags: the kernel opens the file to execute it. No open(2) can say so. */
#define HW_OPEN_FOR_EXEC 0x20U

#define FMODE_READ 0x1U
#define FMODE_WRITE 0x2U
#define FMODE_BACKING (1U << 25)

/* Since 6.9 the hook has the mount's idmap, as the function that calls it (EVM is an LSM since). */
#if defined(HW_MODE_FENTRY) || LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
#define HW_SETATTR_ARGUMENTS void *idmap, struct dentry *dentry, struct iattr *attributes
#else
#define HW_SETATTR_ARGUMENTS struct dentry *dentry, struct iattr *attributes
#endif

static __always_inline bool hw_is_backing_file(struct file *file)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
	return (u32)HW_GET(file, f_mode) & FMODE_BACKING;
#else
	return HW_GET(file, f_inode) != HW_GET(HW_GET(file, f_path.dentry), d_inode);
#endif
}

/*
 * pid and tgid are neighbours: LLVM 19 reads both in one access of 8 bytes, and
 * the verifier lets no access run over the end of a member.
 */
static __always_inline u32 hw_pid(const struct task_struct *task)
{
	return *(const volatile pid_t *)&task->pid;
}

static __always_inline u32 hw_tgid(const struct task_struct *task)
{
	return *(const volatile pid_t *)&task->tgid;
}

static __always_inline struct task_struct *hw_current(void)
{
	return (struct task_struct *)bpf_get_current_task_btf();
}

/* The unified hierarchy's cgroup id of a task: 64 bits, never reused. */
static __always_inline u64 hw_task_cgroup(struct task_struct *task)
{
	struct cgroup *cgroup = task->cgroups->dfl_cgrp;

	return cgroup->kn->id;
}

static __always_inline u64 hw_cgroup_id(struct cgroup *cgroup)
{
	struct kernfs_node *node = 0;
	u64 id = 0;

	READ(node, cgroup->kn);
	READ(id, node->id);
	return id;
}

/* sockfs inodes lie beside their struct socket (struct socket_alloc). */
static __always_inline u64 hw_inode_sock(struct inode *inode)
{
	struct socket_alloc *both =
		(void *)inode - __builtin_offsetof(struct socket_alloc, vfs_inode);
	struct sock *sock = 0;

	READ(sock, both->socket.sk);
	return (u64)sock;
}

static __always_inline struct inode *hw_socket_inode(struct socket *socket)
{
	struct socket_alloc *both =
		(void *)socket - __builtin_offsetof(struct socket_alloc, socket);

	return &both->vfs_inode;
}

static __always_inline u64 hw_unix_peer(struct sock *sock)
{
	struct unix_sock *here = (struct unix_sock *)sock;
	struct sock *peer = 0;

	READ(peer, here->peer);
	return (u64)peer;
}

static __always_inline struct mount *hw_mount_of(struct vfsmount *mount)
{
	return (void *)mount - __builtin_offsetof(struct mount, mnt);
}

#endif
