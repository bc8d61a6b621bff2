/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Vertex and name records: what an object is, once per epoch, before the first
 * edge that touches it. CamFlow's "recorded" flag and epoch, with room for two
 * epochs because tenants share files: a third one makes the vertex be recorded
 * again, which the agent recognises.
 */
#ifndef HEADWATER_DECLARE_H
#define HEADWATER_DECLARE_H

#define HW_COMPONENTS 48
#define HW_COMPONENT_BYTES 256
/* Last place in a text's data where a component may start; a mask. */
#define HW_COMPONENT_START 4095

static __always_inline bool hw_in_epoch(u32 *epochs, u32 epoch)
{
	return epochs[0] == epoch || epochs[1] == epoch;
}

/* In an epoch whose vertex of it is out of date: it is due again, and still known there. */
#define HW_EPOCH_STALE (1U << 31)

static __always_inline bool hw_known_in(u32 *epochs, u32 epoch)
{
	return (epochs[0] & ~HW_EPOCH_STALE) == epoch || (epochs[1] & ~HW_EPOCH_STALE) == epoch;
}

/* What an object's vertex says of it changes with the call under way. */
static __always_inline void hw_changes(struct hw_object *object)
{
	object->declared[0] |= HW_EPOCH_STALE;
	object->declared[1] |= HW_EPOCH_STALE;
}

static __always_inline void hw_enter_epoch(u32 *epochs, u32 epoch)
{
	epochs[1] = epochs[0];
	epochs[0] = epoch;
}

/* The number of a namespace, by offsets: see headwater_agent/btf_headers.py. */
#define HW_NAMESPACE_NUMBER(target, pointer, kind)                        \
	bpf_probe_read_kernel(&(target), sizeof(target),                  \
			      (void *)(pointer) + HW_OFFSET_##kind##_ns + \
				      HW_OFFSET_ns_common_inum)

static __always_inline void hw_fill_task(struct hw_task *to, struct hw_context *context,
					 struct task_struct *task)
{
	struct pid *pid = task->thread_pid;
	struct nsproxy *proxy = task->nsproxy;
	void *space = 0;
	u32 level = 0;

	to->pid = hw_pid(task);
	to->tgid = hw_tgid(task);
	to->pad = 0;
	to->vpid = to->utsns = to->ipcns = to->mntns = to->pidns = to->netns = to->cgroupns = 0;
	READ(level, pid->level);
	bpf_probe_read_kernel(&to->vpid, sizeof(to->vpid), &pid->numbers[level & 31].nr);
	bpf_probe_read_kernel(&space, sizeof(space), &pid->numbers[level & 31].ns);
	HW_NAMESPACE_NUMBER(to->pidns, space, pid_namespace);
	READ(space, proxy->uts_ns);
	HW_NAMESPACE_NUMBER(to->utsns, space, uts_namespace);
	READ(space, proxy->ipc_ns);
	HW_NAMESPACE_NUMBER(to->ipcns, space, ipc_namespace);
	READ(space, proxy->mnt_ns);
	HW_NAMESPACE_NUMBER(to->mntns, space, mnt_namespace);
	READ(space, proxy->net_ns);
	HW_NAMESPACE_NUMBER(to->netns, space, net);
	READ(space, proxy->cgroup_ns);
	HW_NAMESPACE_NUMBER(to->cgroupns, space, cgroup_namespace);
	to->start_time_ns = task->start_boottime;
	to->cgroup = hw_shown_cgroup(context, task);
	bpf_probe_read_kernel(to->comm, sizeof(to->comm), task->comm);
}

static __always_inline void hw_fill_memory(struct hw_memory *to, struct hw_context *context,
					   struct task_struct *task)
{
	const struct cred *cred = task->cred;

	to->tgid = hw_tgid(task);
	READ(to->uid, cred->uid.val);
	READ(to->gid, cred->gid.val);
	to->pad = 0;
	to->cgroup = hw_shown_cgroup(context, task);
	bpf_probe_read_kernel(to->comm, sizeof(to->comm), task->comm);
}

static __always_inline void hw_fill_inode(struct hw_inode *to, struct inode *inode)
{
	struct super_block *super = HW_GET(inode, i_sb);

	to->mode = HW_GET(inode, i_mode);
	to->uid = HW_GET(inode, i_uid.val);
	to->gid = HW_GET(inode, i_gid.val);
	to->device = HW_GET(super, s_dev);
	to->ino = HW_GET(inode, i_ino);
	to->generation = HW_GET(inode, i_generation);
	to->pad = 0;
	bpf_probe_read_kernel(to->uuid, sizeof(to->uuid), &super->s_uuid);
}

