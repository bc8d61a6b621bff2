/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The one place where records enter the ring buffer (promise G2). Every record
 * that is due takes a number of its (CPU, slot) sequence, whether it gets into
 * the ring or not; one that does not is counted by reason.
 */
#ifndef HEADWATER_SUBMIT_H
#define HEADWATER_SUBMIT_H

#define HW_SCRATCH_BUFFERS 4
/* Room behind the data for the longest component that may start within it. */
#define HW_SCRATCH_SLACK 256

struct hw_scratch {
	struct hw_text text;
	char slack[HW_SCRATCH_SLACK];
	/* What hw_write_path() is to write. */
	struct dentry *dentry;
	struct vfsmount *mount;
};

BPF_RINGBUF_OUTPUT(events, HW_RING_PAGES);
BPF_PERCPU_ARRAY(counters, struct hw_counters, HW_SLOTS);
BPF_ARRAY(rates, u64, HW_SLOTS);
BPF_PERCPU_ARRAY(scratch, struct hw_scratch, HW_SCRATCH_BUFFERS);
BPF_PERCPU_ARRAY(scratch_claims, u64, 1);

/* Everything that a hook knows about itself once it is known to be in scope. */
struct hw_context {
	u32 slot;
	u32 epoch;
	u32 flags;
	u32 marks; /* HW_MARK_* of the acting task */
	u64 left; /* the cgroup that the acting task's process left, 0: none */
	struct hw_slot_config *config;
	struct task_struct *task;
	struct hw_task_state *self; /* the acting task's */
};

/* In a context's flags: its slot's rate limit has refused a record. A field would not fit the stack. */
#define HW_BEYOND_RATE (1U << 31)

/* A slot may record as much at once as its rate limit allows in this time. */
#define HW_RATE_BURST_NS 1000000000ULL

/*
 * hw_rate_allows() - whether a slot's rate limit leaves room for a record, which it takes
 *
 * The generic cell rate algorithm (ITU-T I.371): one word per slot says until when the
 * records so far fill it at the limit's rate. All CPUs share it.
 */
static __always_inline bool hw_rate_allows(struct hw_context *context)
{
	u64 *filled, until, now;
	u32 record_ns;

	if (!context->config->record_ns)
		return true;
	/* In an order that keeps one value over a call: more would not fit kernel 6.1's stack. */
	now = bpf_ktime_get_ns();
	filled = rates.lookup(&context->slot);
	if (!filled)
		return true;
	record_ns = *(volatile u32 *)&context->config->record_ns;
	until = *(volatile u64 *)filled;
	if (until > now) {
		if (until - now > HW_RATE_BURST_NS - record_ns) {
			context->flags |= HW_BEYOND_RATE;
			return false;
		}
	} else if (__sync_val_compare_and_swap(filled, until, now + record_ns) == until) {
		return true;
	}
	__sync_fetch_and_add(filled, record_ns);
	return true;
}

/*
 * Reservations are checked for 0 by the caller and once: kernel 6.1's verifier
 * loses track of a place that is checked twice. bcc does not know map functions
 * in macros, hence these.
 */
static __always_inline struct hw_flow *hw_reserve_flow(struct hw_context *context)
{
	return hw_rate_allows(context) ? events.ringbuf_reserve(HW_FLOW_BYTES) : 0;
}

static __always_inline struct hw_vertex *hw_reserve_vertex(struct hw_context *context)
{
	return hw_rate_allows(context) ? events.ringbuf_reserve(HW_VERTEX_BYTES) : 0;
}

static __always_inline void hw_submit(void *place)
{
	events.ringbuf_submit(place, 0);
}

static __always_inline void hw_discard(void *place)
{
	events.ringbuf_discard(place, 0);
}

/*
 * A number is taken after the record's place in the ring is reserved, or after
 * that failed: so the agent that reads captured first and the ring's producer
 * position second knows that what it does not find before that position is lost.
 */
static __always_inline u32 hw_next_sequence(u32 slot)
{
	struct hw_counters *counter = counters.lookup(&slot);

	return counter ? __sync_fetch_and_add(&counter->captured, 1) + 1 : 0;
}

