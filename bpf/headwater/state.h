/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The state of provenance objects and where it is kept.
 *
 *   task             its task storage
 *   process memory   the task storage of its thread group's leader
 *   inode            its inode storage; in shared_objects once it is mapped shared
 *   socket, pipe     map channels, by the address of struct sock or inode
 *   message          likewise, by the address of struct msg_msg
 *   shared memory    shared_objects, found through channels by the address of its
 *                    struct kern_ipc_perm
 *
 * Sockets are not kept in socket storage because a peer is only known by an
 * address that the verifier does not accept as a socket; pipes not in inode
 * storage because programs at a function's exit may not look there. Inodes that are mapped
 * shared move to a map because every later flow of the mapping process touches
 * them, without a pointer to the inode.
 */
#ifndef HEADWATER_STATE_H
#define HEADWATER_STATE_H

#define HW_CHANNELS 65536
#define HW_SHARED_OBJECTS 16384
#define HW_EVICTED_INODES 65536
#define HW_MAPPINGS 8
#define HW_EXECUTABLES 2

/* object.state: version in the upper half, flags in the lower */
#define HW_STATE_OUT 1ULL /* this version has sent: the next edge in makes a new one */
#define HW_STATE_MOVED 2ULL /* the state is in shared_objects, under the same id */
#define HW_STATE_ENDED 4ULL /* its last edge is recorded */
#define HW_STATE_VERSION_SHIFT 32
#define HW_STATE_VERSION (1ULL << HW_STATE_VERSION_SHIFT)

/*
 * Edge compression: keys of the edges that came in last, each at the place that
 * its upper bits name. An edge among them adds nothing: the same version of the
 * same sender is in this object already. CamFlow keeps one, so that two senders
 * that take turns are recorded each time.
 */
#define HW_RECENT_BITS 1
#define HW_TASK_RECENT_BITS 6

struct hw_object {
	u64 id; /* cpu << 48 | count; 0: not yet made */
	u64 state;
	u64 recent[1 << HW_RECENT_BITS]; /* edges into the object */
	u64 users[1 << HW_RECENT_BITS]; /* who has used this version: hw_life() */
	u32 declared[2]; /* epochs in which its vertex was recorded */
	u32 named[2]; /* epochs in which its name was recorded */
	u8 type;
	u8 pad;
	u16 owner;
	u32 mark; /* mode tracepoint's: which object this is, or under which name it was met */
};

/* A shared mapping of a process: edges are due only when a side has changed. */
struct hw_mapping {
	u64 object;
	u32 object_version; /* last sent to the memory, + 1 */
	u32 memory_version; /* last sent to the object, + 1 */
	u32 writable;
	u32 pad;
};

struct hw_executable {
	u64 object;
	u32 version;
	u32 pad;
};

struct hw_task_state {
	struct hw_object task;
	struct hw_object memory; /* in use in the leader's state */
	u64 recent[1 << HW_TASK_RECENT_BITS]; /* edges into the task, and hw_target() */
	u64 memory_read; /* the last edge from the memory: it has no place in recent[] to lose */
	struct hw_object made; /* by the hook under way, for one flow: attributes of a file */
	struct hw_mapping mappings[HW_MAPPINGS]; /* of the memory */
	u32 clone_flags; /* of the clone under way */
	u32 pad;
	struct hw_executable executables[HW_EXECUTABLES]; /* of the exec under way */
	u32 executing;
	u32 due; /* number of the mapping whose edge is next */
	u64 accepting; /* listening struct sock of the accept under way */
	u64 splicing; /* inode of the pipe that a splice under way leads to */
	u64 attaching; /* inode behind the System V segment whose shmat is under way */
	u32 rules; /* slot_config.rules under which this was judged: see rules.h */
	u8 tracked;
	u8 opaque;
	u8 becoming_tracked; /* by the exec under way */
	u8 becoming_opaque;
	u64 naming; /* struct vfsmount through which the last call names what it changes */
	/* Of a thread group, in its leader's state: see border.h. */
	u64 setup_root; /* of who put it in */
	u64 left_pod; /* which cgroup's scope it left: the topmost one's */
	u64 left_cgroup; /* where it was then */
	u64 border; /* HW_MARK_* */
};

struct hw_inode_key {
	u64 ino;
	u32 device;
	u32 generation;
};

/* Where no hook says that an object ends, the least recently used make room. */
#ifdef HW_MODE_TRACEPOINT
#define HW_OBJECTS_MAP "lru_hash"
#else
#define HW_OBJECTS_MAP "hash"
#endif

BPF_TASK_STORAGE(tasks, struct hw_task_state);
BPF_TABLE(HW_OBJECTS_MAP, u64, struct hw_object, channels, HW_CHANNELS);
BPF_TABLE(HW_OBJECTS_MAP, u64, struct hw_object, shared_objects, HW_SHARED_OBJECTS);
/* An inode's identity outlives its eviction from the inode cache. */
BPF_TABLE("lru_hash", struct hw_inode_key, struct hw_object, evicted, HW_EVICTED_INODES);
BPF_PERCPU_ARRAY(serials, u64, 1);

/*
 * The state of a file, directory, link or device, as the mode can keep it:
 * inode_storage.h, inode_hash.h or inode_key.h. What is not there is 0; so is what
 * cannot be made.
 */
