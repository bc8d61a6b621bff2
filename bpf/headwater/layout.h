/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What crosses from the kernel to the agent: the records in the ring buffer and
 * the values of the maps that the agent reads or writes.
 *
 * One definition for both sides: headwater_agent/layout.py holds the same
 * layouts as numpy types, and tests/unit/agent/test_layout.py compares every size and
 * offset with the debug information of the compiled object.
 *
 * A ring buffer record is an 8-byte kernel header and a payload. Every payload
 * here is 80 * n - 8 bytes long, so the ring is an array of 80-byte cells and
 * the agent decodes runs of one-cell records without walking them.
 *
 * The numbers of vertex types and relations are not listed here: the loader
 * passes HW_VERTEX_* and HW_RELATION_* from headwater_prov.vocabulary.
 */
#ifndef HEADWATER_LAYOUT_H
#define HEADWATER_LAYOUT_H

#define HW_CELL_BYTES 80
#define HW_RING_HEADER_BYTES 8
#define HW_FLOW_BYTES 72
#define HW_VERTEX_BYTES 152
#define HW_TEXT_HEADER_BYTES 40
/* Payload of the longest text record: 52 cells. */
#define HW_TEXT_BYTES_MAX 4152
#define HW_TEXT_DATA_MAX (HW_TEXT_BYTES_MAX - HW_TEXT_HEADER_BYTES)
#define HW_COMM_BYTES 16
#define HW_XATTR_NAME_BYTES 104
#define HW_SLOTS 1024
#define HW_BUCKETS 65536
#define HW_AUTOMATON_STATES 4096

/* header.record */
enum hw_record_kind {
	HW_RECORD_FLOW = 1,
	HW_RECORD_VERTEX = 2,
	HW_RECORD_NAME = 3,
	HW_RECORD_ARGUMENTS = 4,
	HW_RECORD_ADDRESS = 5,
	HW_RECORD_ENVIRONMENT = 6,
};

/* header.marks: which edges and version edges a flow record stands for, and who acts */
enum hw_mark {
	HW_MARK_MAIN = 1 << 0, /* the hook's own relation */
	HW_MARK_MEMORY = 1 << 1, /* memory_write after, or memory_read before it */
	HW_MARK_NEW_A = 1 << 2, /* a_version was made by this record */
	HW_MARK_NEW_B = 1 << 3,
	HW_MARK_NEW_C = 1 << 4,
	HW_MARK_SETUP = 1 << 8, /* in all records: the acting task sets a container up */
	HW_MARK_LEFT = 1 << 9, /* likewise: the acting task was moved out of the scope */
};

/* text.marks */
enum hw_text_mark {
	HW_TEXT_TRUNCATED = 1 << 0,
	HW_TEXT_UNMOUNTED = 1 << 1, /* the path is relative to its file system's root */
	HW_TEXT_DELETED = 1 << 2,
	HW_TEXT_PEER = 1 << 3, /* of the one it is connected to, not its own */
	HW_TEXT_FLOW = 1 << 4, /* behind a struct hw_flow_ends */
};

/* Why a record that was due was not submitted; index of counters.lost[]. */
enum hw_loss {
	HW_LOSS_RING = 0, /* the ring buffer was full */
	HW_LOSS_STORAGE = 1, /* no task, inode or socket state could be made */
	HW_LOSS_SCRATCH = 2, /* all scratch buffers of the CPU were in use */
	HW_LOSS_CONTENTION = 3, /* the state kept changing under the hook */
	HW_LOSS_MAPPINGS = 4, /* more shared mappings than a process can list */
	HW_LOSS_READ = 5, /* the kernel's or the user's memory could not be read */
	HW_LOSS_RATE = 6, /* the policy's rate limit */
	HW_LOSSES = 7,
};

/* 24 bytes at the start of every record */
struct hw_header {
	__u8 record; /* enum hw_record_kind */
	__u8 relation; /* HW_RELATION_*; 0 in vertex records */
	__u16 slot;
	__u16 cpu;
	__u16 marks; /* enum hw_mark */
	__u32 sequence; /* low half of the (cpu, slot) sequence, from 1 */
	__u32 epoch;
	__u64 time_ns; /* CLOCK_BOOTTIME */
};

