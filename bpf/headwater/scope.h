/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * First step of every hook: is the acting task's cgroup captured, in which slot
 * and under which policy? A task outside every scope leaves after one load from
 * the buckets (promise G9).
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
#define HW_BUCKET_SLOT 0xffffULL
#define HW_BUCKET_SHARED 0xffffULL

/* The value of a map that bcc does not know, by its address. */
#define HW_DIRECT(name) ((struct hw_##name *)bpf_pseudo_fd(HW_PSEUDO_MAP_VALUE, HW_MAP_##name))
#define HW_PSEUDO_MAP_VALUE 2

BPF_HASH(scope, u64, u32, HW_SCOPES);

/* How many processes are captured that are in no captured cgroup. */
static __always_inline u64 hw_strays(void)
{
	return HW_DIRECT(strays)->count;
}

static __always_inline u64 *hw_bucket_of(u64 cgroup)
{
	return &HW_DIRECT(scope_buckets)->words[cgroup & (HW_BUCKETS - 1)];
}

/* The slot of a cgroup of which the bucket is not empty. */
static __always_inline u32 hw_slot_in(u64 word, u64 cgroup)
{
	u32 *slot;

	if ((word & HW_BUCKET_SLOT) == HW_BUCKET_SHARED) {
		slot = scope.lookup(&cgroup);
		return slot ? *slot : 0;
	}
	return (word ^ cgroup) & ~HW_BUCKET_SLOT ? 0 : word & HW_BUCKET_SLOT;
}

static __always_inline u32 hw_slot_of(u64 cgroup)
{
	u64 word = *hw_bucket_of(cgroup);

	return word ? hw_slot_in(word, cgroup) : 0;
}

/* The policy in force for a slot. */
static __always_inline struct hw_slot_config *hw_config_of(u32 slot)
{
	struct hw_slot_policy *policy = &HW_DIRECT(policies)->slots[slot & (HW_SLOTS - 1)];

	return &policy->configs[policy->active & 1];
}

static __always_inline bool hw_relation_off(struct hw_slot_config *config, u8 relation)
{
	return config->relations_off[relation >> 6 & 1] >> (relation & 63) & 1;
}

static __always_inline bool hw_vertex_off(struct hw_slot_config *config, u8 type)
{
	return config->vertices_off >> type & 1;
}

#endif
