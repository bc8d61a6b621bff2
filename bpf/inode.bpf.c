/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Inodes and their names: looking them up, making, naming, changing and ending
 * them. The hooks come before the operation, so an operation that fails
 * afterwards is recorded as tried: CamFlow does the same.
 */

/* The new inode does not exist yet: what changes is its directory (CamFlow). */
static __always_inline void hw_in_directory(u32 slot, u8 relation, struct inode *directory,
					    u32 flags)
{
	struct hw_context context;

	if (hw_begin_for(&context, slot, relation))
		hw_inode_flow(&context, relation, directory, false, flags);
}

HW_LSM(inode_create, struct inode *directory, struct dentry *dentry, umode_t mode)
{
	hw_in_directory(slot, HW_RELATION_INODE_CREATE, directory, mode);
}

HW_LSM(inode_mkdir, struct inode *directory, struct dentry *dentry, umode_t mode)
{
	hw_in_directory(slot, HW_RELATION_INODE_CREATE, directory, mode);
}

HW_LSM(inode_mknod, struct inode *directory, struct dentry *dentry, umode_t mode, dev_t device)
{
	hw_in_directory(slot, HW_RELATION_INODE_CREATE, directory, mode);
}

HW_LSM(inode_symlink, struct inode *directory, struct dentry *dentry, const char *target)
{
	hw_in_directory(slot, HW_RELATION_SYMLINK, directory, 0);
}

/*
 * The hooks of names are given a directory's inode, which has a path only together
 * with the mount through which it was reached: that is told just before.
 */
static __always_inline void hw_reached(u32 slot, const struct path *directory)
{
	struct hw_context context;

	if (hw_begin(&context, slot) && hw_with_self(&context))
		context.self->naming = (u64)directory->mnt;
}

HW_LSM(path_unlink, const struct path *directory, struct dentry *dentry)
{
	hw_reached(slot, directory);
}

HW_LSM(path_rmdir, const struct path *directory, struct dentry *dentry)
{
	hw_reached(slot, directory);
}

HW_LSM(path_link, struct dentry *from, const struct path *directory, struct dentry *to)
{
	hw_reached(slot, directory);
}

HW_LSM(path_rename, const struct path *old_directory, struct dentry *from,
       const struct path *new_directory, struct dentry *to)
{
	hw_reached(slot, new_directory);
}

static __always_inline void hw_unlinked(u32 slot, struct dentry *dentry)
{
	struct hw_context context;

	if (hw_begin_for(&context, slot, HW_RELATION_UNLINK) && hw_with_self(&context))
		hw_dentry_flow(&context, HW_RELATION_UNLINK, dentry,
			       hw_likely_mount(&context, dentry), false, 0);
}

HW_LSM(inode_unlink, struct inode *directory, struct dentry *dentry)
{
	hw_unlinked(slot, dentry);
}

HW_LSM(inode_rmdir, struct inode *directory, struct dentry *dentry)
{
	hw_unlinked(slot, dentry);
}

/* The same inode under a further name: the name is recorded behind the edge. */
static __always_inline void hw_renamed(u32 slot, u8 relation, struct dentry *from,
				       struct dentry *to)
{
	struct hw_context context;
	struct hw_object *object;

	if (!hw_begin_for(&context, slot, relation) || !hw_with_self(&context))
		return;
	object =
		hw_dentry_flow(&context, relation, from, hw_likely_mount(&context, from), false, 0);
	if (object)
		hw_name(&context, object, to, hw_likely_mount(&context, to));
}

HW_LSM(inode_link, struct dentry *from, struct inode *directory, struct dentry *to)
{
	hw_renamed(slot, HW_RELATION_LINK, from, to);
}

HW_LSM(inode_rename, struct inode *old_directory, struct dentry *from, struct inode *new_directory,
       struct dentry *to)
{
	/* What had the name before loses it. */
	hw_unlinked(slot, to);
	hw_renamed(slot, HW_RELATION_RENAME, from, to);
}

/* Every component of a path that is looked up. */
HW_LSM(inode_permission, struct inode *inode, int mask)
{
	struct hw_context context;

	mask &= ~MAY_NOT_BLOCK;
	if (mask && !(inode->i_flags & S_PRIVATE) &&
	    hw_begin_for(&context, slot, HW_RELATION_PERM_CHECK))
		hw_inode_flow(&context, HW_RELATION_PERM_CHECK, inode, true, mask);
}

HW_LSM(inode_getattr, const struct path *path)
{
	struct hw_context context;

	if (hw_begin_for(&context, slot, HW_RELATION_GETATTR))
		hw_dentry_flow(&context, HW_RELATION_GETATTR, path->dentry, path->mnt, true, 0);
}

HW_LSM(inode_readlink, struct dentry *dentry)
{
	struct hw_context context;

	if (hw_begin_for(&context, slot, HW_RELATION_READ_LINK))
		hw_dentry_flow(&context, HW_RELATION_READ_LINK, dentry,
			       hw_likely_mount(&context, dentry), true, 0);
}

/*
 * The end of an inode: in the inode cache only, or for good. One that still has
 * a name keeps its identity for when it is read again; one that has none, and
 * every pipe, is gone. Runs in whatever task frees it, so the record goes to the
 * slot in which the object was made.
 */
static __always_inline void hw_inode_ended(struct hw_object *object)
{
	struct hw_context context;

	if (hw_begin_owned(&context, object->owner))
		hw_end(&context, HW_RELATION_FREE, object->declared, object->id,
		       hw_version(object->state));
}

LSM_PROBE(inode_free_security, struct inode *inode)
{
	u64 address = (u64)inode, id;
	struct hw_object *object, *shared, kept;
	struct hw_inode_key key = {};

	if ((inode->i_mode & S_IFMT) == S_IFIFO) {
		object = hw_find_channel(address);
		if (object)
			hw_inode_ended(object);
		channels.delete(&address);
		return 0;
	}
	object = hw_inode_state(inode);
	if (!object || !object->id)
		return 0;
	kept = *object;
	if (object->state & HW_STATE_MOVED) {
		id = object->id;
		shared = shared_objects.lookup(&id);
		if (shared)
			kept = *shared;
		shared_objects.delete(&id);
	}
	if (inode->i_nlink) {
		kept.state &= ~HW_STATE_MOVED;
		hw_inode_key(inode, &key);
		evicted.update(&key, &kept);
	} else {
		hw_inode_ended(&kept);
	}
	hw_inode_state_ends(inode);
	return 0;
}
