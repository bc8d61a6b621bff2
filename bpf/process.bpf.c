/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Tasks (threads, PROV activities) and process memories (PROV entities): how
 * they begin, become another program, change their identity and end.
 */

/* The clone flags are known here only; the new task has no pid yet. */
LSM_PROBE(task_alloc, struct task_struct *child, unsigned long clone_flags)
{
	struct hw_context context;

	if (hw_enter(&context) && hw_with_self(&context))
		context.self->clone_flags = clone_flags;
	return 0;
}

/* A fork has its parent's shared mappings. */
static __always_inline void hw_inherit_mappings(struct hw_context *context,
						struct hw_task_state *child)
{
	struct hw_task_state *leader = hw_leader_of(context->task, context->self, context->slot);
	u32 i;

	if (!leader)
		return;
	for (i = 0; i < HW_MAPPINGS; i++) {
		if (!leader->mappings[i].object)
			break;
		child->mappings[i].writable = leader->mappings[i].writable;
		child->mappings[i].object = leader->mappings[i].object;
	}
	child->mapped = leader->mapped;
}

/*
 * kernel_clone() -> copy_process() -> wake_up_new_task(): the child is complete,
 * with pid and cgroup, and has not run. CamFlow: task_alloc, cred_prepare.
 */
KFUNC_PROBE(wake_up_new_task, struct task_struct *child)
{
	struct hw_task_state *state;
	struct hw_context context;
	struct hw_flow *flow;
	struct hw_object *parent;
	u32 version;

	if (!hw_enter(&context) || !hw_with_self(&context))
		return 0;
	state = hw_task_of(child, context.slot);
	if (!state) {
		hw_lose(context.slot, HW_LOSS_STORAGE);
		return 0;
	}
	if (hw_pid(child) == hw_tgid(child)) {
		hw_object_make(&state->memory, HW_VERTEX_PROCESS_MEMORY, context.slot);
		hw_inherit_mappings(&context, state);
		if (!hw_relation_off(context.config, HW_RELATION_CLONE_MEM) &&
		    !hw_vertex_off(context.config, HW_VERTEX_PROCESS_MEMORY)) {
			if (hw_declare_memory(&context, &state->memory, child))
				hw_generated(&context, HW_RELATION_CLONE_MEM, &state->memory,
					     context.self->clone_flags, 0);
			else
				hw_lose(context.slot, HW_LOSS_RING);
		}
	}
	parent = &context.self->task;
	if (hw_relation_off(context.config, HW_RELATION_CLONE))
		return 0;
	if (!hw_declare_task(&context, parent, context.task) ||
	    !hw_declare_task(&context, &state->task, child)) {
		hw_lose(context.slot, HW_LOSS_RING);
		return 0;
	}
	version = hw_send(parent);
	flow = hw_reserve_flow();
	if (!flow) {
		hw_lose(context.slot, HW_LOSS_RING);
		return 0;
	}
	hw_fill_flow(flow, &context, HW_RELATION_CLONE, context.self->clone_flags, 0);
	flow->header.marks = HW_MARK_MAIN;
	flow->a = parent->id;
	flow->a_version = version;
	flow->b = state->task.id;
	flow->b_version = hw_version(state->task.state);
	flow->c = parent->id;
	flow->c_version = version;
	hw_submit(flow);
	return 0;
}

/*
 * begin_new_exec() may still fail after this hook, so it only notes what would
 * be executed: a script and its interpreter each come here. CamFlow:
 * bprm_creds_for_exec.
 */
LSM_PROBE(bprm_check_security, struct linux_binprm *bprm)
{
	struct hw_context context;
	struct hw_executable *executable;
	struct hw_object *object;
	u32 number;

	if (!hw_enter_for(&context, HW_RELATION_EXEC))
		return 0;
	object = hw_ready_file(&context, bprm->file);
	if (!object || !context.self)
		return 0;
	number = context.self->executing;
	if (number >= HW_EXECUTABLES)
		number = HW_EXECUTABLES - 1;
	executable = &context.self->executables[number & (HW_EXECUTABLES - 1)];
	executable->object = object->id;
	executable->version = hw_send(object);
	context.self->executing = number + 1;
	return 0;
}

LSM_PROBE(bprm_creds_for_exec, struct linux_binprm *bprm)
{
	struct hw_context context;

	if (hw_enter(&context) && hw_with_self(&context))
		context.self->executing = 0;
	return 0;
}

