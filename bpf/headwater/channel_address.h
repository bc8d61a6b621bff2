/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The state of sockets and pipes by their address, where a hook says when that
 * is free for another one (sk_free_security, inode_free_security).
 */
#ifndef HEADWATER_CHANNEL_ADDRESS_H
#define HEADWATER_CHANNEL_ADDRESS_H

static __always_inline struct hw_object *hw_channel_state(u64 address)
{
	return channels.lookup(&address);
}

static __always_inline void hw_channel_made(struct hw_object *fresh, u64 address)
{
}

#endif
