/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Messages (System V's, and those of POSIX queues, which have no hooks of their own
 * but the same making and freeing) and System V shared memory. The kernel keeps no
 * storage for programs with them: their state is in channels, by address, from
 * their allocation to their freeing.
 */

/* A message's vertex, and its flow with the acting task. */
static __always_inline struct hw_object *hw_message_flow(struct hw_context *context, u8 relation,
							 struct msg_msg *message,
							 struct kern_ipc_perm *queue, u32 known,
							 bool used, u32 flags)
{
	struct hw_object *object;

	if (hw_vertex_off(context->config, HW_VERTEX_MSG) || !hw_with_self(context))
		return 0;
	/* What a task outside every scope has sent belongs to no slot. */
	object = hw_channel_object((u64)message, HW_VERTEX_MSG, used ? 0 : context->slot);
	if (!object) {
		hw_lose(context->slot, HW_LOSS_STORAGE);
		return 0;
	}
	if (!hw_declare_message(context, object, message, queue, known)) {
		hw_lose_placeless(context);
		return 0;
	}
	hw_record(context, relation, object, used, flags, 0);
	return object;
}

/* The text is in it; its kind and its queue come later. */
HW_LSM(msg_msg_alloc_security, struct msg_msg *message)
{
	struct hw_context context;
	struct hw_object *object;

	if (!hw_begin_for(&context, slot, HW_RELATION_MSG_CREATE))
		return;
	object = hw_message_flow(&context, HW_RELATION_MSG_CREATE, message, 0, 0, false, 0);
	if (object)
		hw_changes(object);
}

HW_LSM(msg_queue_msgsnd, struct kern_ipc_perm *queue, struct msg_msg *message, int flags)
{
	struct hw_context context;

	if (hw_begin_for(&context, slot, HW_RELATION_SEND_MSG_QUEUE))
		hw_message_flow(&context, HW_RELATION_SEND_MSG_QUEUE, message, queue,
				HW_MESSAGE_TYPE | HW_MESSAGE_QUEUE, false, flags);
}

static __always_inline void hw_message_taken(u32 slot, struct msg_msg *message)
{
	struct hw_context context;

	if (hw_begin_for(&context, slot, HW_RELATION_RECEIVE_MSG_QUEUE))
		hw_message_flow(&context, HW_RELATION_RECEIVE_MSG_QUEUE, message, 0,
				HW_MESSAGE_TYPE, true, 0);
}

/*
 * The receiver takes a message over. Not msg_queue_msgrcv: that comes for each message
 * that is looked at, in the sender when the receiver waits for it, and never for POSIX queues.
 */
HW_FEXIT(store_msg, void *to, struct msg_msg *message, unsigned long length, int failed)
{
	if (!failed)
		hw_message_taken(slot, message);
}

/* MSG_COPY: the receiver takes a copy, which it has made itself, and leaves the message. */
HW_FENTRY(copy_msg, struct msg_msg *message, struct msg_msg *copy)
{
	hw_message_taken(slot, message);
}

LSM_PROBE(msg_msg_free_security, struct msg_msg *message)
{
	u64 address = (u64)message;
	struct hw_context context;
	struct hw_object *object = channels.lookup(&address);

	if (!object)
		return 0;
	if (hw_begin_owned(&context, object->owner))
		hw_end(&context, HW_RELATION_FREE, object->declared, object->id, hw_send(object));
	channels.delete(&address);
	return 0;
}

/*
 * A segment's state lies where that of mapped inodes is, from the start; what is
 * under its address only leads there.
 */
static __always_inline struct hw_object *hw_segment_object(u64 address, u16 owner)
{
	struct hw_object *object = hw_find_channel(address), fresh = {};
	u64 id;

	if (!object) {
		fresh.type = HW_VERTEX_SHM;
		fresh.owner = owner;
		fresh.id = id = hw_new_serial();
		if (shared_objects.update(&id, &fresh))
			return 0;
		fresh.state = HW_STATE_MOVED;
		if (channels.insert(&address, &fresh))
			shared_objects.delete(&id);
		object = hw_find_channel(address);
	}
	return object ? hw_moved(object) : 0;
}

static __always_inline struct hw_object *
hw_ready_segment(struct hw_context *context, struct kern_ipc_perm *segment, bool complete)
{
	struct hw_object *object;

	if (hw_vertex_off(context->config, HW_VERTEX_SHM) || !hw_with_self(context))
		return 0;
	object = hw_segment_object((u64)segment, complete ? 0 : context->slot);
	if (!object) {
		hw_lose(context->slot, HW_LOSS_STORAGE);
		return 0;
	}
	if (hw_declare_segment(context, object, segment, complete))
		return object;
	hw_lose_placeless(context);
	return 0;
}

/* newseg(): its owner, size and number come later. */
HW_LSM(shm_alloc_security, struct kern_ipc_perm *segment)
{
	struct hw_context context;
	struct hw_object *object;

	if (!hw_begin_for(&context, slot, HW_RELATION_SH_CREATE))
		return;
	object = hw_ready_segment(&context, segment, false);
	if (!object)
		return;
	hw_generated(&context, HW_RELATION_SH_CREATE, object, 0, 0);
	hw_changes(object);
}

/* The segment is mapped as a file, next: it is one object all the same (mmap_file). */
HW_LSM(shm_shmat, struct kern_ipc_perm *segment, char *address, int flags)
{
	struct shmid_kernel *whole =
		(void *)segment - __builtin_offsetof(struct shmid_kernel, shm_perm);
	struct inode *inode = 0;
	struct file *file = 0;
	struct hw_context context;
	struct hw_object *object;

	if (!hw_begin(&context, slot))
		return;
	object = hw_ready_segment(&context, segment, true);
	if (!object)
		return;
	READ(file, whole->shm_file);
	READ(inode, file->f_inode);
	context.self->attaching = (u64)inode;
	if (!hw_relation_off(context.config, HW_RELATION_SH_ATTACH) &&
	    !hw_repeats(&context, HW_RELATION_SH_ATTACH, object, false))
		hw_generated(&context, HW_RELATION_SH_ATTACH, object, flags, 0);
	hw_list_mapping(&context, object->id, !(flags & SHM_RDONLY));
}

LSM_PROBE(shm_free_security, struct kern_ipc_perm *segment)
{
	u64 address = (u64)segment, id;
	struct hw_object *object = channels.lookup(&address);
	struct hw_context context;

	if (!object)
		return 0;
	id = object->id;
	object = shared_objects.lookup(&id);
	if (object && hw_begin_owned(&context, object->owner))
		hw_end(&context, HW_RELATION_FREE, object->declared, id, hw_send(object));
	shared_objects.delete(&id);
	channels.delete(&address);
	return 0;
}