/*
 * Objects by PROV class of the relation:
 *   used            a -> b  main, then b -> c memory_write   (b task, c its memory)
 *   wasGeneratedBy  c -> b memory_read, then b -> a  main    (b task, c its memory)
 *   wasDerivedFrom  a -> b  main                             (c the acting task)
 *   wasInformedBy   a -> b  main                             (c the acting task)
 * A version edge (v - 1 -> v) of an object comes before the first edge into it.
 */
struct hw_flow {
	struct hw_header header;
	__u64 a;
	__u64 b;
	__u64 c;
	__u32 a_version;
	__u32 b_version;
	__u32 c_version;
	__u32 flags; /* cf:flags: mask, prot, clone flags, LSM_SETID_* ... */
	__s64 offset; /* cf:offset: file position in bytes, 0 where there is none */
};

struct hw_task {
	__u32 pid; /* in the initial pid namespace: the thread's */
	__u32 tgid;
	__u32 vpid; /* in the task's own pid namespace */
	__u32 utsns;
	__u32 ipcns;
	__u32 mntns;
	__u32 pidns;
	__u32 netns;
	__u32 cgroupns;
	__u32 pad;
	__u64 start_time_ns; /* CLOCK_BOOTTIME */
	__u64 cgroup; /* cgroup v2 id */
	char comm[HW_COMM_BYTES];
};

struct hw_memory {
	__u32 tgid;
	__u32 uid;
	__u32 gid;
	__u32 pad;
	__u64 cgroup;
	char comm[HW_COMM_BYTES];
};

struct hw_inode {
	__u32 mode;
	__u32 uid;
	__u32 gid;
	__u32 device; /* kernel encoding: major << 20 | minor */
	__u64 ino;
	__u32 generation;
	__u32 pad;
	__u8 uuid[16]; /* of the superblock */
};

struct hw_socket {
	__u32 uid;
	__u32 gid;
	__u64 ino;
	__u16 family;
	__u16 type;
	__u16 protocol;
	__u16 pad;
};

struct hw_iattr {
	__u32 valid; /* ATTR_* */
	__u32 mode;
	__u32 uid;
	__u32 gid;
	__s64 size;
};

/* An extended attribute, without its value. */
struct hw_xattr {
	__u32 size; /* of the value that is set, in bytes; 0 where the hook does not know it */
	__u32 truncated; /* 1: the name is longer */
	char name[HW_XATTR_NAME_BYTES]; /* ended by a NUL byte */
};

enum hw_message_known {
	HW_MESSAGE_TYPE = 1 << 0, /* type and size */
	HW_MESSAGE_QUEUE = 1 << 1,
};

struct hw_message {
	__s64 type; /* of a POSIX queue's: its priority */
	__u64 size; /* in bytes */
	__s32 queue; /* id of the System V queue */
	__u32 known; /* enum hw_message_known */
};

/* A System V shared memory segment. */
struct hw_segment {
	__u64 size; /* in bytes */
	__u32 uid;
	__u32 gid;
	__u32 mode;
	__u32 key; /* 0: IPC_PRIVATE */
	__s32 number; /* shmid */
	__u32 complete; /* 0: only mode and key are known yet */
};

/* The first record of an object in an epoch; again when its attributes changed. */
struct hw_vertex {
	struct hw_header header;
	__u64 object;
	__u32 version;
	__u8 type; /* HW_VERTEX_* */
	__u8 bare; /* 1: attributes unknown here, as an earlier epoch had them */
	__u16 owner; /* slot in which the object was made, 0: outside every scope */
	union {
		struct hw_task task;
		struct hw_memory memory;
		struct hw_inode inode;
		struct hw_socket socket;
		struct hw_iattr iattr;
		struct hw_xattr xattr;
		struct hw_message message;
		struct hw_segment segment;
		__u8 bytes[HW_VERTEX_BYTES - 40];
	};
};

