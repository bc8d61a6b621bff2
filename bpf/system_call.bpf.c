/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * System calls: their entry, where what gives information away is recorded before
 * anybody can have it, and their exit, where what was taken is. What lies behind a
 * descriptor is looked up in the task's table, so a path that is only named
 * (rename, unlink, stat) has no object here.
 */

#define HW_COMPATIBLE_CALL 0x2 /* TS_COMPAT: numbered as on 32 bits */
#define HW_FILE_CREATED 0x100000 /* FMODE_CREATED: by this open */
#define HW_IN_PROGRESS 115 /* EINPROGRESS */

static __always_inline u64 hw_argument(struct pt_regs *regs, u32 number)
{
	switch (number) {
	case 0:
		return regs->di;
	case 1:
		return regs->si;
	case 2:
		return regs->dx;
	case 3:
		return regs->r10;
	case 4:
		return regs->r8;
	default:
		return regs->r9;
	}
}

/* The open file behind a descriptor of the acting task; 0: there is none. */
static __always_inline struct file *hw_file_of(struct task_struct *task, u32 descriptor)
{
	struct files_struct *files = task->files;
	struct fdtable *table = 0;
	struct file **open = 0;
	struct file *file = 0;
	u32 limit = 0;

	READ(table, files->fdt);
	READ(limit, table->max_fds);
	if (descriptor >= limit)
		return 0;
	READ(open, table->fd);
	READ(file, open[descriptor]);
	return file;
}

static __always_inline u32 hw_descriptor(struct hw_step *step, struct pt_regs *regs, s64 result)
{
	u32 kind = step->descriptor, value = -1;

	if (kind == HW_DESCRIPTOR_RESULT)
		return result;
	if (kind < HW_DESCRIPTOR_RESULT)
		return hw_argument(regs, kind);
	bpf_probe_read_user(&value, sizeof(value),
			    (void *)hw_argument(regs, kind & 7) + (kind >> 4 & 1) * sizeof(value));
	return value;
}

/* The flags of a clone under way; they are known here only. */
static __always_inline void hw_notes_clone(struct hw_context *context, struct hw_step *step,
					   u64 flags)
{
	if (!hw_with_self(context))
		return;
	if (step->traits & HW_STEP_SHARES)
		bpf_probe_read_user(&flags, sizeof(flags), (void *)flags);
	/* clone(2) has the signal of the child's end there, too. */
	context->self->clone_flags = flags & ~0xffULL;
}

/* A flow with the acting process's own memory; of another process nothing is known here. */
static __always_inline void hw_step_self(struct hw_context *context, struct hw_step *step,
					 struct pt_regs *regs, u32 flags)
{
	u32 process =
		step->descriptor < HW_DESCRIPTOR_RESULT ? hw_argument(regs, step->descriptor) : 0;
	struct hw_object *memory;

	if (hw_relation_off(context->config, step->relation) ||
	    (process && process != hw_tgid(context->task)))
		return;
	memory = hw_memory_flow(context, step->relation, context->task, step->traits & HW_STEP_USES,
				flags);
	if (!memory || step->relation != HW_RELATION_SETUID)
		return;
	/* As hw_identity(). */
	memory->declared[0] = 0;
	memory->declared[1] = 0;
}

/* An open that made the file: what has changed is its directory. */
static __always_inline void hw_step_creates(struct hw_context *context, struct file *file,
					    struct inode *inode)
{
	struct dentry *dentry = HW_GET(file, f_path.dentry);
	struct inode *directory = HW_GET(HW_GET(dentry, d_parent), d_inode);

	if (HW_GET(file, f_mode) & HW_FILE_CREATED &&
	    !hw_relation_off(context->config, HW_RELATION_INODE_CREATE))
		hw_inode_flow(context, HW_RELATION_INODE_CREATE, directory, false,
			      HW_GET(inode, i_mode));
}

