/*
 * What the peers share. A peer is the loop that a careful C programmer would write for one job, and
 * nothing else. Each is `PEER ... INTERFACE CPU ...`; it says "ready" on a line when it has begun, ends
 * at SIGINT, and then says what it counted as one JSON object.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define BURST 64
#define FRAME 2048
#define SOCKET_BUFFER (4 << 20)

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void check(int result, const char *what)
{
	if (result < 0)
		fail(what);
}

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static inline void pin(const char *cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(atoi(cpu), &set);
	check(sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");
}

static inline void begin(const char *cpu)
{
	struct sigaction action = {.sa_handler = stop};

	pin(cpu);
	/* Without SA_RESTART: a poll() ends with it. */
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	puts("ready");
	fflush(stdout);
}

static inline int interface_index(const char *name)
{
	int index = if_nametoindex(name);

	if (index == 0)
		fail(name);
	return index;
}

static inline void set(int fd, int option, int value, const char *what)
{
	check(setsockopt(fd, SOL_PACKET, option, &value, sizeof(value)), what);
}

static inline int packet_socket(void)
{
	int fd = socket(AF_PACKET, SOCK_RAW, 0), size = SOCKET_BUFFER;

	check(fd, "socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	set(fd, PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING");
	set(fd, PACKET_QDISC_BYPASS, 1, "PACKET_QDISC_BYPASS");
	return fd;
}

/* `protocol` 0 receives nothing. */
static inline void bind_to(int fd, const char *interface, int protocol)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(protocol),
		.sll_ifindex = interface_index(interface),
	};
	struct packet_mreq all = {.mr_ifindex = address.sll_ifindex, .mr_type = PACKET_MR_PROMISC};

	check(bind(fd, (void *)&address, sizeof(address)), "bind");
	if (protocol != 0)
		check(setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)), "promiscuous");
}

/* A burst of messages, each with a buffer of its own. */
struct messages {
	struct mmsghdr header[BURST];
	struct iovec part[BURST];
	uint8_t data[BURST][FRAME];
};

static inline void prepare(struct messages *m)
{
	memset(m, 0, sizeof(*m));
	for (int i = 0; i < BURST; i++) {
		m->part[i] = (struct iovec){.iov_base = m->data[i], .iov_len = FRAME};
		m->header[i].msg_hdr.msg_iov = &m->part[i];
		m->header[i].msg_hdr.msg_iovlen = 1;
	}
}

/* UDP from 198.18.0.1:1024 to 198.19.0.1:9 (discard), in frames of `length` bytes without FCS. */
static inline void udp_frame(uint8_t *frame, int length)
{
	static const uint8_t start[] = {
		2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 8, 0,
		0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 19, 0, 1,
		4, 0, 0, 9, 0, 0, 0, 0,
	};
	uint32_t sum = 0;

	memset(frame, 0, length);
	memcpy(frame, start, sizeof(start));
	*(uint16_t *)(frame + 16) = htons(length - 14);
	*(uint16_t *)(frame + 38) = htons(length - 34);
	for (int i = 14; i < 34; i += 2)
		sum += *(uint16_t *)(frame + i);
	sum = (sum & 0xffff) + (sum >> 16);
	*(uint16_t *)(frame + 24) = ~(sum + (sum >> 16));
}

static inline void swap(uint8_t *a, uint8_t *b, int n)
{
	for (int i = 0; i < n; i++) {
		uint8_t t = a[i];
		a[i] = b[i];
		b[i] = t;
	}
}
