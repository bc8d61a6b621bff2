/* SPDX-License-Identifier: Apache-2.0 */
/* Behaviours with the addresses of sockets; see behaviours.c. */

#define ADDRESS_BEHAVIOURS                                                                      \
	{ "address-inet6", do_address_inet6 }, { "address-abstract", do_address_abstract },     \
		{ "address-datagram", do_address_datagram },                                    \
		{ "address-forgotten", do_address_forgotten }, { "flow-serve", do_flow_serve }, \
		{ "flow-call", do_flow_call }, { "flow-datagrams", do_flow_datagrams },         \
		{ "address-netlink", do_address_netlink },                                      \
		{ "datagrams-unconnected", do_datagrams_unconnected },                          \
		{ "datagrams-serve", do_datagrams_serve },                                      \
	{                                                                                       \
		"datagrams-call", do_datagrams_call                                             \
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

/* The loopback's address of a family, with a socket's own port. */
static socklen_t loopback_of(struct sockaddr_storage *address, int fd, const char *family)
{
	struct sockaddr_in6 *six = (void *)address;
	struct sockaddr_in *four = (void *)address;
	socklen_t length = sizeof(*address);

	memset(address, 0, sizeof(*address));
	if (fd >= 0)
		DO(getsockname(fd, (void *)address, &length));
	if (!strcmp(family, "inet6")) {
		six->sin6_family = AF_INET6;
		six->sin6_addr = in6addr_loopback;
		return sizeof(*six);
	}
	four->sin_family = AF_INET;
	four->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return sizeof(*four);
}

/* datagrams-unconnected inet|inet6: a question and an answer, twice, and one of another socket. */
static void do_datagrams_unconnected(void)
{
	int family = strcmp(arguments[0], "inet6") ? AF_INET : AF_INET6, i;
	int server = socket(family, SOCK_DGRAM, 0), client = socket(family, SOCK_DGRAM, 0);
	int other = socket(family, SOCK_DGRAM, 0);
	struct sockaddr_storage there, here;
	socklen_t length = loopback_of(&there, -1, arguments[0]);

	DO(bind(server, (void *)&there, length));
	loopback_of(&there, server, arguments[0]);
	mark();
	for (i = 0; i < 2; i++) {
		DO(sendto(client, buffer, BYTES, 0, (void *)&there, length));
		/* Who does not ask from whom it is, is told all the same. */
		DO(recv(server, buffer, BYTES, 0));
		loopback_of(&here, client, arguments[0]);
		DO(sendto(server, buffer, BYTES, 0, (void *)&here, length));
		DO(recv(client, buffer, BYTES, 0));
	}
	DO(sendto(other, buffer, BYTES, 0, (void *)&there, length));
	DO(recv(server, buffer, BYTES, 0));
}

/* datagrams-serve PORT: one answer, from a socket of no address of its own. */
static void do_datagrams_serve(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons(atoi(arguments[0])) };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	socklen_t length = sizeof(address);

	DO(bind(fd, (void *)&address, sizeof(address)));
	DO(recvfrom(fd, buffer, BYTES, 0, (void *)&address, &length));
	DO(sendto(fd, buffer, BYTES, 0, (void *)&address, length));
}

/* datagrams-call HOST PORT: to who may not listen yet. */
static void do_datagrams_call(void)
{
	struct sockaddr_in address = address_in_words();
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	do {
		DO(sendto(fd, buffer, BYTES, 0, (void *)&address, sizeof(address)));
		usleep(100000);
	} while (recv(fd, buffer, BYTES, MSG_DONTWAIT) < 0);
}
