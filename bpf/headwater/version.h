/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * CamFlow's versioning rule (CCS'18, section 4.1): an object that has sent and
 * now receives gets a new version. Decided here, on all CPUs at once, without a
 * lock, so that in the ring buffer every edge into a version stands before every
 * edge out of it (promise G4):
 *
 *   1. the sender is marked before the record is reserved;
 *   2. the receiver's state is read before, and compared and swapped after the
 *      record is reserved; if it changed in between, the record is discarded and
 *      made again.
 *
 * Say A -> X.v (no new version) and X.v -> B. The swap of the first found X.v
 * unmarked, so it came before the mark of the second. Hence reserve(first) <
 * swap(first) < mark(second) < reserve(second). For a new version the same holds
 * with the version edge as the second: X.v was seen marked before its reserve.
 */
#ifndef HEADWATER_VERSION_H
#define HEADWATER_VERSION_H

/* Attempts before a record is given up as HW_LOSS_CONTENTION. */
#define HW_ATTEMPTS 4

/* Identifies an edge into an object: same source, same version, same relation. */
static __always_inline u64 hw_edge_key(u64 from, u32 version, u8 relation, u32 epoch)
{
	u64 key = (from + relation * 0x9e3779b97f4a7c15ULL) * 0xc2b2ae3d27d4eb4fULL;

	key ^= key >> 29;
	key += (u64)version << 32 | epoch;
	key *= 0x165667b19e3779f9ULL;
	return key ^ key >> 32;
}

/* Where an object's state is since it is mapped shared; 0 when that is gone. */
static __always_inline struct hw_object *hw_moved(struct hw_object *object)
{
	u64 id = object->id;

	return shared_objects.lookup(&id);
}

/* Mark an object as a sender; returns the version that sends. */
static __always_inline u32 hw_send(struct hw_object *object)
{
	u64 state = object->state;

	if (!(state & HW_STATE_OUT))
		state = __sync_fetch_and_or(&object->state, HW_STATE_OUT);
	if (state & HW_STATE_MOVED) {
		object = hw_moved(object);
		if (object)
			state = __sync_fetch_and_or(&object->state, HW_STATE_OUT);
	}
	return hw_version(state);
}

/*
 * Whether an edge in makes a new version (1) or not (0), and the state after it.
 * Without branches, so that the verifier sees one case.
 */
static __always_inline u32 hw_makes_version(u64 state, u32 flags)
{
	return (state | !(flags & HW_SLOT_COMPRESS_NODES)) & HW_STATE_OUT;
}

static __always_inline u64 hw_received(u64 state, u32 made)
{
	return (state & ~HW_STATE_OUT) + ((u64)made << HW_STATE_VERSION_SHIFT);
}

#endif