static __always_inline struct hw_object *hw_inode_state(struct inode *inode);
static __always_inline struct hw_object *hw_inode_state_made(struct inode *inode);
/* The inode's memory is about to be another's. */
static __always_inline void hw_inode_state_ends(struct inode *inode);
/* The state of the socket or pipe at an address, as far as it is that one's. */
static __always_inline struct hw_object *hw_channel_state(u64 address);
/* Which socket or pipe it is that has just got the state. */
static __always_inline void hw_channel_made(struct hw_object *fresh, u64 address);

static __always_inline u32 hw_version(u64 state)
{
	return state >> HW_STATE_VERSION_SHIFT;
}

/* A new object serial; 0 on failure (the map look-up of index 0 cannot fail). */
static __always_inline u64 hw_new_serial(void)
{
	u32 zero = 0;
	u64 *last = serials.lookup(&zero);

	if (!last)
		return 0;
	return ((u64)bpf_get_smp_processor_id() << 48) | (__sync_fetch_and_add(last, 1) + 1);
}

/*
 * Give an object its identity, once, whoever comes first. Everything else of
 * the object is set before, to what every contender would set.
 */
static __always_inline void hw_object_make(struct hw_object *object, u8 type, u16 owner)
{
	object->type = type;
	object->owner = owner;
	__sync_val_compare_and_swap(&object->id, 0, hw_new_serial());
}

/*
 * The vertex type of a file mode. A table in a constant, not a switch: the
 * verifier would follow each type on its own through all that comes behind.
 */
#define HW_TYPE_OF(kind, type) ((u64)(type) << ((kind) >> 12) * 4)
#define HW_INODE_TYPES                                                                    \
	(HW_TYPE_OF(S_IFREG, HW_VERTEX_FILE) | HW_TYPE_OF(S_IFDIR, HW_VERTEX_DIRECTORY) | \
	 HW_TYPE_OF(S_IFLNK, HW_VERTEX_LINK) | HW_TYPE_OF(S_IFCHR, HW_VERTEX_CHAR) |      \
	 HW_TYPE_OF(S_IFBLK, HW_VERTEX_BLOCK) | HW_TYPE_OF(S_IFIFO, HW_VERTEX_PIPE) |     \
	 HW_TYPE_OF(S_IFSOCK, HW_VERTEX_SOCKET) | HW_TYPE_OF(0, HW_VERTEX_INODE_UNKNOWN))

_Static_assert(HW_VERTEX_FILE < 16 && HW_VERTEX_DIRECTORY < 16 && HW_VERTEX_LINK < 16 &&
		       HW_VERTEX_CHAR < 16 && HW_VERTEX_BLOCK < 16 && HW_VERTEX_PIPE < 16 &&
		       HW_VERTEX_SOCKET < 16 && HW_VERTEX_INODE_UNKNOWN < 16,
	       "an inode's vertex type has four bits");

static __always_inline u8 hw_inode_type(u32 mode)
{
	return HW_INODE_TYPES >> ((mode & S_IFMT) >> 12) * 4 & 15;
}

static __always_inline void hw_inode_key(struct inode *inode, struct hw_inode_key *key)
{
	key->ino = HW_GET(inode, i_ino);
	key->device = HW_GET(HW_GET(inode, i_sb), s_dev);
	key->generation = HW_GET(inode, i_generation);
}

/* Where an object's state is since it is mapped shared; 0 when that is gone. */
static __always_inline struct hw_object *hw_moved(struct hw_object *object)
{
	u64 id = object->id;

	return shared_objects.lookup(&id);
}

/* The state of an inode that has one, else 0. */
static __always_inline struct hw_object *hw_find_inode(struct inode *inode)
{
	struct hw_object *object = hw_inode_state(inode);

	return object && object->state & HW_STATE_MOVED ? hw_moved(object) : object;
}

/*
 * hw_inode_object() - the state of an inode, made at its first sight
 *
 * Returns 0 when no room can be had.
 */
static __always_inline struct hw_object *hw_inode_object(struct inode *inode, u16 owner)
{
	struct hw_object *before, *object = hw_inode_state_made(inode);
	struct hw_inode_key key = {};

	/* Refused when another CPU makes it at the same time: then it is there by now. */
	if (!object)
		object = hw_inode_state_made(inode);
	if (!object)
		return 0;
	if (!object->id) {
		hw_inode_key(inode, &key);
		before = evicted.lookup(&key);
		if (before) {
			/* Not over what another CPU has made of it since. */
			__sync_val_compare_and_swap(&object->state, 0, before->state);
			object->type = before->type;
			object->owner = before->owner;
			if (!__sync_val_compare_and_swap(&object->id, 0, before->id))
				evicted.delete(&key);
		} else {
			hw_object_make(object, hw_inode_type(HW_GET(inode, i_mode)), owner);
		}
	}
	return object->state & HW_STATE_MOVED ? hw_moved(object) : object;
}

static __always_inline struct hw_object *hw_find_channel(u64 address)
{
	return hw_channel_state(address);
}

/* The state of a socket or pipe, made at its first sight; 0 when the map is full. */
static __always_inline struct hw_object *hw_channel_object(u64 address, u8 type, u16 owner)
{
	struct hw_object *object = hw_channel_state(address), fresh = {};

	if (object)
		return object;
	fresh.type = type;
	fresh.owner = owner;
	fresh.id = hw_new_serial();
	hw_channel_made(&fresh, address);
	channels.insert(&address, &fresh);
	return channels.lookup(&address);
}

#endif
