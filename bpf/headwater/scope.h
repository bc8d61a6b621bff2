/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * First step of every hook: is the acting task's cgroup captured, in which slot
 * and under which policy? A task outside every scope leaves after one array
 * look-up, which the JIT inlines (promise G9).
 *
 * scope_buckets is a direct-mapped copy of scope. The low 16 bits of the cgroup
 * id are the index, so a word of 48 id bits and 16 slot bits compares the id
 * exactly and is read and replaced whole. Two captured cgroups with the same low
 * bits leave HW_BUCKET_SHARED there, which sends the look-up to the hash map.
 * Whoever adds a cgroup writes scope first and its bucket second.
 */
#ifndef HEADWATER_SCOPE_H
#define HEADWATER_SCOPE_H

#define HW_SCOPES 16384
#define HW_BUCKETS 65536
#define HW_BUCKET_SLOT 0xffffULL
#define HW_BUCKET_SHARED 0xffffULL

BPF_HASH(scope, u64, u32, HW_SCOPES);
BPF_ARRAY(scope_buckets, u64, HW_BUCKETS);
BPF_ARRAY(active_config, u32, HW_SLOTS);
BPF_ARRAY(configs, struct hw_slot_config, 2 * HW_SLOTS);

static __always_inline u32 hw_slot_of(u64 cgroup)
{
	u32 index = cgroup & (HW_BUCKETS - 1), *slot;
	u64 *bucket = scope_buckets.lookup(&index), word;

	if (!bucket)
		return 0;
	word = *bucket;
	if (!word)
		return 0;
	if ((word & HW_BUCKET_SLOT) == HW_BUCKET_SHARED) {
		slot = scope.lookup(&cgroup);
		return slot ? *slot : 0;
	}
	return (word ^ cgroup) & ~HW_BUCKET_SLOT ? 0 : word & HW_BUCKET_SLOT;
}

/* The policy in force for a slot, or 0 when it is suspended. */
static __always_inline struct hw_slot_config *hw_config_of(u32 slot)
{
	u32 *active = active_config.lookup(&slot);
	struct hw_slot_config *config;

	if (!active)
		return 0;
	config = configs.lookup(active);
	return config && (config->flags & HW_SLOT_ACTIVE) ? config : 0;
}

static __always_inline bool hw_relation_off(struct hw_slot_config *config, u8 relation)
{
	return config->relations_off[relation >> 6] >> (relation & 63) & 1;
}

static __always_inline bool hw_vertex_off(struct hw_slot_config *config, u8 type)
{
	return config->vertices_off >> type & 1;
}

#endif
