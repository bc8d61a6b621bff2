/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The state of inodes by their address, for programs that may not use the
 * kernel's storage for inodes (all but LSM programs, as of 7.2). An entry ends
 * with its inode (inode_free_security), so an address is never taken for another
 * inode's. When the map is full no state can be made, which is counted.
 */
#ifndef HEADWATER_INODE_HASH_H
#define HEADWATER_INODE_HASH_H

/* Of captured inodes in the inode cache; 160 bytes each, allocated as they come. */
#define HW_INODES 262144

BPF_F_TABLE("hash", u64, struct hw_object, inodes, HW_INODES, BPF_F_NO_PREALLOC);

static __always_inline struct hw_object *hw_inode_state(struct inode *inode)
{
	u64 address = (u64)inode;

	return inodes.lookup(&address);
}

static __always_inline struct hw_object *hw_inode_state_made(struct inode *inode)
{
	struct hw_object *object, fresh = {};
	u64 address = (u64)inode;

	object = inodes.lookup(&address);
	if (object)
		return object;
	inodes.insert(&address, &fresh);
	return inodes.lookup(&address);
}

static __always_inline void hw_inode_state_ends(struct inode *inode)
{
	u64 address = (u64)inode;

	inodes.delete(&address);
}

#endif
