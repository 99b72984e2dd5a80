/* Ports and queues. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "shim.h"

/* --- what a port can do --------------------------------------------------------------------------- */

static const struct {
    uint32_t ours;
    uint64_t theirs;
} rx_bits[] = {
    { LC_RX_VLAN_STRIP, RTE_ETH_RX_OFFLOAD_VLAN_STRIP },
    { LC_RX_CKSUM, RTE_ETH_RX_OFFLOAD_CHECKSUM },
    { LC_RX_SCATTER, RTE_ETH_RX_OFFLOAD_SCATTER },
    { LC_RX_RSS_HASH, RTE_ETH_RX_OFFLOAD_RSS_HASH },
}, tx_bits[] = {
    { LC_TX_IPV4_CKSUM, RTE_ETH_TX_OFFLOAD_IPV4_CKSUM },
    { LC_TX_UDP_CKSUM, RTE_ETH_TX_OFFLOAD_UDP_CKSUM },
    { LC_TX_TCP_CKSUM, RTE_ETH_TX_OFFLOAD_TCP_CKSUM },
    { LC_TX_TCP_SEG, RTE_ETH_TX_OFFLOAD_TCP_TSO },
    { LC_TX_UDP_SEG, RTE_ETH_TX_OFFLOAD_UDP_TSO },
    { LC_TX_VLAN_INSERT, RTE_ETH_TX_OFFLOAD_VLAN_INSERT },
    { LC_TX_MULTI_SEGS, RTE_ETH_TX_OFFLOAD_MULTI_SEGS },
};

/* What RSS is to hash. */
#define HASHED (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_SCTP)

static uint16_t overhead_of(const struct rte_eth_dev_info *info)
{
    if (info->max_rx_pktlen != UINT32_MAX && info->max_mtu != UINT16_MAX && info->max_rx_pktlen > info->max_mtu)
        return (uint16_t)(info->max_rx_pktlen - info->max_mtu);
    return RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
}

int lc_port_info(uint16_t port, struct lc_port_info *out)
{
    struct rte_eth_dev_info info;
    struct rte_ether_addr mac;
    int result = rte_eth_dev_info_get(port, &info);
    if (result < 0)
        return result;
    memset(out, 0, sizeof *out);
    snprintf(out->driver, sizeof out->driver, "%s", info.driver_name != NULL ? info.driver_name : "");
    if (rte_eth_macaddr_get(port, &mac) == 0)
        memcpy(out->mac, mac.addr_bytes, 6);
    if (rte_eth_dev_get_mtu(port, &out->mtu) < 0 || out->mtu == 0)
        out->mtu = RTE_ETHER_MTU;
    out->max_mtu = info.max_mtu == 0 ? UINT16_MAX : info.max_mtu;
    out->overhead = overhead_of(&info);
    out->node = rte_eth_dev_socket_id(port);
    out->up = lc_port_link(port, &out->speed_mbps) == 1;
    out->max_queues = RTE_MIN(info.max_rx_queues, info.max_tx_queues);
    out->min_rx_buffer = info.min_rx_bufsize;
    for (size_t i = 0; i < RTE_DIM(rx_bits); i++)
        if ((info.rx_offload_capa & rx_bits[i].theirs) == rx_bits[i].theirs)
            out->offloads |= rx_bits[i].ours;
    for (size_t i = 0; i < RTE_DIM(tx_bits); i++)
        if (info.tx_offload_capa & tx_bits[i].theirs)
            out->offloads |= tx_bits[i].ours;
    out->rss = info.flow_type_rss_offloads != 0;
    out->rss_types = HASHED & info.flow_type_rss_offloads;
    out->reta_size = info.reta_size;
    out->key_len = info.hash_key_size;
    out->lsc = (*info.dev_flags & RTE_ETH_DEV_INTR_LSC) != 0;
    out->rmv = (*info.dev_flags & RTE_ETH_DEV_INTR_RMV) != 0;
    return 0;
}

int lc_port_configure(uint16_t port, const struct lc_port_config *config)
{
    struct rte_eth_conf conf;
    struct rte_eth_dev_info info;
    int result = rte_eth_dev_info_get(port, &info);
    if (result < 0)
        return result;
    memset(&conf, 0, sizeof conf);
    for (size_t i = 0; i < RTE_DIM(rx_bits); i++)
        if (config->offloads & rx_bits[i].ours)
            conf.rxmode.offloads |= rx_bits[i].theirs;
    for (size_t i = 0; i < RTE_DIM(tx_bits); i++)
        if (config->offloads & tx_bits[i].ours)
            conf.txmode.offloads |= tx_bits[i].theirs;
    conf.rxmode.mtu = config->mtu;
    if (config->rss) {
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_key = (uint8_t *)(uintptr_t)config->key;
        conf.rx_adv_conf.rss_conf.rss_key_len = config->key_len;
        conf.rx_adv_conf.rss_conf.rss_hf = HASHED & info.flow_type_rss_offloads;
    }
    conf.intr_conf.lsc = config->lsc;
    conf.intr_conf.rmv = config->rmv;
    conf.intr_conf.rxq = config->rx_interrupts;
    return rte_eth_dev_configure(port, config->queues, config->queues, &conf);
}

