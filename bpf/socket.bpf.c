/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Sockets: making, naming, connecting and what goes through them. Unix sockets
 * are joined to their peer, which is on the same machine.
 */

static __always_inline void hw_socket_generated(u32 slot, u8 relation, u64 sock)
{
	struct hw_context context;

	if (hw_begin_for(&context, slot, relation))
		hw_socket_flow(&context, relation, sock, false, 0);
}

HW_LSM(socket_post_create, struct socket *socket, int family, int type, int protocol, int kern)
{
	if (!kern)
		hw_socket_generated(slot, HW_RELATION_SOCKET_CREATE, (u64)socket->sk);
}

HW_LSM(socket_socketpair, struct socket *one, struct socket *other)
{
	hw_socket_generated(slot, HW_RELATION_SOCKET_PAIR_CREATE, (u64)one->sk);
	hw_socket_generated(slot, HW_RELATION_SOCKET_PAIR_CREATE, (u64)other->sk);
}

/* task -> socket, and the address that it gets; a socket that is told to forget its peer gets none. */
static __always_inline void hw_socket_addressed(u32 slot, u8 relation, u64 sock,
						struct sockaddr *address, u32 length, u32 marks)
{
	struct hw_object *object = 0;
	struct hw_context context;
	u16 family = AF_UNSPEC;

	if (!hw_begin(&context, slot))
		return;
	if (!hw_relation_off(context.config, relation))
		object = hw_socket_flow(&context, relation, sock, false, 0);
	READ(family, address->sa_family);
	if (!sock || family == AF_UNSPEC || length <= sizeof(family) ||
	    hw_addresses_off(&context) || !hw_with_self(&context))
		return;
	if (!object)
		object = hw_ready_socket(&context, sock, hw_find_channel(sock), slot);
	if (object)
		hw_submit_address(&context, object, address, length, marks);
}

HW_LSM(socket_bind, struct socket *socket, struct sockaddr *address, int length)
{
	hw_socket_addressed(slot, HW_RELATION_BIND, (u64)socket->sk, address, length, 0);
}

HW_LSM(socket_connect, struct socket *socket, struct sockaddr *address, int length)
{
	hw_socket_addressed(slot, HW_RELATION_CONNECT, (u64)socket->sk, address, length,
			    HW_TEXT_PEER);
}

HW_LSM(socket_listen, struct socket *socket, int backlog)
{
	hw_socket_generated(slot, HW_RELATION_LISTEN, (u64)socket->sk);
}

/* Here the call begins to wait; what it accepts is known in sock_graft. */
HW_LSM(socket_accept, struct socket *socket, struct socket *fresh)
{
	struct hw_context context;

	if (hw_begin(&context, slot) && hw_with_self(&context))
		context.self->accepting = (u64)socket->sk;
}

HW_LSM(sock_graft, struct sock *sock, struct socket *parent)
{
	struct hw_object *listener, *accepted;
	struct hw_context context;
	u64 listening;

	if (!hw_begin(&context, slot) || !hw_with_self(&context) || !context.self->accepting)
		return;
	listening = context.self->accepting;
	context.self->accepting = 0;
	if (hw_vertex_off(context.config, HW_VERTEX_SOCKET))
		return;
	listener = hw_ready_socket(&context, listening, hw_find_channel(listening), slot);
	accepted = hw_ready_socket(&context, (u64)sock, hw_find_channel((u64)sock), slot);
	if (!listener || !accepted)
		return;
	/* A peer may have written to it before it was accepted. */
	accepted->owner = slot;
	hw_derived(&context, HW_RELATION_ACCEPT_SOCKET, listener, accepted, 0);
	hw_joined(&context, accepted, sock);
	if (!hw_relation_off(context.config, HW_RELATION_ACCEPT) &&
	    !hw_repeats(&context, HW_RELATION_ACCEPT, accepted, true))
		hw_used(&context, HW_RELATION_ACCEPT, accepted, 0, 0);
}

/* sendmsg(2), send(2), and write(2) behind file_permission. */
HW_LSM(socket_sendmsg, struct socket *socket, struct msghdr *message, int size)
{
	struct sock *sock = socket->sk;
	struct hw_context context;
	struct hw_object *object;
	bool to_peer;

	if (!sock || !hw_begin(&context, slot) || hw_vertex_off(context.config, HW_VERTEX_SOCKET))
		return;
	to_peer = sock->__sk_common.skc_family == AF_UNIX && sock->sk_type != SOCK_DGRAM;
	if (!hw_relation_off(context.config, HW_RELATION_SEND_MSG)) {
		object = hw_socket_flow(&context, HW_RELATION_SEND_MSG, (u64)sock, false, 0);
		hw_joined(&context, object, sock);
	} else if (hw_with_self(&context)) {
		object = hw_find_channel((u64)sock);
	} else {
		return;
	}
	if (to_peer)
		hw_to_peer(&context, HW_RELATION_RECEIVE_UNIX, (u64)sock, object,
			   hw_unix_peer(sock));
}

HW_LSM(socket_recvmsg, struct socket *socket, struct msghdr *message, int size, int flags)
{
	struct sock *sock = socket->sk;
	struct hw_context context;

	if (hw_begin_for(&context, slot, HW_RELATION_RECEIVE_MSG))
		hw_joined(&context,
			  hw_socket_flow(&context, HW_RELATION_RECEIVE_MSG, (u64)sock, true, flags),
			  sock);
}

HW_LSM(unix_stream_connect, struct sock *sock, struct sock *listener, struct sock *fresh)
{
	hw_socket_generated(slot, HW_RELATION_CONNECT_UNIX_STREAM, (u64)sock);
}

/* Datagrams name their receiver each time. */
HW_LSM(unix_may_send, struct socket *socket, struct socket *other)
{
	u64 sock = (u64)socket->sk;
	struct hw_context context;

	if (sock && other->sk && hw_begin_for(&context, slot, HW_RELATION_SEND_UNIX) &&
	    !hw_vertex_off(context.config, HW_VERTEX_SOCKET) && hw_with_self(&context))
		hw_to_peer(&context, HW_RELATION_SEND_UNIX, sock, hw_find_channel(sock),
			   (u64)other->sk);
}

/* The address is free for another socket from here on. */
LSM_PROBE(sk_free_security, struct sock *sock)
{
	struct hw_context context;
	struct hw_object *object;
	u64 address = (u64)sock;

	object = channels.lookup(&address);
	if (!object)
		return 0;
	if (hw_begin_owned(&context, object->owner))
		hw_end(&context, HW_RELATION_FREE, object->declared, object->id, hw_send(object));
	channels.delete(&address);
	return 0;
}