static __always_inline void hw_fill_socket(struct hw_socket *to, u64 address)
{
	struct sock *sock = (struct sock *)address;
	struct socket *socket = 0;
	u16 type = 0, protocol = 0, family = 0;

	to->uid = to->gid = 0;
	to->ino = 0;
	to->pad = 0;
	READ(family, sock->__sk_common.skc_family);
	READ(type, sock->sk_type);
	READ(protocol, sock->sk_protocol);
	READ(socket, sock->sk_socket);
	if (socket) {
		struct inode *inode = hw_socket_inode(socket);

		READ(to->uid, inode->i_uid.val);
		READ(to->gid, inode->i_gid.val);
		bpf_probe_read_kernel(&to->ino, sizeof(to->ino), &inode->i_ino);
	}
	to->family = family;
	to->type = type;
	to->protocol = protocol;
}

/*
 * What is not valid was never set by whoever asks: it is whatever lay on the
 * kernel's stack. As masks, not branches, so that the verifier sees one case.
 */
static __always_inline void hw_fill_iattr(struct hw_iattr *to, struct iattr *attributes)
{
	u32 valid = 0;
	u16 mode = 0;
	u32 uid = 0, gid = 0;
	s64 size = 0;

	READ(valid, attributes->ia_valid);
	READ(mode, attributes->ia_mode);
	READ(uid, attributes->ia_uid.val);
	READ(gid, attributes->ia_gid.val);
	READ(size, attributes->ia_size);
	valid = hw_opaque(valid);
	to->valid = valid;
	to->mode = mode & -(valid / ATTR_MODE & 1);
	to->uid = uid & -(valid / ATTR_UID & 1);
	to->gid = gid & -(valid / ATTR_GID & 1);
	to->size = size & -(s64)(valid / ATTR_SIZE & 1);
}

static __always_inline void hw_fill_xattr(struct hw_xattr *to, const char *name, u32 size)
{
	char last = 0;

	to->size = size;
	to->name[0] = 0;
	if (bpf_probe_read_kernel_str(to->name, sizeof(to->name), name) == sizeof(to->name))
		READ(last, name[sizeof(to->name) - 1]);
	to->truncated = !!last;
}

static __always_inline void hw_fill_message(struct hw_message *to, struct msg_msg *message,
					    struct kern_ipc_perm *queue, u32 known)
{
	to->type = 0;
	to->size = 0;
	to->queue = 0;
	to->known = known;
	if (known & HW_MESSAGE_TYPE) {
		READ(to->type, message->m_type);
		READ(to->size, message->m_ts);
	}
	if (known & HW_MESSAGE_QUEUE)
		READ(to->queue, queue->id);
}

static __always_inline void hw_fill_segment(struct hw_segment *to, struct kern_ipc_perm *segment,
					    bool complete)
{
	struct shmid_kernel *whole =
		(void *)segment - __builtin_offsetof(struct shmid_kernel, shm_perm);
	u16 mode = 0;

	to->size = 0;
	to->uid = to->gid = to->number = 0;
	to->complete = complete;
	READ(mode, segment->mode);
	to->mode = mode;
	READ(to->key, segment->key);
	if (complete) {
		READ(to->size, whole->shm_segsz);
		READ(to->uid, segment->uid.val);
		READ(to->gid, segment->gid.val);
		READ(to->number, segment->id);
	}
}

static __always_inline void hw_fill_vertex(struct hw_context *context, struct hw_vertex *vertex,
					   struct hw_object *object, u32 version)
{
	hw_fill_header(&vertex->header, context, HW_RECORD_VERTEX, 0);
	vertex->object = object->id;
	vertex->version = version;
	vertex->type = object->type;
	vertex->bare = 0;
	vertex->owner = object->owner;
}

/*
 * hw_declare_*() - make sure that an object's vertex is in the ring
 *
 * Marked as declared only after the record is submitted: another CPU that sees
 * the mark may submit its edge at once.
 *
 * Return false when the record was lost; then its edge must not be recorded.
 */
