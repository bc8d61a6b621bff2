/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The objects that hooks are given (files, inodes, directory entries, sockets):
 * how each is found and made ready, and the acting task's flow with it.
 *
 * Each flow returns the object's state where there is one, recorded or repeated;
 * 0 where it is filtered, not for recording, or could not be made ready (counted).
 */
#ifndef HEADWATER_TARGET_H
#define HEADWATER_TARGET_H

/* Where the state of a pipe or socket is kept in channels; 0 for other inodes. */
static __always_inline u64 hw_channel_of(struct inode *inode)
{
	u32 kind = HW_GET(inode, i_mode) & S_IFMT;

	if (kind == S_IFIFO)
		return (u64)inode;
	if (kind == S_IFSOCK && HW_GET(HW_GET(inode, i_sb), s_magic) == SOCKFS_MAGIC)
		return hw_inode_sock(inode);
	return 0;
}

static __always_inline struct hw_object *hw_find(struct inode *inode, u64 channel)
{
	return channel ? hw_find_channel(channel) : hw_find_inode(inode);
}

/* An inode's state is made and its vertex is in the ring; 0 when that fails. */
static __always_inline struct hw_object *hw_ready_inode(struct hw_context *context,
							struct inode *inode, u64 channel,
							struct hw_object *object)
{
	bool is_socket = channel && channel != (u64)inode, declared;

	if (!object || !object->id)
		object = channel ? hw_channel_object(channel, hw_inode_type(HW_GET(inode, i_mode)),
						     context->slot) :
				   hw_inode_object(inode, context->slot);
	if (!object) {
		hw_lose(context->slot, HW_LOSS_STORAGE);
		return 0;
	}
	declared = is_socket ? hw_declare_socket(context, object, channel) :
			       hw_declare_inode(context, object, inode);
	if (declared)
		return object;
	hw_lose_placeless(context);
	return 0;
}

static __always_inline struct hw_object *hw_ready_socket(struct hw_context *context, u64 sock,
							 struct hw_object *object, u16 owner)
{
	if (!object)
		object = hw_channel_object(sock, HW_VERTEX_SOCKET, owner);
	if (!object) {
		hw_lose(context->slot, HW_LOSS_STORAGE);
		return 0;
	}
	if (hw_declare_socket(context, object, sock))
		return object;
	hw_lose_placeless(context);
	return 0;
}

/* As hw_ready_inode(), and what has a name has it in this epoch. */
static __always_inline struct hw_object *
hw_ready_named(struct hw_context *context, struct inode *inode, u64 channel,
	       struct hw_object *object, struct dentry *dentry, struct vfsmount *mount)
{
	if (object && hw_in_epoch(object->declared, context->epoch) &&
	    (channel || hw_in_epoch(object->named, context->epoch)))
		return object;
	object = hw_ready_inode(context, inode, channel, object);
	if (!object || channel || hw_name_once(context, object, dentry, mount))
		return object;
	hw_lose_placeless(context);
	return 0;
}

static __always_inline bool hw_inode_off(struct hw_context *context, struct inode *inode)
{
	return hw_vertex_off(context->config, hw_inode_type(HW_GET(inode, i_mode)));
}

/* The object behind an open file, without a flow. */
static __always_inline struct hw_object *hw_ready_file(struct hw_context *context,
						       struct file *file)
{
	struct inode *inode = HW_GET(file, f_inode);
	u64 channel = hw_channel_of(inode);

	if (hw_inode_off(context, inode) || hw_is_backing_file(file) || !hw_with_self(context))
		return 0;
	return hw_ready_named(context, inode, channel, hw_find(inode, channel),
			      HW_GET(file, f_path.dentry), HW_GET(file, f_path.mnt));
}

/*
 * A flow with an open file, named by the path it was opened under. Whether it is
 * a backing file is asked late, because a repeated flow needs no answer. Returns
 * 0 for a repeated generation, too.
 */
