/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Attributes of inodes, those in the inode and extended ones. What a call hands
 * over is an object of its own: a task generates it and the inode takes it in, or
 * it comes of the inode and a task uses it. Nothing else ever knows it (CamFlow).
 *
 * Never the value of an extended attribute: it may be a secret.
 */

static __always_inline bool hw_both_off(struct hw_context *context, u8 one, u8 other)
{
	return hw_relation_off(context->config, one) && hw_relation_off(context->config, other);
}

/* task -> made -> what the directory entry names; returns the latter where it is recorded. */
static __always_inline struct hw_object *hw_give(struct hw_context *context, u8 to_made,
						 u8 to_inode, struct hw_object *made,
						 struct dentry *dentry)
{
	struct hw_object *object;

	if (!hw_relation_off(context->config, to_made))
		hw_generated(context, to_made, made, 0, 0);
	object = hw_ready_dentry(context, to_inode, dentry);
	if (object)
		hw_derived(context, to_inode, made, object, 0);
	return object;
}

/* notify_change(): chmod, chown, utimes, truncate and what a write changes besides. */
HW_LSM(inode_setattr, HW_SETATTR_ARGUMENTS)
{
	struct hw_object *made, *object;
	struct hw_context context;
	u32 valid = 0;

	if (!dentry->d_inode || !hw_begin(&context, slot) ||
	    hw_vertex_off(context.config, HW_VERTEX_IATTR) ||
	    hw_both_off(&context, HW_RELATION_SETATTR, HW_RELATION_SETATTR_INODE) ||
	    !hw_with_self(&context))
		return;
	made = hw_made(&context, HW_VERTEX_IATTR);
	if (!hw_declare_iattr(&context, made, attributes)) {
		hw_lose_placeless(&context);
		return;
	}
	object = hw_give(&context, HW_RELATION_SETATTR, HW_RELATION_SETATTR_INODE, made, dentry);
	READ(valid, attributes->ia_valid);
	if (object && (valid & (ATTR_MODE | ATTR_UID | ATTR_GID)))
		hw_changes(object);
}

/*
 * An overlay keeps its own books in attributes of the layers below, as the one who
 * mounted it: nobody asked for that.
 */
static __always_inline bool hw_is_overlays_own(struct task_struct *task, const char *name)
{
	union {
		char text[16];
		u64 words[2];
	} head = {};

	if (task->cred == task->real_cred)
		return false;
	bpf_probe_read_kernel_str(head.text, sizeof(head.text), name);
	/* "trusted.overlay." and "user.overlay.", without their ends */
	return (head.words[0] == *(u64 *)"trusted." && (u32)head.words[1] == *(u32 *)"over") ||
	       (head.words[0] == *(u64 *)"user.ove" && (u32)head.words[1] == *(u32 *)"rlay");
}

/* The vertex of an extended attribute that a call hands over; 0 when none is to be recorded. */
static __always_inline struct hw_object *hw_made_xattr(struct hw_context *context, u32 slot, u8 one,
						       u8 other, const char *name, u32 size)
{
	struct hw_object *made;

	if (!hw_begin(context, slot) || hw_vertex_off(context->config, HW_VERTEX_XATTR) ||
	    hw_both_off(context, one, other) || hw_is_overlays_own(context->task, name) ||
	    !hw_with_self(context))
		return 0;
	made = hw_made(context, HW_VERTEX_XATTR);
	if (hw_declare_xattr(context, made, name, size))
		return made;
	hw_lose_placeless(context);
	return 0;
}

static __always_inline void hw_xattr_given(u32 slot, u8 to_xattr, u8 to_inode,
					   struct dentry *dentry, const char *name, u32 size)
{
	struct hw_context context;
	struct hw_object *made = hw_made_xattr(&context, slot, to_xattr, to_inode, name, size);

	if (made)
		hw_give(&context, to_xattr, to_inode, made, dentry);
}

/* After the fact: the hook before it also comes for what is refused. */
HW_LSM(inode_post_setxattr, struct dentry *dentry, const char *name, const void *value,
       unsigned long size, int flags)
{
	hw_xattr_given(slot, HW_RELATION_SETXATTR, HW_RELATION_SETXATTR_INODE, dentry, name, size);
}

HW_LSM(inode_removexattr, void *idmap, struct dentry *dentry, const char *name)
{
	hw_xattr_given(slot, HW_RELATION_REMOVEXATTR, HW_RELATION_REMOVEXATTR_INODE, dentry, name,
		       0);
}

static __always_inline void hw_xattr_taken(u32 slot, struct dentry *dentry, const char *name)
{
	struct hw_context context;
	struct hw_object *object, *made = hw_made_xattr(&context, slot, HW_RELATION_GETXATTR_INODE,
							HW_RELATION_GETXATTR, name, 0);

	if (!made)
		return;
	object = hw_ready_dentry(&context, HW_RELATION_GETXATTR_INODE, dentry);
	if (object)
		hw_derived(&context, HW_RELATION_GETXATTR_INODE, object, made, 0);
	if (!hw_relation_off(context.config, HW_RELATION_GETXATTR))
		hw_used(&context, HW_RELATION_GETXATTR, made, 0, 0);
}

HW_LSM(inode_getxattr, struct dentry *dentry, const char *name)
{
	hw_xattr_taken(slot, dentry, name);
}

/* Access control lists have hooks of their own since 6.2; before, they are attributes as others. */
HW_LSM(inode_set_acl, void *idmap, struct dentry *dentry, const char *name, void *list)
{
	hw_xattr_given(slot, HW_RELATION_SETXATTR, HW_RELATION_SETXATTR_INODE, dentry, name, 0);
}

HW_LSM(inode_remove_acl, void *idmap, struct dentry *dentry, const char *name)
{
	hw_xattr_given(slot, HW_RELATION_REMOVEXATTR, HW_RELATION_REMOVEXATTR_INODE, dentry, name,
		       0);
}

HW_LSM(inode_get_acl, void *idmap, struct dentry *dentry, const char *name)
{
	hw_xattr_taken(slot, dentry, name);
}

HW_LSM(inode_listxattr, struct dentry *dentry)
{
	struct hw_context context;

	if (hw_begin_for(&context, slot, HW_RELATION_LISTXATTR))
		hw_dentry_flow(&context, HW_RELATION_LISTXATTR, dentry,
			       hw_likely_mount(&context, dentry), true, 0);
}
