/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Addresses of sockets: those that a call names, and the two ends of a connection
 * once it is there. Like names, they change no version.
 */
#ifndef HEADWATER_ADDRESS_H
#define HEADWATER_ADDRESS_H

/* The longest address that a system call passes: struct sockaddr_storage. */
#define HW_ADDRESS_BYTES 128

static __always_inline bool hw_addresses_off(struct hw_context *context)
{
	return hw_relation_off(context->config, HW_RELATION_ADDRESSED) ||
	       hw_vertex_off(context->config, HW_VERTEX_ADDRESS) ||
	       hw_vertex_off(context->config, HW_VERTEX_SOCKET);
}

static __always_inline bool hw_submit_addressed(struct hw_context *context,
						struct hw_object *object, struct hw_text *text,
						u32 length, u32 marks)
{
	text->object = object->id;
	text->version = hw_version(object->state);
	text->marks = marks;
	return hw_submit_text(context, text, HW_RECORD_ADDRESS, HW_RELATION_ADDRESSED, length);
}

static __always_inline void hw_submit_address(struct hw_context *context, struct hw_object *object,
					      struct sockaddr *address, u32 length, u32 marks)
{
	struct hw_scratch *buffer;
	u32 number;

	number = hw_scratch_claim();
	buffer = scratch.lookup(&number);
	if (!buffer) {
		hw_lose(context->slot, HW_LOSS_SCRATCH);
		return;
	}
	/* No address is longer: for the verifier. */
	length = ((length - 1) & (HW_ADDRESS_BYTES - 1)) + 1;
	if (bpf_probe_read_kernel(buffer->text.data, length, address))
		hw_lose(context->slot, HW_LOSS_READ);
	else
		hw_submit_addressed(context, object, &buffer->text, length, marks);
	hw_scratch_release(number);
}

/* One end of an internet socket, as its struct sockaddr; returns how long that is. */
static __always_inline u32 hw_fill_end(u8 *to, struct sock *sock, bool peer)
{
	struct sockaddr_in6 *six = (void *)to;
	struct sockaddr_in *four = (void *)to;
	u16 family = sock->__sk_common.skc_family, own = sock->__sk_common.skc_num;

	__builtin_memset(to, 0, HW_INTERNET_ADDRESS_BYTES);
	four->sin_family = family;
	four->sin_port = peer ? sock->__sk_common.skc_dport : __builtin_bswap16(own);
	if (family == AF_INET) {
		four->sin_addr.s_addr =
			peer ? sock->__sk_common.skc_daddr : sock->__sk_common.skc_rcv_saddr;
		return sizeof(*four);
	}
	bpf_probe_read_kernel(&six->sin6_addr, sizeof(six->sin6_addr),
			      peer ? &sock->__sk_common.skc_v6_daddr :
				     &sock->__sk_common.skc_v6_rcv_saddr);
	return sizeof(*six);
}

/*
 * The numbers of the first bytes that either end of a TCP connection sends: what has
 * been sent and received since is taken from where it is now. 0 when it moves meanwhile.
 */
static __always_inline bool hw_first_bytes(struct hw_flow_ends *ends, struct sock *sock)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sock;
	u32 next = 0, expected = 0, again = 0;
	u64 sent = 0, repeated = 0, received = 0;

	READ(expected, tcp->rcv_nxt);
	READ(received, tcp->bytes_received);
	READ(next, tcp->snd_nxt);
	READ(sent, tcp->bytes_sent);
	READ(repeated, tcp->bytes_retrans);
	READ(again, tcp->rcv_nxt);
	ends->own_sequence = next - (u32)(sent - repeated);
	ends->peer_sequence = expected - (u32)received;
	return expected == again;
}

/* Whether an internet socket has a peer, and all that tells their connection from others. */
static __always_inline bool hw_is_joined(struct sock *sock)
{
	u16 family = sock->__sk_common.skc_family;
	u8 state = sock->__sk_common.skc_state;

	return (family == AF_INET || family == AF_INET6) && sock->__sk_common.skc_dport &&
	       (state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT);
}

static __always_inline bool hw_submit_ends(struct hw_context *context, struct hw_object *object,
					   struct hw_text *text, struct sock *sock)
{
	struct hw_flow_ends *ends = (void *)text->data;
	u32 length;

	length = hw_fill_end((u8 *)text->data, sock, false);
	if (!hw_submit_addressed(context, object, text, length, 0))
		return false;
	ends->own_sequence = ends->peer_sequence = 0;
	ends->protocol = sock->sk_protocol;
	if (ends->protocol == IPPROTO_TCP && !hw_first_bytes(ends, sock))
		return false;
	ends->length = hw_fill_end(ends->own, sock, false);
	length = hw_fill_end((u8 *)(ends + 1), sock, true);
	return hw_submit_addressed(context, object, text, sizeof(*ends) + length,
				   HW_TEXT_PEER | HW_TEXT_FLOW);
}

/*
 * hw_joined() - the two ends of an internet socket's connection, once per epoch
 *
 * Nobody says when a connection is there (it may be made in an interrupt), so this is
 * asked at its flows. The object is declared.
 */
static __always_inline void hw_joined(struct hw_context *context, struct hw_object *object,
				      struct sock *sock)
{
	struct hw_scratch *buffer;
	u32 number;

	if (!object || hw_in_epoch(object->named, context->epoch) || !hw_is_joined(sock) ||
	    hw_addresses_off(context))
		return;
	number = hw_scratch_claim();
	buffer = scratch.lookup(&number);
	if (!buffer) {
		hw_lose(context->slot, HW_LOSS_SCRATCH);
		return;
	}
	if (hw_submit_ends(context, object, &buffer->text, sock))
		hw_enter_epoch(object->named, context->epoch);
	hw_scratch_release(number);
}

#endif
