/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The flows that a hook can report, each the same way, cheapest step first:
 *
 *   enter     scope -> policy -> filters -> the acting task's state
 *   compress  the same edge as last time? nothing is due
 *   declare   vertices that this epoch has not seen
 *   version   mark the sender, reserve, swap the receiver (version.h)
 *   submit    one record that user space expands to its edges
 *
 * Filters come before the versioning rule: an edge that is not recorded changes
 * no version (CamFlow makes the version all the same, which only leaves empty
 * steps in the graph).
 *
 * A task's own state is written by itself alone, so only the memory, inodes and
 * sockets need the compare and swap.
 */
#ifndef HEADWATER_FLOW_H
#define HEADWATER_FLOW_H

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

/* Where the acting task is in scope of an active policy, fill context. */
static __always_inline bool hw_enter(struct hw_context *context)
{
	context->task = (struct task_struct *)bpf_get_current_task_btf();
	context->slot = hw_slot_of(hw_task_cgroup(context->task));
	if (!context->slot)
		return false;
	context->config = hw_config_of(context->slot);
	if (!context->config)
		return false;
	context->epoch = context->config->epoch;
	context->flags = context->config->flags;
	context->self = 0;
	return true;
}

static __always_inline bool hw_enter_for(struct hw_context *context, u8 relation)
{
	return hw_enter(context) && !hw_relation_off(context->config, relation);
}

/* Second half of entering, behind all filters: the acting task's state. */
static __always_inline bool hw_with_self(struct hw_context *context)
{
	if (context->self)
		return true;
	context->self = hw_task_of(context->task, context->slot);
	if (context->self)
		return true;
	hw_lose(context->slot, HW_LOSS_STORAGE);
	return false;
}

static __always_inline struct hw_object *hw_memory_object(struct hw_context *context,
							  struct hw_task_state **leader)
{
	*leader = hw_leader_of(context->task, context->self, context->slot);
	if (!*leader) {
		hw_lose(context->slot, HW_LOSS_STORAGE);
		return 0;
	}
	return &(*leader)->memory;
}

static __always_inline bool hw_same_edge(struct hw_context *context, struct hw_object *to, u64 key)
{
	return (context->flags & HW_SLOT_COMPRESS_EDGES) && to->previous == key;
}

static __always_inline u64 hw_key(struct hw_context *context, struct hw_object *from, u32 version,
				  u8 relation)
{
	return hw_edge_key(from->id, version, relation, context->epoch);
}

/*
 * HW_RECEIVE - reserve a flow record and give the receiver its version
 *
 * One step for both, see version.h. Leaves the place in flow, the receiver's new
 * state in is, and in made whether that is a new version (1 or 0); without a
 * place, the loss is counted and the function returns false. A macro because the place has to be
 * checked just once (submit.h).
 */
#define HW_RECEIVE(context, receiver, flow, is, made)                                          \
	do {                                                                                   \
		u32 attempt_, reason_ = HW_LOSS_CONTENTION;                                    \
		u64 was_;                                                                      \
		for (attempt_ = 0; attempt_ < HW_ATTEMPTS; attempt_++) {                       \
			if ((receiver)->state & HW_STATE_MOVED) {                              \
				receiver = hw_moved(receiver);                                 \
				if (!receiver) {                                               \
					reason_ = HW_LOSS_STORAGE;                             \
					break;                                                 \
				}                                                              \
			}                                                                      \
			was_ = (receiver)->state;                                              \
			made = hw_makes_version(was_, (context)->flags);                       \
			is = hw_received(was_, made);                                          \
			flow = hw_reserve_flow();                                              \
			if (!flow) {                                                           \
				reason_ = HW_LOSS_RING;                                        \
				break;                                                         \
			}                                                                      \
			if (__sync_val_compare_and_swap(&(receiver)->state, was_, is) == was_) \
				goto received;                                                 \
			hw_discard(flow);                                                      \
		}                                                                              \
		hw_lose((context)->slot, reason_);                                             \
		return false;                                                                  \
	} while (0);                                                                           \
	received:

static __always_inline void hw_fill_flow(struct hw_flow *flow, struct hw_context *context,
					 u8 relation, u32 flags, s64 offset)
{
	hw_fill_header(&flow->header, context, HW_RECORD_FLOW, relation);
	flow->flags = flags;
	flow->offset = offset;
}

/* An edge between two objects; both are declared. PROV-DM 5.2.1. */
static __always_inline bool hw_derived(struct hw_context *context, u8 relation,
				       struct hw_object *from, struct hw_object *to, u32 flags)
{
	struct hw_object *task = context->self ? &context->self->task : 0;
	struct hw_flow *flow;
	u32 version, made;
	u64 is;

