/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What crosses the border of the scope, and what its records say of that.
 *
 * A container runtime puts a process of its own into the container's cgroup, which
 * opens files of the host and executes itself before it becomes the workload. So
 * what a task outside every scope puts in is marked as set-up, with the root
 * directory of who put it in; it hands the mark down to its children, and loses it
 * with the first exec under another root. No mark means workload: also right for
 * what was there before the agent.
 *
 * Kept by thread group, in the leader's task storage, because a group is moved as
 * a whole, and by then may have threads that nobody can list here.
 */
#ifndef HEADWATER_BORDER_H
#define HEADWATER_BORDER_H

/* The state of a task's group; 0 where it has none. */
static __always_inline struct hw_task_state *hw_group_of(struct task_struct *task)
{
	return tasks.task_storage_get(task->group_leader, 0, 0);
}

static __always_inline void hw_border_copy(struct hw_task_state *to, struct hw_task_state *from)
{
	to->setup_root = from->setup_root;
	to->border = from->border;
}

/* The directory entry that a task takes for the root. */
static __always_inline u64 hw_root_of(struct task_struct *task)
{
	struct fs_struct *fs = task->fs;
	struct dentry *root = 0;

	READ(root, fs->root.dentry);
	return (u64)root;
}

static __always_inline bool hw_marks_setup(u32 slot)
{
	return hw_config_of(slot)->flags & HW_SLOT_MARK_SETUP;
}

/*
 * What the records of the acting task carry (HW_MARK_*). Read, never chosen:
 * kernel 6.1's verifier would follow each value through all that comes behind.
 */
static __always_inline u32 hw_border_marks(struct hw_context *context)
{
	struct hw_task_state *state = context->self, *leader;

	if (hw_pid(context->task) != hw_tgid(context->task) &&
	    (context->flags & HW_SLOT_MARK_SETUP)) {
		leader = hw_group_of(context->task);
		if (leader)
			state = leader;
	}
	return state->border;
}

/* A process comes into a slot's scope from outside, by the acting task. */
static __always_inline void hw_enters(u32 slot, struct task_struct *leader)
{
	struct task_struct *acting = hw_current();
	struct hw_task_state *state;

	if (!hw_marks_setup(slot) || hw_slot_of(hw_task_cgroup(acting)))
		return;
	state = tasks.task_storage_get(leader, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!state)
		return;
	state->setup_root = hw_root_of(acting);
	state->border = HW_MARK_SETUP;
}

/* A new process has its parent's mark; a new thread has its group's. */
static __always_inline void hw_inherit_setup(u32 slot, struct task_struct *child)
{
	struct hw_task_state *parent, *state;

	if (!hw_marks_setup(slot) || hw_pid(child) != hw_tgid(child))
		return;
	parent = hw_group_of(hw_current());
	if (!parent || !parent->border)
		return;
	state = tasks.task_storage_get(child, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (state)
		hw_border_copy(state, parent);
}

/* The acting task executes a file: under another root than its runtime's, it is the workload's. */
static __always_inline void hw_setup_ends(void)
{
	struct task_struct *task = hw_current();
	struct hw_task_state *leader = hw_group_of(task);

	if (leader && (leader->border & HW_MARK_SETUP) && leader->setup_root != hw_root_of(task))
		leader->border &= ~HW_MARK_SETUP;
}

/*
 * A thread that executes takes its leader's place, and its leader's storage goes.
 * Called while both are there; where the exec fails, nobody looks at the copy.
 */
static __always_inline void hw_border_follows_exec(void)
{
	struct task_struct *task = hw_current();
	struct hw_task_state *leader, *state;

	if (hw_pid(task) == hw_tgid(task))
		return;
	leader = hw_group_of(task);
	state = tasks.task_storage_get(task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (leader && state)
		hw_border_copy(state, leader);
}

#endif
