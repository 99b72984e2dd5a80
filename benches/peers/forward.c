/* Forwards both ways with recvmmsg and sendmmsg: forward wait|spin INTERFACE CPU INTERFACE. */
#include "peer.h"

static struct messages m;

/* One burst; gives how many frames came. */
static int pass(int from, int to, uint64_t *forwarded)
{
	for (int i = 0; i < BURST; i++)
		m.part[i].iov_len = FRAME;
	int n = recvmmsg(from, m.header, BURST, MSG_DONTWAIT, NULL);

	if (n <= 0)
		return 0;
	for (int i = 0; i < n; i++)
		m.part[i].iov_len = m.header[i].msg_len;
	for (int done = 0; done < n && !stopped;) {
		int sent = sendmmsg(to, m.header + done, n - done, MSG_DONTWAIT);

		if (sent > 0) {
			done += sent;
			*forwarded += sent;
		} else if (errno != EAGAIN && errno != ENOBUFS && errno != EINTR) {
			fail("sendmmsg");
		}
	}
	return n;
}

int main(int argc, char **argv)
{
	uint64_t forwarded = 0;
	int fd[2];

	if (argc != 5) {
		fprintf(stderr, "forward wait|spin INTERFACE CPU INTERFACE\n");
		return 2;
	}
	int spin = strcmp(argv[1], "spin") == 0;

	for (int i = 0; i < 2; i++) {
		fd[i] = packet_socket();
		bind_to(fd[i], argv[2 + 2 * i], ETH_P_ALL);
	}
	struct pollfd pollers[] = {{.fd = fd[0], .events = POLLIN}, {.fd = fd[1], .events = POLLIN}};

	prepare(&m);
	begin(argv[3]);
	while (!stopped)
		if (pass(fd[0], fd[1], &forwarded) + pass(fd[1], fd[0], &forwarded) == 0 && !spin)
			poll(pollers, 2, 100);
	printf("{\"tx\": %lu}\n", forwarded);
	return 0;
}
