/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Open files: opening, reading, writing, control and mapping, whatever lies
 * behind them (file, directory, device, pipe, socket).
 */

static __always_inline void hw_file_used(u8 relation, struct file *file, u32 flags)
{
	struct hw_context context;
	struct hw_object *object;

	if (!hw_enter_for(&context, relation) || hw_is_backing_file(file))
		return;
	object = hw_ready_file(&context, file);
	if (object && context.self)
		hw_used(&context, relation, object, flags, file->f_pos);
}

static __always_inline void hw_file_generated(u8 relation, struct file *file, u32 flags)
{
	struct hw_context context;
	struct hw_object *object;

	if (!hw_enter_for(&context, relation) || hw_is_backing_file(file))
		return;
	object = hw_ready_file(&context, file);
	if (object && context.self)
		hw_generated(&context, relation, object, flags, file->f_pos);
}

/* do_dentry_open(): the file is complete, also one that was just created. */
LSM_PROBE(file_open, struct file *file)
{
	hw_file_used(HW_RELATION_OPEN, file, file->f_flags);
	return 0;
}

/* rw_verify_area(): every read(2) and write(2) and what is built on them. */
LSM_PROBE(file_permission, struct file *file, int mask)
{
	struct hw_context context;
	struct hw_object *object;
	u32 kind = file->f_inode->i_mode & S_IFMT;
	u8 relation;

	if (!hw_enter(&context) || hw_is_backing_file(file))
		return 0;
	if (mask & (MAY_WRITE | MAY_APPEND)) {
		relation = kind == S_IFSOCK ? HW_RELATION_SEND : HW_RELATION_WRITE;
	} else if (mask & MAY_READ) {
		relation = kind == S_IFSOCK ? HW_RELATION_RECEIVE : HW_RELATION_READ;
	} else if (mask & MAY_EXEC && kind == S_IFDIR) {
		relation = HW_RELATION_SEARCH;
	} else {
		return 0;
	}
	if (hw_relation_off(context.config, relation))
		return 0;
	object = hw_ready_file(&context, file);
	if (!object || !context.self)
		return 0;
	if (mask & (MAY_WRITE | MAY_APPEND))
		hw_generated(&context, relation, object, mask, file->f_pos);
	else
		hw_used(&context, relation, object, mask, file->f_pos);
	return 0;
}

/* What an ioctl does is the driver's secret: information may flow both ways. */
LSM_PROBE(file_ioctl, struct file *file, unsigned int command, unsigned long argument)
{
	struct hw_context context;
	struct hw_object *object;

	if (!hw_enter(&context) || hw_is_backing_file(file))
		return 0;
	object = hw_ready_file(&context, file);
	if (!object || !context.self)
		return 0;
	if (!hw_relation_off(context.config, HW_RELATION_WRITE_IOCTL))
		hw_generated(&context, HW_RELATION_WRITE_IOCTL, object, command, 0);
	if (!hw_relation_off(context.config, HW_RELATION_READ_IOCTL))
		hw_used(&context, HW_RELATION_READ_IOCTL, object, command, 0);
	return 0;
}

LSM_PROBE(file_lock, struct file *file, unsigned int command)
{
	hw_file_generated(HW_RELATION_FILE_LOCK, file, command);
	return 0;
}

/* A descriptor that came over a unix socket (SCM_RIGHTS). */
LSM_PROBE(file_receive, struct file *file)
{
	hw_file_used(HW_RELATION_FILE_RCV, file, 0);
	return 0;
}

/*
 * An inode that is mapped shared: its state moves to shared_objects, where the
 * mapping process finds it at each of its flows. The copy is in place before the
 * mark that sends everybody there, and the mark is only set on what was copied.
 */
static __always_inline bool hw_share_object(struct hw_context *context, struct inode *inode)
{
	struct hw_object copy, *object = inodes.inode_storage_get(inode, 0, 0);
	u32 attempt;
	u64 id;

	if (!object)
		return false;
	for (attempt = 0; attempt < HW_ATTEMPTS; attempt++) {
		copy = *object;
		if (copy.state & HW_STATE_MOVED)
			return true;
		id = copy.id;
		if (shared_objects.update(&id, &copy)) {
			hw_lose(context->slot, HW_LOSS_STORAGE);
			return false;
		}
		if (__sync_val_compare_and_swap(&object->state, copy.state,
						copy.state | HW_STATE_MOVED) == copy.state)
			return true;
	}
	hw_lose(context->slot, HW_LOSS_CONTENTION);
	return false;
}

static __always_inline void hw_add_mapping(struct hw_context *context, struct inode *inode, u64 id,
					   bool writable)
{
	struct hw_task_state *leader = hw_leader_of(context->task, context->self, context->slot);
	u32 i;

	if (!leader || !hw_share_object(context, inode))
		return;
	for (i = 0; i < HW_MAPPINGS; i++) {
		struct hw_mapping *mapping = &leader->mappings[i];

		if (mapping->object == id) {
			mapping->writable |= writable;
			return;
		}
		if (!mapping->object) {
			mapping->object_version = 0;
			mapping->memory_version = 0;
			mapping->writable = writable;
			if (!__sync_val_compare_and_swap(&mapping->object, 0, id))
				return;
		}
	}
	hw_lose(context->slot, HW_LOSS_MAPPINGS);
}

/*
 * A mapping that was opened for writing may become writable later (mprotect), so
 * it counts as such from the start.
 */
LSM_PROBE(mmap_file, struct file *file, unsigned long requested, unsigned long protection,
	  unsigned long flags)
{
	bool shared = flags & MAP_SHARED;
	u8 relation = shared ? HW_RELATION_MMAP : HW_RELATION_MMAP_PRIVATE;
	struct hw_context context;
	struct hw_object *object;
	u64 id;

	if (!file || !hw_enter(&context) || hw_is_backing_file(file))
		return 0;
	object = hw_ready_file(&context, file);
	if (!object || !context.self)
		return 0;
	id = object->id;
	if (!hw_relation_off(context.config, relation))
		hw_used(&context, relation, object, protection, 0);
	if (shared && (file->f_inode->i_mode & S_IFMT) != S_IFSOCK)
		hw_add_mapping(&context, file->f_inode, id, (u32)file->f_mode & FMODE_WRITE);
	return 0;
}