/*
 * NAME (relation named: path -> object.version): data holds the path's
 * components from the last to the first, each ended by a NUL byte; no component
 * at all is the root.
 * ARGUMENTS (relation arg: argv -> object.version): data holds the arguments,
 * each ended by a NUL byte.
 * ENVIRONMENT (relation env: envp -> object.version): likewise, NAME=value each.
 * ADDRESS (relation addressed: address -> object.version): data holds a struct
 * sockaddr, as long as the caller said, and before it, where HW_TEXT_FLOW is marked,
 * what both ends of a connection know of it.
 */
struct hw_text {
	struct hw_header header;
	__u64 object;
	__u32 version;
	__u16 length; /* bytes of data in use */
	__u16 marks; /* enum hw_text_mark */
	char data[HW_TEXT_DATA_MAX];
};

/* The longest address of an internet socket: struct sockaddr_in6. */
#define HW_INTERNET_ADDRESS_BYTES 28

/*
 * What tells one connection from all others, as its own end sees it. The sequence
 * numbers are those of TCP's first bytes, which no translation of addresses changes.
 */
struct hw_flow_ends {
	__u32 own_sequence;
	__u32 peer_sequence;
	__u16 protocol; /* IPPROTO_* */
	__u16 length; /* bytes of own in use */
	__u8 own[HW_INTERNET_ADDRESS_BYTES]; /* a struct sockaddr */
};

/* Value of map counters (per CPU, index = slot). captured = submitted + lost. */
struct hw_counters {
	__u64 captured; /* the sequence given last */
	__u64 lost[HW_LOSSES];
};

/* slot_config.flags */
enum hw_slot_flag {
	HW_SLOT_ACTIVE = 1 << 0, /* unset: suspended, nothing is recorded */
	HW_SLOT_COMPRESS_NODES = 1 << 1,
	HW_SLOT_COMPRESS_EDGES = 1 << 2,
	HW_SLOT_DUPLICATE = 1 << 3, /* documents stand alone; no hook reads it */
	HW_SLOT_ARGUMENTS = 1 << 4,
	HW_SLOT_MARK_SETUP = 1 << 5, /* what enters from outside is set-up until it executes */
	HW_SLOT_ENVIRONMENT = 1 << 6,
	HW_SLOT_RULES = 1 << 7, /* some processes are left out, see rules.h */
};

/* A slot's policy as the hooks read it. */
struct hw_slot_config {
	__u64 relations_off[2]; /* bit = relation: not recorded */
	__u32 vertices_off; /* bit = vertex type: edges that touch it are not recorded */
	__u32 epoch; /* 1 .. 2^31 - 1, unique among all slots of one load */
	__u32 flags; /* enum hw_slot_flag */
	__u32 record_ns; /* rate limit: a record's share of a second, 0: none */
	__u32 rules; /* which rules for processes: equal numbers are equal rules; 0: none */
	__u16 start; /* the state of the automaton in which they begin */
	__u8 members; /* one bit for each policy of the slot */
	__u8 selective; /* those that record only what they track */
};

/*
 * One of map policies: configs[active] is in force. The agent writes the spare
 * one and then active: that one word is the policy edit.
 */
struct hw_slot_policy {
	__u32 active; /* 0 or 1 */
	__u32 pad;
	struct hw_slot_config configs[2];
};

/*
 * Maps of one value, which programs reach by its address and the agent by its
 * pages: no look-up on either side (headwater_agent/direct_maps.py).
 */
struct hw_policies {
	struct hw_slot_policy slots[HW_SLOTS]; /* index = slot */
};

struct hw_scope_buckets {
	__u64 words[HW_BUCKETS]; /* index = low bits of the cgroup id, see scope.h */
};

/* Patterns of paths, see rules.h. State 0 accepts nothing, whatever follows. */
struct hw_automaton {
	__u16 next[HW_AUTOMATON_STATES * 256]; /* index = state << 8 | byte */
	__u16 accepts[HW_AUTOMATON_STATES];
};

struct hw_strays {
	__u64 count; /* processes that have left the scope and are captured, see border.h */
};

#endif
