/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Sockets: making, naming, connecting and what goes through them. Unix sockets
 * are joined to their peer, which is on the same machine.
 */

static __always_inline void hw_socket_generated(u8 relation, u64 sock, u32 flags)
{
	struct hw_context context;
	struct hw_object *object;

	if (!hw_enter_for(&context, relation))
		return;
	object = hw_ready_socket(&context, sock);
	if (object && context.self)
		hw_generated(&context, relation, object, flags, 0);
}

/* An edge from a socket of the acting task to its peer, whoever that belongs to. */
static __always_inline void hw_socket_to_peer(struct hw_context *context, u8 relation, u64 sock,
					      u64 peer)
{
	struct hw_object *from, *to;

	if (!peer || hw_relation_off(context->config, relation))
		return;
	from = hw_ready_socket(context, sock);
	if (!from)
		return;
	/* A socket that no captured task has touched belongs to no slot. */
	to = hw_socket_object(peer, 0);
	if (!to) {
		hw_lose(context->slot, HW_LOSS_STORAGE);
		return;
	}
	if (hw_declare_socket(context, to, peer))
		hw_derived(context, relation, from, to, 0);
	else
		hw_lose(context->slot, HW_LOSS_RING);
}

LSM_PROBE(socket_post_create, struct socket *socket, int family, int type, int protocol, int kern)
{
	if (!kern)
		hw_socket_generated(HW_RELATION_SOCKET_CREATE, (u64)socket->sk, 0);
	return 0;
}

LSM_PROBE(socket_socketpair, struct socket *one, struct socket *other)
{
	hw_socket_generated(HW_RELATION_SOCKET_PAIR_CREATE, (u64)one->sk, 0);
	hw_socket_generated(HW_RELATION_SOCKET_PAIR_CREATE, (u64)other->sk, 0);
	return 0;
}

LSM_PROBE(socket_bind, struct socket *socket, struct sockaddr *address, int length)
{
	hw_socket_generated(HW_RELATION_BIND, (u64)socket->sk, 0);
	return 0;
}

LSM_PROBE(socket_connect, struct socket *socket, struct sockaddr *address, int length)
{
	hw_socket_generated(HW_RELATION_CONNECT, (u64)socket->sk, 0);
	return 0;
}

LSM_PROBE(socket_listen, struct socket *socket, int backlog)
{
	hw_socket_generated(HW_RELATION_LISTEN, (u64)socket->sk, 0);
	return 0;
}

/* Here the call begins to wait; what it accepts is known in sock_graft. */
LSM_PROBE(socket_accept, struct socket *socket, struct socket *fresh)
{
	struct hw_context context;

	if (hw_enter(&context) && hw_with_self(&context))
		context.self->accepting = (u64)socket->sk;
	return 0;
}

LSM_PROBE(sock_graft, struct sock *sock, struct socket *parent)
{
	struct hw_object *listener, *accepted;
	struct hw_context context;

	if (!hw_enter(&context) || !hw_with_self(&context) || !context.self->accepting)
		return 0;
	listener = hw_ready_socket(&context, context.self->accepting);
	context.self->accepting = 0;
	accepted = hw_ready_socket(&context, (u64)sock);
	if (!listener || !accepted)
		return 0;
	/* A peer may have written to it before it was accepted. */
	accepted->owner = context.slot;
	hw_derived(&context, HW_RELATION_ACCEPT_SOCKET, listener, accepted, 0);
	if (!hw_relation_off(context.config, HW_RELATION_ACCEPT))
		hw_used(&context, HW_RELATION_ACCEPT, accepted, 0, 0);
	return 0;
}

/* sendmsg(2), send(2), and write(2) behind file_permission. */
LSM_PROBE(socket_sendmsg, struct socket *socket, struct msghdr *message, int size)
{
	struct sock *sock = socket->sk;
	struct hw_context context;
	struct hw_object *object;

	if (!hw_enter(&context))
		return 0;
	object = hw_ready_socket(&context, (u64)sock);
	if (!object || !context.self)
		return 0;
	if (!hw_relation_off(context.config, HW_RELATION_SEND_MSG))
		hw_generated(&context, HW_RELATION_SEND_MSG, object, 0, 0);
	if (sock->__sk_common.skc_family == AF_UNIX && sock->sk_type != SOCK_DGRAM)
		hw_socket_to_peer(&context, HW_RELATION_RECEIVE_UNIX, (u64)sock,
				  hw_unix_peer(sock));
	return 0;
}

LSM_PROBE(socket_recvmsg, struct socket *socket, struct msghdr *message, int size, int flags)
{
	struct hw_context context;
	struct hw_object *object;

	if (!hw_enter_for(&context, HW_RELATION_RECEIVE_MSG))
		return 0;
	object = hw_ready_socket(&context, (u64)socket->sk);
	if (object && context.self)
		hw_used(&context, HW_RELATION_RECEIVE_MSG, object, flags, 0);
	return 0;
}

LSM_PROBE(unix_stream_connect, struct sock *sock, struct sock *listener, struct sock *fresh)
{
	hw_socket_generated(HW_RELATION_CONNECT_UNIX_STREAM, (u64)sock, 0);
	return 0;
}

/* Datagrams name their receiver each time. */
LSM_PROBE(unix_may_send, struct socket *socket, struct socket *other)
{
	struct hw_context context;

	if (hw_enter(&context) && hw_with_self(&context))
		hw_socket_to_peer(&context, HW_RELATION_SEND_UNIX, (u64)socket->sk, (u64)other->sk);
	return 0;
}

/* The address is free for another socket from here on. */
LSM_PROBE(sk_free_security, struct sock *sock)
{
	struct hw_context context;
	struct hw_object *object;
	u64 address = (u64)sock;

	object = sockets.lookup(&address);
	if (!object)
		return 0;
	if (hw_enter_owner(&context, object->owner) &&
	    hw_ends(&context, HW_RELATION_FREE, object->declared))
		hw_end(&context, HW_RELATION_FREE, object->id, hw_send(object));
	sockets.delete(&address);
	return 0;
}
