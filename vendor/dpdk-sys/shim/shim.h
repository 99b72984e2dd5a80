/*
 * What Linecard uses of DPDK, with structures of its own: everything whose layout or name differs between
 * releases stays on the other side. DPDK's inline functions become functions here; for the two that carry every burst
 * there is a shorter way (`lc_paths`).
 *
 * Results are 0 or more on success and a negative errno on failure, unless said otherwise.
 */
#ifndef LINECARD_DPDK_SHIM_H
#define LINECARD_DPDK_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rte_mempool;

/* --- EAL ------------------------------------------------------------------------------------------ */

/* Levels as syslog has them, plus one. */
#define LC_LOG_ERROR 4
#define LC_LOG_WARNING 5
#define LC_LOG_INFO 7

const char *lc_version(void);
/* Major × 100 + minor of the library that is loaded; of the headers that this was built with. */
int lc_version_number(void);
int lc_version_built(void);
const char *lc_plugin_dir(void);

/* Sends every message of DPDK to `line`, with its level. */
int lc_log_to(void (*line)(uint32_t level, const char *text, size_t len));
int lc_eal_init(int argc, char **argv);
bool lc_iova_is_va(void);
const char *lc_runtime_dir(void);
/* Reserves, for us, the words and flag bits of the mbuf that are the application's to name. */
int lc_reserve_mbuf_words(void);

/* The calling thread becomes an lcore, so that mempool caches serve it. */
int lc_thread_register(void);
void lc_thread_unregister(void);
/* UINT32_MAX for a thread that is none. */
uint32_t lc_lcore(void);

/* --- memory and pools ------------------------------------------------------------------------------ */

typedef bool (*lc_take_fn)(void *pool_data, void **headers, uint32_t n);
typedef void (*lc_give_fn)(void *pool_data, void *const *headers, uint32_t n);
typedef uint32_t (*lc_count_fn)(void *pool_data);

int lc_pool_ops(lc_take_fn take, lc_give_fn give, lc_count_fn count);

/* A pool as it lies in memory. */
struct lc_pool_layout {
    void *pool_data;    /* given to the functions above */
    void *base;         /* of its memory */
    size_t len;
    void *const *headers; /* `count` of them; before each there are 64 bytes that are DPDK's */
    uint32_t count;
    uint16_t buf_len;   /* headroom and data room */
    int32_t node;       /* -1 for any */
    uint32_t cache;
};

/* NULL on failure, with the negative errno in `*error`. */
struct rte_mempool *lc_pool_new(const char *name, const struct lc_pool_layout *layout, int *error);
void lc_pool_free(struct rte_mempool *pool);
/* Gives back what the cache of an lcore holds; that lcore must not use it meanwhile. */
void lc_pool_flush(struct rte_mempool *pool, uint32_t lcore);
/* The same for the calling thread. */
void lc_pool_flush_own(struct rte_mempool *pool);
uint32_t lc_max_lcores(void);

/* Memory of DPDK's own, zeroed, at a multiple of `align`; its pages are `*page` bytes. NULL if there is none. */
void *lc_memory_new(size_t len, size_t align, int32_t node, size_t *page);
void lc_memory_free(void *base);
int lc_memory_register(void *base, size_t len, size_t page);
int lc_memory_unregister(void *base, size_t len);
int lc_dma_map(uint16_t port, void *base, size_t len);
int lc_dma_unmap(uint16_t port, void *base, size_t len);

/* --- ports ------------------------------------------------------------------------------------------ */

/* Bits of `rx` and `tx` below. Their numbers are Linecard's own. */
#define LC_RX_VLAN_STRIP (1u << 0)
#define LC_RX_CKSUM (1u << 1)
#define LC_RX_SCATTER (1u << 4)
#define LC_RX_RSS_HASH (1u << 5)
#define LC_TX_IPV4_CKSUM (1u << 8)
#define LC_TX_UDP_CKSUM (1u << 9)
#define LC_TX_TCP_CKSUM (1u << 10)
#define LC_TX_TCP_SEG (1u << 11)
#define LC_TX_UDP_SEG (1u << 12)
#define LC_TX_VLAN_INSERT (1u << 13)
#define LC_TX_MULTI_SEGS (1u << 14)

struct lc_port_info {
    char driver[64];
    uint8_t mac[6];
    uint16_t mtu;
    uint16_t max_mtu;
    uint16_t overhead;          /* bytes that layer 2 adds to the MTU, FCS included */
    int32_t node;               /* -1 if there is none */
    uint32_t speed_mbps;        /* 0 if not known */
    bool up;
    uint16_t max_queues;
    uint32_t min_rx_buffer;
    uint32_t offloads;          /* of the bits above */
    bool rss;
    uint16_t reta_size;
    uint8_t key_len;
    uint64_t rss_types;         /* what of a frame it can hash, of what we ask for */
    bool lsc, rmv;              /* link and removal events */
};

struct lc_port_config {
    uint16_t queues;
    uint16_t mtu;
    uint32_t offloads;
    bool rss;
    const uint8_t *key;
    uint8_t key_len;
    bool lsc, rmv, rx_interrupts;
};

struct lc_port_stats {
    uint64_t missed, rx_errors, rx_no_mbuf, tx_errors;
};

#define LC_EVENT_LINK 1
#define LC_EVENT_RESET 2
#define LC_EVENT_REMOVED 3
/* The port is no more: its number may be another's from now on. */
#define LC_EVENT_DESTROYED 4
typedef void (*lc_event_fn)(uint16_t port, int event, void *argument);

