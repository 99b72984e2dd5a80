/*
 * AF_XDP by libxdp, with its own XDP program, in bursts of 64:
 *   xsk rx      wait|spin native|skb INTERFACE CPU             counts and gives the buffers back
 *   xsk tx      wait|spin native|skb INTERFACE CPU LENGTH      frames written once
 *   xsk tx-each wait|spin native|skb INTERFACE CPU LENGTH      each frame written before it is sent
 *   xsk forward wait|spin native|skb INTERFACE CPU INTERFACE   both ways, two sockets on one UMEM
 */
#include "peer.h"
#include <linux/if_link.h>
#include <xdp/xsk.h>

#define RING 1024
#define FRAMES 8192
#define XDP_MAX_TX_SKB_BUDGET 9

struct port {
	struct xsk_socket *socket;
	struct xsk_ring_cons rx, completion;
	struct xsk_ring_prod tx, fill;
	uint32_t outstanding;
	int fd;
};

static struct port port[2];
static uint8_t *memory;
static uint64_t spare[FRAMES];
static uint32_t spares;
static uint64_t touched;

static void open_ports(int count, char **interface, int skb)
{
	struct xsk_umem_config of_umem = {.fill_size = RING, .comp_size = RING, .frame_size = FRAME};
	struct xsk_socket_config of_socket = {
		.rx_size = RING,
		.tx_size = RING,
		.xdp_flags = skb ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE,
		.bind_flags = XDP_COPY | XDP_USE_NEED_WAKEUP,
	};
	struct xsk_umem *umem;
	int budget = RING, buffer = 32 << 20;

	memory = mmap(NULL, FRAMES * FRAME, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	for (; spares < FRAMES; spares++)
		spare[spares] = (uint64_t)spares * FRAME;
	errno = -xsk_umem__create(&umem, memory, (uint64_t)FRAMES * FRAME, &port[0].fill, &port[0].completion, &of_umem);
	if (errno)
		fail("xsk_umem__create");
	for (int i = 0; i < count; i++) {
		struct port *p = &port[i];

		errno = -xsk_socket__create_shared(&p->socket, interface[i], 0, umem, &p->rx, &p->tx, &p->fill,
						   &p->completion, &of_socket);
		if (errno)
			fail("xsk_socket__create_shared");
		p->fd = xsk_socket__fd(p->socket);
		setsockopt(p->fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
		/* As many frames as there are with one call, where the kernel can (Linux 6.17). */
		setsockopt(p->fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget, sizeof(budget));
	}
}

/* Gives the kernel up to `n` buffers to receive into. */
static inline void refill(struct port *p, uint32_t n)
{
	uint32_t at;

	n = n < spares ? n : spares;
	if (n == 0 || xsk_ring_prod__reserve(&p->fill, n, &at) == 0)
		return;
	for (uint32_t i = 0; i < n; i++)
		*xsk_ring_prod__fill_addr(&p->fill, at + i) = spare[--spares];
	xsk_ring_prod__submit(&p->fill, n);
}

static inline void wake_receiver(struct port *p)
{
	if (xsk_ring_prod__needs_wakeup(&p->fill))
		recvfrom(p->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

static inline void kick(struct port *p)
{
	if (p->outstanding == 0 || !xsk_ring_prod__needs_wakeup(&p->tx))
		return;
	if (sendto(p->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 && errno != EAGAIN && errno != EBUSY && errno != ENOBUFS &&
	    errno != EINTR)
		fail("sendto");
}

/* Takes back what was sent. */
static inline void reap(struct port *p)
{
	uint32_t at, n = xsk_ring_cons__peek(&p->completion, RING, &at);

	for (uint32_t i = 0; i < n; i++)
		spare[spares++] = *xsk_ring_cons__comp_addr(&p->completion, at + i);
	xsk_ring_cons__release(&p->completion, n);
	p->outstanding -= n;
}

static void wait_for(int ports)
{
	struct pollfd pollers[] = {{.fd = port[0].fd, .events = POLLIN}, {.fd = port[1].fd, .events = POLLIN}};

	poll(pollers, ports, 100);
}

static void receive(int spin)
{
	struct port *p = &port[0];
	uint64_t rx = 0, busy = 0;

	refill(p, RING);
	while (!stopped) {
		uint64_t start = __rdtsc();
		uint32_t at, to, n = xsk_ring_cons__peek(&p->rx, BURST, &at);

		if (n == 0) {
			wake_receiver(p);
			if (!spin)
				wait_for(1);
			continue;
		}
		while (xsk_ring_prod__reserve(&p->fill, n, &to) == 0)
			wake_receiver(p);
		for (uint32_t i = 0; i < n; i++) {
			uint64_t addr = xsk_ring_cons__rx_desc(&p->rx, at + i)->addr;

			touched += memory[addr];
			*xsk_ring_prod__fill_addr(&p->fill, to + i) = addr;
		}
		xsk_ring_prod__submit(&p->fill, n);
		xsk_ring_cons__release(&p->rx, n);
		wake_receiver(p);
		rx += n;
		busy += __rdtsc() - start;
	}
	printf("{\"rx\": %lu, \"touched\": %lu, \"cycles_per_packet\": %.1f}\n", rx, touched, rx ? (double)busy / rx : 0.0);
}

/* A short one by a few wide stores instead of a call: there is room behind it. */
static inline void write_frame(uint8_t *to, const uint8_t *frame, int length)
{
	if (length <= 64)
		memcpy(to, frame, 64);
	else
		memcpy(to, frame, length);
}

static void transmit(int length, int each)
{
	static uint8_t frame[FRAME];
	struct port *p = &port[0];
	uint64_t tx = 0;

	udp_frame(frame, length);

	for (int i = 0; i < FRAMES; i++)
		udp_frame(memory + i * FRAME, length);
	while (!stopped) {
		uint32_t at;

		if (spares >= BURST && xsk_ring_prod__reserve(&p->tx, BURST, &at) == BURST) {
			for (uint32_t i = 1; each && i <= BURST; i++)
				write_frame(memory + spare[spares - i], frame, length);
			for (uint32_t i = 0; i < BURST; i++)
				*xsk_ring_prod__tx_desc(&p->tx, at + i) = (struct xdp_desc){.addr = spare[--spares], .len = length};
			xsk_ring_prod__submit(&p->tx, BURST);
			p->outstanding += BURST;
			tx += BURST;
		}
		kick(p);
		reap(p);
	}
	printf("{\"tx\": %lu}\n", tx);
}

/* One burst; gives how many frames came. */
static uint32_t pass(struct port *from, struct port *to, uint64_t *forwarded)
{
	uint32_t at, out = 0, n = xsk_ring_cons__peek(&from->rx, BURST, &at);

	if (n == 0) {
		wake_receiver(from);
		return 0;
	}
	while (xsk_ring_prod__reserve(&to->tx, n, &out) == 0 && !stopped) {
		kick(to);
		reap(to);
	}
	if (stopped)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		*xsk_ring_prod__tx_desc(&to->tx, out + i) = *xsk_ring_cons__rx_desc(&from->rx, at + i);
	xsk_ring_prod__submit(&to->tx, n);
	xsk_ring_cons__release(&from->rx, n);
	to->outstanding += n;
	*forwarded += n;
	kick(to);
	reap(to);
	refill(from, n);
	wake_receiver(from);
	return n;
}

static void forward(int spin)
{
	uint64_t forwarded = 0;

	refill(&port[0], RING);
	refill(&port[1], RING);
	while (!stopped)
		if (pass(&port[0], &port[1], &forwarded) + pass(&port[1], &port[0], &forwarded) == 0 && !spin)
			wait_for(2);
	printf("{\"tx\": %lu}\n", forwarded);
}

int main(int argc, char **argv)
{
	int rx = argc == 6 && strcmp(argv[1], "rx") == 0;
	int each = argc == 7 && strcmp(argv[1], "tx-each") == 0, tx = each || (argc == 7 && strcmp(argv[1], "tx") == 0);

	if (!rx && !tx && (argc != 7 || strcmp(argv[1], "forward") != 0)) {
		fprintf(stderr, "xsk rx|tx|tx-each|forward wait|spin native|skb INTERFACE CPU [LENGTH | INTERFACE]\n");
		return 2;
	}
	int spin = strcmp(argv[2], "spin") == 0;

	open_ports(rx || tx ? 1 : 2, (char *[]){argv[4], argc == 7 ? argv[6] : NULL}, strcmp(argv[3], "skb") == 0);
	begin(argv[5]);
	if (rx)
		receive(spin);
	else if (tx)
		transmit(atoi(argv[6]), each);
	else
		forward(spin);
	for (int i = 0; i < 2; i++)
		if (port[i].socket)
			xsk_socket__delete(port[i].socket);
	return 0;
}
