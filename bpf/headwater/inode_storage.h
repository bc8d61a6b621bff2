/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The state of inodes in the kernel's own storage for them, which LSM programs
 * may use: found without a hash, and freed with the inode.
 */
#ifndef HEADWATER_INODE_STORAGE_H
#define HEADWATER_INODE_STORAGE_H

BPF_INODE_STORAGE(inodes, struct hw_object);

static __always_inline struct hw_object *hw_inode_state(struct inode *inode)
{
	return inodes.inode_storage_get(inode, 0, 0);
}

static __always_inline struct hw_object *hw_inode_state_made(struct inode *inode)
{
	return inodes.inode_storage_get(inode, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
}

static __always_inline void hw_inode_state_ends(struct inode *inode)
{
}

#endif
