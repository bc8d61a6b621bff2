/* SPDX-License-Identifier: Apache-2.0 */
/* Behaviours with the addresses of sockets; see behaviours.c. */

#define ADDRESS_BEHAVIOURS                                                                      \
	{ "address-inet6", do_address_inet6 }, { "address-abstract", do_address_abstract },     \
		{ "address-datagram", do_address_datagram },                                    \
		{ "address-forgotten", do_address_forgotten }, { "flow-serve", do_flow_serve }, \
		{ "flow-call", do_flow_call }, { "flow-datagrams", do_flow_datagrams },         \
	{                                                                                       \
		"address-netlink", do_address_netlink                                           \
	}

static void do_address_inet6(void)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(8081) };
	int one = socket(AF_INET6, SOCK_DGRAM, 0), other = socket(AF_INET6, SOCK_DGRAM, 0);

	address.sin6_addr = in6addr_loopback;
	mark();
	DO(bind(one, (void *)&address, sizeof(address)));
	DO(connect(other, (void *)&address, sizeof(address)));
}

static void do_address_abstract(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "\0not in a directory" };
	int one = socket(AF_UNIX, SOCK_DGRAM, 0);

	mark();
	DO(bind(one, (void *)&address, 2 + 1 + strlen("not in a directory")));
}

/* A socket that changes its peer has an address for each. */
static void do_address_datagram(void)
{
	struct sockaddr_in address = loopback();
	int one = socket(AF_INET, SOCK_DGRAM, 0);

	address.sin_port = htons(8082);
	mark();
	DO(connect(one, (void *)&address, sizeof(address)));
	address.sin_port = htons(8083);
	DO(connect(one, (void *)&address, sizeof(address)));
}

static void do_address_forgotten(void)
{
	struct sockaddr nothing = { .sa_family = AF_UNSPEC };
	struct sockaddr_in address = loopback();
	int one = socket(AF_INET, SOCK_DGRAM, 0);

	address.sin_port = htons(8082);
	DO(connect(one, (void *)&address, sizeof(address)));
	mark();
	DO(connect(one, &nothing, sizeof(nothing)));
}

static void do_address_netlink(void)
{
	struct sockaddr_nl {
		unsigned short family, pad;
		unsigned int port, groups;
	} address = { .family = AF_NETLINK };
	int one = socket(AF_NETLINK, SOCK_RAW, 0);

	mark();
	DO(bind(one, (void *)&address, sizeof(address)));
}

static struct sockaddr_in address_in_words(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET };

	address.sin_addr.s_addr = inet_addr(arguments[0]);
	address.sin_port = htons(atoi(arguments[1]));
	return address;
}

/* flow-serve HOST PORT: one connection; an answer to what comes first, before the rest. */
static void do_flow_serve(void)
{
	struct sockaddr_in address = address_in_words();
	int listening = socket(AF_INET, SOCK_STREAM, 0), accepted;

	DO(bind(listening, (void *)&address, sizeof(address)));
	DO(listen(listening, 1));
	accepted = accept(listening, 0, 0);
	DO(accepted);
	DO(recv(accepted, buffer, BYTES, MSG_WAITALL));
	DO(send(accepted, buffer, BYTES, 0));
	DO(recv(accepted, buffer, BYTES, MSG_WAITALL));
}

/* flow-call HOST PORT: to who may not listen yet. */
static void do_flow_call(void)
{
	struct sockaddr_in address = address_in_words();
	int calling = socket(AF_INET, SOCK_STREAM, 0);

	while (connect(calling, (void *)&address, sizeof(address)))
		DO(usleep(100000));
	DO(send(calling, buffer, BYTES, 0));
	DO(recv(calling, buffer, BYTES, MSG_WAITALL));
	DO(send(calling, buffer, BYTES, 0));
}

/* Two sockets that are each other's peer. */
static void do_flow_datagrams(void)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
	int one = socket(AF_INET6, SOCK_DGRAM, 0), other = socket(AF_INET6, SOCK_DGRAM, 0);
	socklen_t length = sizeof(address);

	DO(bind(one, (void *)&address, sizeof(address)));
	DO(getsockname(one, (void *)&address, &length));
	DO(connect(other, (void *)&address, sizeof(address)));
	DO(getsockname(other, (void *)&address, &length));
	DO(connect(one, (void *)&address, sizeof(address)));
	DO(send(other, buffer, BYTES, 0));
	DO(recv(one, buffer, BYTES, 0));
	/* Says so and waits to be told: meanwhile a test may edit the policy. */
	DO(write(1, "x", 1));
	DO(read(0, buffer, 1));
	DO(send(other, buffer, BYTES, 0));
}