int lc_port_descriptors(uint16_t port, uint16_t *rx, uint16_t *tx)
{
    return rte_eth_dev_adjust_nb_rx_tx_desc(port, rx, tx);
}

int lc_port_rx_queue(uint16_t port, uint16_t queue, uint16_t descriptors, struct rte_mempool *pool)
{
    return rte_eth_rx_queue_setup(port, queue, descriptors, (unsigned int)rte_eth_dev_socket_id(port), NULL, pool);
}

int lc_port_tx_queue(uint16_t port, uint16_t queue, uint16_t descriptors)
{
    struct rte_eth_dev_info info;
    int result = rte_eth_dev_info_get(port, &info);
    if (result < 0)
        return result;
    struct rte_eth_txconf conf = info.default_txconf;
    /* This one is a promise that all mbufs are of one pool and nobody else's, which we cannot give. */
    conf.offloads = 0;
    return rte_eth_tx_queue_setup(port, queue, descriptors, (unsigned int)rte_eth_dev_socket_id(port), &conf);
}

int lc_port_spread(uint16_t port, uint16_t queues, uint16_t reta_size)
{
    struct rte_eth_rss_reta_entry64 table[RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE];
    if (reta_size > RTE_ETH_RSS_RETA_SIZE_512)
        return -ENOTSUP;
    memset(table, 0, sizeof table);
    for (uint16_t i = 0; i < reta_size; i++) {
        struct rte_eth_rss_reta_entry64 *group = &table[i / RTE_ETH_RETA_GROUP_SIZE];
        group->mask |= 1ULL << (i % RTE_ETH_RETA_GROUP_SIZE);
        group->reta[i % RTE_ETH_RETA_GROUP_SIZE] = i % queues;
    }
    return rte_eth_dev_rss_reta_update(port, table, reta_size);
}

/* --- life ------------------------------------------------------------------------------------------- */

int lc_probe(const char *devargs) { return rte_dev_probe(devargs); }

int lc_port_by_name(const char *name, uint16_t *port) { return rte_eth_dev_get_port_by_name(name, port); }

int lc_port_marks(uint16_t port)
{
    uint64_t metadata = RTE_ETH_RX_METADATA_USER_FLAG | RTE_ETH_RX_METADATA_USER_MARK;
    int result = rte_eth_rx_metadata_negotiate(port, &metadata);
    /* A driver that does not know the question needs no answer. */
    if (result == -ENOTSUP)
        return 1;
    return result < 0 ? result : (metadata & RTE_ETH_RX_METADATA_USER_MARK) != 0;
}

int lc_port_start(uint16_t port) { return rte_eth_dev_start(port); }

int lc_port_reset(uint16_t port) { return rte_eth_dev_reset(port); }

int lc_port_mtu(uint16_t port, uint16_t mtu) { return rte_eth_dev_set_mtu(port, mtu); }

int lc_port_promiscuous(uint16_t port, bool on)
{
    return on ? rte_eth_promiscuous_enable(port) : rte_eth_promiscuous_disable(port);
}

int lc_port_link(uint16_t port, uint32_t *speed_mbps)
{
    struct rte_eth_link link;
    int result = rte_eth_link_get_nowait(port, &link);
    if (result < 0)
        return result;
    *speed_mbps = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
    return link.link_status == RTE_ETH_LINK_UP;
}

int lc_port_stats(uint16_t port, struct lc_port_stats *out)
{
    struct rte_eth_stats stats;
    int result = rte_eth_stats_get(port, &stats);
    if (result < 0)
        return result;
    out->missed = stats.imissed;
    out->rx_errors = stats.ierrors;
    out->rx_no_mbuf = stats.rx_nombuf;
    out->tx_errors = stats.oerrors;
    return 0;
}

int lc_port_stats_clear(uint16_t port) { return rte_eth_stats_reset(port); }

int lc_port_xstat(uint16_t port, uint32_t index, char name[64], uint64_t *value)
{
    struct rte_eth_xstat_name names[1];
    uint64_t id = index;
    _Static_assert(RTE_ETH_XSTATS_NAME_SIZE == 64, "xstat name");
    if ((int)index >= rte_eth_xstats_get_names(port, NULL, 0) ||
        rte_eth_xstats_get_names_by_id(port, names, 1, &id) != 1)
        return -ENOENT;
    memcpy(name, names[0].name, 64);
    return rte_eth_xstats_get_by_id(port, &id, value, 1) == 1 ? 0 : -ENOENT;
}

