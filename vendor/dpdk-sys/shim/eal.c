/* EAL: start, log, threads; and the layout of the mbuf, compared with the one that Linecard has. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_build_config.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <rte_mempool.h>
#include <rte_version.h>

#include "shim.h"

/* As in src/hal/src/mbuf/raw.rs. */
#define AT(field, offset) _Static_assert(offsetof(struct rte_mbuf, field) == (offset), "rte_mbuf." #field)
AT(buf_addr, 0);
AT(buf_iova, 8);
AT(data_off, 16);
AT(refcnt, 18);
AT(nb_segs, 20);
AT(port, 22);
AT(ol_flags, 24);
AT(packet_type, 32);
AT(pkt_len, 36);
AT(data_len, 40);
AT(vlan_tci, 42);
AT(hash.rss, 44);
AT(hash.fdir.hi, 48);
AT(vlan_tci_outer, 52);
AT(buf_len, 54);
AT(pool, 56);
AT(next, 64);
AT(tx_offload, 72);
AT(shinfo, 80);
AT(priv_size, 88);
AT(timesync, 90);
AT(dynfield1, 92);
_Static_assert(sizeof(struct rte_mbuf) == 128, "rte_mbuf");
_Static_assert(offsetof(struct rte_mbuf_ext_shared_info, free_cb) == 0, "shared info");
_Static_assert(offsetof(struct rte_mbuf_ext_shared_info, fcb_opaque) == 8, "shared info");
_Static_assert(offsetof(struct rte_mbuf_ext_shared_info, refcnt) == 16, "shared info");
/* As in src/hal/src/mempool/adopt.rs. */
_Static_assert(offsetof(struct rte_mempool, pool_data) == 32, "rte_mempool.pool_data");
_Static_assert(sizeof(struct rte_mempool_objhdr) <= 64, "rte_mempool_objhdr");

/* As in src/hal/src/offload.rs. */
#define FLAG(name, value) _Static_assert(RTE_MBUF_F_##name == (value), #name)
FLAG(RX_VLAN, 1ULL << 0);
FLAG(RX_RSS_HASH, 1ULL << 1);
FLAG(RX_FDIR, 1ULL << 2);
FLAG(RX_L4_CKSUM_BAD, 1ULL << 3);
FLAG(RX_IP_CKSUM_BAD, 1ULL << 4);
FLAG(RX_VLAN_STRIPPED, 1ULL << 6);
FLAG(RX_IP_CKSUM_GOOD, 1ULL << 7);
FLAG(RX_L4_CKSUM_GOOD, 1ULL << 8);
FLAG(RX_FDIR_ID, 1ULL << 13);
FLAG(RX_QINQ_STRIPPED, 1ULL << 15);
FLAG(RX_LRO, 1ULL << 16);
FLAG(RX_QINQ, 1ULL << 20);
FLAG(TX_UDP_SEG, 1ULL << 42);
FLAG(TX_QINQ, 1ULL << 49);
FLAG(TX_TCP_SEG, 1ULL << 50);
FLAG(TX_TCP_CKSUM, 1ULL << 52);
FLAG(TX_UDP_CKSUM, 3ULL << 52);
FLAG(TX_IP_CKSUM, 1ULL << 54);
FLAG(TX_IPV4, 1ULL << 55);
FLAG(TX_IPV6, 1ULL << 56);
FLAG(TX_VLAN, 1ULL << 57);
_Static_assert(RTE_MBUF_F_EXTERNAL == 1ULL << 61, "EXTERNAL");
_Static_assert(RTE_MBUF_F_INDIRECT == 1ULL << 62, "INDIRECT");

#if RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0)
#error "DPDK 22.11 or later is needed"
#endif

const char *lc_version(void) { return rte_version(); }

int lc_version_number(void)
{
    return (int)(rte_version_year() * 100 + rte_version_month());
}

int lc_version_built(void) { return RTE_VER_YEAR * 100 + RTE_VER_MONTH; }

const char *lc_plugin_dir(void) { return RTE_EAL_PMD_PATH; }

static void (*log_line)(uint32_t, const char *, size_t);

static ssize_t log_write(void *cookie, const char *text, size_t len)
{
    (void)cookie;
    /* DPDK flushes after each message, so this runs inside of the call that has the level. */
    int level = rte_log_cur_msg_loglevel();
    log_line(level < 0 ? LC_LOG_INFO : (uint32_t)level, text, len);
    return (ssize_t)len;
}

int lc_log_to(void (*line)(uint32_t level, const char *text, size_t len))
{
    cookie_io_functions_t functions = { .write = log_write };
    FILE *stream = fopencookie(NULL, "w", functions);
    if (stream == NULL)
        return -ENOMEM;
    log_line = line;
    return rte_openlog_stream(stream) < 0 ? -EINVAL : 0;
}

static ssize_t words_write(void *cookie, const char *text, size_t len)
{
    log_line(*(const uint32_t *)cookie, text, len);
    return (ssize_t)len;
}

/* A stream into the log. It is never closed, as somebody might have kept it. */
static FILE *words(const uint32_t *level)
{
    cookie_io_functions_t functions = { .write = words_write };
    return fopencookie((void *)(uintptr_t)level, "w", functions);
}

int lc_eal_init(int argc, char **argv)
{
    /* What is wrong with an argument EAL says on the process's own streams, and how it is used, at length. */
    static const uint32_t usage = LC_LOG_INFO + 1, complaint = LC_LOG_ERROR;
    FILE *const out = stdout, *const err = stderr;
    FILE *const quiet_out = words(&usage), *const quiet_err = words(&complaint);
    if (quiet_out != NULL)
        stdout = quiet_out;
    if (quiet_err != NULL)
        stderr = quiet_err;
    int result = rte_eal_init(argc, argv);
    int error = rte_errno;
    stdout = out;
    stderr = err;
    if (quiet_out != NULL)
        fflush(quiet_out);
    if (quiet_err != NULL)
        fflush(quiet_err);
    if (result < 0)
        return error > 0 ? -error : -EINVAL;
    return 0;
}

bool lc_iova_is_va(void) { return rte_eal_iova_mode() == RTE_IOVA_VA; }

const char *lc_runtime_dir(void) { return rte_eal_get_runtime_dir(); }

int lc_reserve_mbuf_words(void)
{
    const size_t at = offsetof(struct rte_mbuf, dynfield1);
    const struct rte_mbuf_dynfield spare = { .name = "linecard_spare", .size = 4, .align = 4 };
    const struct rte_mbuf_dynfield time = { .name = "linecard_timestamp_ns", .size = 8, .align = 8 };
    const struct rte_mbuf_dynflag flags[] = {
        { .name = "linecard_rx_timestamp" },
        { .name = "linecard_shared" },
        { .name = "linecard_vlan_8021ad" },
    };
    if (rte_mbuf_dynfield_register_offset(&spare, at) < 0 ||
        rte_mbuf_dynfield_register_offset(&time, at + 4) < 0)
        return -rte_errno;
    for (unsigned int i = 0; i < 3; i++)
        if (rte_mbuf_dynflag_register_bitnum(&flags[i], 23 + i) < 0)
            return -rte_errno;
    return 0;
}

int lc_thread_register(void) { return rte_thread_register() < 0 ? -rte_errno : 0; }

void lc_thread_unregister(void) { rte_thread_unregister(); }

uint32_t lc_lcore(void) { return rte_lcore_id(); }
