/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The flows that a hook can report, each the same way, cheapest step first:
 *
 *   begin     policy -> filters of relation and vertex -> the acting task's state
 *   repeats   this version of the sender is in the receiver already? nothing is due
 *   ready     the object's state, its vertex and its name in this epoch
 *   version   mark the sender, reserve, give the receiver its version (version.h)
 *   submit    one record that user space expands to its edges
 *
 * Filters come before the versioning rule: an edge that is not recorded changes
 * no version (CamFlow makes the version all the same, which only leaves empty
 * steps in the graph). An edge that repeats passed all filters before: its key
 * carries the epoch.
 *
 * A task's own state is written by itself alone, so only the memory, inodes and
 * channels need the compare and swap.
 */
#ifndef HEADWATER_FLOW_H
#define HEADWATER_FLOW_H

static __always_inline bool hw_left_out(struct hw_context *context, struct hw_task_state *self);

/* The state of a task; made with its identity at first sight. */
static __always_inline struct hw_task_state *hw_task_of(struct task_struct *task, u16 owner)
{
	struct hw_task_state *state =
		tasks.task_storage_get(task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	/* See hw_inode_object(). */
	if (!state)
		state = tasks.task_storage_get(task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (state && !state->task.id)
		hw_object_make(&state->task, HW_VERTEX_TASK, owner);
	return state;
}

/* The state that holds a task's process memory: its thread group leader's. */
static __always_inline struct hw_task_state *hw_leader_of(struct task_struct *task,
							  struct hw_task_state *state, u16 owner)
{
	if (hw_pid(task) != hw_tgid(task)) {
		state = tasks.task_storage_get(task->group_leader, 0,
					       BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!state)
			state = tasks.task_storage_get(task->group_leader, 0,
						       BPF_LOCAL_STORAGE_GET_F_CREATE);
	}
	if (state && !state->memory.id)
		hw_object_make(&state->memory, HW_VERTEX_PROCESS_MEMORY, owner);
	return state;
}

/* Fill context for the acting task's slot, unless its policy is suspended. */
static __always_inline bool hw_begin(struct hw_context *context, u32 slot)
{
	context->slot = slot;
	context->config = hw_config_of(slot);
	context->flags = context->config->flags;
	if (!(context->flags & HW_SLOT_ACTIVE))
		return false;
	context->epoch = context->config->epoch;
	context->task = hw_current();
	context->self = 0;
	context->marks = 0;
	context->left = 0;
	return true;
}

static __always_inline bool hw_begin_for(struct hw_context *context, u32 slot, u8 relation)
{
	return hw_begin(context, slot) && !hw_relation_off(context->config, relation);
}

/* For the hooks that run when an object is freed, in whatever task does it. */
static __always_inline bool hw_begin_owned(struct hw_context *context, u32 owner)
{
	return owner && hw_begin(context, owner);
}

/*
 * Second half of beginning, behind the filters: the acting task's state. False, too,
 * where the policies leave the task out.
 */
static __always_inline bool hw_with_self(struct hw_context *context)
{
	struct hw_task_state *self;

	if (context->self)
		return true;
	self = hw_task_of(context->task, context->slot);
	if (!self) {
		hw_lose(context->slot, HW_LOSS_STORAGE);
		return false;
	}
	if (hw_left_out(context, self))
		return false;
	context->self = self;
	hw_border_of(context);
	return true;
}

static __always_inline struct hw_task_state *hw_leader(struct hw_context *context)
{
	struct hw_task_state *leader = hw_leader_of(context->task, context->self, context->slot);

	if (!leader)
		hw_lose(context->slot, HW_LOSS_STORAGE);
	return leader;
}

/*
 * A new object of which this hook's records are the only ones: what a call hands over
 * besides data (attributes of a file). In the acting task's state, which has room for one.
 */
static __always_inline struct hw_object *hw_made(struct hw_context *context, u8 type)
{
	struct hw_object *made = &context->self->made;

	__builtin_memset(made, 0, sizeof(*made));
	hw_object_make(made, type, context->slot);
	return made;
}

static __always_inline u64 hw_key(struct hw_context *context, struct hw_object *from, u32 version,
				  u8 relation)
{
	return hw_edge_key(from->id, version, relation, context->epoch);
}

static __always_inline bool hw_task_has(struct hw_task_state *self, u64 key)
{
	return self->recent[key >> (64 - HW_TASK_RECENT_BITS)] == key;
}

static __always_inline void hw_task_keep(struct hw_task_state *self, u64 key)
{
	self->recent[key >> (64 - HW_TASK_RECENT_BITS)] = key;
}

static __always_inline bool hw_object_has(struct hw_object *object, u64 key)
{
	return object->recent[key >> (64 - HW_RECENT_BITS)] == key;
}

static __always_inline void hw_object_keep(struct hw_object *object, u64 key)
{
	object->recent[key >> (64 - HW_RECENT_BITS)] = key;
}

/*
 * Two shorter answers to whether a flow repeats, for the hooks of reads and
 * writes: each asks one of the two states only.
 *
 * hw_life() - a task and the program it runs, for the object's list of users. A
 * task that executes another program has a new memory, to which a use is new.
 *
 * hw_target() - a file as a task sees it, for the task's own list. An inode whose
 * state was lost has another identity under the same target only if the task has
 * not changed while 65536 other inodes were evicted.
 */
static __always_inline u64 hw_life(struct task_struct *task)
{
	return hw_pid(task) + task->start_boottime * 0x9fb21c651e98df25ULL +
	       task->self_exec_id * 0xd6e8feb86659fd93ULL;
}

static __always_inline bool hw_has_user(struct hw_context *context, struct hw_object *object,
					u8 relation)
{
	u64 key = hw_edge_key(hw_life(context->task), hw_version(object->state), relation,
			      context->epoch);

	return object->users[key >> (64 - HW_RECENT_BITS)] == key;
}

static __always_inline void hw_keep_user(struct hw_context *context, struct hw_object *object,
					 u32 version, u8 relation)
{
	u64 key = hw_edge_key(hw_life(context->task), version, relation, context->epoch);

	object->users[key >> (64 - HW_RECENT_BITS)] = key;
}

static __always_inline u64 hw_target(struct hw_context *context, struct inode *inode, u8 relation)
{
	struct hw_task_state *self = context->self;
	u64 place = (u64)HW_GET(inode, i_generation) << 32 | HW_GET(HW_GET(inode, i_sb), s_dev);
	u64 from = HW_GET(inode, i_ino) * 0x9fb21c651e98df25ULL +
		   (place + hw_version(self->memory.state) * 0x9e3779b97f4a7c15ULL) *
			   0xd6e8feb86659fd93ULL;

	return hw_edge_key(from, hw_version(self->task.state), relation, context->epoch);
}

/* Only a task that is its process's first thread has its memory in its own state. */
static __always_inline bool hw_has_target(struct hw_context *context, struct inode *inode,
					  u8 relation)
{
	return (context->flags & HW_SLOT_COMPRESS_EDGES) &&
	       hw_pid(context->task) == hw_tgid(context->task) &&
	       !context->self->mappings[0].object &&
	       hw_task_has(context->self, hw_target(context, inode, relation));
}

/*
 * HW_RECEIVE - reserve a flow record and give the receiver its version
 *
 * One step for both, see version.h. Leaves the place in flow, the receiver's new
 * state in is, and in made whether that is a new version (1 or 0); without a
 * place, the loss is counted and the function returns false. A macro because the
 * place has to be checked just once (submit.h).
 */
#define HW_RECEIVE(context, receiver, flow, is, made)                                            \
	do {                                                                                     \
		u32 attempt_, reason_ = HW_LOSS_CONTENTION;                                      \
		u64 was_, now_;                                                                  \
		/* Opaque, so that the loop stays one: its body is the larger part of a hook. */ \
		for (attempt_ = 0; attempt_ < hw_opaque(HW_ATTEMPTS); attempt_++) {              \
			if ((receiver)->state & HW_STATE_MOVED) {                                \
				receiver = hw_moved(receiver);                                   \
				if (!receiver) {                                                 \
					reason_ = HW_LOSS_STORAGE;                               \
					break;                                                   \
				}                                                                \
			}                                                                        \
			was_ = hw_before(receiver, (context)->flags);                            \
			flow = hw_reserve_flow(context);                                         \
			if (!flow) {                                                             \
				reason_ = hw_no_place(context);                                  \
				break;                                                           \
			}                                                                        \
			now_ = *(volatile u64 *)&(receiver)->state;                              \
			made = hw_makes_version(now_);                                           \
			is = hw_received(now_, made);                                            \
			if (hw_settles(receiver, was_, now_, is))                                \
				goto received;                                                   \
			hw_discard(flow);                                                        \
		}                                                                                \
		hw_lose((context)->slot, reason_);                                               \
		return false;                                                                    \
	} while (0);                                                                             \
	received:

static __always_inline void hw_fill_flow(struct hw_flow *flow, struct hw_context *context,
					 u8 relation, u32 marks, u32 flags, s64 offset)
{
	hw_fill_header(&flow->header, context, HW_RECORD_FLOW, relation);
	flow->header.marks = marks | context->marks;
	flow->flags = flags;
	flow->offset = offset;
}

static __always_inline void hw_fill_ends(struct hw_flow *flow, u64 a, u32 a_version, u64 b,
					 u32 b_version, u64 c, u32 c_version)
{
	flow->a = a;
	flow->b = b;
	flow->c = c;
	flow->a_version = a_version;
	flow->b_version = b_version;
	flow->c_version = c_version;
}

/* The acting task, in an edge between others, when this epoch has it. */
static __always_inline void hw_fill_actor(struct hw_flow *flow, struct hw_context *context)
{
	struct hw_object *task = context->self ? &context->self->task : 0;

	if (task && hw_in_epoch(task->declared, context->epoch)) {
		flow->c = task->id;
		flow->c_version = hw_version(task->state);
	}
}

/*
 * hw_edge() - an edge whose two versions are settled: of objects that only the
 * acting task can reach, or that end
 */
static __always_inline void hw_edge(struct hw_context *context, u8 relation, u32 flags, u64 from,
				    u32 from_version, u64 to, u32 to_version)
{
	struct hw_flow *flow = hw_reserve_flow(context);

	if (!flow) {
		hw_lose_placeless(context);
		return;
	}
	hw_fill_flow(flow, context, relation, HW_MARK_MAIN, flags, 0);
	hw_fill_ends(flow, from, from_version, to, to_version, 0, 0);
	if (from != to)
		hw_fill_actor(flow, context);
	hw_submit(flow);
}

/*
 * The last edge of an object, from its last version to one that nothing can
 * follow: consumers drop their state there. Only where the object is known.
 */
static __always_inline void hw_end(struct hw_context *context, u8 relation, u32 *declared, u64 id,
				   u32 version)
{
	if (!hw_relation_off(context->config, relation) && hw_known_in(declared, context->epoch))
		hw_edge(context, relation, 0, id, version, id, version + 1);
}

/* An edge between two entities or two activities; both are declared. PROV-DM 5.2.1, 5.1.5. */
static __always_inline bool hw_derived(struct hw_context *context, u8 relation,
				       struct hw_object *from, struct hw_object *to, u32 flags)
{
	struct hw_flow *flow;
	u32 version, made;
	u64 is;

	if (hw_relation_off(context->config, relation) ||
	    ((context->flags & HW_SLOT_COMPRESS_EDGES) &&
	     hw_object_has(to, hw_key(context, from, hw_version(from->state), relation))))
		return false;
	version = hw_send(from);
	HW_RECEIVE(context, to, flow, is, made);
	hw_object_keep(to, hw_key(context, from, version, relation));
	hw_fill_flow(flow, context, relation, HW_MARK_MAIN | made * HW_MARK_NEW_B, flags, 0);
	hw_fill_ends(flow, from->id, version, to->id, hw_version(is), 0, 0);
	hw_fill_actor(flow, context);
	hw_submit(flow);
	return true;
}

/*
 * An object known by its identity only is declared without attributes: the agent
 * has them from the epoch in which it was mapped.
 */
static __always_inline bool hw_declare_bare(struct hw_context *context, struct hw_object *object)
{
	return HW_DECLARE(context, object, vertex_->bare = 1);
}

/*
 * The first mapping whose edge is due, or HW_MAPPINGS. Its number goes through
 * the acting task's state, because the verifier would follow each number that a
 * variable could have through all that comes behind.
 */
static __always_inline u32 hw_due_mapping(struct hw_context *context, struct hw_task_state *leader,
					  bool reads)
{
	u32 i, memory_version = hw_version(leader->memory.state) + 1;
	struct hw_mapping *mapping;
	struct hw_object *object;
	u64 id;

	context->self->due = HW_MAPPINGS;
	for (i = 0; i < HW_MAPPINGS; i++) {
		mapping = &leader->mappings[i];
		id = mapping->object;
		if (!id)
			break;
		if (reads) {
			object = shared_objects.lookup(&id);
			if (object && mapping->object_version != hw_version(object->state) + 1)
				context->self->due = i;
		} else if (mapping->writable && mapping->memory_version != memory_version) {
			context->self->due = i;
		}
	}
	return context->self->due;
}

/*
 * CamFlow's sh_read and sh_write: whatever a process with a shared mapping takes
 * in or gives away may have gone through the mapping. CamFlow walks all mappings
 * at every flow; here a mapping's edge is due only when the side that sends has
 * another version than when it last sent. One edge a call: of several mappings
 * that changed since the process's last flow, the others come with its next.
 */
static __always_inline void hw_shared_edge(struct hw_context *context, struct hw_task_state *leader,
					   bool reads)
{
	u32 due = hw_due_mapping(context, leader, reads), version;
	struct hw_mapping *mapping;
	struct hw_object *object;
	u64 id;

	if (due >= HW_MAPPINGS)
		return;
	mapping = &leader->mappings[hw_opaque(due) & (HW_MAPPINGS - 1)];
	id = mapping->object;
	object = shared_objects.lookup(&id);
	if (!object || !hw_declare_bare(context, object))
		return;
	if (reads) {
		version = hw_version(object->state) + 1;
		hw_derived(context, HW_RELATION_SH_READ, object, &leader->memory, 0);
		mapping->object_version = version;
	} else {
		version = hw_version(leader->memory.state) + 1;
		hw_derived(context, HW_RELATION_SH_WRITE, &leader->memory, object, 0);
		mapping->memory_version = version;
	}
}

/* The caller's epoch must be the one in force still: it has declared the memory in that. */
__attribute__((noinline)) int hw_apart(u64 call)
{
	u32 number = call >> 8 & 0xff, slot = call >> 16 & 0xffff;
	struct hw_task_state *leader;
	struct hw_context context;

	if ((call & 0xff) == HW_APART_WRITE_PATH)
		return hw_write_path(number);
	if (!hw_begin(&context, slot) || context.epoch != call >> 32 || !hw_with_self(&context))
		return 0;
	leader = hw_leader(&context);
	if (leader)
		hw_shared_edge(&context, leader, number);
	return 0;
}

static __always_inline void hw_shared_flow(struct hw_context *context, bool reads)
{
	hw_call_apart(HW_APART_SHARED_FLOW, reads, context->slot, context->epoch);
}

static __always_inline bool hw_memory_off(struct hw_context *context, u8 relation)
{
	return hw_relation_off(context->config, relation) ||
	       hw_vertex_off(context->config, HW_VERTEX_PROCESS_MEMORY);
}

/*
 * hw_repeats() - whether a flow between the acting task and an object adds nothing
 * @object: the object's state, 0 where it has none yet
 * @used: the task uses the object (PROV-DM 5.1.4), else it generates it (5.1.3)
 *
 * A use that is in the task is in its memory too: both came in one record. A
 * generation repeats when the memory has taken in nothing since, either.
 */
static __always_inline bool hw_repeats(struct hw_context *context, u8 relation,
				       struct hw_object *object, bool used)
{
	struct hw_task_state *self = context->self, *leader;
	struct hw_object *memory;

	if (!object || !(context->flags & HW_SLOT_COMPRESS_EDGES))
		return false;
	if (used)
		return hw_task_has(self,
				   hw_key(context, object, hw_version(object->state), relation));
	if (!hw_object_has(object,
			   hw_key(context, &self->task, hw_version(self->task.state), relation)))
		return false;
	leader = hw_leader_of(context->task, self, context->slot);
	if (!leader || leader->mappings[0].object)
		return false;
	memory = &leader->memory;
	return hw_memory_off(context, HW_RELATION_MEMORY_READ) ||
	       self->memory_read ==
		       hw_key(context, memory, hw_version(memory->state), HW_RELATION_MEMORY_READ);
}

/* The vertices of the acting task and, where it takes part, of its memory. */
static __always_inline bool hw_declare_self(struct hw_context *context,
					    struct hw_task_state *leader, bool with_memory)
{
	if (hw_declare_task(context, &context->self->task, context->task) &&
	    (!with_memory || hw_declare_memory(context, &leader->memory, context->task)))
		return true;
	hw_lose_placeless(context);
	return false;
}

/* from -> acting task, acting task -> its memory; returns whether it is recorded. */
static __always_inline bool hw_used(struct hw_context *context, u8 relation, struct hw_object *from,
				    u32 flags, s64 offset)
{
	struct hw_task_state *leader = hw_leader(context);
	bool with_memory = !hw_memory_off(context, HW_RELATION_MEMORY_WRITE);
	struct hw_object *task = &context->self->task, *memory, *receiver;
	u32 version, made, marks = HW_MARK_MAIN, memory_version = 0;
	struct hw_flow *flow;
	u64 is;

	if (!leader || !hw_declare_self(context, leader, with_memory))
		return false;
	memory = &leader->memory;
	version = hw_send(from);
	receiver = with_memory ? memory : task;
	HW_RECEIVE(context, receiver, flow, is, made);
	if (with_memory) {
		marks |= HW_MARK_MEMORY | made * HW_MARK_NEW_C;
		memory_version = hw_version(is);
		is = hw_turn(task->state, context->flags);
		made = hw_makes_version(is);
		is = hw_received(is, made) | HW_STATE_OUT;
	}
	task->state = is;
	hw_task_keep(context->self, hw_key(context, from, version, relation));
	hw_keep_user(context, from, version, relation);
	hw_fill_flow(flow, context, relation, marks | made * HW_MARK_NEW_B, flags, offset);
	hw_fill_ends(flow, from->id, version, task->id, hw_version(is), memory->id, memory_version);
	hw_submit(flow);
	if (with_memory && leader->mappings[0].object)
		hw_shared_flow(context, false);
	return true;
}

/* Its memory -> acting task, acting task -> to; returns whether it is recorded. */
static __always_inline bool hw_generated(struct hw_context *context, u8 relation,
					 struct hw_object *to, u32 flags, s64 offset)
{
	struct hw_task_state *leader = hw_leader(context);
	bool with_memory = !hw_memory_off(context, HW_RELATION_MEMORY_READ);
	u32 marks = HW_MARK_MAIN, memory_version = 0, made, task_made;
	struct hw_object *task = &context->self->task, *memory;
	struct hw_flow *flow;
	u64 is, task_is, key;

	if (!leader)
		return false;
	memory = &leader->memory;
	if (with_memory) {
		if (leader->mappings[0].object)
			hw_shared_flow(context, true);
		key = hw_key(context, memory, hw_version(memory->state), HW_RELATION_MEMORY_READ);
		with_memory = !(context->flags & HW_SLOT_COMPRESS_EDGES) ||
			      context->self->memory_read != key;
	}
	if (!hw_declare_self(context, leader, with_memory))
		return false;
	task_is = task->state;
	if (with_memory) {
		memory_version = hw_send(memory);
		task_is = hw_turn(task_is, context->flags);
		task_made = hw_makes_version(task_is);
		task_is = hw_received(task_is, task_made);
		marks |= HW_MARK_MEMORY | task_made * HW_MARK_NEW_B;
	}
	HW_RECEIVE(context, to, flow, is, made);
	if (with_memory)
		context->self->memory_read =
			hw_key(context, memory, memory_version, HW_RELATION_MEMORY_READ);
	task->state = task_is | HW_STATE_OUT;
	hw_object_keep(to, hw_key(context, task, hw_version(task_is), relation));
	hw_fill_flow(flow, context, relation, marks | made * HW_MARK_NEW_A, flags, offset);
	hw_fill_ends(flow, to->id, hw_version(is), task->id, hw_version(task_is), memory->id,
		     memory_version);
	hw_submit(flow);
	return true;
}

/*
 * Its memory -> acting task, where what it generates is no object with a state: what
 * hw_generated() does first.
 */
static __always_inline bool hw_recall(struct hw_context *context)
{
	struct hw_task_state *leader = hw_leader(context);
	struct hw_object *task = &context->self->task, *memory;
	u32 version, made;
	struct hw_flow *flow;
	u64 is, key;

	if (!leader || hw_memory_off(context, HW_RELATION_MEMORY_READ))
		return false;
	memory = &leader->memory;
	if (leader->mappings[0].object)
		hw_shared_flow(context, true);
	key = hw_key(context, memory, hw_version(memory->state), HW_RELATION_MEMORY_READ);
	if (((context->flags & HW_SLOT_COMPRESS_EDGES) && context->self->memory_read == key) ||
	    !hw_declare_self(context, leader, true))
		return false;
	version = hw_send(memory);
	flow = hw_reserve_flow(context);
	if (!flow) {
		hw_lose_placeless(context);
		return false;
	}
	is = hw_turn(task->state, context->flags);
	made = hw_makes_version(is);
	is = hw_received(is, made);
	task->state = is;
	context->self->memory_read = hw_key(context, memory, version, HW_RELATION_MEMORY_READ);
	hw_fill_flow(flow, context, HW_RELATION_MEMORY_READ, HW_MARK_MAIN | made * HW_MARK_NEW_B, 0,
		     0);
	hw_fill_ends(flow, memory->id, version, task->id, hw_version(is), 0, 0);
	hw_submit(flow);
	return true;
}

static __always_inline bool hw_record(struct hw_context *context, u8 relation,
				      struct hw_object *object, bool used, u32 flags, s64 offset)
{
	if (used)
		return hw_used(context, relation, object, flags, offset);
	return hw_generated(context, relation, object, flags, offset);
}

#endif