static __always_inline void hw_lose(u32 slot, u32 reason)
{
	struct hw_counters *counter = counters.lookup(&slot);

	if (!counter)
		return;
	__sync_fetch_and_add(&counter->lost[reason], 1);
	__sync_fetch_and_add(&counter->captured, 1);
}

/* Why a record has got no place in the ring. */
static __always_inline u32 hw_no_place(struct hw_context *context)
{
	return hw_opaque(context->flags) / HW_BEYOND_RATE * HW_LOSS_RATE;
}

static __always_inline void hw_lose_placeless(struct hw_context *context)
{
	hw_lose(context->slot, hw_no_place(context));
}

static __always_inline void hw_fill_header(struct hw_header *header, struct hw_context *context,
					   u8 record, u8 relation)
{
	header->record = record;
	header->relation = relation;
	header->slot = context->slot;
	header->cpu = bpf_get_smp_processor_id();
	header->marks = context->marks;
	header->sequence = hw_next_sequence(context->slot);
	header->epoch = context->epoch;
	header->time_ns = bpf_ktime_get_boot_ns();
}

/*
 * Text of unknown length is put together in a buffer of the CPU. A hook may be
 * preempted by another hook on the same CPU, so a buffer is claimed, not assumed.
 *
 * Returns the number of the buffer, or HW_SCRATCH_BUFFERS or more when all are
 * taken. Computed, not searched, so that the verifier sees one number.
 */
static __always_inline u32 hw_scratch_claim(void)
{
	u64 *claims, taken, lowest;
	u32 zero = 0, attempt;

	claims = scratch_claims.lookup(&zero);
	if (!claims)
		return HW_SCRATCH_BUFFERS;
	for (attempt = 0; attempt < HW_ATTEMPTS; attempt++) {
		taken = *claims;
		lowest = ~taken & (taken + 1);
		if (__sync_val_compare_and_swap(claims, taken, taken | lowest) == taken)
			/* 1, 2, 4, 8, 16 -> 0, 1, 2, 3, 4 */
			return (lowest >> 1 & 1) + (lowest >> 2 & 1) * 2 + (lowest >> 3 & 1) * 3 +
			       (lowest >> 4 & 1) * 4;
	}
	return HW_SCRATCH_BUFFERS;
}

static __always_inline void hw_scratch_release(u32 number)
{
	u32 zero = 0;
	u64 *claims = scratch_claims.lookup(&zero);

	if (claims)
		__sync_fetch_and_and(claims, ~(1ULL << number));
}

/*
 * hw_submit_text() - put a text of the scratch buffer into the ring
 *
 * The sizes are constants because a reservation must be one: three of them, so
 * that a common path takes three cells and the longest still has room.
 *
 * Returns whether it is in the ring; a failure is counted.
 */
static __always_inline bool hw_submit_text(struct hw_context *context, struct hw_text *text,
					   u8 record, u8 relation, u32 length)
{
	struct hw_text *place;

	text->length = length;
	if (!hw_rate_allows(context))
		goto full;
	if (length <= HW_CELL_BYTES * 3 - HW_RING_HEADER_BYTES - HW_TEXT_HEADER_BYTES) {
		place = events.ringbuf_reserve(HW_CELL_BYTES * 3 - HW_RING_HEADER_BYTES);
		if (!place)
			goto full;
		bpf_probe_read_kernel(place, HW_CELL_BYTES * 3 - HW_RING_HEADER_BYTES, text);
	} else if (length <= HW_CELL_BYTES * 7 - HW_RING_HEADER_BYTES - HW_TEXT_HEADER_BYTES) {
		place = events.ringbuf_reserve(HW_CELL_BYTES * 7 - HW_RING_HEADER_BYTES);
		if (!place)
			goto full;
		bpf_probe_read_kernel(place, HW_CELL_BYTES * 7 - HW_RING_HEADER_BYTES, text);
	} else {
		place = events.ringbuf_reserve(HW_TEXT_BYTES_MAX);
		if (!place)
			goto full;
		bpf_probe_read_kernel(place, HW_TEXT_BYTES_MAX, text);
	}
	hw_fill_header(&place->header, context, record, relation);
	hw_submit(place);
	return true;
full:
	hw_lose_placeless(context);
	return false;
}

#endif
