/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Reads that may have waited for their data: pipes and unix sockets, when the
 * read returns. A read is recorded when it is allowed, before it waits; if the
 * channel has another version when it returns, that has been read, too. Whether
 * it is recorded by then does not depend on compression of edges.
 *
 * No LSM hook is there, so these are exits of kernel functions. A read that took
 * nothing (an error, the end of the input) adds nothing to what the LSM hook
 * before it said. Internet sockets come with their packets.
 */

HW_FEXIT(pipe_read, struct kiocb *call, struct iov_iter *to, long taken)
{
	struct inode *inode = call->ki_filp->f_inode;
	struct hw_context context;
	struct hw_object *object;

	if (taken <= 0 || !hw_begin_for(&context, slot, HW_RELATION_READ) ||
	    hw_vertex_off(context.config, HW_VERTEX_PIPE))
		return;
	object = hw_find_channel((u64)inode);
	if (!object || hw_has_user(&context, object, HW_RELATION_READ) || !hw_with_self(&context))
		return;
	if (hw_declare_inode(&context, object, inode))
		hw_used(&context, HW_RELATION_READ, object, MAY_READ, 0);
	else
		hw_lose_placeless(&context);
}

static __always_inline void hw_socket_taken(u32 slot, u64 sock, int flags, int taken)
{
	struct hw_context context;
	struct hw_object *object;

	if (taken <= 0 || !hw_begin_for(&context, slot, HW_RELATION_RECEIVE_MSG) ||
	    hw_vertex_off(context.config, HW_VERTEX_SOCKET))
		return;
	object = hw_find_channel(sock);
	if (!object || hw_has_user(&context, object, HW_RELATION_RECEIVE_MSG) ||
	    !hw_with_self(&context))
		return;
	if (hw_declare_socket(&context, object, sock))
		hw_used(&context, HW_RELATION_RECEIVE_MSG, object, flags, 0);
	else
		hw_lose_placeless(&context);
}

HW_FEXIT(unix_stream_recvmsg, struct socket *socket, struct msghdr *message, unsigned long size,
	 int flags, int taken)
{
	hw_socket_taken(slot, (u64)socket->sk, flags, taken);
}

/* SOCK_DGRAM and SOCK_SEQPACKET; their own functions may be inlined into one another. */
HW_FEXIT(__unix_dgram_recvmsg, struct sock *sock, struct msghdr *message, unsigned long size,
	 int flags, int taken)
{
	hw_socket_taken(slot, (u64)sock, flags, taken);
}
