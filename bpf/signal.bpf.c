/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * One process sends another a signal: kill, tkill, tgkill, the calls that queue one
 * with a value, pidfd_send_signal. The kernel asks one hook before all of them, for
 * every process of a group. CamFlow registers it and records nothing.
 *
 * The receiver is the process, so its memory: that is what threads and other
 * processes may change at once (version.h), where a task's state is its own.
 */

/* Another signal is another flow. */
static __always_inline u64 hw_signal_key(struct hw_context *context, u32 number)
{
	struct hw_object *task = &context->self->task;

	return hw_edge_key(task->id + number * 0xd6e8feb86659fd93ULL, hw_version(task->state),
			   HW_RELATION_SIGNAL, context->epoch);
}

/* As hw_repeats(), of a signal. */
static __always_inline bool hw_signal_repeats(struct hw_context *context, struct hw_object *memory,
					      u32 number)
{
	struct hw_task_state *self = context->self, *own;
	struct hw_object *sends;

	if (!(context->flags & HW_SLOT_COMPRESS_EDGES) ||
	    !hw_object_has(memory, hw_signal_key(context, number)))
		return false;
	own = hw_leader_of(context->task, self, context->slot);
	if (!own || own->mappings[0].object)
		return false;
	sends = &own->memory;
	return hw_memory_off(context, HW_RELATION_MEMORY_READ) ||
	       self->memory_read ==
		       hw_key(context, sends, hw_version(sends->state), HW_RELATION_MEMORY_READ);
}

/* Which argument of task_kill has the credentials of who sends, 0: the acting task's. */
#define HW_KILL_SENDER 3

/*
 * Not of a process to itself, of no signal (0, which asks whether a process is there),
 * and of the kernel's own on behalf of one that may be gone (with credentials).
 */
HW_LSM(task_kill, struct task_struct *target, struct kernel_siginfo *information, int number,
       const struct cred *sender)
{
	struct hw_task_state *state, *leader;
	struct hw_context context;
	u64 credentials = 0;

	/* As a number: since 6.8 the verifier takes what a hook is given to be there. */
	READ(credentials, ctx[HW_KILL_SENDER]);
	if (!number || credentials || hw_tgid(target) == hw_tgid(hw_current()) ||
	    !hw_begin_for(&context, slot, HW_RELATION_SIGNAL) ||
	    hw_vertex_off(context.config, HW_VERTEX_PROCESS_MEMORY) || !hw_with_self(&context))
		return;
	state = hw_task_of(target, hw_slot_of(hw_task_cgroup(target)));
	leader = state ? hw_leader_of(target, state, state->task.owner) : 0;
	if (!leader) {
		hw_lose(slot, HW_LOSS_STORAGE);
		return;
	}
	if (hw_signal_repeats(&context, &leader->memory, number))
		return;
	if (!hw_declare_memory(&context, &leader->memory, target))
		hw_lose_placeless(&context);
	else if (hw_generated(&context, HW_RELATION_SIGNAL, &leader->memory, number, 0))
		hw_object_keep(&leader->memory, hw_signal_key(&context, number));
}