/* No call says which file got another name, so an open under another name than before does. */
static __always_inline void hw_step_named(struct hw_context *context, struct hw_object *object,
					  struct file *file)
{
	struct dentry *dentry = HW_GET(file, f_path.dentry);
	u32 hash = 0, before = object->mark;

	READ(hash, dentry->d_name.hash);
	hash |= 1;
	if (before == hash)
		return;
	object->mark = hash;
	if (before)
		hw_name(context, object, dentry, HW_GET(file, f_path.mnt));
}

static __always_inline void hw_step_accepts(struct hw_context *context, struct pt_regs *regs,
					    struct file *file)
{
	struct file *waiting = hw_file_of(context->task, hw_argument(regs, 0));
	struct hw_object *listener, *accepted;

	if (!waiting || hw_relation_off(context->config, HW_RELATION_ACCEPT_SOCKET))
		return;
	listener = hw_ready_file(context, waiting);
	accepted = hw_ready_file(context, file);
	if (listener && accepted) {
		/* A peer may have written to it before it was accepted. */
		accepted->owner = context->slot;
		hw_derived(context, HW_RELATION_ACCEPT_SOCKET, listener, accepted, 0);
	}
}

/* A datagram's receiver is known where the socket has one peer. */
static __always_inline void hw_step_gives(struct hw_context *context, u64 address)
{
	struct sock *sock = (struct sock *)address;
	u16 family = 0, type = 0;

	READ(family, sock->__sk_common.skc_family);
	READ(type, sock->sk_type);
	if (family != AF_UNIX || !hw_with_self(context))
		return;
	hw_to_peer(context, type == SOCK_DGRAM ? HW_RELATION_SEND_UNIX : HW_RELATION_RECEIVE_UNIX,
		   address, hw_find_channel(address), hw_unix_peer(sock));
}

static __always_inline bool hw_step_locks(struct hw_step *step, struct pt_regs *regs, u32 *flags)
{
	u32 command = hw_argument(regs, 1);
	u16 type = 0;

	if (step->traits & HW_STEP_LOCKS) {
		/* LOCK_SH, LOCK_EX, LOCK_UN -> F_RDLCK, F_WRLCK, F_UNLCK */
		*flags = *flags & 3 ? (*flags & 3) - 1 : 2;
	} else if (step->traits & HW_STEP_LOCKS_RANGE) {
		/* F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW */
		if ((command | 1) != 7 && command != 37 && command != 38)
			return false;
		bpf_probe_read_user(&type, sizeof(type), (void *)hw_argument(regs, 2));
		*flags = type;
	}
	return true;
}

/* Whether a step is due here. */
static __always_inline bool hw_due(struct hw_step *step, struct pt_regs *regs, u32 phase,
				   s64 result)
{
	u32 traits = step->traits;

	if (!(traits & phase) ||
	    (step->condition && !(hw_argument(regs, step->condition - 1) & step->bits)))
		return false;
	return phase == HW_STEP_AT_ENTRY ||
	       ((result >= 0 || (traits & HW_STEP_CONNECTS && result == -HW_IN_PROGRESS)) &&
		!(traits & HW_STEP_TAKES && !result));
}

static __always_inline struct hw_object *hw_step_flow(struct hw_context *context,
						      struct hw_step *step, struct pt_regs *regs,
						      struct file *file, u32 phase, s64 result)
{
	u32 traits = step->traits, flags = step->flags, socket, shared = 0;
	struct inode *inode;
	s64 offset;
	u8 relation;

	if (step->flags_from)
		flags = hw_argument(regs, step->flags_from - 1);
	if (phase == HW_STEP_AT_EXIT && !hw_step_locks(step, regs, &flags))
		return 0;
	inode = HW_GET(file, f_inode);
	socket = hw_is_socket_mode(HW_GET(inode, i_mode));
	if (traits & HW_STEP_MAPS)
		shared = hw_argument(regs, 3) & MAP_SHARED;
	relation = step->relation + socket * (step->socket - step->relation) +
		   shared * (HW_RELATION_MMAP - HW_RELATION_MMAP_PRIVATE);
	if (!relation || hw_relation_off(context->config, relation))
		return 0;
	offset = HW_GET(file, f_pos);
	if (traits & HW_STEP_MOVES)
		offset = offset > result ? offset - result : 0;
	if (traits & HW_STEP_OPENS)
		flags = HW_GET(file, f_flags);
	return hw_file_flow(context, relation, file, traits & HW_STEP_USES, flags, offset);
}