/* DPDK calls back with its own numbers; these are not those of one release. */
struct listener {
    lc_event_fn event; /* NULL if nobody listens */
    void *argument;
};
/*
 * By port. DPDK keeps the callbacks of a port that somebody else closes and calls them for the next device with its
 * number, so whoever lets go of one says so here. The lock is held during a call.
 */
static struct listener listeners[RTE_MAX_ETHPORTS];
static pthread_mutex_t listening = PTHREAD_MUTEX_INITIALIZER;

static void tell(struct listener *listener, uint16_t port, int event)
{
    pthread_mutex_lock(&listening);
    if (listener->event != NULL)
        listener->event(port, event, listener->argument);
    pthread_mutex_unlock(&listening);
}

static int on_event(uint16_t port, enum rte_eth_event_type type, void *argument, void *result)
{
    (void)result;
    int event = type == RTE_ETH_EVENT_INTR_LSC     ? LC_EVENT_LINK
                : type == RTE_ETH_EVENT_INTR_RESET ? LC_EVENT_RESET
                : type == RTE_ETH_EVENT_INTR_RMV   ? LC_EVENT_REMOVED
                : type == RTE_ETH_EVENT_DESTROY    ? LC_EVENT_DESTROYED
                                                   : 0;
    if (event != 0)
        tell(argument, port, event);
    return 0;
}

static const enum rte_eth_event_type events[] = {
    RTE_ETH_EVENT_INTR_LSC,
    RTE_ETH_EVENT_INTR_RESET,
    RTE_ETH_EVENT_INTR_RMV,
    RTE_ETH_EVENT_DESTROY,
};

int lc_port_events(uint16_t port, lc_event_fn event, void *argument)
{
    if (port >= RTE_MAX_ETHPORTS)
        return -ENODEV;
    pthread_mutex_lock(&listening);
    listeners[port] = (struct listener){ .event = event, .argument = argument };
    pthread_mutex_unlock(&listening);
    for (size_t i = 0; i < RTE_DIM(events); i++) {
        int result = rte_eth_dev_callback_register(port, events[i], on_event, &listeners[port]);
        if (result < 0)
            return result;
    }
    return 0;
}

void lc_port_no_events(uint16_t port, void *argument)
{
    if (port >= RTE_MAX_ETHPORTS)
        return;
    pthread_mutex_lock(&listening);
    bool ours = listeners[port].argument == argument;
    if (ours)
        listeners[port] = (struct listener){ .event = NULL };
    pthread_mutex_unlock(&listening);
    for (size_t i = 0; ours && i < RTE_DIM(events); i++)
        /* A callback that runs at this moment makes it try again. */
        while (rte_eth_dev_callback_unregister(port, events[i], on_event, &listeners[port]) == -EAGAIN)
            ;
}

bool lc_port_raise(uint16_t port, int event, const void *argument)
{
    if (port >= RTE_MAX_ETHPORTS || listeners[port].argument != argument)
        return false;
    tell(&listeners[port], port, event);
    return true;
}

/* --- queues ------------------------------------------------------------------------------------------- */

void lc_paths(uint16_t port, struct lc_path *rx, struct lc_path *tx)
{
    const struct rte_eth_fp_ops *ops = &rte_eth_fp_ops[port];
    *rx = (struct lc_path){
        .burst = (const lc_burst_fn *)&ops->rx_pkt_burst,
        .queues = (void *const *const *)&ops->rxq.data,
        .callbacks = (void *const *const *)&ops->rxq.clbk,
    };
    *tx = (struct lc_path){
        .burst = (const lc_burst_fn *)&ops->tx_pkt_burst,
        .queues = (void *const *const *)&ops->txq.data,
        .callbacks = (void *const *const *)&ops->txq.clbk,
    };
}

uint16_t lc_rx_burst(uint16_t port, uint16_t queue, void **mbufs, uint16_t n)
{
    return rte_eth_rx_burst(port, queue, (struct rte_mbuf **)mbufs, n);
}

uint16_t lc_tx_burst(uint16_t port, uint16_t queue, void **mbufs, uint16_t n)
{
    return rte_eth_tx_burst(port, queue, (struct rte_mbuf **)mbufs, n);
}

uint16_t lc_tx_prepare(uint16_t port, uint16_t queue, void **mbufs, uint16_t n)
{
    return rte_eth_tx_prepare(port, queue, (struct rte_mbuf **)mbufs, n);
}

void lc_tx_done(uint16_t port, uint16_t queue) { (void)rte_eth_tx_done_cleanup(port, queue, 0); }

int lc_rx_fd(uint16_t port, uint16_t queue) { return rte_eth_dev_rx_intr_ctl_q_get_fd(port, queue); }

int lc_rx_interrupt(uint16_t port, uint16_t queue, bool on)
{
    return on ? rte_eth_dev_rx_intr_enable(port, queue) : rte_eth_dev_rx_intr_disable(port, queue);
}

int lc_rx_waiting(uint16_t port, uint16_t queue) { return rte_eth_rx_queue_count(port, queue); }
