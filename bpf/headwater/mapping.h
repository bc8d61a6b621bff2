/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Shared mappings of a process: of which inodes, and where those have their state. */
#ifndef HEADWATER_MAPPING_H
#define HEADWATER_MAPPING_H

/* How often to look whether another CPU, under way, has moved an object: some microseconds. */
#define HW_LOOKS 256

/* Another CPU has made the entry of an object: it is done once the object says so. */
static __always_inline bool hw_await_moved(struct hw_object *object)
{
	u32 look;

	for (look = 0; look < hw_opaque(HW_LOOKS); look++)
		if (*(volatile u64 *)&object->state & HW_STATE_MOVED)
			return true;
	return false;
}

/*
 * An inode that is mapped shared: its state moves to shared_objects, where the
 * mapping process finds it at each of its flows. Who makes the entry moves it, alone:
 * the entry is what the object was when the mark that sends everybody there was set.
 * Nobody else may write an entry, for it may be in use already.
 *
 * Returns the object's id, 0 when it is not there.
 */
static __always_inline u64 hw_share_object(struct hw_context *context, struct inode *inode)
{
	struct hw_object *entry, *object = hw_inode_state(inode);
	u32 attempt, lost = HW_LOSS_CONTENTION;
	u64 id, state;
	int error;

	if (!object)
		return 0;
	id = object->id;
	if (*(volatile u64 *)&object->state & HW_STATE_MOVED)
		return id;
	error = shared_objects.insert(&id, object);
	if (error) {
		if (hw_await_moved(object))
			return id;
		if (error != -EEXIST)
			lost = HW_LOSS_STORAGE;
	} else {
		entry = shared_objects.lookup(&id);
		for (attempt = 0; entry && attempt < HW_ATTEMPTS; attempt++) {
			state = *(volatile u64 *)&object->state & ~HW_STATE_MOVED;
			entry->state = state;
			if (__sync_val_compare_and_swap(&object->state, state,
							state | HW_STATE_MOVED) == state)
				return id;
		}
		shared_objects.delete(&id);
	}
	hw_lose(context->slot, lost);
	return 0;
}

/* The acting task's memory has an object of shared_objects mapped. */
static __always_inline void hw_list_mapping(struct hw_context *context, u64 id, bool writable)
{
	struct hw_task_state *leader = hw_leader(context);
	u32 i;

	if (!leader)
		return;
	for (i = 0; i < HW_MAPPINGS; i++) {
		struct hw_mapping *mapping = &leader->mappings[i];

		if (mapping->object == id) {
			mapping->writable |= writable;
			return;
		}
		if (!mapping->object) {
			mapping->object_version = 0;
			mapping->memory_version = 0;
			mapping->writable = writable;
			if (!__sync_val_compare_and_swap(&mapping->object, 0, id))
				return;
		}
	}
	hw_lose(context->slot, HW_LOSS_MAPPINGS);
}

static __always_inline void hw_add_mapping(struct hw_context *context, struct inode *inode,
					   bool writable)
{
	u64 id = hw_share_object(context, inode);

	if (id)
		hw_list_mapping(context, id, writable);
}

#endif
