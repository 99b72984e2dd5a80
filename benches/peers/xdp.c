/*
 * xdp send INTERFACE CPU SECONDS LENGTH: a source that outruns what it feeds. The kernel runs a program
 * of four instructions, bpf_redirect() to the interface, over and over (BPF_PROG_TEST_RUN with live
 * frames, Linux 5.18). A veth takes such frames if its peer has an XDP program: xdp pass INTERFACE.
 *
 * It is one call, which a signal ends: between two calls the kernel waits some 20 ms for its page pool to be taken apart.
 */
#include "peer.h"
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <sys/syscall.h>
#include <sys/time.h>

#define LIVE_FRAMES (1u << 1)

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

static int load(const struct bpf_insn *program, int count)
{
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_XDP,
		.insns = (uintptr_t)program,
		.insn_cnt = count,
		.license = (uintptr_t)"Dual MIT/GPL",
	};
	int fd = bpf(BPF_PROG_LOAD, &attr);

	check(fd, "BPF_PROG_LOAD");
	return fd;
}

static struct bpf_insn assign(int reg, int value)
{
	return (struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = reg, .imm = value};
}

static const struct bpf_insn leave = {.code = BPF_JMP | BPF_EXIT};

/* The link ends with this process. */
static int answer(const char *interface, const char *cpu, int verdict)
{
	struct bpf_insn program[] = {assign(BPF_REG_0, verdict), leave};
	union bpf_attr attr = {.link_create = {
				       .prog_fd = load(program, 2),
				       .target_ifindex = interface_index(interface),
				       .attach_type = BPF_XDP,
			       }};

	check(bpf(BPF_LINK_CREATE, &attr), "BPF_LINK_CREATE");
	begin(cpu);
	while (!stopped)
		pause();
	return 0;
}

static int transmit(const char *interface, const char *cpu, double seconds, int length)
{
	struct bpf_insn program[] = {
		assign(BPF_REG_1, interface_index(interface)),
		assign(BPF_REG_2, 0),
		{.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect},
		leave,
	};
	uint8_t frame[FRAME];
	union bpf_attr attr = {.test = {
				       .prog_fd = load(program, 4),
				       .data_in = (uintptr_t)frame,
				       .data_size_in = length,
				       .repeat = UINT32_MAX,
				       .flags = LIVE_FRAMES,
			       }};
	/* And again, should the first come between a look at `stopped` and the call. */
	struct itimerval end = {
		.it_value = {.tv_sec = (time_t)seconds, .tv_usec = (seconds - (time_t)seconds) * 1e6},
		.it_interval = {.tv_usec = 10000},
	};

	udp_frame(frame, length);
	begin(cpu);
	signal(SIGALRM, stop);
	check(setitimer(ITIMER_REAL, &end, NULL), "setitimer");
	uint64_t start = now_ns();

	while (!stopped)
		if (bpf(BPF_PROG_TEST_RUN, &attr) < 0 && errno != EINTR)
			fail("BPF_PROG_TEST_RUN");
	printf("{\"seconds\": %.6f}\n", (now_ns() - start) / 1e9);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "send") == 0)
		return transmit(argv[2], argv[3], atof(argv[4]), atoi(argv[5]));
	if (argc == 4 && strcmp(argv[1], "pass") == 0)
		return answer(argv[2], argv[3], XDP_PASS);
	if (argc == 4 && strcmp(argv[1], "drop") == 0)
		return answer(argv[2], argv[3], XDP_DROP);
	fprintf(stderr, "xdp send INTERFACE CPU SECONDS LENGTH | xdp pass|drop INTERFACE CPU\n");
	return 2;
}
