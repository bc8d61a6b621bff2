/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Inodes and their names: looking them up, making, naming, changing and ending
 * them. The hooks come before the operation, so an operation that fails
 * afterwards is recorded as tried: CamFlow does the same.
 */

static __always_inline void hw_inode_generated(u8 relation, struct dentry *dentry, u32 flags)
{
	struct hw_context context;
	struct hw_object *object;

	if (!hw_enter_for(&context, relation))
		return;
	object = hw_ready_dentry(&context, dentry);
	if (object && context.self)
		hw_generated(&context, relation, object, flags, 0);
}

/* The new inode does not exist yet: what changes is its directory (CamFlow). */
static __always_inline void hw_directory_generated(u8 relation, struct inode *directory, u32 flags)
{
	struct hw_context context;
	struct hw_object *object;

	if (!hw_enter_for(&context, relation))
		return;
	object = hw_ready_inode(&context, directory);
	if (object && context.self)
		hw_generated(&context, relation, object, flags, 0);
}

LSM_PROBE(inode_create, struct inode *directory, struct dentry *dentry, umode_t mode)
{
	hw_directory_generated(HW_RELATION_INODE_CREATE, directory, mode);
	return 0;
}

LSM_PROBE(inode_mkdir, struct inode *directory, struct dentry *dentry, umode_t mode)
{
	hw_directory_generated(HW_RELATION_INODE_CREATE, directory, mode);
	return 0;
}

LSM_PROBE(inode_mknod, struct inode *directory, struct dentry *dentry, umode_t mode, dev_t device)
{
	hw_directory_generated(HW_RELATION_INODE_CREATE, directory, mode);
	return 0;
}

LSM_PROBE(inode_symlink, struct inode *directory, struct dentry *dentry, const char *target)
{
	hw_directory_generated(HW_RELATION_SYMLINK, directory, 0);
	return 0;
}

LSM_PROBE(inode_unlink, struct inode *directory, struct dentry *dentry)
{
	hw_inode_generated(HW_RELATION_UNLINK, dentry, 0);
	return 0;
}

LSM_PROBE(inode_rmdir, struct inode *directory, struct dentry *dentry)
{
	hw_inode_generated(HW_RELATION_UNLINK, dentry, 0);
	return 0;
}

/* The same inode under a further name: the name is recorded behind the edge. */
static __always_inline void hw_inode_renamed(u8 relation, struct dentry *from, struct dentry *to)
{
	struct hw_context context;
	struct hw_object *object;

	if (!hw_enter_for(&context, relation))
		return;
	object = hw_ready_dentry(&context, from);
	if (!object || !context.self)
		return;
	hw_generated(&context, relation, object, 0, 0);
	hw_name(&context, object, to, hw_likely_mount(context.task, to));
}

LSM_PROBE(inode_link, struct dentry *from, struct inode *directory, struct dentry *to)
{
	hw_inode_renamed(HW_RELATION_LINK, from, to);
	return 0;
}

LSM_PROBE(inode_rename, struct inode *old_directory, struct dentry *from,
	  struct inode *new_directory, struct dentry *to)
{
	/* What had the name before loses it. */
	hw_inode_generated(HW_RELATION_UNLINK, to, 0);
	hw_inode_renamed(HW_RELATION_RENAME, from, to);
	return 0;
}

/* Every component of a path that is looked up. */
LSM_PROBE(inode_permission, struct inode *inode, int mask)
{
	struct hw_context context;
	struct hw_object *object;

	if (!hw_enter_for(&context, HW_RELATION_PERM_CHECK))
		return 0;
	mask &= ~MAY_NOT_BLOCK;
	if (!mask || inode->i_flags & S_PRIVATE)
		return 0;
	object = hw_ready_inode(&context, inode);
	if (object && context.self)
		hw_used(&context, HW_RELATION_PERM_CHECK, object, mask, 0);
	return 0;
}

LSM_PROBE(inode_getattr, const struct path *path)
{
	struct inode *inode = path->dentry->d_inode;
	struct hw_context context;
	struct hw_object *object;
	u32 kind;

	if (!hw_enter_for(&context, HW_RELATION_GETATTR))
		return 0;
	kind = inode->i_mode & S_IFMT;
	if (kind == S_IFSOCK && inode->i_sb->s_magic == SOCKFS_MAGIC)
		object = hw_ready_socket(&context, hw_inode_sock(inode));
	else
		object = hw_ready_inode(&context, inode);
	if (!object || !context.self)
		return 0;
	if (kind != S_IFSOCK && kind != S_IFIFO &&
	    !hw_name_once(&context, object, path->dentry, path->mnt)) {
		hw_lose(context.slot, HW_LOSS_RING);
		return 0;
	}
	hw_used(&context, HW_RELATION_GETATTR, object, 0, 0);
	return 0;
}

LSM_PROBE(inode_readlink, struct dentry *dentry)
{
	struct hw_context context;
	struct hw_object *object;

	if (!hw_enter_for(&context, HW_RELATION_READ_LINK))
		return 0;
	object = hw_ready_dentry(&context, dentry);
	if (object && context.self)
		hw_used(&context, HW_RELATION_READ_LINK, object, 0, 0);
	return 0;
}

/*
 * The end of an inode: in the inode cache only, or for good. One that still has
 * a name keeps its identity for when it is read again; one that has none, and
 * every pipe, is gone. Runs in whatever task frees it, so the record goes to the
 * slot in which the object was made.
 */
LSM_PROBE(inode_free_security, struct inode *inode)
{
	struct hw_object *object = inodes.inode_storage_get(inode, 0, 0), *shared;
	struct hw_inode_key key = {};
	struct hw_evicted kept = {};
	struct hw_context context;
	u64 id;

	if (!object || !object->id)
		return 0;
	kept.object = *object;
	if (object->state & HW_STATE_MOVED) {
		id = object->id;
		shared = shared_objects.lookup(&id);
		if (shared)
			kept.object = *shared;
		shared_objects.delete(&id);
	}
	if (inode->i_nlink && object->type != HW_VERTEX_PIPE) {
		kept.object.state &= ~HW_STATE_MOVED;
		hw_inode_key(inode, &key);
		evicted.update(&key, &kept);
		return 0;
	}
	if (hw_enter_owner(&context, object->owner) &&
	    hw_ends(&context, HW_RELATION_FREE, kept.object.declared))
		hw_end(&context, HW_RELATION_FREE, kept.object.id, hw_version(kept.object.state));
	return 0;
}
