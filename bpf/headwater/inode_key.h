/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The state of objects where no hook says that one ends, as in mode tracepoint.
 * Inodes have theirs by number, device and generation, sockets and pipes by their
 * address and the number of their inode: what has another number at the same
 * address is another object. The least recently used make room; one that comes
 * back then is a new object.
 */
#ifndef HEADWATER_INODE_KEY_H
#define HEADWATER_INODE_KEY_H

#define HW_INODES 131072

BPF_TABLE("lru_hash", struct hw_inode_key, struct hw_object, inodes, HW_INODES);
/* What a state begins with, for which a hook's stack has no room. */
BPF_ARRAY(fresh_inodes, struct hw_object, 1);

static __always_inline struct hw_object *hw_inode_state(struct inode *inode)
{
	struct hw_inode_key key = {};

	hw_inode_key(inode, &key);
	return inodes.lookup(&key);
}

static __always_inline struct hw_object *hw_inode_state_made(struct inode *inode)
{
	struct hw_inode_key key = {};
	struct hw_object *object, *fresh;
	u32 zero = 0;

	hw_inode_key(inode, &key);
	object = inodes.lookup(&key);
	if (object && (!(object->state & HW_STATE_MOVED) || hw_moved(object)))
		return object;
	/* Mapped shared, and its state has made room since. */
	if (object)
		inodes.delete(&key);
	fresh = fresh_inodes.lookup(&zero);
	if (fresh)
		inodes.insert(&key, fresh);
	return inodes.lookup(&key);
}

static __always_inline void hw_inode_state_ends(struct inode *inode)
{
}

/* The number of a pipe's or socket's inode; 0 for a socket that no descriptor has yet, or any more. */
static __always_inline u32 hw_channel_number(u64 address, u8 type)
{
	struct inode *inode = (struct inode *)address;
	struct sock *sock = (struct sock *)address;
	struct socket *socket = 0;
	u64 number = 0;

	if (type != HW_VERTEX_PIPE) {
		READ(socket, sock->sk_socket);
		if (!socket)
			return 0;
		inode = hw_socket_inode(socket);
	}
	bpf_probe_read_kernel(&number, sizeof(number), &inode->i_ino);
	return number;
}

static __always_inline struct hw_object *hw_channel_state(u64 address)
{
	struct hw_object *object = channels.lookup(&address);
	u32 number;

	if (!object)
		return 0;
	number = hw_channel_number(address, object->type);
	if (!number || number == object->mark)
		return object;
	/* A peer may have written to a socket before it was accepted. */
	if (!object->mark) {
		object->mark = number;
		return object;
	}
	channels.delete(&address);
	return 0;
}

static __always_inline void hw_channel_made(struct hw_object *fresh, u64 address)
{
	fresh->mark = hw_channel_number(address, fresh->type);
}

#endif
