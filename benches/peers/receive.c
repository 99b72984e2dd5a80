/*
 * Counts frames: receive mmsg|meta|ring wait|spin INTERFACE CPU. Of each frame its length and first byte
 * are read. `meta` is mmsg with what comes beside a frame and what nobody can forward it without: the
 * virtio-net header (unfinished checksums, super-frames) and the auxiliary data (VLAN tag, checksum
 * status). The ring is walked in place.
 */
#include "peer.h"
#include <linux/virtio_net.h>

#define BLOCK (256 << 10)
#define BLOCKS 256

struct count {
	uint64_t rx, bytes, touched, busy_cycles;
};

static void wait_for(int fd, int spin)
{
	struct pollfd poller = {.fd = fd, .events = POLLIN};

	if (spin)
		_mm_pause();
	else
		poll(&poller, 1, 100);
}

/* The control messages of the frames of a burst. */
struct beside {
	char control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
};

/* The virtio-net header goes right before the frame: one piece is cheaper than two. */
static void ask_for_meta(int fd, struct messages *m, struct beside *beside)
{
	set(fd, PACKET_VNET_HDR, 1, "PACKET_VNET_HDR");
	set(fd, PACKET_AUXDATA, 1, "PACKET_AUXDATA");
	for (int i = 0; i < BURST; i++)
		m->header[i].msg_hdr.msg_control = beside[i].control;
}

static void by_mmsg(int fd, int spin, int meta, struct count *count)
{
	static struct messages m;
	static struct beside beside[BURST];
	int before = meta ? sizeof(struct virtio_net_hdr) : 0;

	prepare(&m);
	if (meta)
		ask_for_meta(fd, &m, beside);
	while (!stopped) {
		for (int i = 0; meta && i < BURST; i++)
			m.header[i].msg_hdr.msg_controllen = sizeof(beside[i].control);
		uint64_t start = __rdtsc();
		int n = recvmmsg(fd, m.header, BURST, MSG_DONTWAIT, NULL);

		if (n <= 0) {
			wait_for(fd, spin);
			continue;
		}
		for (int i = 0; i < n; i++) {
			count->bytes += m.header[i].msg_len - before;
			count->touched += m.data[i][before];
		}
		count->rx += n;
		count->busy_cycles += __rdtsc() - start;
	}
}

static void by_ring(int fd, int spin, struct count *count)
{
	struct tpacket_req3 size = {
		.tp_block_size = BLOCK,
		.tp_block_nr = BLOCKS,
		.tp_frame_size = FRAME,
		.tp_frame_nr = BLOCK / FRAME * BLOCKS,
		.tp_retire_blk_tov = 1,
	};
	uint8_t *ring;
	unsigned next = 0;

	check(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &size, sizeof(size)), "PACKET_RX_RING");
	ring = mmap(NULL, (size_t)BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (ring == MAP_FAILED)
		fail("mmap");
	while (!stopped) {
		uint64_t start = __rdtsc();
		struct tpacket_block_desc *block = (void *)(ring + (size_t)next * BLOCK);
		uint32_t *status = &block->hdr.bh1.block_status;

		if (!(__atomic_load_n(status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
			wait_for(fd, spin);
			continue;
		}
		uint32_t frames = block->hdr.bh1.num_pkts;
		uint8_t *at = (uint8_t *)block + block->hdr.bh1.offset_to_first_pkt;

		for (uint32_t i = 0; i < frames; i++) {
			struct tpacket3_hdr *frame = (void *)at;

			count->bytes += frame->tp_snaplen;
			count->touched += at[frame->tp_mac];
			at += frame->tp_next_offset;
		}
		count->rx += frames;
		__atomic_store_n(status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		next = (next + 1) % BLOCKS;
		count->busy_cycles += __rdtsc() - start;
	}
}

int main(int argc, char **argv)
{
	struct count count = {0};

	if (argc != 5) {
		fprintf(stderr, "receive mmsg|meta|ring wait|spin INTERFACE CPU\n");
		return 2;
	}
	int fd = packet_socket(), spin = strcmp(argv[2], "spin") == 0;
	int ring = strcmp(argv[1], "ring") == 0;

	if (ring)
		set(fd, PACKET_VERSION, TPACKET_V3, "PACKET_VERSION");
	bind_to(fd, argv[3], ETH_P_ALL);
	begin(argv[4]);
	if (ring)
		by_ring(fd, spin, &count);
	else
		by_mmsg(fd, spin, strcmp(argv[1], "meta") == 0, &count);
	printf("{\"rx\": %lu, \"bytes\": %lu, \"touched\": %lu, \"cycles_per_packet\": %.1f}\n", count.rx, count.bytes,
	       count.touched, count.rx ? (double)count.busy_cycles / count.rx : 0.0);
	return 0;
}
