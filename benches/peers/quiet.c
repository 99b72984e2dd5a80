/* Whether the machine is quiet: quiet CPU CPU. Nanoseconds for a cache line to go from one core to the
 * other, the median of many trips, and the rate of the time stamp counter. */
#include "peer.h"
#include <pthread.h>

#define ROUNDS 51
#define TRIPS 1000

static _Atomic uint64_t line __attribute__((aligned(128)));
static double round_ns[ROUNDS];

static void volley(const char *cpu, uint64_t mine)
{
	pin(cpu);
	for (uint64_t round = 0; round < ROUNDS; round++) {
		uint64_t start = now_ns();

		for (uint64_t trip = round * TRIPS + mine; trip < (round + 1) * TRIPS; trip += 2) {
			while (line != trip)
				_mm_pause();
			line = trip + 1;
		}
		if (mine == 0)
			round_ns[round] = (double)(now_ns() - start) / TRIPS;
	}
}

static void *other(void *cpu)
{
	volley(cpu, 1);
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	pthread_t thread;
	uint64_t start = now_ns(), cycles = __rdtsc();

	if (argc != 3 || pthread_create(&thread, NULL, other, argv[2]) != 0)
		return 2;
	volley(argv[1], 0);
	pthread_join(thread, NULL);
	qsort(round_ns, ROUNDS, sizeof(round_ns[0]), by_value);
	while (now_ns() - start < 50000000)
		_mm_pause();
	cycles = __rdtsc() - cycles;
	printf("{\"ns\": %.1f, \"tsc_hz\": %.0f}\n", round_ns[ROUNDS / 2], cycles * 1e9 / (now_ns() - start));
	return 0;
}
