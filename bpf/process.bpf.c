/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Tasks (threads, PROV activities) and process memories (PROV entities): how
 * they begin, become another program, change their identity and end.
 */

/* The clone flags are known here only; the new task has no pid yet. */
HW_LSM(task_alloc, struct task_struct *child, unsigned long clone_flags)
{
	struct hw_context context;

	if (hw_begin(&context, slot) && hw_with_self(&context))
		context.self->clone_flags = clone_flags;
}

/*
 * kernel_clone() -> copy_process() -> wake_up_new_task(): the child is complete,
 * with pid and cgroup, and has not run. CamFlow: task_alloc, cred_prepare.
 */
HW_FENTRY(wake_up_new_task, struct task_struct *child)
{
	hw_forked(slot, child);
}

/*
 * begin_new_exec() may still fail after this hook, so it only notes what would
 * be executed: a script and its interpreter each come here. CamFlow:
 * bprm_creds_for_exec.
 */
HW_LSM(bprm_check_security, struct linux_binprm *bprm)
{
	struct hw_context context;
	struct hw_executable *executable;
	struct hw_object *object;
	u32 number;

	hw_setup_ends();
	hw_border_follows_exec();
	if (!hw_begin(&context, slot) || hw_rules_judge(&context, bprm->file) ||
	    hw_relation_off(context.config, HW_RELATION_EXEC))
		return;
	object = hw_ready_file(&context, bprm->file);
	if (!object)
		return;
	number = context.self->executing;
	if (number >= HW_EXECUTABLES)
		number = HW_EXECUTABLES - 1;
	executable = &context.self->executables[number & (HW_EXECUTABLES - 1)];
	executable->object = object->id;
	executable->version = hw_send(object);
	context.self->executing = number + 1;
}

HW_LSM(bprm_creds_for_exec, struct linux_binprm *bprm)
{
	struct hw_context context;

	if (!hw_begin(&context, slot))
		return;
	hw_rules_begin(&context);
	if (hw_with_self(&context))
		context.self->executing = 0;
}

/*
 * The point of no return of an exec: the other threads are gone, the task is its
 * group's leader and has its new memory map.
 */
HW_LSM(bprm_committed_creds, struct linux_binprm *bprm)
{
	hw_becomes(slot, bprm->file);
}

/* The end of a successful exec. */
HW_TRACEPOINT(sched_process_exec)
{
	hw_arguments(slot);
}

HW_LSM(task_fix_setuid, struct cred *new, const struct cred *old, int flags)
{
	hw_identity(slot, flags);
}

HW_LSM(task_setpgid, struct task_struct *target, int pgid)
{
	struct hw_context context;

	if (hw_begin_for(&context, slot, HW_RELATION_SETPGID))
		hw_memory_flow(&context, HW_RELATION_SETPGID, target, false, pgid);
}

HW_LSM(task_getpgid, struct task_struct *target)
{
	struct hw_context context;

	if (hw_begin_for(&context, slot, HW_RELATION_GETPGID))
		hw_memory_flow(&context, HW_RELATION_GETPGID, target, true, 0);
}

/* do_exit(): for every thread, and the process ends with its last one. */
HW_TRACEPOINT(sched_process_exit)
{
	hw_ends(slot);
}