#define HW_DECLARE(context, object, fill)                                                      \
	({                                                                                     \
		bool declared_ = true;                                                         \
		if (!hw_in_epoch((object)->declared, (context)->epoch)) {                      \
			/* Before its place: a version of a later record is not known here. */ \
			u32 version_ = hw_version((object)->state);                            \
			struct hw_vertex *vertex_ = hw_reserve_vertex(context);                \
			if (vertex_) {                                                         \
				hw_fill_vertex(context, vertex_, object, version_);            \
				fill;                                                          \
				hw_submit(vertex_);                                            \
				hw_enter_epoch((object)->declared, (context)->epoch);          \
			} else {                                                               \
				hw_lose_placeless(context);                                    \
				declared_ = false;                                             \
			}                                                                      \
		}                                                                              \
		declared_;                                                                     \
	})

static __always_inline bool hw_declare_task(struct hw_context *context, struct hw_object *object,
					    struct task_struct *task)
{
	return HW_DECLARE(context, object, hw_fill_task(&vertex_->task, context, task));
}

static __always_inline bool hw_declare_memory(struct hw_context *context, struct hw_object *object,
					      struct task_struct *task)
{
	return HW_DECLARE(context, object, hw_fill_memory(&vertex_->memory, context, task));
}

static __always_inline bool hw_declare_inode(struct hw_context *context, struct hw_object *object,
					     struct inode *inode)
{
	return HW_DECLARE(context, object, hw_fill_inode(&vertex_->inode, inode));
}

static __always_inline bool hw_declare_socket(struct hw_context *context, struct hw_object *object,
					      u64 sock)
{
	return HW_DECLARE(context, object, hw_fill_socket(&vertex_->socket, sock));
}

static __always_inline bool hw_declare_iattr(struct hw_context *context, struct hw_object *object,
					     struct iattr *attributes)
{
	return HW_DECLARE(context, object, hw_fill_iattr(&vertex_->iattr, attributes));
}

static __always_inline bool hw_declare_xattr(struct hw_context *context, struct hw_object *object,
					     const char *name, u32 size)
{
	return HW_DECLARE(context, object, hw_fill_xattr(&vertex_->xattr, name, size));
}

static __always_inline bool hw_declare_message(struct hw_context *context, struct hw_object *object,
					       struct msg_msg *message, struct kern_ipc_perm *queue,
					       u32 known)
{
	return HW_DECLARE(context, object,
			  hw_fill_message(&vertex_->message, message, queue, known));
}

static __always_inline bool hw_declare_segment(struct hw_context *context, struct hw_object *object,
					       struct kern_ipc_perm *segment, bool complete)
{
	return HW_DECLARE(context, object, hw_fill_segment(&vertex_->segment, segment, complete));
}

/*
 * The mount through which the acting task most likely sees a dentry, for hooks
 * that are given none: the one through which its call under way names something
 * (path_* hooks), or that of its working directory or of its root, when the file
 * system is the same.
 */
static __always_inline struct vfsmount *hw_likely_mount(struct hw_context *context,
							struct dentry *dentry)
{
	struct super_block *super = 0, *mounted = 0;
	struct fs_struct *fs = context->task->fs;
	struct vfsmount *mount = 0;

	READ(super, dentry->d_sb);
	if (context->self) {
		mount = (struct vfsmount *)context->self->naming;
		READ(mounted, mount->mnt_sb);
		if (mounted == super)
			return mount;
	}
	READ(mount, fs->pwd.mnt);
	READ(mounted, mount->mnt_sb);
	if (mounted == super)
		return mount;
	READ(mount, fs->root.mnt);
	READ(mounted, mount->mnt_sb);
	return mounted == super ? mount : 0;
}

/*
 * What no directory ever held is its own parent and has the name that its maker gave
 * it (memfd). Without one it is called "/" like the root of a file system (a pidfd),
 * and has the name of its file system here.
 */
static __always_inline void hw_write_own_name(struct hw_text *text, struct dentry *dentry)
{
	struct file_system_type *type = 0;
	const unsigned char *name = 0;
	struct super_block *super = 0;
	int length;

	READ(name, dentry->d_name.name);
	length = bpf_probe_read_kernel_str(text->data, HW_COMPONENT_BYTES, name);
	if (length == 1 || text->data[0] == '/') {
		READ(super, dentry->d_sb);
		READ(type, super->s_type);
		READ(name, type->name);
		length = bpf_probe_read_kernel_str(text->data, HW_COMPONENT_BYTES, name);
	}
	if (length > 1)
		text->length = length;
}