static __always_inline void hw_executed(struct hw_context *context,
					struct hw_executable *executable, struct hw_object *memory)
{
	struct hw_flow *flow;

	if (!executable->object)
		return;
	flow = hw_reserve_flow();
	if (!flow) {
		hw_lose(context->slot, HW_LOSS_RING);
		return;
	}
	hw_fill_flow(flow, context, HW_RELATION_EXEC, 0, 0);
	flow->header.marks = HW_MARK_MAIN;
	flow->a = executable->object;
	flow->a_version = executable->version;
	flow->b = memory->id;
	flow->b_version = hw_version(memory->state);
	flow->c = context->self->task.id;
	flow->c_version = hw_version(context->self->task.state);
	hw_submit(flow);
}

/*
 * The point of no return of an exec: the other threads are gone, the task is its
 * group's leader and has its new memory map. The old memory ends, a new one
 * begins. CamFlow: bprm_committing_creds, cred_free.
 */
LSM_PROBE(bprm_committed_creds, struct linux_binprm *bprm)
{
	struct hw_object old, *memory;
	struct hw_context context;
	struct hw_flow *flow;
	u32 i, made, old_version = 0, marks = HW_MARK_MAIN;
	u64 key;

	if (!hw_enter(&context) || !hw_with_self(&context))
		return 0;
	memory = &context.self->memory;
	old = *memory;
	for (i = 0; i < HW_MAPPINGS; i++)
		context.self->mappings[i].object = 0;
	context.self->mapped = 0;
	if (old.id && hw_in_epoch(old.declared, context.epoch))
		old_version = hw_send(memory);
	__builtin_memset(memory, 0, sizeof(*memory));
	hw_object_make(memory, HW_VERTEX_PROCESS_MEMORY, context.slot);
	if (hw_vertex_off(context.config, HW_VERTEX_PROCESS_MEMORY))
		return 0;
	if (!hw_declare_task(&context, &context.self->task, context.task) ||
	    !hw_declare_memory(&context, memory, context.task) ||
	    !hw_name_once(&context, memory, bprm->file->f_path.dentry, bprm->file->f_path.mnt)) {
		hw_lose(context.slot, HW_LOSS_RING);
		return 0;
	}
	if (!hw_relation_off(context.config, HW_RELATION_EXEC)) {
		if (context.self->executing > 0)
			hw_executed(&context, &context.self->executables[0], memory);
		if (context.self->executing > 1)
			hw_executed(&context, &context.self->executables[1], memory);
	}
	context.self->executing = 0;
	if (!hw_relation_off(context.config, HW_RELATION_EXEC_TASK)) {
		struct hw_object *task = &context.self->task;

		flow = hw_reserve_flow();
		if (!flow) {
			hw_lose(context.slot, HW_LOSS_RING);
			return 0;
		}
		if (old.id && hw_in_epoch(old.declared, context.epoch) &&
		    !hw_relation_off(context.config, HW_RELATION_MEMORY_READ)) {
			key = hw_key(&context, &old, old_version, HW_RELATION_MEMORY_READ);
			if (!hw_same_edge(&context, task, key)) {
				made = hw_makes_version(task->state, context.flags);
				task->state = hw_received(task->state, made);
				marks |= HW_MARK_MEMORY | made * HW_MARK_NEW_B;
				task->previous = key;
			}
		}
		task->state |= HW_STATE_OUT;
		hw_fill_flow(flow, &context, HW_RELATION_EXEC_TASK, 0, 0);
		flow->header.marks = marks;
		flow->a = memory->id;
		flow->a_version = hw_version(memory->state);
		flow->b = task->id;
		flow->b_version = hw_version(task->state);
		flow->c = old.id;
		flow->c_version = old_version;
		hw_submit(flow);
	}
	if (old.id && hw_ends(&context, HW_RELATION_TERMINATE_PROC, old.declared))
		hw_end(&context, HW_RELATION_TERMINATE_PROC, old.id, old_version);
	return 0;
}

/*
 * The end of a successful exec: the arguments are in the new memory. Nothing has
 * sent from it yet, so they are edges into its first version.
 */
