/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What goes through a pipe without a read or a write: splice, tee, vmsplice. LSM has
 * hooks for a file at the other end only.
 */

/*
 * Each of these asks for its pipes first, the one that data comes from before the
 * one that it goes to; F_SETPIPE_SZ asks otherwise.
 */
HW_FENTRY(get_pipe_info, struct file *file, bool for_splice)
{
	struct inode *inode = file->f_inode;
	struct hw_context context;

	if (!for_splice || (inode->i_mode & S_IFMT) != S_IFIFO || !hw_begin(&context, slot))
		return;
	if (((u32)file->f_mode & FMODE_READ) && !hw_relation_off(context.config, HW_RELATION_READ))
		hw_pipe_flow(&context, HW_RELATION_READ, inode, true, MAY_READ);
	if (((u32)file->f_mode & FMODE_WRITE) &&
	    !hw_relation_off(context.config, HW_RELATION_SPLICE_OUT))
		hw_pipe_flow(&context, HW_RELATION_SPLICE_OUT, inode, false, MAY_WRITE);
}

/*
 * From a file into a pipe the file is read between the two (file_permission), and
 * what is read goes into the pipe.
 */
HW_FENTRY(__do_splice, struct file *in, long long *in_offset, struct file *out)
{
	struct inode *inode = out->f_inode;
	struct hw_context context;

	if ((inode->i_mode & S_IFMT) == S_IFIFO &&
	    hw_begin_for(&context, slot, HW_RELATION_SPLICE_OUT) && hw_with_self(&context))
		context.self->splicing = (u64)inode;
}

HW_FEXIT(__do_splice, struct file *in, long long *in_offset, struct file *out)
{
	struct hw_context context;

	if (hw_begin(&context, slot) && hw_with_self(&context))
		context.self->splicing = 0;
}
