/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Processes that are moved or cloned across the border of the scope: they are
 * marked (headwater/border.h).
 */

/*
 * At the entry, before the process runs in its new cgroup: the tracepoint of this
 * name comes up to 14 ms later.
 */
HW_FENTRY_ALL(cgroup_attach_task, struct cgroup *target, struct task_struct *task)
{
	u32 from = hw_slot_of(hw_task_cgroup(task)), to = hw_slot_of(hw_cgroup_id(target));

	if (!from == !to || !hw_is_unified(target))
		return;
	if (to)
		hw_enters(to, task->group_leader);
	else
		hw_leaves(task->group_leader, task);
}

/* clone3(CLONE_INTO_CGROUP): the child is in that cgroup from the start, and nothing is attached. */
HW_FENTRY_ALL(cgroup_post_fork, struct task_struct *child, struct kernel_clone_args *call)
{
	u32 slot;

	if (!call->cgrp)
		return;
	slot = hw_slot_of(hw_cgroup_id(call->cgrp));
	if (slot)
		hw_enters(slot, child->group_leader);
}
