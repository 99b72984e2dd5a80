/* rte_mempools whose objects and free list are Linecard's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_memory.h>
#include <rte_mempool.h>

#include "shim.h"

static lc_take_fn take_headers;
static lc_give_fn give_headers;
static lc_count_fn count_headers;

/* rte_mempool.pool_config. */
struct pool {
    struct lc_pool_layout layout;
    /* rte_mempool_free() takes every object once, for itself: it must get none. */
    bool closing;
};

static int pool_alloc(struct rte_mempool *mp)
{
    mp->pool_data = ((struct pool *)mp->pool_config)->layout.pool_data;
    return 0;
}

static void pool_release(struct rte_mempool *mp)
{
    /* The objects are Linecard's, and stay. */
    (void)mp;
}

static int pool_enqueue(struct rte_mempool *mp, void *const *objects, unsigned int n)
{
    give_headers(mp->pool_data, objects, n);
    return 0;
}

static int pool_dequeue(struct rte_mempool *mp, void **objects, unsigned int n)
{
    if (unlikely(((struct pool *)mp->pool_config)->closing))
        return -ENOENT;
    return take_headers(mp->pool_data, objects, n) ? 0 : -ENOENT;
}

static unsigned int pool_count(const struct rte_mempool *mp) { return count_headers(mp->pool_data); }

static ssize_t pool_mem_size(const struct rte_mempool *mp, uint32_t objects, uint32_t page_shift,
                             size_t *min_chunk, size_t *align)
{
    const struct pool *pool = mp->pool_config;
    (void)page_shift;
    (void)objects;
    *min_chunk = pool->layout.len;
    *align = RTE_CACHE_LINE_SIZE;
    return (ssize_t)*min_chunk;
}

static int pool_populate(struct rte_mempool *mp, unsigned int max, void *base, rte_iova_t iova, size_t len,
                         rte_mempool_populate_obj_cb_t *add, void *argument)
{
    const struct lc_pool_layout *layout = &((struct pool *)mp->pool_config)->layout;
    unsigned int i;
    (void)len;
    for (i = 0; i < layout->count && i < max; i++) {
        char *header = layout->headers[i];
        add(mp, argument, header, iova + (rte_iova_t)(header - (char *)base));
    }
    return (int)i;
}

static const struct rte_mempool_ops ops = {
    .name = "linecard",
    .alloc = pool_alloc,
    .free = pool_release,
    .enqueue = pool_enqueue,
    .dequeue = pool_dequeue,
    .get_count = pool_count,
    .calc_mem_size = pool_mem_size,
    .populate = pool_populate,
};

int lc_pool_ops(lc_take_fn take, lc_give_fn give, lc_count_fn count)
{
    take_headers = take;
    give_headers = give;
    count_headers = count;
    int index = rte_mempool_register_ops(&ops);
    return index < 0 ? index : 0;
}

struct rte_mempool *lc_pool_new(const char *name, const struct lc_pool_layout *layout, int *error)
{
    struct rte_pktmbuf_pool_private private = {
        .mbuf_data_room_size = layout->buf_len,
        .mbuf_priv_size = 0,
    };
    struct pool *pool = calloc(1, sizeof *pool);
    struct rte_mempool *mp = NULL;
    int result = -ENOMEM;
    if (pool == NULL)
        goto failed;
    pool->layout = *layout;
    mp = rte_mempool_create_empty(name, layout->count, sizeof(struct rte_mbuf) + layout->buf_len, layout->cache,
                                  sizeof private, layout->node < 0 ? SOCKET_ID_ANY : layout->node, 0);
    if (mp == NULL) {
        result = -rte_errno;
        goto failed;
    }
    result = rte_mempool_set_ops_byname(mp, "linecard", pool);
    if (result < 0)
        goto failed;
    rte_pktmbuf_pool_init(mp, &private);
    result = rte_mempool_populate_iova(mp, layout->base, (rte_iova_t)(uintptr_t)layout->base, layout->len, NULL,
                                       NULL);
    /* Only read while they are linked. */
    pool->layout.headers = NULL;
    if (result == (int)layout->count)
        return mp;
    if (result >= 0)
        result = -ENOMEM;
failed:
    *error = result;
    if (mp != NULL) {
        if (pool != NULL)
            pool->closing = true;
        rte_mempool_free(mp);
    }
    free(pool);
    return NULL;
}

void lc_pool_free(struct rte_mempool *mp)
{
    struct pool *pool = mp->pool_config;
    pool->closing = true;
    rte_mempool_free(mp);
    free(pool);
}

void lc_pool_flush(struct rte_mempool *mp, uint32_t lcore)
{
    struct rte_mempool_cache *cache = rte_mempool_default_cache(mp, lcore);
    if (cache != NULL && cache->len > 0)
        rte_mempool_cache_flush(cache, mp);
}

void lc_pool_flush_own(struct rte_mempool *mp) { lc_pool_flush(mp, rte_lcore_id()); }

uint32_t lc_max_lcores(void) { return RTE_MAX_LCORE; }

void *lc_memory_new(size_t len, size_t align, int32_t node, size_t *page)
{
    void *base = rte_zmalloc_socket("linecard", len, (unsigned int)align, node < 0 ? SOCKET_ID_ANY : node);
    const struct rte_memseg_list *list = base == NULL ? NULL : rte_mem_virt2memseg_list(base);
    *page = list == NULL ? 0 : list->page_sz;
    return base;
}

void lc_memory_free(void *base) { rte_free(base); }

int lc_memory_register(void *base, size_t len, size_t page)
{
    size_t pages = len / page;
    rte_iova_t *iova = calloc(pages, sizeof *iova);
    if (iova == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < pages; i++)
        iova[i] = (rte_iova_t)(uintptr_t)base + i * page;
    int result = rte_extmem_register(base, len, iova, (unsigned int)pages, page) < 0 ? -rte_errno : 0;
    free(iova);
    return result;
}

int lc_memory_unregister(void *base, size_t len)
{
    return rte_extmem_unregister(base, len) < 0 ? -rte_errno : 0;
}

static struct rte_device *device_of(uint16_t port)
{
    struct rte_eth_dev_info info;
    return rte_eth_dev_info_get(port, &info) < 0 ? NULL : info.device;
}

int lc_dma_map(uint16_t port, void *base, size_t len)
{
    struct rte_device *device = device_of(port);
    if (device == NULL)
        return -ENODEV;
    return rte_dev_dma_map(device, base, (uint64_t)(uintptr_t)base, len) < 0 ? -rte_errno : 0;
}

int lc_dma_unmap(uint16_t port, void *base, size_t len)
{
    struct rte_device *device = device_of(port);
    if (device == NULL)
        return -ENODEV;
    return rte_dev_dma_unmap(device, base, (uint64_t)(uintptr_t)base, len) < 0 ? -rte_errno : 0;
}