/*
 * A step's parts are functions of their own, beside each other, because a stack
 * has room for one of them at a time.
 */
#define HW_PART(program, name)                                                           \
	static __attribute__((noinline, section(".bpf.fn.tp_btf__" #program))) int name( \
		u64 slot, struct pt_regs *regs, struct hw_step *step, s64 result)

HW_PART(sys_enter, hw_entry_clone);
HW_PART(sys_enter, hw_entry_flow);
HW_PART(sys_enter, hw_entry_gives);
HW_PART(sys_exit, hw_exit_self);
HW_PART(sys_exit, hw_exit_before);
HW_PART(sys_exit, hw_exit_flow);
HW_PART(sys_exit, hw_exit_gives);
HW_PART(sys_exit, hw_exit_after);

static __always_inline struct hw_system_call *hw_call_of(u32 number, u32 phase)
{
	struct hw_system_call *call = system_calls.lookup(&number);
	struct task_struct *task = hw_current();

	if (!call || !((call->steps[0].traits | call->steps[1].traits) & phase) ||
	    task->thread_info.status & HW_COMPATIBLE_CALL)
		return 0;
	return call;
}

HW_TP_BTF(sys_enter, struct pt_regs *regs, long number)
{
	struct hw_system_call *call = hw_call_of(number, HW_STEP_AT_ENTRY);
	struct hw_step *step;
	u32 i;

	if (!call)
		return;
	for (i = 0; i < hw_opaque(HW_STEPS); i++) {
		step = &call->steps[i & (HW_STEPS - 1)];
		if (!hw_due(step, regs, HW_STEP_AT_ENTRY, 0))
			continue;
		if (step->traits & HW_STEP_CLONES) {
			hw_entry_clone(slot, regs, step, 0);
			continue;
		}
		hw_entry_flow(slot, regs, step, 0);
		if (step->traits & HW_STEP_GIVES)
			hw_entry_gives(slot, regs, step, 0);
	}
}

HW_TP_BTF(sys_exit, struct pt_regs *regs, long result)
{
	struct hw_system_call *call = hw_call_of(regs->orig_ax, HW_STEP_AT_EXIT);
	struct hw_step *step;
	u32 i;

	if (!call)
		return;
	for (i = 0; i < hw_opaque(HW_STEPS); i++) {
		step = &call->steps[i & (HW_STEPS - 1)];
		if (!hw_due(step, regs, HW_STEP_AT_EXIT, result))
			continue;
		if (step->traits & HW_STEP_SELF) {
			hw_exit_self(slot, regs, step, result);
			continue;
		}
		if (step->traits & (HW_STEP_OPENS | HW_STEP_ACCEPTS))
			hw_exit_before(slot, regs, step, result);
		hw_exit_flow(slot, regs, step, result);
		if (step->traits & HW_STEP_GIVES)
			hw_exit_gives(slot, regs, step, result);
		if (step->traits & (HW_STEP_OPENS | HW_STEP_MAPS))
			hw_exit_after(slot, regs, step, result);
	}
}

HW_PART(sys_enter, hw_entry_clone)
{
	struct hw_context context;

	if (hw_begin(&context, slot))
		hw_notes_clone(&context, step,
			       step->flags_from ? hw_argument(regs, 0) : step->flags);
	return 0;
}

/* Begin with the open file of a step; 0: there is none, or nothing is recorded. */
static __always_inline struct file *hw_begin_file(struct hw_context *context, u32 slot,
						  struct hw_step *step, struct pt_regs *regs,
						  s64 result)
{
	if (!hw_begin(context, slot))
		return 0;
	return hw_file_of(context->task, hw_descriptor(step, regs, result));
}

static __always_inline int hw_part_flow(u32 slot, struct pt_regs *regs, struct hw_step *step,
					u32 phase, s64 result)
{
	struct hw_context context;
	struct file *file = hw_begin_file(&context, slot, step, regs, result);

	if (file)
		hw_step_flow(&context, step, regs, file, phase, result);
	return 0;
}

static __always_inline int hw_part_gives(u32 slot, struct pt_regs *regs, struct hw_step *step,
					 s64 result)
{
	struct hw_context context;
	struct file *file = hw_begin_file(&context, slot, step, regs, result);
	struct inode *inode;

	if (!file)
		return 0;
	inode = HW_GET(file, f_inode);
	if (hw_is_socket_mode(HW_GET(inode, i_mode)))
		hw_step_gives(&context, hw_channel_of(inode));
	return 0;
}

HW_PART(sys_enter, hw_entry_flow)
{
	return hw_part_flow(slot, regs, step, HW_STEP_AT_ENTRY, result);
}

HW_PART(sys_enter, hw_entry_gives)
{
	return hw_part_gives(slot, regs, step, result);
}

HW_PART(sys_exit, hw_exit_flow)
{
	return hw_part_flow(slot, regs, step, HW_STEP_AT_EXIT, result);
}

HW_PART(sys_exit, hw_exit_gives)
{
	return hw_part_gives(slot, regs, step, result);
}

HW_PART(sys_exit, hw_exit_self)
{
	struct hw_context context;

	if (hw_begin(&context, slot))
		hw_step_self(&context, step, regs,
			     step->flags_from ? hw_argument(regs, step->flags_from - 1) :
						step->flags);
	return 0;
}

HW_PART(sys_exit, hw_exit_before)
{
	struct hw_context context;
	struct file *file = hw_begin_file(&context, slot, step, regs, result);

	if (!file)
		return 0;
	if (step->traits & HW_STEP_OPENS)
		hw_step_creates(&context, file, HW_GET(file, f_inode));
	else
		hw_step_accepts(&context, regs, file);
	return 0;
}

HW_PART(sys_exit, hw_exit_after)
{
	struct hw_context context;
	struct file *file = hw_begin_file(&context, slot, step, regs, result);
	struct hw_object *object;
	struct inode *inode;

	if (!file)
		return 0;
	inode = HW_GET(file, f_inode);
	object = hw_channel_of(inode) ? 0 : hw_find_inode(inode);
	if (!object || !hw_in_epoch(object->declared, context.epoch) || !hw_with_self(&context))
		return 0;
	if (step->traits & HW_STEP_OPENS)
		hw_step_named(&context, object, file);
	else if (hw_argument(regs, 3) & MAP_SHARED)
		hw_add_mapping(&context, inode, HW_GET(file, f_mode) & FMODE_WRITE);
	return 0;
}

/* The child is complete, with pid and cgroup, and has not run. */
HW_TP_BTF(sched_process_fork, struct task_struct *parent, struct task_struct *child)
{
	hw_forked(slot, child);
}

/* The exec has succeeded; of a script, the file is that of its interpreter. */
HW_TP_BTF(sched_process_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct hw_context context;
	struct hw_executable *executable;
	struct hw_object *object;

	if (!hw_begin(&context, slot) || !hw_with_self(&context))
		return;
	context.self->executing = 0;
	object = hw_relation_off(context.config, HW_RELATION_EXEC) ?
			 0 :
			 hw_ready_file(&context, bprm->file);
	if (object) {
		executable = &context.self->executables[0];
		executable->object = object->id;
		executable->version = hw_send(object);
		context.self->executing = 1;
	}
	hw_becomes(slot, bprm->file);
	hw_arguments(slot);
}

/* do_exit(): for every thread, and the process ends with its last one. */
HW_TP_BTF(sched_process_exit, struct task_struct *task)
{
	hw_ends(slot);
}