/* `devargs` is NAME[,KEY=VALUE…] */
int lc_probe(const char *devargs);
/* The port of a device that was probed. */
int lc_port_by_name(const char *name, uint16_t *port);
/* Asks for the marks of flow rules, which some drivers deliver only if that was agreed before they are first
   configured. 0 if the driver says that it will not. */
int lc_port_marks(uint16_t port);
/* Closes the port and removes its device. */
int lc_port_close(uint16_t port);
int lc_port_info(uint16_t port, struct lc_port_info *info);
int lc_port_configure(uint16_t port, const struct lc_port_config *config);
/* The numbers of descriptors that the device can have. */
int lc_port_descriptors(uint16_t port, uint16_t *rx, uint16_t *tx);
int lc_port_rx_queue(uint16_t port, uint16_t queue, uint16_t descriptors, struct rte_mempool *pool);
int lc_port_tx_queue(uint16_t port, uint16_t queue, uint16_t descriptors);
int lc_port_spread(uint16_t port, uint16_t queues, uint16_t reta_size);
int lc_port_start(uint16_t port);
int lc_port_stop(uint16_t port);
int lc_port_reset(uint16_t port);
int lc_port_mtu(uint16_t port, uint16_t mtu);
int lc_port_promiscuous(uint16_t port, bool on);
/* 1 if it is up, 0 if not. */
int lc_port_link(uint16_t port, uint32_t *speed_mbps);
int lc_port_stats(uint16_t port, struct lc_port_stats *stats);
int lc_port_stats_clear(uint16_t port);
/* Extended statistics: name and value of number `index`; -ENOENT behind the last. */
int lc_port_xstat(uint16_t port, uint32_t index, char name[64], uint64_t *value);
int lc_port_events(uint16_t port, lc_event_fn event, void *argument);
/* Ends that; does nothing to the listener of another device that has taken over the number. */
void lc_port_no_events(uint16_t port, void *argument);
/* For tests: what a device would say to this listener. Whether it listens. */
bool lc_port_raise(uint16_t port, int event, const void *argument);

/* --- flow rules ----------------------------------------------------------------------------------------- */

struct rte_flow;

#define LC_FLOW_DROP 1
#define LC_FLOW_QUEUE 2
#define LC_FLOW_RSS 3
/* Marked, and then received as usual: said as PASSTHRU or as RSS over all queues. */
#define LC_FLOW_MARK_PASS 4
#define LC_FLOW_MARK_RSS 5

/* A mask of 0 compares nothing. */
struct lc_flow_ports {
    uint16_t first, last, mask;
};

/* One rule, flat. Addresses and masks are in network order, numbers in the host's. */
struct lc_flow_rule {
    uint32_t priority;
    bool has_ether_type, has_vlan, has_addresses, has_protocol, count;
    uint16_t ether_type;
    uint16_t vlan;
    uint8_t ip;         /* 0, 4 or 6 */
    uint8_t protocol;   /* as the IP header names it */
    uint8_t l4;         /* 0, or the number of TCP, UDP or SCTP: a header of its own */
    uint8_t src[16], src_mask[16], dst[16], dst_mask[16];
    struct lc_flow_ports src_port, dst_port;
    uint8_t action;
    uint32_t value;     /* queue or mark */
    const uint16_t *queues;
    uint32_t queue_count;
    const uint8_t *key;
    uint32_t key_len;
    uint64_t rss_types;
};

/* The driver's own words, and the item, action or attribute that they are about. */
struct lc_flow_error {
    char message[192];
    char about[16];
};

int lc_flow_validate(uint16_t port, const struct lc_flow_rule *rule, struct lc_flow_error *error);
int lc_flow_create(uint16_t port, const struct lc_flow_rule *rule, struct rte_flow **flow,
                   struct lc_flow_error *error);
int lc_flow_destroy(uint16_t port, struct rte_flow *flow, struct lc_flow_error *error);
/* 1 if the rule has counted, 0 if the driver does not say. */
int lc_flow_query(uint16_t port, struct rte_flow *flow, uint64_t *packets, uint64_t *bytes,
                  struct lc_flow_error *error);
/* For tests: the items, byte by byte, and the actions that a rule becomes. */
int lc_flow_describe(const struct lc_flow_rule *rule, char *text, size_t len);

/* --- queues: the packet's path ----------------------------------------------------------------------- */

/*
 * Where DPDK keeps what rte_eth_rx_burst and rte_eth_tx_burst look up for each burst of a port: the driver's function,
 * its queues and their callbacks, by number. The places stay; what is in them changes when the port is started,
 * stopped or reset, and some drivers change it while they run. With it who has a burst need not call a function of the shim's
 * between its own and the driver's, unless the queue has callbacks, which only lc_rx_burst and lc_tx_burst carry out.
 */
typedef uint16_t (*lc_burst_fn)(void *queue, void **mbufs, uint16_t n);
struct lc_path {
    const lc_burst_fn *burst;
    void *const *const *queues;
    void *const *const *callbacks;
};
void lc_paths(uint16_t port, struct lc_path *rx, struct lc_path *tx);

uint16_t lc_rx_burst(uint16_t port, uint16_t queue, void **mbufs, uint16_t n);
uint16_t lc_tx_burst(uint16_t port, uint16_t queue, void **mbufs, uint16_t n);
/* How many of the first can be sent; the next one cannot if that is fewer. */
uint16_t lc_tx_prepare(uint16_t port, uint16_t queue, void **mbufs, uint16_t n);
/* Frees what was sent, as far as the driver does so on demand. */
void lc_tx_done(uint16_t port, uint16_t queue);
/* File descriptor for waiting. */
int lc_rx_fd(uint16_t port, uint16_t queue);
int lc_rx_interrupt(uint16_t port, uint16_t queue, bool on);
int lc_rx_waiting(uint16_t port, uint16_t queue);

#endif
