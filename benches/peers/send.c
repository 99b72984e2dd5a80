/* Sends frames as fast as they are taken: send mmsg|ring INTERFACE CPU LENGTH. Past the queueing
 * discipline; the frames are written once. */
#include "peer.h"

#define RING_FRAMES 1024

static uint64_t by_mmsg(int fd, int length)
{
	static struct messages m;
	uint64_t sent = 0;

	prepare(&m);
	for (int i = 0; i < BURST; i++) {
		udp_frame(m.data[i], length);
		m.part[i].iov_len = length;
	}
	while (!stopped) {
		int n = sendmmsg(fd, m.header, BURST, MSG_DONTWAIT);

		if (n > 0)
			sent += n;
		else if (errno != EAGAIN && errno != ENOBUFS && errno != EINTR)
			fail("sendmmsg");
	}
	return sent;
}

static uint64_t by_ring(int fd, uint8_t *ring, int length)
{
	uint64_t sent = 0;
	unsigned next = 0;

	for (int i = 0; i < RING_FRAMES; i++)
		udp_frame(ring + i * FRAME + TPACKET2_HDRLEN - sizeof(struct sockaddr_ll), length);
	while (!stopped) {
		int n = 0;

		for (; n < BURST; n++) {
			struct tpacket2_hdr *frame = (void *)(ring + next * FRAME);

			if (__atomic_load_n(&frame->tp_status, __ATOMIC_ACQUIRE) != TP_STATUS_AVAILABLE)
				break;
			frame->tp_len = length;
			__atomic_store_n(&frame->tp_status, TP_STATUS_SEND_REQUEST, __ATOMIC_RELEASE);
			next = (next + 1) % RING_FRAMES;
		}
		sent += n;
		if (send(fd, NULL, 0, MSG_DONTWAIT) < 0 && errno != EAGAIN && errno != ENOBUFS && errno != EINTR)
			fail("send");
	}
	return sent;
}

int main(int argc, char **argv)
{
	if (argc != 5) {
		fprintf(stderr, "send mmsg|ring INTERFACE CPU LENGTH\n");
		return 2;
	}
	int fd = packet_socket(), length = atoi(argv[4]), ring = strcmp(argv[1], "ring") == 0;
	uint8_t *memory = NULL;

	if (ring) {
		struct tpacket_req size = {
			.tp_block_size = FRAME * RING_FRAMES / 16,
			.tp_block_nr = 16,
			.tp_frame_size = FRAME,
			.tp_frame_nr = RING_FRAMES,
		};

		set(fd, PACKET_VERSION, TPACKET_V2, "PACKET_VERSION");
		check(setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &size, sizeof(size)), "PACKET_TX_RING");
		memory = mmap(NULL, FRAME * RING_FRAMES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
		if (memory == MAP_FAILED)
			fail("mmap");
	}
	bind_to(fd, argv[2], 0);
	begin(argv[3]);
	printf("{\"tx\": %lu}\n", ring ? by_ring(fd, memory, length) : by_mmsg(fd, length));
	return 0;
}
