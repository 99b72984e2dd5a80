/*
 * DPDK's rings and mempools, measured as benches/ring.rs and benches/mempool.rs measure ours: the same
 * work, sizes, pinning and statistics, and the same output lines. Built and run by benches/compare.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>

#define CHUNKS 41
#define OBJECTS 65536u
#define SLOTS 1024
#define SIZE 8192
#define MAX_BULK 128
#define CACHE 256

typedef void (*work_fn)(unsigned bulk);

static struct rte_ring *ring;
static struct rte_mempool *mbufs;
static struct rte_mempool *bare;
static int ready, done;

/* Keeps the compiler from looking through a pointer, as Rust's black_box does. */
static inline void *opaque(void *p)
{
	__asm__ volatile("" : "+r"(p) : : "memory");
	return p;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static double time_chunks(work_fn chunk, unsigned bulk)
{
	uint64_t each[CHUNKS];

	chunk(bulk);
	for (int i = 0; i < CHUNKS; i++) {
		uint64_t start = rte_rdtsc();
		chunk(bulk);
		each[i] = rte_rdtsc() - start;
	}
	qsort(each, CHUNKS, sizeof(each[0]), by_value);
	return (double)each[CHUNKS / 2] / OBJECTS;
}

static void report(const char *what, const char *how, const char *place, unsigned bulk,
		   const char *whose, double figure)
{
	printf("%-8s %-8s %-10s %4u %-10s %8.2f\n", what, how, place, bulk, whose, figure);
}

/* --- rings ------------------------------------------------------------------------------------- */

/* The mode is known at compile time, as it is in Rust. */
static __rte_noinline void push_and_pop_spsc(unsigned bulk)
{
	void *items[MAX_BULK] = {0}, *out[MAX_BULK];

	for (unsigned i = 0; i < OBJECTS / bulk; i++) {
		rte_ring_sp_enqueue_burst(ring, opaque(items), bulk, NULL);
		rte_ring_sc_dequeue_burst(ring, opaque(out), bulk, NULL);
	}
}

static __rte_noinline void push_and_pop_mpmc(unsigned bulk)
{
	void *items[MAX_BULK] = {0}, *out[MAX_BULK];

	for (unsigned i = 0; i < OBJECTS / bulk; i++) {
		rte_ring_mp_enqueue_burst(ring, opaque(items), bulk, NULL);
		rte_ring_mc_dequeue_burst(ring, opaque(out), bulk, NULL);
	}
}

static __rte_noinline void push_all_spsc(unsigned bulk)
{
	void *items[MAX_BULK] = {0};
	unsigned left = OBJECTS;

	while (left > 0)
		left -= rte_ring_sp_enqueue_burst(ring, opaque(items), RTE_MIN(bulk, left), NULL);
}

static __rte_noinline void pop_all_spsc(unsigned bulk)
{
	void *out[MAX_BULK];
	unsigned left = OBJECTS;

	while (left > 0)
		left -= rte_ring_sc_dequeue_burst(ring, opaque(out), RTE_MIN(bulk, left), NULL);
}

static __rte_noinline void push_all_mpmc(unsigned bulk)
{
	void *items[MAX_BULK] = {0};
	unsigned left = OBJECTS;

	while (left > 0)
		left -= rte_ring_mp_enqueue_burst(ring, opaque(items), RTE_MIN(bulk, left), NULL);
}

static __rte_noinline void pop_all_mpmc(unsigned bulk)
{
	void *out[MAX_BULK];
	unsigned left = OBJECTS;

	while (left > 0)
		left -= rte_ring_mc_dequeue_burst(ring, opaque(out), RTE_MIN(bulk, left), NULL);
}

/* --- mempools ---------------------------------------------------------------------------------- */

static __rte_noinline void alloc_free(unsigned bulk)
{
	struct rte_mbuf *burst[MAX_BULK];

	for (unsigned i = 0; i < OBJECTS / bulk; i++) {
		if (rte_pktmbuf_alloc_bulk(mbufs, opaque(burst), bulk) == 0)
			rte_pktmbuf_free_bulk(opaque(burst), bulk);
	}
}

static __rte_noinline void alloc_receive_free(unsigned bulk)
{
	struct rte_mbuf *burst[MAX_BULK];

	for (unsigned i = 0; i < OBJECTS / bulk; i++) {
		if (rte_pktmbuf_alloc_bulk(mbufs, opaque(burst), bulk) != 0)
			continue;
		for (unsigned j = 0; j < bulk; j++) {
			burst[j]->data_len = 60;
			burst[j]->pkt_len = 60;
			burst[j]->port = 0;
		}
		rte_pktmbuf_free_bulk(opaque(burst), bulk);
	}
}

static __rte_noinline void get_put(unsigned bulk)
{
	void *burst[MAX_BULK];

	for (unsigned i = 0; i < OBJECTS / bulk; i++) {
		if (rte_mempool_get_bulk(bare, opaque(burst), bulk) == 0)
			rte_mempool_put_bulk(bare, opaque(burst), bulk);
	}
}

static __rte_noinline void hand_over(unsigned bulk)
{
	struct rte_mbuf *burst[MAX_BULK];
	unsigned left = OBJECTS;

	while (left > 0) {
		unsigned n = RTE_MIN(bulk, left), done = 0;

		if (rte_pktmbuf_alloc_bulk(mbufs, burst, n) != 0)
			continue;
		while (done < n)
			done += rte_ring_sp_enqueue_burst(ring, (void **)&burst[done], n - done, NULL);
		left -= n;
	}
}

static __rte_noinline void take_over(unsigned bulk)
{
	struct rte_mbuf *burst[MAX_BULK];
	unsigned left = OBJECTS;

	while (left > 0) {
		unsigned n = rte_ring_sc_dequeue_burst(ring, (void **)burst,
						       RTE_MIN(bulk, left), NULL);

		if (n > 0)
			rte_pktmbuf_free_bulk(burst, n);
		left -= n;
	}
}

static __rte_noinline void hand_over_bare(unsigned bulk)
{
	void *burst[MAX_BULK];
	unsigned left = OBJECTS;

	while (left > 0) {
		unsigned n = RTE_MIN(bulk, left), done = 0;

		if (rte_mempool_get_bulk(bare, burst, n) != 0)
			continue;
		while (done < n)
			done += rte_ring_sp_enqueue_burst(ring, &burst[done], n - done, NULL);
		left -= n;
	}
}

static __rte_noinline void take_over_bare(unsigned bulk)
{
	void *burst[MAX_BULK];
	unsigned left = OBJECTS;

	while (left > 0) {
		unsigned n = rte_ring_sc_dequeue_burst(ring, burst, RTE_MIN(bulk, left), NULL);

		if (n > 0)
			rte_mempool_put_bulk(bare, burst, n);
		left -= n;
	}
}

/* --- two cores --------------------------------------------------------------------------------- */

struct second {
	work_fn work;
	unsigned bulk;
	double figure;
};

static void meet(void)
{
	__atomic_add_fetch(&ready, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&ready, __ATOMIC_ACQUIRE) < 2)
		;
}

