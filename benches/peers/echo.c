/* Answers ICMP echo requests, blocking in recv(): echo INTERFACE CPU. */
#include "peer.h"

int main(int argc, char **argv)
{
	uint8_t frame[FRAME];
	uint64_t answered = 0;

	if (argc != 3) {
		fprintf(stderr, "echo INTERFACE CPU\n");
		return 2;
	}
	int fd = packet_socket();

	bind_to(fd, argv[1], ETH_P_ALL);
	begin(argv[2]);
	while (!stopped) {
		ssize_t length = recv(fd, frame, sizeof(frame), 0);

		if (length < 42 || frame[12] != 8 || frame[13] != 0 || frame[23] != IPPROTO_ICMP || frame[34] != 8)
			continue;
		swap(frame, frame + 6, 6);
		swap(frame + 26, frame + 30, 4);
		/* Type 8 becomes 0; the checksum grows by as much (RFC 1624). */
		frame[34] = 0;
		uint32_t sum = ntohs(*(uint16_t *)(frame + 36)) + 0x0800;
		*(uint16_t *)(frame + 36) = htons(sum + (sum >> 16));
		answered += send(fd, frame, length, 0) == length;
	}
	printf("{\"tx\": %lu}\n", answered);
	return 0;
}
