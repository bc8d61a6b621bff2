/* SPDX-License-Identifier: Apache-2.0 */
/* Behaviours with the addresses of sockets; see behaviours.c. */

#define ADDRESS_BEHAVIOURS                                                                  \
	{ "address-inet6", do_address_inet6 }, { "address-abstract", do_address_abstract }, \
		{ "address-datagram", do_address_datagram },                                \
		{ "address-forgotten", do_address_forgotten },                              \
	{                                                                                   \
		"address-netlink", do_address_netlink                                       \
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