	if (hw_relation_off(context->config, relation) ||
	    hw_same_edge(context, to, hw_key(context, from, hw_version(from->state), relation)))
		return false;
	version = hw_send(from);
	HW_RECEIVE(context, to, flow, is, made);
	hw_fill_flow(flow, context, relation, flags, 0);
	flow->header.marks = HW_MARK_MAIN | made * HW_MARK_NEW_B;
	flow->a = from->id;
	flow->a_version = version;
	flow->b = to->id;
	flow->b_version = hw_version(is);
	flow->c = 0;
	flow->c_version = 0;
	if (task && hw_in_epoch(task->declared, context->epoch)) {
		flow->c = task->id;
		flow->c_version = hw_version(task->state);
	}
	to->previous = hw_key(context, from, version, relation);
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
static __always_inline void hw_shared_flow(struct hw_context *context, struct hw_task_state *leader,
					   bool reads)
{
	u32 due = hw_due_mapping(context, leader, reads), version;
	struct hw_mapping *mapping;
	struct hw_object *object;
	u64 id;

	if (due >= HW_MAPPINGS)
		return;
	mapping = &leader->mappings[due];
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

/*
 * hw_used() - from -> acting task, acting task -> its memory (PROV-DM 5.1.4)
 *
 * The caller has declared from. When the task has had this very edge last, its
 * memory has it too: both came in one record. Returns whether one was submitted.
 */
static __always_inline bool hw_used(struct hw_context *context, u8 relation, struct hw_object *from,
				    u32 flags, s64 offset)
{
	struct hw_object *task = &context->self->task, *memory, *receiver;
	struct hw_task_state *leader;
	struct hw_flow *flow;
	u32 version, made, marks = HW_MARK_MAIN;
	bool with_memory;
	u64 is;

	if (hw_same_edge(context, task, hw_key(context, from, hw_version(from->state), relation)))
		return false;
	memory = hw_memory_object(context, &leader);
	if (!memory)
		return false;
	with_memory = !hw_relation_off(context->config, HW_RELATION_MEMORY_WRITE) &&
		      !hw_vertex_off(context->config, HW_VERTEX_PROCESS_MEMORY);
	if (!hw_declare_task(context, task, context->task) ||
	    (with_memory && !hw_declare_memory(context, memory, context->task))) {
		hw_lose(context->slot, HW_LOSS_RING);
		return false;
	}
	version = hw_send(from);
	receiver = with_memory ? memory : task;
	HW_RECEIVE(context, receiver, flow, is, made);
	task->previous = hw_key(context, from, version, relation);
	hw_fill_flow(flow, context, relation, flags, offset);
	flow->a = from->id;
	flow->a_version = version;
	flow->c = memory->id;
	flow->c_version = 0;
	if (with_memory) {
		marks |= HW_MARK_MEMORY | made * HW_MARK_NEW_C;
		flow->c_version = hw_version(is);
		made = hw_makes_version(task->state, context->flags);
		task->state = hw_received(task->state, made) | HW_STATE_OUT;
		memory->previous =
			hw_key(context, task, hw_version(task->state), HW_RELATION_MEMORY_WRITE);
	}
	marks |= made * HW_MARK_NEW_B;
	flow->b = task->id;
	flow->b_version = hw_version(task->state);
	flow->header.marks = marks;
	hw_submit(flow);
	if (with_memory && leader->mappings[0].object)
		hw_shared_flow(context, leader, false);
	return true;
}

/*
 * hw_generated() - its memory -> acting task, acting task -> to (PROV-DM 5.1.3)
 *
 * The caller has declared to. Returns whether a record was submitted.
 */
static __always_inline bool hw_generated(struct hw_context *context, u8 relation,
					 struct hw_object *to, u32 flags, s64 offset)
{
	struct hw_object *task = &context->self->task, *memory;
	struct hw_task_state *leader;
	struct hw_flow *flow;
	u32 marks = HW_MARK_MAIN, memory_version = 0, made, task_made;
	u64 is, memory_key;
	bool with_memory;

	memory = hw_memory_object(context, &leader);
	if (!memory)
		return false;
	with_memory = !hw_relation_off(context->config, HW_RELATION_MEMORY_READ) &&
		      !hw_vertex_off(context->config, HW_VERTEX_PROCESS_MEMORY);
	if (with_memory) {
		if (leader->mappings[0].object)
			hw_shared_flow(context, leader, true);
		memory_key =
			hw_key(context, memory, hw_version(memory->state), HW_RELATION_MEMORY_READ);
		with_memory = !hw_same_edge(context, task, memory_key);
	}
	if (!with_memory &&
	    hw_same_edge(context, to, hw_key(context, task, hw_version(task->state), relation)))
		return false;
	if (!hw_declare_task(context, task, context->task) ||
	    (with_memory && !hw_declare_memory(context, memory, context->task))) {
		hw_lose(context->slot, HW_LOSS_RING);
		return false;
	}
	if (with_memory)
		memory_version = hw_send(memory);
	HW_RECEIVE(context, to, flow, is, made);
	if (with_memory) {
		task_made = hw_makes_version(task->state, context->flags);
		task->state = hw_received(task->state, task_made);
		marks |= HW_MARK_MEMORY | task_made * HW_MARK_NEW_B;
		task->previous = hw_key(context, memory, memory_version, HW_RELATION_MEMORY_READ);
	}
	task->state |= HW_STATE_OUT;
	to->previous = hw_key(context, task, hw_version(task->state), relation);
	hw_fill_flow(flow, context, relation, flags, offset);
	flow->header.marks = marks | made * HW_MARK_NEW_A;
	flow->a = to->id;
	flow->a_version = hw_version(is);
	flow->b = task->id;
	flow->b_version = hw_version(task->state);
	flow->c = memory->id;
	flow->c_version = memory_version;
	hw_submit(flow);
	return true;
}

/*
 * The last edge of an object, from its last version to one that nothing can
 * follow: consumers drop their state there. Only where the object is known.
 */
static __always_inline void hw_end(struct hw_context *context, u8 relation, u64 id, u32 version)
{
	struct hw_flow *flow = hw_reserve_flow();

	if (!flow) {
		hw_lose(context->slot, HW_LOSS_RING);
		return;
	}
	hw_fill_flow(flow, context, relation, 0, 0);
	flow->header.marks = HW_MARK_MAIN;
	flow->a = id;
	flow->a_version = version;
	flow->b = id;
	flow->b_version = version + 1;
	flow->c = 0;
	flow->c_version = 0;
	hw_submit(flow);
}

static __always_inline bool hw_ends(struct hw_context *context, u8 relation, u32 *declared)
{
	return !hw_relation_off(context->config, relation) && hw_in_epoch(declared, context->epoch);
}

/* For the hooks that run when an object is freed, in whatever task does it. */
static __always_inline bool hw_enter_owner(struct hw_context *context, u32 owner)
{
	context->slot = owner;
	context->self = 0;
	context->task = 0;
	if (!owner)
		return false;
	context->config = hw_config_of(owner);
	if (!context->config)
		return false;
	context->epoch = context->config->epoch;
	context->flags = context->config->flags;
	return true;
}

/*
 * The two objects that hooks are given, made ready for an edge: filtered, with
 * state, declared. Return 0 when there is nothing (more) to record.
 */
static __always_inline struct hw_object *hw_ready_inode(struct hw_context *context,
							struct inode *inode)
{
	struct hw_object *object;

	if (hw_vertex_off(context->config, hw_inode_type(inode->i_mode)) || !hw_with_self(context))
		return 0;
	object = hw_inode_object(inode, context->slot);
	if (!object) {
		hw_lose(context->slot, HW_LOSS_STORAGE);
		return 0;
	}
	if (hw_declare_inode(context, object, inode))
		return object;
	hw_lose(context->slot, HW_LOSS_RING);
	return 0;
}

static __always_inline struct hw_object *hw_ready_socket(struct hw_context *context, u64 sock)
{
	struct hw_object *object;

	if (!sock || hw_vertex_off(context->config, HW_VERTEX_SOCKET) || !hw_with_self(context))
		return 0;
	object = hw_socket_object(sock, context->slot);
	if (!object) {
		hw_lose(context->slot, HW_LOSS_STORAGE);
		return 0;
	}
	if (hw_declare_socket(context, object, sock))
		return object;
	hw_lose(context->slot, HW_LOSS_RING);
	return 0;
}

/* The object behind an open file, named by the path it was opened under. */
static __always_inline struct hw_object *hw_ready_file(struct hw_context *context,
						       struct file *file)
{
	struct inode *inode = file->f_inode;
	struct hw_object *object;
	u32 kind = inode->i_mode & S_IFMT;

	if (kind == S_IFSOCK && inode->i_sb->s_magic == SOCKFS_MAGIC)
		return hw_ready_socket(context, hw_inode_sock(inode));
	object = hw_ready_inode(context, inode);
	if (!object || kind == S_IFIFO)
		return object;
	if (hw_name_once(context, object, file->f_path.dentry, file->f_path.mnt))
		return object;
	hw_lose(context->slot, HW_LOSS_RING);
	return 0;
}

/* The object of a directory entry, for hooks that are given no mount. */
static __always_inline struct hw_object *hw_ready_dentry(struct hw_context *context,
							 struct dentry *dentry)
{
	struct inode *inode = dentry->d_inode;
	struct hw_object *object;

	if (!inode)
		return 0;
	object = hw_ready_inode(context, inode);
	if (!object)
		return 0;
	if (hw_name_once(context, object, dentry, hw_likely_mount(context->task, dentry)))
		return object;
	hw_lose(context->slot, HW_LOSS_RING);
	return 0;
}

#endif
