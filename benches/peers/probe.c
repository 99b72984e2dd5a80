/* How long an answer takes after a pause: probe INTERFACE CPU COUNT PAUSE_US. Sends an ICMP echo
 * request, polls for the reply without sleeping, and gives every latency in nanoseconds. */
#include "peer.h"

#define PATIENCE_NS 2000000000ull

static uint16_t checksum(const uint8_t *data, int length)
{
	uint32_t sum = 0;

	for (int i = 0; i < length; i += 2)
		sum += *(const uint16_t *)(data + i);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

static void request(uint8_t *frame, uint16_t sequence)
{
	udp_frame(frame, 60);
	frame[23] = IPPROTO_ICMP;
	*(uint16_t *)(frame + 24) = 0;
	*(uint16_t *)(frame + 24) = checksum(frame + 14, 20);
	memset(frame + 34, 0, 26);
	frame[34] = 8;
	*(uint16_t *)(frame + 38) = htons(0x4c43);
	*(uint16_t *)(frame + 40) = htons(sequence);
	*(uint16_t *)(frame + 36) = checksum(frame + 34, 26);
}

/* The time until the reply; 0 if none came. */
static uint64_t one(int fd, uint16_t sequence)
{
	uint8_t frame[FRAME], reply[FRAME];

	request(frame, sequence);
	uint64_t start = now_ns(), now;

	check(send(fd, frame, 60, 0), "send");
	do {
		ssize_t length = recv(fd, reply, sizeof(reply), MSG_DONTWAIT);

		now = now_ns();
		if (length >= 60 && reply[34] == 0 && memcmp(reply + 38, frame + 38, 4) == 0 &&
		    checksum(reply + 34, 26) == 0)
			return now - start;
	} while (now - start < PATIENCE_NS && !stopped);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned lost = 0;

	if (argc != 5) {
		fprintf(stderr, "probe INTERFACE CPU COUNT PAUSE_US\n");
		return 2;
	}
	int fd = packet_socket(), count = atoi(argv[3]), pause = atoi(argv[4]);
	const char *comma = "";

	bind_to(fd, argv[1], ETH_P_ALL);
	begin(argv[2]);
	one(fd, 0xffff);
	printf("{\"ns\": [");
	for (int i = 0; i < count && !stopped; i++) {
		/* Every pause is a little longer, so as not to keep step with a timer. */
		usleep(pause + i % 64 * 37);
		uint64_t ns = one(fd, i);

		if (ns == 0) {
			lost++;
			continue;
		}
		printf("%s%lu", comma, ns);
		comma = ", ";
	}
	printf("], \"lost\": %u}\n", lost);
	return 0;
}