static int second_main(void *arg)
{
	struct second *second = arg;

	meet();
	second->figure = time_chunks(second->work, second->bulk);
	__atomic_store_n(&done, 1, __ATOMIC_RELEASE);
	return 0;
}

/* If the two do not wait for one another, the first goes on until the second is done: `endless`. */
static double time_across(work_fn first, work_fn second, unsigned bulk, bool endless)
{
	struct second other = { .work = second, .bulk = bulk };
	unsigned lcore = rte_get_next_lcore(-1, 1, 0);

	ready = done = 0;
	rte_eal_remote_launch(second_main, &other, lcore);
	meet();
	for (int i = 0; endless ? !__atomic_load_n(&done, __ATOMIC_ACQUIRE) : i <= CHUNKS; i++)
		first(bulk);
	rte_eal_mp_wait_lcore();
	return other.figure;
}

static struct rte_ring *new_ring(unsigned flags)
{
	static int number;
	char name[32];
	struct rte_ring *r;

	snprintf(name, sizeof(name), "ring%d", number++);
	r = rte_ring_create(name, SLOTS, SOCKET_ID_ANY, flags);
	if (r == NULL) {
		fprintf(stderr, "ring: %s\n", rte_strerror(rte_errno));
		exit(1);
	}
	return r;
}

int main(int argc, char **argv)
{
	static const unsigned bulks[] = { 1, 8, 32, 128 };
	const unsigned spsc = RING_F_SP_ENQ | RING_F_SC_DEQ;
	struct rte_ring *single, *multi;
	bool across;

	if (rte_eal_init(argc, argv) < 0) {
		fprintf(stderr, "EAL: %s\n", rte_strerror(rte_errno));
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	across = rte_lcore_count() > 1;
	single = new_ring(spsc);
	multi = new_ring(0);
	mbufs = rte_pktmbuf_pool_create("mbufs", SIZE, CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
					SOCKET_ID_ANY);
	bare = rte_mempool_create("bare", SIZE, 128 + RTE_MBUF_DEFAULT_BUF_SIZE, CACHE, 0, NULL, NULL,
				  NULL, NULL, SOCKET_ID_ANY, 0);
	if (mbufs == NULL || bare == NULL) {
		fprintf(stderr, "mempool: %s\n", rte_strerror(rte_errno));
		return 1;
	}

	for (unsigned i = 0; i < RTE_DIM(bulks); i++) {
		unsigned n = bulks[i];

		ring = single;
		report("ring", "spsc", "one-core", n, "dpdk", time_chunks(push_and_pop_spsc, n));
		ring = multi;
		report("ring", "mpmc", "one-core", n, "dpdk", time_chunks(push_and_pop_mpmc, n));
		report("mempool", "mbuf", "one-core", n, "dpdk", time_chunks(alloc_free, n));
		report("mempool", "receive", "one-core", n, "dpdk", time_chunks(alloc_receive_free, n));
		report("mempool", "bare", "one-core", n, "dpdk", time_chunks(get_put, n));
	}
	for (unsigned i = 0; across && i < RTE_DIM(bulks); i++) {
		unsigned n = bulks[i];

		ring = single;
		report("ring", "spsc", "two-cores", n, "dpdk", time_across(push_all_spsc, pop_all_spsc, n, false));
		ring = multi;
		report("ring", "mpmc", "two-cores", n, "dpdk", time_across(push_all_mpmc, pop_all_mpmc, n, false));
		report("ring", "mpmc", "contended", n, "dpdk",
		       time_across(push_and_pop_mpmc, push_and_pop_mpmc, n, true));
		ring = single;
		report("mempool", "mbuf", "two-cores", n, "dpdk", time_across(hand_over, take_over, n, false));
		report("mempool", "bare", "two-cores", n, "dpdk",
		       time_across(hand_over_bare, take_over_bare, n, false));
	}
	rte_eal_cleanup();
	return 0;
}
