/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The scope follows the cgroup tree in the kernel: a new cgroup inherits its
 * parent's slot before any task can be in it (promise G1), and a removed one
 * leaves the scope. Not cgroup_release: removed memory cgroups linger for long.
 * What is moved across its border is marked (border.bpf.c).
 */

/* scope first, bucket second: see scope.h. */
static __always_inline void hw_scope_add(u64 id, u32 slot)
{
	u64 *bucket = hw_bucket_of(id);

	scope.update(&id, &slot);
	if (__sync_val_compare_and_swap(bucket, 0, (id & ~HW_BUCKET_SLOT) | slot))
		*bucket = HW_BUCKET_SHARED;
}

/* The version 1 hierarchies number their cgroups on their own. */
static __always_inline bool hw_is_unified(struct cgroup *cgroup)
{
	struct task_struct *task = hw_current();
	struct cgroup_root *root = 0, *unified = 0;
	struct cgroup *mine = task->cgroups->dfl_cgrp;

	READ(root, cgroup->root);
	READ(unified, mine->root);
	return root == unified;
}

RAW_TRACEPOINT_PROBE(cgroup_mkdir)
{
	struct cgroup *cgroup = (struct cgroup *)ctx->args[0], *parent = 0;
	struct cgroup_subsys_state *above = 0;
	u32 slot;

	READ(above, cgroup->self.parent);
	READ(parent, above->cgroup);
	if (!parent || !hw_is_unified(cgroup))
		return 0;
	slot = hw_slot_of(hw_cgroup_id(parent));
	if (slot)
		hw_scope_add(hw_cgroup_id(cgroup), slot);
	return 0;
}

RAW_TRACEPOINT_PROBE(cgroup_rmdir)
{
	struct cgroup *cgroup = (struct cgroup *)ctx->args[0];
	u64 id = hw_cgroup_id(cgroup);
	u32 slot = hw_slot_of(id);

	if (!slot || !hw_is_unified(cgroup))
		return 0;
	scope.delete(&id);
	__sync_val_compare_and_swap(hw_bucket_of(id), (id & ~HW_BUCKET_SLOT) | slot, 0);
	return 0;
}