RAW_TRACEPOINT_PROBE(sched_process_exec)
{
	struct hw_scratch *buffer;
	struct hw_context context;
	unsigned long start, length;
	struct mm_struct *map;
	u32 number, marks = 0;

	if (!hw_enter_for(&context, HW_RELATION_ARG) || !(context.flags & HW_SLOT_ARGUMENTS) ||
	    hw_vertex_off(context.config, HW_VERTEX_ARGV) || !hw_with_self(&context))
		return 0;
	if (!hw_in_epoch(context.self->memory.declared, context.epoch))
		return 0;
	number = hw_scratch_claim();
	buffer = scratch.lookup(&number);
	if (!buffer) {
		hw_lose(context.slot, HW_LOSS_SCRATCH);
		return 0;
	}
	map = context.task->mm;
	start = map->arg_start;
	length = map->arg_end - start;
	if (length > HW_TEXT_DATA_MAX) {
		length = HW_TEXT_DATA_MAX;
		marks = HW_TEXT_TRUNCATED;
	}
	if (bpf_probe_read_user(buffer->text.data, length, (void *)start)) {
		hw_lose(context.slot, HW_LOSS_READ);
	} else {
		buffer->text.object = context.self->memory.id;
		buffer->text.version = hw_version(context.self->memory.state);
		buffer->text.marks = marks;
		hw_submit_text(&context, &buffer->text, HW_RECORD_ARGUMENTS, HW_RELATION_ARG,
			       length);
	}
	hw_scratch_release(number);
	return 0;
}

/*
 * The memory of another process as the target of a flow: only one that is
 * captured too has a state that can be named.
 */
static __always_inline struct hw_object *hw_ready_memory(struct hw_context *context,
							 struct task_struct *task)
{
	struct hw_task_state *state, *leader;

	if (hw_vertex_off(context->config, HW_VERTEX_PROCESS_MEMORY) || !hw_with_self(context))
		return 0;
	state = hw_task_of(task, hw_slot_of(hw_task_cgroup(task)));
	leader = state ? hw_leader_of(task, state, state->task.owner) : 0;
	if (!leader) {
		hw_lose(context->slot, HW_LOSS_STORAGE);
		return 0;
	}
	if (hw_declare_memory(context, &leader->memory, task))
		return &leader->memory;
	hw_lose(context->slot, HW_LOSS_RING);
	return 0;
}

/* The credentials' change is an edge into the memory, which shows them. */
LSM_PROBE(task_fix_setuid, struct cred *new, const struct cred *old, int flags)
{
	struct hw_context context;
	struct hw_object *memory;

	if (!hw_enter_for(&context, HW_RELATION_SETUID))
		return 0;
	memory = hw_ready_memory(&context, context.task);
	if (!memory)
		return 0;
	hw_generated(&context, HW_RELATION_SETUID, memory, flags, 0);
	/* Its vertex is due again, with the user it has after this. */
	memory->declared[0] = 0;
	memory->declared[1] = 0;
	return 0;
}

LSM_PROBE(task_setpgid, struct task_struct *target, int pgid)
{
	struct hw_context context;
	struct hw_object *memory;

	if (!hw_enter_for(&context, HW_RELATION_SETPGID))
		return 0;
	memory = hw_ready_memory(&context, target);
	if (memory)
		hw_generated(&context, HW_RELATION_SETPGID, memory, pgid, 0);
	return 0;
}

LSM_PROBE(task_getpgid, struct task_struct *target)
{
	struct hw_context context;
	struct hw_object *memory;

	if (!hw_enter_for(&context, HW_RELATION_GETPGID))
		return 0;
	memory = hw_ready_memory(&context, target);
	if (memory)
		hw_used(&context, HW_RELATION_GETPGID, memory, 0, 0);
	return 0;
}

/* do_exit(): for every thread, and the process ends with its last one. */
RAW_TRACEPOINT_PROBE(sched_process_exit)
{
	struct hw_context context;
	struct hw_task_state *leader;
	struct signal_struct *group;

	if (!hw_enter(&context) || !hw_with_self(&context))
		return 0;
	if (hw_ends(&context, HW_RELATION_TERMINATE_TASK, context.self->task.declared))
		hw_end(&context, HW_RELATION_TERMINATE_TASK, context.self->task.id,
		       hw_send(&context.self->task));
	group = context.task->signal;
	if (group->live.counter)
		return 0;
	leader = hw_leader_of(context.task, context.self, context.slot);
	/* Threads that end at once may all find that none is left: the first one here counts. */
	if (!leader || __sync_fetch_and_or(&leader->memory.state, HW_STATE_ENDED) & HW_STATE_ENDED)
		return 0;
	if (hw_ends(&context, HW_RELATION_TERMINATE_PROC, leader->memory.declared))
		hw_end(&context, HW_RELATION_TERMINATE_PROC, leader->memory.id,
		       hw_send(&leader->memory));
	return 0;
}
