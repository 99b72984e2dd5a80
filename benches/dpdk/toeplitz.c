/*
 * DPDK's Toeplitz hashes, measured as benches/toeplitz.rs measures ours: the same tuples under the same
 * key, with the same pinning and statistics, and the same output lines. Built and run by benches/flows with
 * -march=native: with the flags of the distribution's package (-march=corei7) rte_thash_gfni() is empty and
 * gives 0.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALLOW_EXPERIMENTAL_API
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_thash.h>

#define CHUNKS 1001
#define TUPLES 2048
#define BURST 32

static const uint8_t rss_key[40] = {
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
	0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
	0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
	0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};

/* Addresses and ports in network byte order, at a distance of 64 bytes. */
static uint8_t tuples[TUPLES][64] __attribute__((aligned(64)));
static uint8_t *pointers[TUPLES];
static uint32_t hashes[TUPLES];
static uint32_t converted_key[10];
static uint64_t matrices[40];
static volatile uint32_t sink;

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static void fill(uint64_t *random)
{
	for (unsigned i = 0; i < TUPLES; i++)
		for (unsigned j = 0; j < 40; j += 8) {
			*random = mix(*random);
			memcpy(&tuples[i][j], random, 8);
		}
}

/* It takes words in the machine's byte order, so they are turned round on the way, as an application has to. */
static __rte_noinline void softrss(unsigned len)
{
	for (unsigned i = 0; i < TUPLES; i++) {
		uint32_t words[9];

		for (unsigned j = 0; j < len / 4; j++)
			words[j] = rte_be_to_cpu_32(((const uint32_t *)tuples[i])[j]);
		hashes[i] = rte_softrss_be(words, len / 4, (const uint8_t *)converted_key);
	}
}

#ifdef RTE_THASH_GFNI_DEFINED
static __rte_noinline void gfni(unsigned len)
{
	for (unsigned i = 0; i < TUPLES; i++)
		hashes[i] = rte_thash_gfni(matrices, tuples[i], len);
}

static __rte_noinline void gfni_bulk(unsigned len)
{
	for (unsigned i = 0; i < TUPLES; i += BURST)
		rte_thash_gfni_bulk(matrices, len, &pointers[i], &hashes[i], BURST);
}

/* The length is known when it is compiled: the loops within are unrolled. */
static __rte_noinline void gfni_bulk_known(unsigned len)
{
	for (unsigned i = 0; i < TUPLES; i += BURST)
		if (len == 12)
			rte_thash_gfni_bulk(matrices, 12, &pointers[i], &hashes[i], BURST);
		else
			rte_thash_gfni_bulk(matrices, 36, &pointers[i], &hashes[i], BURST);
}
#endif

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void measure(const char *whose, unsigned len, void (*work)(unsigned))
{
	static uint64_t each[CHUNKS];
	uint64_t random = 1;
	uint32_t sum = 0;

	for (int i = -20; i < CHUNKS; i++) {
		uint64_t start;

		fill(&random);
		start = rte_rdtsc();
		work(len);
		each[i < 0 ? 0 : i] = rte_rdtsc() - start;
		for (unsigned j = 0; j < TUPLES; j++)
			sum = sum * 31 + hashes[j];
	}
	qsort(each, CHUNKS, sizeof(each[0]), by_value);
	printf("toeplitz %-8s %-12s %8.2f %08x\n", len == 12 ? "ipv4" : "ipv6", whose,
	       (double)each[CHUNKS / 2] / TUPLES, sum);
}

int main(int argc, char **argv)
{
	if (rte_eal_init(argc, argv) < 0)
		return 1;
	rte_convert_rss_key((const uint32_t *)rss_key, converted_key, sizeof(rss_key));
	for (unsigned i = 0; i < TUPLES; i++)
		pointers[i] = tuples[i];
	for (unsigned len = 12; len <= 36; len += 24) {
		measure("softrss", len, softrss);
#ifdef RTE_THASH_GFNI_DEFINED
		/* Not rte_thash_gfni_supported(): in a library without GFNI that is 0, whatever the cpu has. */
		if (__builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx512vbmi")) {
			rte_thash_complete_matrix(matrices, rss_key, sizeof(rss_key));
			measure("gfni", len, gfni);
			measure("gfni-bulk", len, gfni_bulk);
			measure("gfni-known", len, gfni_bulk_known);
		}
#endif
	}
	rte_eal_cleanup();
	return 0;
}
