/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The two ends of each datagram of an internet socket that is not connected: it has
 * another peer with each message, which send(2) may not know (the kernel chooses its
 * own address and port behind socket_sendmsg) and recv(2) need not ask for. So they are
 * read out of the datagram itself, where it is complete and where it is taken off the
 * socket's queue. Once for each pair of ends, as far as the task remembers.
 */

#define IPPROTO_UDP 17
#define IPPROTO_UDPLITE 136

/* Of an IP header, in bytes. */
#define HW_IP4_SOURCE 12
#define HW_IP4_DESTINATION 16
#define HW_IP6_SOURCE 8
#define HW_IP6_DESTINATION 24

struct hw_datagram {
	u64 network; /* the address of its IP header */
	u16 family;
	u16 source; /* ports, in network byte order */
	u16 destination;
	u16 protocol;
};

/* Whether it is one of a socket without a peer. */
static __always_inline bool hw_read_datagram(struct hw_datagram *datagram, struct sock *sock,
					     struct sk_buff *packet)
{
	u16 protocol = 0, network = 0, transport = 0, peer = 0;
	unsigned char *head = 0;
	u8 state = 0, version = 0;

	READ(protocol, sock->sk_protocol);
	READ(peer, sock->__sk_common.skc_dport);
	/* It is volatile. */
	bpf_probe_read_kernel(&state, sizeof(state), (void *)&sock->__sk_common.skc_state);
	if ((protocol != IPPROTO_UDP && protocol != IPPROTO_UDPLITE) ||
	    (peer && state == TCP_ESTABLISHED))
		return false;
	READ(head, packet->head);
	READ(network, packet->network_header);
	READ(transport, packet->transport_header);
	datagram->network = (u64)head + network;
	datagram->source = datagram->destination = 0;
	datagram->protocol = protocol;
	bpf_probe_read_kernel(&version, sizeof(version), (void *)datagram->network);
	bpf_probe_read_kernel(&datagram->source, sizeof(datagram->source), head + transport);
	bpf_probe_read_kernel(&datagram->destination, sizeof(datagram->destination),
			      head + transport + sizeof(datagram->source));
	datagram->family = version >> 4 == 4 ? AF_INET : AF_INET6;
	return true;
}

/* One end, as its struct sockaddr; returns how long that is. */
static __always_inline u32 hw_fill_datagram_end(u8 *to, struct hw_datagram *datagram, bool source)
{
	struct sockaddr_in6 *six = (void *)to;
	struct sockaddr_in *four = (void *)to;

	__builtin_memset(to, 0, HW_INTERNET_ADDRESS_BYTES);
	four->sin_family = datagram->family;
	four->sin_port = source ? datagram->source : datagram->destination;
	if (datagram->family == AF_INET) {
		bpf_probe_read_kernel(&four->sin_addr, sizeof(four->sin_addr),
				      (void *)datagram->network +
					      (source ? HW_IP4_SOURCE : HW_IP4_DESTINATION));
		return sizeof(*four);
	}
	bpf_probe_read_kernel(&six->sin6_addr, sizeof(six->sin6_addr),
			      (void *)datagram->network +
				      (source ? HW_IP6_SOURCE : HW_IP6_DESTINATION));
	return sizeof(*six);
}

/* Tells an end of a socket from others, among what a task remembers. */
static __always_inline u64 hw_end_key(struct hw_context *context, struct hw_object *object, u8 *end)
{
	struct sockaddr_in6 *six = (void *)end;
	u64 *words = (void *)end;
	u64 mixed = words[0] * 0x9fb21c651e98df25ULL ^ words[1] * 0xd6e8feb86659fd93ULL;

	mixed = (mixed ^ words[2]) * 0xc2b2ae3d27d4eb4fULL;
	return hw_edge_key(object->id ^ mixed, six->sin6_family, HW_RELATION_ADDRESSED,
			   context->epoch);
}

/* The text is as hw_submit_ends() has it. */
static __always_inline void hw_submit_datagram(struct hw_context *context, struct hw_object *object,
					       struct hw_text *text, struct hw_datagram *datagram,
					       bool sent)
{
	struct hw_flow_ends *ends = (void *)text->data;
	bool again = context->flags & HW_SLOT_COMPRESS_EDGES;
	u8 *peer = (u8 *)(ends + 1);
	u64 own_key, key;
	u32 length;

	ends->own_sequence = ends->peer_sequence = 0;
	ends->protocol = datagram->protocol;
	ends->length = hw_fill_datagram_end(ends->own, datagram, sent);
	length = hw_fill_datagram_end(peer, datagram, !sent);
	own_key = hw_end_key(context, object, ends->own);
	key = hw_end_key(context, object, peer) ^ own_key * 0x165667b19e3779f9ULL;
	if (again && hw_task_has(context->self, key))
		return;
	if (!hw_submit_addressed(context, object, text, sizeof(*ends) + length,
				 HW_TEXT_PEER | HW_TEXT_FLOW))
		return;
	hw_task_keep(context->self, key);
	if (again && hw_task_has(context->self, own_key))
		return;
	length = hw_fill_datagram_end((u8 *)text->data, datagram, sent);
	if (hw_submit_addressed(context, object, text, length, 0))
		hw_task_keep(context->self, own_key);
}

static __always_inline void hw_datagram(u32 slot, struct sock *sock, struct sk_buff *packet,
					bool sent)
{
	struct hw_datagram datagram;
	struct hw_context context;
	struct hw_scratch *buffer;
	struct hw_object *object;
	u32 number;

	/* What the kernel sends for itself has no state here. */
	object = hw_find_channel((u64)sock);
	if (!object || !hw_begin(&context, slot) || hw_addresses_off(&context) ||
	    !hw_read_datagram(&datagram, sock, packet) || !hw_with_self(&context))
		return;
	object = hw_ready_socket(&context, (u64)sock, object, slot);
	if (!object)
		return;
	number = hw_scratch_claim();
	buffer = scratch.lookup(&number);
	if (!buffer) {
		hw_lose(slot, HW_LOSS_SCRATCH);
		return;
	}
	hw_submit_datagram(&context, object, &buffer->text, &datagram, sent);
	hw_scratch_release(number);
}

/* udp_sendmsg() -> udp_send_skb(): all headers are there. */
HW_FENTRY(ip_send_skb, void *space, struct sk_buff *packet)
{
	struct sock *sock = 0;

	READ(sock, packet->sk);
	hw_datagram(slot, sock, packet, true);
}

HW_FENTRY(ip6_send_skb, struct sk_buff *packet)
{
	struct sock *sock = 0;

	READ(sock, packet->sk);
	hw_datagram(slot, sock, packet, true);
}

/* udp_recvmsg(), udpv6_recvmsg(). */
HW_FEXIT(__skb_recv_udp, struct sock *sock, unsigned int flags, int *offset, int *error,
	 struct sk_buff *packet)
{
	if (packet)
		hw_datagram(slot, sock, packet, false);
}