static __always_inline struct hw_object *hw_file_flow(struct hw_context *context, u8 relation,
						      struct file *file, bool used, u32 flags,
						      s64 offset)
{
	struct inode *inode = HW_GET(file, f_inode);
	struct hw_object *object;
	u64 channel;

	if (hw_inode_off(context, inode))
		return 0;
	if (!used) {
		if (!hw_with_self(context) || hw_has_target(context, inode, relation))
			return 0;
	}
	channel = hw_channel_of(inode);
	object = hw_find(inode, channel);
	if (used) {
		if (object && (context->flags & HW_SLOT_COMPRESS_EDGES) &&
		    hw_has_user(context, object, relation))
			return object;
		if (!hw_with_self(context))
			return 0;
	}
	if (hw_repeats(context, relation, object, used))
		return object;
	if (hw_is_backing_file(file))
		return 0;
	object = hw_ready_named(context, inode, channel, object, HW_GET(file, f_path.dentry),
				HW_GET(file, f_path.mnt));
	if (object && hw_record(context, relation, object, used, flags, offset) && !used)
		hw_task_keep(context->self, hw_target(context, inode, relation));
	return object;
}

/* A flow with an inode of which the hook knows no name. */
static __always_inline struct hw_object *hw_inode_flow(struct hw_context *context, u8 relation,
						       struct inode *inode, bool used, u32 flags)
{
	u64 channel = hw_channel_of(inode);
	struct hw_object *object;

	if (hw_inode_off(context, inode) || !hw_with_self(context))
		return 0;
	object = hw_find(inode, channel);
	if (hw_repeats(context, relation, object, used))
		return object;
	object = hw_ready_inode(context, inode, channel, object);
	if (object)
		hw_record(context, relation, object, used, flags, 0);
	return object;
}

/* A flow with a pipe, in programs that may look at no other inode's state. */
static __always_inline void hw_pipe_flow(struct hw_context *context, u8 relation,
					 struct inode *inode, bool used, u32 flags)
{
	struct hw_object *object;

	if (hw_vertex_off(context->config, HW_VERTEX_PIPE) || !hw_with_self(context))
		return;
	object = hw_find_channel((u64)inode);
	if (hw_repeats(context, relation, object, used))
		return;
	if (!object)
		object = hw_channel_object((u64)inode, HW_VERTEX_PIPE, context->slot);
	if (!object)
		hw_lose(context->slot, HW_LOSS_STORAGE);
	else if (hw_declare_inode(context, object, inode))
		hw_record(context, relation, object, used, flags, 0);
	else
		hw_lose_placeless(context);
}

/* What a directory entry names, without a flow; 0 where the relation with it is not recorded. */
static __always_inline struct hw_object *hw_ready_dentry(struct hw_context *context, u8 relation,
							 struct dentry *dentry)
{
	struct inode *inode = dentry->d_inode;
	u64 channel;

	if (!inode || hw_relation_off(context->config, relation) || hw_inode_off(context, inode))
		return 0;
	channel = hw_channel_of(inode);
	return hw_ready_named(context, inode, channel, hw_find(inode, channel), dentry,
			      hw_likely_mount(context, dentry));
}

/* A flow with what a directory entry names. */
static __always_inline struct hw_object *hw_dentry_flow(struct hw_context *context, u8 relation,
							struct dentry *dentry,
							struct vfsmount *mount, bool used,
							u32 flags)
{
	struct inode *inode = HW_GET(dentry, d_inode);
	struct hw_object *object;
	u64 channel;

	if (!inode || hw_inode_off(context, inode) || !hw_with_self(context))
		return 0;
	channel = hw_channel_of(inode);
	object = hw_find(inode, channel);
	if (hw_repeats(context, relation, object, used))
		return object;
	object = hw_ready_named(context, inode, channel, object, dentry, mount);
	if (object)
		hw_record(context, relation, object, used, flags, 0);
	return object;
}

static __always_inline struct hw_object *hw_socket_flow(struct hw_context *context, u8 relation,
							u64 sock, bool used, u32 flags)
{
	struct hw_object *object;

	if (!sock || hw_vertex_off(context->config, HW_VERTEX_SOCKET) || !hw_with_self(context))
		return 0;
	object = hw_find_channel(sock);
	if (hw_repeats(context, relation, object, used))
		return object;
	object = hw_ready_socket(context, sock, object, context->slot);
	if (object)
		hw_record(context, relation, object, used, flags, 0);
	return object;
}

#endif
