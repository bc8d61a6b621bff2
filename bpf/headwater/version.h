/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * CamFlow's versioning rule (CCS'18, section 4.1): an object that has sent and
 * now receives gets a new version. Decided here, on all CPUs at once, without a
 * lock, so that in the ring buffer every edge into a version stands before every
 * edge out of it (promise G4):
 *
 *   1. the sender is marked before the record is reserved;
 *   2. the receiver's state is read after the record is reserved. When this
 *      version has not sent, the edge joins it. When it has, a new version is
 *      made with a compare and swap, provided that the version was seen to have
 *      sent before the record was reserved, too. Otherwise the record is
 *      discarded and made again.
 *
 * Say A -> X.v joins and X.v -> B leaves. The first found X.v unmarked, so before
 * the mark of the second. Hence reserve(first) < read(first) < mark(second) <
 * reserve(second). For a new version the same holds with the version edge as the
 * second: the mark of X.v was seen before its reserve.
 */
#ifndef HEADWATER_VERSION_H
#define HEADWATER_VERSION_H

/*
 * Attempts before a record is given up as HW_LOSS_CONTENTION. One fails only when
 * another CPU makes a version and sends it, all between two reads.
 */
#define HW_ATTEMPTS 4

/*
 * Identifies an edge into an object: same source, same version, same relation.
 * The upper bits, which choose its place among the recent ones, are mixed best.
 */
static __always_inline u64 hw_edge_key(u64 from, u32 version, u8 relation, u32 epoch)
{
	return (from + relation * 0x9e3779b97f4a7c15ULL) * 0xc2b2ae3d27d4eb4fULL ^
	       ((u64)version << 32 | epoch) * 0x165667b19e3779f9ULL;
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
 * The state on which the decision about a version is made. Without compression of
 * nodes every edge in makes one, as if the last had sent. Without branches, so
 * that the verifier sees one case.
 */
static __always_inline u64 hw_turn(u64 state, u32 flags)
{
	return state | (!(flags & HW_SLOT_COMPRESS_NODES) ? HW_STATE_OUT : 0);
}

/* A receiver's state before its record is reserved. */
static __always_inline u64 hw_before(struct hw_object *object, u32 flags)
{
	if (!(flags & HW_SLOT_COMPRESS_NODES))
		__sync_fetch_and_or(&object->state, HW_STATE_OUT);
	return *(volatile u64 *)&object->state;
}

/* Whether an edge in makes a new version (1) or not (0), and the state after it. */
static __always_inline u32 hw_makes_version(u64 state)
{
	return state & HW_STATE_OUT;
}

static __always_inline u64 hw_received(u64 state, u32 made)
{
	return (state & ~HW_STATE_OUT) + ((u64)made << HW_STATE_VERSION_SHIFT);
}

/* The second step of an edge in, after its record is reserved: see above. */
static __always_inline bool hw_settles(struct hw_object *object, u64 before, u64 now, u64 is)
{
	if (now & HW_STATE_MOVED)
		return false;
	if (now == is)
		return true;
	return before == now && __sync_val_compare_and_swap(&object->state, now, is) == now;
}

#endif
