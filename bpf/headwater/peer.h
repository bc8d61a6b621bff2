/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Sockets that know their peer: unix sockets, which are joined to it. */
#ifndef HEADWATER_PEER_H
#define HEADWATER_PEER_H

/* An edge from a socket of the acting task to its peer, whoever that belongs to. */
static __always_inline void hw_to_peer(struct hw_context *context, u8 relation, u64 sock,
				       struct hw_object *from, u64 peer)
{
	struct hw_object *to;

	if (!peer || hw_relation_off(context->config, relation))
		return;
	from = hw_ready_socket(context, sock, from, context->slot);
	if (!from)
		return;
	/* A socket that no captured task has touched belongs to no slot. */
	to = hw_ready_socket(context, peer, hw_find_channel(peer), 0);
	if (to)
		hw_derived(context, relation, from, to, 0);
}

#endif
