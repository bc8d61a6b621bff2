/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Open files: opening, reading, writing, control and mapping, whatever lies
 * behind them (file, directory, device, pipe, socket).
 */

/* do_dentry_open(): the file is complete, also one that was just created. */
HW_LSM(file_open, struct file *file)
{
	struct hw_context context;

	if (file->f_flags & HW_OPEN_FOR_EXEC)
		hw_setup_ends();
	if (hw_begin_for(&context, slot, HW_RELATION_OPEN))
		hw_file_flow(&context, HW_RELATION_OPEN, file, true, file->f_flags, file->f_pos);
}

/* What a splice has just read goes on into its pipe, which it has asked for before. */
static __always_inline void hw_spliced(struct hw_context *context)
{
	struct hw_object *pipe = hw_find_channel(context->self->splicing);

	if (pipe && hw_in_epoch(pipe->declared, context->epoch) &&
	    !hw_relation_off(context->config, HW_RELATION_SPLICE_OUT) &&
	    !hw_repeats(context, HW_RELATION_SPLICE_OUT, pipe, false))
		hw_generated(context, HW_RELATION_SPLICE_OUT, pipe, MAY_WRITE, 0);
}

/*
 * rw_verify_area(): every read(2) and write(2) and what is built on them. The
 * relation is computed, not chosen, so that the verifier sees one case.
 */
HW_LSM(file_permission, struct file *file, int mask)
{
	u32 mode = file->f_inode->i_mode, socket = hw_is_socket_mode(mode), search;
	struct hw_context context;
	u8 relation;

	if (!hw_begin(&context, slot))
		return;
	if (mask & (MAY_WRITE | MAY_APPEND)) {
		relation = HW_RELATION_WRITE + socket * (HW_RELATION_SEND - HW_RELATION_WRITE);
		if (!hw_relation_off(context.config, relation))
			hw_file_flow(&context, relation, file, false, mask, file->f_pos);
		return;
	}
	if (!(mask & MAY_READ) && (!(mask & MAY_EXEC) || (mode & S_IFMT) != S_IFDIR))
		return;
	search = hw_opaque(~mask) / MAY_READ & 1;
	relation = HW_RELATION_READ + socket * (HW_RELATION_RECEIVE - HW_RELATION_READ) +
		   search * (HW_RELATION_SEARCH - HW_RELATION_READ);
	if (!hw_relation_off(context.config, relation))
		hw_file_flow(&context, relation, file, true, mask, file->f_pos);
	/* Without a state nothing was recorded: the task had it when it asked for the pipe. */
	if (context.self && context.self->splicing)
		hw_spliced(&context);
}

/* What an ioctl does is the driver's secret: information may flow both ways. */
HW_LSM(file_ioctl, struct file *file, unsigned int command, unsigned long argument)
{
	struct hw_context context;

	if (!hw_begin(&context, slot))
		return;
	if (!hw_relation_off(context.config, HW_RELATION_WRITE_IOCTL))
		hw_file_flow(&context, HW_RELATION_WRITE_IOCTL, file, false, command, 0);
	if (!hw_relation_off(context.config, HW_RELATION_READ_IOCTL))
		hw_file_flow(&context, HW_RELATION_READ_IOCTL, file, true, command, 0);
}

HW_LSM(file_lock, struct file *file, unsigned int command)
{
	struct hw_context context;

	if (hw_begin_for(&context, slot, HW_RELATION_FILE_LOCK))
		hw_file_flow(&context, HW_RELATION_FILE_LOCK, file, false, command, file->f_pos);
}

/* A descriptor that came over a unix socket (SCM_RIGHTS). */
HW_LSM(file_receive, struct file *file)
{
	struct hw_context context;

	if (hw_begin_for(&context, slot, HW_RELATION_FILE_RCV))
		hw_file_flow(&context, HW_RELATION_FILE_RCV, file, true, 0, file->f_pos);
}

/* The file behind a System V segment, of which the attaching is recorded. */
static __always_inline bool hw_is_segment(struct hw_context *context, struct inode *inode)
{
	if (!(inode->i_flags & S_PRIVATE) || !hw_with_self(context) ||
	    context->self->attaching != (u64)inode)
		return false;
	context->self->attaching = 0;
	return true;
}

/*
 * A mapping that was opened for writing may become writable later (mprotect), so
 * it counts as such from the start.
 */
HW_LSM(mmap_file, HW_MMAP_FILE_ARGUMENTS)
{
	u8 relation =
		HW_RELATION_MMAP_PRIVATE +
		(hw_opaque(flags) & MAP_SHARED) * (HW_RELATION_MMAP - HW_RELATION_MMAP_PRIVATE);
	struct hw_context context;
	struct hw_object *object;

	if (!file || !hw_begin(&context, slot) || hw_is_segment(&context, file->f_inode))
		return;
	if (hw_relation_off(context.config, relation))
		object = relation == HW_RELATION_MMAP ? hw_ready_file(&context, file) : 0;
	else
		object = hw_file_flow(&context, relation, file, true, protection, 0);
	/* Asked of what is kept anyway: one more value would not fit kernel 6.1's stack. */
	if (object && hw_opaque(relation) == HW_RELATION_MMAP && !hw_channel_of(file->f_inode))
		hw_add_mapping(&context, file->f_inode, (u32)file->f_mode & FMODE_WRITE);
}