/*
 * hw_write_path() - the components of a path, from the last to the first
 * @number: the scratch buffer that says which path and takes its text
 *
 * Ends at the acting task's root, so a container's paths are those it sees. How
 * much is written is kept in the text itself, because the verifier would follow
 * a local variable through every combination of component lengths.
 *
 * Sets the text's length and marks.
 */
static __always_inline int hw_write_path(u32 number)
{
	struct hw_scratch *buffer = scratch.lookup(&number);
	struct task_struct *task = hw_current();
	struct vfsmount *vfsmount;
	struct dentry *dentry;
	struct hw_text *text;
	struct dentry *parent = 0, *mount_root = 0, *root = 0;
	struct mount *mount, *above = 0, *root_mount = 0;
	struct fs_struct *fs = task->fs;
	const unsigned char *name = 0;
	void *hashed = 0;
	u64 used;
	int length;
	u32 i;

	if (!buffer)
		return 0;
	text = &buffer->text;
	dentry = buffer->dentry;
	vfsmount = buffer->mount;
	mount = hw_mount_of(vfsmount);
	text->length = 0;
	text->marks = vfsmount ? 0 : HW_TEXT_UNMOUNTED;
	READ(root, fs->root.dentry);
	READ(root_mount, fs->root.mnt);
	root_mount = hw_mount_of((struct vfsmount *)root_mount);
	READ(parent, dentry->d_parent);
	READ(hashed, dentry->d_hash.pprev);
	if (!hashed && parent != dentry)
		text->marks |= HW_TEXT_DELETED;
	for (i = 0; i < HW_COMPONENTS; i++) {
		if (dentry == root && mount == root_mount)
			return 0;
		READ(parent, dentry->d_parent);
		mount_root = 0;
		READ(mount_root, mount->mnt.mnt_root);
		if (dentry == mount_root || dentry == parent) {
			READ(above, mount->mnt_parent);
			if (above == mount || dentry != mount_root) {
				if (dentry != mount_root) {
					text->marks |= HW_TEXT_UNMOUNTED;
					if (!text->length)
						hw_write_own_name(text, dentry);
				}
				return 0;
			}
			READ(dentry, mount->mnt_mountpoint);
			mount = above;
			continue;
		}
		READ(name, dentry->d_name.name);
		used = text->length;
		if (used > HW_COMPONENT_START)
			break;
		/* Kernel 6.1's verifier forgets the check when the value is spilled. */
		asm volatile("" : "+r"(used));
		length = bpf_probe_read_kernel_str(&text->data[used & HW_COMPONENT_START],
						   HW_COMPONENT_BYTES, name);
		if (length <= 0)
			break;
		text->length = used + length;
		dentry = parent;
	}
	text->marks |= HW_TEXT_TRUNCATED;
	if (text->length > HW_TEXT_DATA_MAX)
		text->length = HW_TEXT_DATA_MAX;
	return 0;
}

/* Record a name, whether or not the object has one already. */
static __always_inline bool hw_name(struct hw_context *context, struct hw_object *object,
				    struct dentry *dentry, struct vfsmount *mount)
{
	struct hw_scratch *buffer;
	u32 number;
	bool done;

	if (hw_relation_off(context->config, HW_RELATION_NAMED) ||
	    hw_vertex_off(context->config, HW_VERTEX_PATH))
		return true;
	number = hw_scratch_claim();
	buffer = scratch.lookup(&number);
	if (!buffer) {
		hw_lose(context->slot, HW_LOSS_SCRATCH);
		return false;
	}
	buffer->dentry = dentry;
	buffer->mount = mount;
	hw_call_apart(HW_APART_WRITE_PATH, number, 0, 0);
	buffer->text.object = object->id;
	buffer->text.version = hw_version(object->state);
	done = hw_submit_text(context, &buffer->text, HW_RECORD_NAME, HW_RELATION_NAMED,
			      buffer->text.length);
	hw_scratch_release(number);
	if (done && !hw_in_epoch(object->named, context->epoch))
		hw_enter_epoch(object->named, context->epoch);
	return done;
}

/* Record an object's name unless this epoch has it. */
static __always_inline bool hw_name_once(struct hw_context *context, struct hw_object *object,
					 struct dentry *dentry, struct vfsmount *mount)
{
	if (hw_in_epoch(object->named, context->epoch))
		return true;
	return hw_name(context, object, dentry, mount);
}

#endif
