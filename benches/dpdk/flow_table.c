/*
 * DPDK's rte_hash, measured as benches/flow_table.rs measures our flow table: the same keys in the same order,
 * the same bursts, pinning and statistics, and the same output lines. Built and run by benches/flows.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>

#define CHUNKS 1001
#define OBJECTS 2048
#define BURST 32
/* Keys from here on are never put into a table. */
#define MISSING (1ull << 40)

/* linecard_wire::FlowKey, byte by byte; `pad` is for the size that rte_hash compares without memcmp(). */
struct key {
	uint8_t src[16], dst[16];
	uint16_t src_port, dst_port;
	uint8_t protocol, version, fragment, zero;
	uint8_t pad[8];
};

static const unsigned sizes[] = { 1, 10000, 1000000 };
/* Keys out of 256 that are not in the table. */
static const struct {
	const char *name;
	unsigned missing;
} mixes[] = { { "hits", 0 }, { "some", 32 }, { "none", 256 } };

static struct key keys[OBJECTS];
static const void *pointers[OBJECTS];
static volatile uint64_t sink;

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static struct key nth_key(uint64_t i)
{
	uint64_t addresses = mix(i), ports = mix(~i);
	struct key key = { .protocol = 17, .version = 4 };

	memcpy(key.src, &addresses, 4);
	memcpy(key.dst, (uint8_t *)&addresses + 4, 4);
	key.src_port = ports;
	key.dst_port = ports >> 16;
	return key;
}

static void fill_keys(uint64_t *random, unsigned flows, unsigned missing)
{
	for (unsigned i = 0; i < OBJECTS; i++) {
		uint64_t r = *random = mix(*random), n = (r >> 32) % flows;

		keys[i] = nth_key((r & 255) < missing ? MISSING + n : n);
	}
}

static __rte_noinline uint64_t look_up(struct rte_hash *table)
{
	int32_t found[BURST];
	uint64_t sum = 0;

	for (unsigned i = 0; i < OBJECTS; i += BURST) {
		rte_hash_lookup_bulk(table, &pointers[i], BURST, found);
		for (unsigned j = 0; j < BURST; j++)
			sum += found[j] >= 0;
	}
	return sum;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void measure(struct rte_hash *table, unsigned flows, unsigned m, const char *whose)
{
	static uint64_t each[CHUNKS];
	uint64_t random = 1;

	for (int i = -20; i < CHUNKS; i++) {
		uint64_t start;

		fill_keys(&random, flows, mixes[m].missing);
		start = rte_rdtsc();
		sink += look_up(table);
		each[i < 0 ? 0 : i] = rte_rdtsc() - start;
	}
	qsort(each, CHUNKS, sizeof(each[0]), by_value);
	printf("%-8s %7u %-8s %8.2f\n", mixes[m].name, flows, whose, (double)each[CHUNKS / 2] / OBJECTS);
}

static struct rte_hash *new_table(unsigned flows, unsigned key_len)
{
	struct rte_hash_parameters parameters = {
		.name = "flows",
		/* As many buckets as our table has for so many flows. Each has eight places. */
		.entries = RTE_MAX(2u, rte_align32pow2((flows + 3) / 4)) * 8,
		.key_len = key_len,
		.hash_func = rte_hash_crc,
		.socket_id = SOCKET_ID_ANY,
	};
	struct rte_hash *table = rte_hash_create(&parameters);

	if (table == NULL) {
		fprintf(stderr, "hash: %s\n", rte_strerror(rte_errno));
		exit(1);
	}
	for (unsigned i = 0; i < flows; i++) {
		struct key key = nth_key(i);

		if (rte_hash_add_key_data(table, &key, (void *)(uintptr_t)i) != 0) {
			fprintf(stderr, "flow %u of %u does not fit\n", i, flows);
			exit(1);
		}
	}
	return table;
}

int main(int argc, char **argv)
{
	if (rte_eal_init(argc, argv) < 0) {
		fprintf(stderr, "EAL: %s\n", rte_strerror(rte_errno));
		return 1;
	}
	for (unsigned i = 0; i < OBJECTS; i++)
		pointers[i] = &keys[i];
	for (unsigned s = 0; s < RTE_DIM(sizes); s++) {
		for (unsigned key_len = 40; key_len <= 48; key_len += 8) {
			struct rte_hash *table = new_table(sizes[s], key_len);

			for (unsigned m = 0; m < RTE_DIM(mixes); m++)
				measure(table, sizes[s], m, key_len == 40 ? "dpdk" : "dpdk48");
			rte_hash_free(table);
		}
	}
	rte_eal_cleanup();
	return 0;
}
