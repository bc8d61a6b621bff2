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
 * A process that is moved out of the scope, which a privileged container can do to
 * its own, stays captured: a stray, with all that it starts, until it ends, its
 * pod's cgroup ends, or that leaves the scope. It goes along when its pod gets
 * another slot. As long as there are any, every task outside of the scope looks at
 * its own state (hook.h).
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
	to->left_pod = from->left_pod;
	to->left_cgroup = from->left_cgroup;
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

static __always_inline void hw_stray_begins(struct hw_task_state *leader)
{
	if (!(__sync_fetch_and_or(&leader->border, HW_MARK_LEFT) & HW_MARK_LEFT))
		__sync_fetch_and_add(&HW_DIRECT(strays)->count, 1);
}

static __always_inline void hw_stray_ends(struct hw_task_state *leader)
{
	if (__sync_fetch_and_and(&leader->border, ~(u64)HW_MARK_LEFT) & HW_MARK_LEFT)
		__sync_fetch_and_add(&HW_DIRECT(strays)->count, -1ULL);
}

/* The slot of the acting task, which is in no captured cgroup; 0: it is no stray. */
static __always_inline u32 hw_stray_slot(void)
{
	struct hw_task_state *leader;
	u32 slot;

	if (!hw_strays())
		return 0;
	leader = hw_group_of(hw_current());
	if (!leader || !(leader->border & HW_MARK_LEFT))
		return 0;
	slot = hw_slot_of(leader->left_pod);
	if (!slot)
		hw_stray_ends(leader);
	return slot;
}

/*
 * What the records of the acting task carry. Read, never chosen: kernel 6.1's
 * verifier would follow each value through all that comes behind.
 *
 * One that is about to leave, has failed to or has come back is in the scope.
 */
static __always_inline void hw_border_of(struct hw_context *context)
{
	struct hw_task_state *state = context->self, *leader;
	u32 marks;

	if (hw_pid(context->task) != hw_tgid(context->task) &&
	    ((context->flags & HW_SLOT_MARK_SETUP) || hw_strays())) {
		leader = hw_group_of(context->task);
		if (leader)
			state = leader;
	}
	marks = state->border;
	if ((marks & HW_MARK_LEFT) && hw_slot_of(hw_task_cgroup(context->task)))
		marks &= ~HW_MARK_LEFT;
	context->marks = marks;
	context->left = state->left_cgroup;
}

/* The cgroup that a task's vertex names: of one beside the acting stray, that which it left. */
static __always_inline u64 hw_shown_cgroup(struct hw_context *context, struct task_struct *task)
{
	u64 cgroup = hw_task_cgroup(task);

	if ((context->marks & HW_MARK_LEFT) && cgroup == hw_task_cgroup(context->task))
		cgroup = context->left;
	return cgroup;
}

#define HW_CGROUP_DEPTH 24

/* The topmost captured cgroup above a captured one: the pod's own. */
static __always_inline u64 hw_pod_of(struct cgroup *cgroup)
{
	struct cgroup_subsys_state *above;
	struct cgroup *parent;
	u64 id, pod = hw_cgroup_id(cgroup);
	u32 i;

	for (i = 0; i < HW_CGROUP_DEPTH; i++) {
		above = 0;
		parent = 0;
		READ(above, cgroup->self.parent);
		READ(parent, above->cgroup);
		id = hw_cgroup_id(parent);
		if (!parent || !hw_slot_of(id))
			break;
		pod = id;
		cgroup = parent;
	}
	return pod;
}

/* A process leaves the scope that a task is in: itself, or its parent. */
static __always_inline void hw_leaves(struct task_struct *leader, struct task_struct *from)
{
	struct hw_task_state *state =
		tasks.task_storage_get(leader, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!state)
		return;
	/* A container runtime's own goes back to where it came from. */
	if (state->border & HW_MARK_SETUP) {
		state->border &= ~(u64)HW_MARK_SETUP;
		return;
	}
	state->left_cgroup = hw_task_cgroup(from);
	state->left_pod = hw_pod_of(from->cgroups->dfl_cgrp);
	hw_stray_begins(state);
}

/* A process comes into a slot's scope from outside, by the acting task. */
static __always_inline void hw_enters(u32 slot, struct task_struct *leader)
{
	struct task_struct *acting = hw_current();
	struct hw_task_state *state;

	if (!hw_marks_setup(slot) || hw_slot_of(hw_task_cgroup(acting)) || hw_stray_slot())
		return;
	state = tasks.task_storage_get(leader, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	/* A stray that comes back is what it was. */
	if (!state || (state->border & HW_MARK_LEFT))
		return;
	state->setup_root = hw_root_of(acting);
	state->border = HW_MARK_SETUP;
}

/*
 * A new process has its parent's marks, a new thread has its group's. One that is
 * cloned into another cgroup crosses the border by that.
 */
static __always_inline void hw_border_inherit(u32 slot, struct task_struct *child)
{
	bool inside = hw_slot_of(hw_task_cgroup(child));
	struct task_struct *acting = hw_current();
	struct hw_task_state *parent, *state;

	if (hw_pid(child) != hw_tgid(child) || (inside && !hw_marks_setup(slot)))
		return;
	parent = hw_group_of(acting);
	if (parent && (parent->border & HW_MARK_SETUP)) {
		state = tasks.task_storage_get(child, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!state || !inside)
			return;
		state->setup_root = parent->setup_root;
		state->border = HW_MARK_SETUP;
	} else if (!inside && hw_slot_of(hw_task_cgroup(acting))) {
		hw_leaves(child, acting);
	} else if (!inside && parent && (parent->border & HW_MARK_LEFT)) {
		state = tasks.task_storage_get(child, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!state)
			return;
		state->left_pod = parent->left_pod;
		state->left_cgroup = parent->left_cgroup;
		hw_stray_begins(state);
	}
}

/* The last thread of the acting task's process ends. */
static __always_inline void hw_border_ends(void)
{
	struct hw_task_state *leader = hw_group_of(hw_current());

	if (leader)
		hw_stray_ends(leader);
}

/* The acting task executes a file: under another root than its runtime's, it is the workload's. */
static __always_inline void hw_setup_ends(void)
{
	struct task_struct *task = hw_current();
	struct hw_task_state *leader = hw_group_of(task);

	if (leader && (leader->border & HW_MARK_SETUP) && leader->setup_root != hw_root_of(task))
		__sync_fetch_and_and(&leader->border, ~(u64)HW_MARK_SETUP);
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
