/* Flow rules: from one flat structure to items and actions, and to the driver. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>

#include "shim.h"

/* A rule as rte_flow wants it: arrays of pointers into itself, so it is never moved. */
struct built {
    struct rte_flow_attr attr;
    struct rte_flow_item items[5];
    struct rte_flow_action actions[4];
    struct rte_flow_item_eth eth[2];
    struct rte_flow_item_vlan vlan[2];
    struct rte_flow_item_ipv4 ipv4[2];
    struct rte_flow_item_ipv6 ipv6[2];
    /* Spec, mask, last. The three begin with the two ports. */
    union {
        struct rte_flow_item_tcp tcp;
        struct rte_flow_item_udp udp;
        struct rte_flow_item_sctp sctp;
        rte_be16_t ports[2];
    } l4[3];
    struct rte_flow_action_count count;
    struct rte_flow_action_queue queue;
    struct rte_flow_action_mark mark;
    struct rte_flow_action_rss rss;
};
_Static_assert(offsetof(struct rte_tcp_hdr, src_port) == 0 && offsetof(struct rte_tcp_hdr, dst_port) == 2, "tcp");
_Static_assert(offsetof(struct rte_udp_hdr, src_port) == 0 && offsetof(struct rte_udp_hdr, dst_port) == 2, "udp");
_Static_assert(offsetof(struct rte_sctp_hdr, src_port) == 0 && offsetof(struct rte_sctp_hdr, dst_port) == 2, "sctp");

static struct rte_flow_item *add_item(struct built *b, size_t *n, enum rte_flow_item_type type)
{
    struct rte_flow_item *item = &b->items[(*n)++];
    item->type = type;
    return item;
}

/* An item without anything to compare says only that there is such a header: drivers know that by NULL. */
static void compare(struct rte_flow_item *item, const void *spec, const void *mask)
{
    item->spec = spec;
    item->mask = mask;
}

static void build_items(struct built *b, const struct lc_flow_rule *rule)
{
    size_t n = 0;
    struct rte_flow_item *item = add_item(b, &n, RTE_FLOW_ITEM_TYPE_ETH);
    if (rule->has_ether_type && !rule->has_vlan) {
        b->eth[0].hdr.ether_type = rte_cpu_to_be_16(rule->ether_type);
        b->eth[1].hdr.ether_type = 0xffff;
        compare(item, &b->eth[0], &b->eth[1]);
    }
    if (rule->has_vlan) {
        item = add_item(b, &n, RTE_FLOW_ITEM_TYPE_VLAN);
        b->vlan[0].hdr.vlan_tci = rte_cpu_to_be_16(rule->vlan);
        b->vlan[1].hdr.vlan_tci = rte_cpu_to_be_16(0x0fff);
        if (rule->has_ether_type) {
            b->vlan[0].hdr.eth_proto = rte_cpu_to_be_16(rule->ether_type);
            b->vlan[1].hdr.eth_proto = 0xffff;
        }
        compare(item, &b->vlan[0], &b->vlan[1]);
    }
    if (rule->ip == 4) {
        item = add_item(b, &n, RTE_FLOW_ITEM_TYPE_IPV4);
        memcpy(&b->ipv4[0].hdr.src_addr, rule->src, 4);
        memcpy(&b->ipv4[1].hdr.src_addr, rule->src_mask, 4);
        memcpy(&b->ipv4[0].hdr.dst_addr, rule->dst, 4);
        memcpy(&b->ipv4[1].hdr.dst_addr, rule->dst_mask, 4);
        if (rule->has_protocol) {
            b->ipv4[0].hdr.next_proto_id = rule->protocol;
            b->ipv4[1].hdr.next_proto_id = 0xff;
        }
        if (rule->has_protocol || rule->has_addresses)
            compare(item, &b->ipv4[0], &b->ipv4[1]);
    } else if (rule->ip == 6) {
        item = add_item(b, &n, RTE_FLOW_ITEM_TYPE_IPV6);
        memcpy(&b->ipv6[0].hdr.src_addr, rule->src, 16);
        memcpy(&b->ipv6[1].hdr.src_addr, rule->src_mask, 16);
        memcpy(&b->ipv6[0].hdr.dst_addr, rule->dst, 16);
        memcpy(&b->ipv6[1].hdr.dst_addr, rule->dst_mask, 16);
        if (rule->has_protocol) {
            b->ipv6[0].hdr.proto = rule->protocol;
            b->ipv6[1].hdr.proto = 0xff;
        }
        if (rule->has_protocol || rule->has_addresses)
            compare(item, &b->ipv6[0], &b->ipv6[1]);
    }
    if (rule->l4 != 0) {
        item = add_item(b, &n, rule->l4 == 6    ? RTE_FLOW_ITEM_TYPE_TCP
                               : rule->l4 == 17 ? RTE_FLOW_ITEM_TYPE_UDP
                                                : RTE_FLOW_ITEM_TYPE_SCTP);
        const struct lc_flow_ports *ports[] = { &rule->src_port, &rule->dst_port };
        bool any = false, range = false;
        for (int i = 0; i < 2; i++) {
            b->l4[0].ports[i] = rte_cpu_to_be_16(ports[i]->first);
            b->l4[1].ports[i] = rte_cpu_to_be_16(ports[i]->mask);
            b->l4[2].ports[i] = rte_cpu_to_be_16(ports[i]->last);
            any |= ports[i]->mask != 0;
            range |= ports[i]->last != ports[i]->first;
        }
        if (any)
            compare(item, &b->l4[0], &b->l4[1]);
        if (range)
            item->last = &b->l4[2];
    }
    add_item(b, &n, RTE_FLOW_ITEM_TYPE_END);
}

static void add_action(struct built *b, size_t *n, enum rte_flow_action_type type, const void *conf)
{
    b->actions[(*n)++] = (struct rte_flow_action){ .type = type, .conf = conf };
}

static void add_rss(struct built *b, size_t *n, const struct lc_flow_rule *rule)
{
    b->rss = (struct rte_flow_action_rss){
        .func = RTE_ETH_HASH_FUNCTION_DEFAULT,
        .types = rule->rss_types,
        .key_len = rule->key_len,
        .queue_num = rule->queue_count,
        .key = rule->key,
        .queue = rule->queues,
    };
    add_action(b, n, RTE_FLOW_ACTION_TYPE_RSS, &b->rss);
}

static void build(struct built *b, const struct lc_flow_rule *rule)
{
    size_t n = 0;
    memset(b, 0, sizeof *b);
    b->attr.ingress = 1;
    b->attr.priority = rule->priority;
    build_items(b, rule);
    if (rule->count)
        add_action(b, &n, RTE_FLOW_ACTION_TYPE_COUNT, &b->count);
    switch (rule->action) {
    case LC_FLOW_DROP:
        add_action(b, &n, RTE_FLOW_ACTION_TYPE_DROP, NULL);
        break;
    case LC_FLOW_QUEUE:
        b->queue.index = (uint16_t)rule->value;
        add_action(b, &n, RTE_FLOW_ACTION_TYPE_QUEUE, &b->queue);
        break;
    case LC_FLOW_RSS:
        add_rss(b, &n, rule);
        break;
    default:
        b->mark.id = rule->value;
        add_action(b, &n, RTE_FLOW_ACTION_TYPE_MARK, &b->mark);
        /* Where a marked frame goes has to be said to some drivers, in one of two ways. */
        if (rule->action == LC_FLOW_MARK_PASS)
            add_action(b, &n, RTE_FLOW_ACTION_TYPE_PASSTHRU, NULL);
        else
            add_rss(b, &n, rule);
    }
    add_action(b, &n, RTE_FLOW_ACTION_TYPE_END, NULL);
}

static const char *item_name(enum rte_flow_item_type type)
{
    switch (type) {
    case RTE_FLOW_ITEM_TYPE_ETH: return "eth";
    case RTE_FLOW_ITEM_TYPE_VLAN: return "vlan";
    case RTE_FLOW_ITEM_TYPE_IPV4: return "ipv4";
    case RTE_FLOW_ITEM_TYPE_IPV6: return "ipv6";
    case RTE_FLOW_ITEM_TYPE_TCP: return "tcp";
    case RTE_FLOW_ITEM_TYPE_UDP: return "udp";
    case RTE_FLOW_ITEM_TYPE_SCTP: return "sctp";
    default: return "end";
    }
}

static const char *action_name(enum rte_flow_action_type type)
{
    switch (type) {
    case RTE_FLOW_ACTION_TYPE_COUNT: return "count";
    case RTE_FLOW_ACTION_TYPE_DROP: return "drop";
    case RTE_FLOW_ACTION_TYPE_QUEUE: return "queue";
    case RTE_FLOW_ACTION_TYPE_RSS: return "rss";
    case RTE_FLOW_ACTION_TYPE_MARK: return "mark";
    case RTE_FLOW_ACTION_TYPE_PASSTHRU: return "passthru";
    default: return "end";
    }
}

/* The message, and what it is about: drivers point at an item, at one of its structures or at an action. */
static int refused(int result, const struct built *b, const struct rte_flow_error *error, struct lc_flow_error *out)
{
    const char *what = "";
    memset(out, 0, sizeof *out);
    if (error->message != NULL)
        snprintf(out->message, sizeof out->message, "%s", error->message);
    for (size_t i = 0; b != NULL && error->cause != NULL && i < RTE_DIM(b->items); i++) {
        const struct rte_flow_item *item = &b->items[i];
        if (error->cause == item || error->cause == item->spec || error->cause == item->mask ||
            error->cause == item->last)
            what = item_name(item->type);
    }
    for (size_t i = 0; b != NULL && error->cause != NULL && i < RTE_DIM(b->actions); i++)
        if (error->cause == &b->actions[i] || error->cause == b->actions[i].conf)
            what = action_name(b->actions[i].type);
    if (error->type == RTE_FLOW_ERROR_TYPE_ATTR_PRIORITY)
        what = "priority";
    snprintf(out->about, sizeof out->about, "%s", what);
    return result < 0 ? result : -EINVAL;
}

int lc_flow_validate(uint16_t port, const struct lc_flow_rule *rule, struct lc_flow_error *out)
{
    struct built b;
    struct rte_flow_error error = { 0 };
    build(&b, rule);
    int result = rte_flow_validate(port, &b.attr, b.items, b.actions, &error);
    return result == 0 ? 0 : refused(result, &b, &error, out);
}

int lc_flow_create(uint16_t port, const struct lc_flow_rule *rule, struct rte_flow **flow, struct lc_flow_error *out)
{
    struct built b;
    struct rte_flow_error error = { 0 };
    build(&b, rule);
    rte_errno = 0;
    *flow = rte_flow_create(port, &b.attr, b.items, b.actions, &error);
    return *flow != NULL ? 0 : refused(-rte_errno, &b, &error, out);
}

int lc_flow_destroy(uint16_t port, struct rte_flow *flow, struct lc_flow_error *out)
{
    struct rte_flow_error error = { 0 };
    int result = rte_flow_destroy(port, flow, &error);
    return result == 0 ? 0 : refused(result, NULL, &error, out);
}

int lc_flow_query(uint16_t port, struct rte_flow *flow, uint64_t *packets, uint64_t *bytes, struct lc_flow_error *out)
{
    static const struct rte_flow_action_count conf;
    const struct rte_flow_action actions[] = {
        { .type = RTE_FLOW_ACTION_TYPE_COUNT, .conf = &conf },
        { .type = RTE_FLOW_ACTION_TYPE_END },
    };
    struct rte_flow_query_count count = { 0 };
    struct rte_flow_error error = { 0 };
    int result = rte_flow_query(port, flow, actions, &count, &error);
    if (result != 0)
        return refused(result, NULL, &error, out);
    *packets = count.hits_set ? count.hits : 0;
    *bytes = count.bytes_set ? count.bytes : 0;
    return count.hits_set ? 1 : 0;
}

/* --- for tests ------------------------------------------------------------------------------------------ */

static size_t header_len(enum rte_flow_item_type type)
{
    switch (type) {
    case RTE_FLOW_ITEM_TYPE_ETH: return 14;
    case RTE_FLOW_ITEM_TYPE_VLAN: return 4;
    case RTE_FLOW_ITEM_TYPE_IPV4: return 20;
    case RTE_FLOW_ITEM_TYPE_IPV6: return 40;
    case RTE_FLOW_ITEM_TYPE_TCP: return 20;
    case RTE_FLOW_ITEM_TYPE_UDP: return 8;
    case RTE_FLOW_ITEM_TYPE_SCTP: return 12;
    default: return 0;
    }
}

static void hex(FILE *out, const char *name, const void *bytes, size_t len)
{
    if (bytes == NULL)
        return;
    fprintf(out, " %s=", name);
    for (size_t i = 0; i < len; i++)
        fprintf(out, "%02x", ((const uint8_t *)bytes)[i]);
}

int lc_flow_describe(const struct lc_flow_rule *rule, char *text, size_t len)
{
    struct built b;
    FILE *out = fmemopen(text, len, "w");
    if (out == NULL)
        return -errno;
    build(&b, rule);
    fprintf(out, "priority=%u", b.attr.priority);
    for (const struct rte_flow_item *item = b.items; item->type != RTE_FLOW_ITEM_TYPE_END; item++) {
        size_t n = header_len(item->type);
        fprintf(out, " / %s", item_name(item->type));
        hex(out, "spec", item->spec, n);
        hex(out, "last", item->last, n);
        hex(out, "mask", item->mask, n);
    }
    fprintf(out, " =>");
    for (const struct rte_flow_action *action = b.actions; action->type != RTE_FLOW_ACTION_TYPE_END; action++) {
        fprintf(out, " %s", action_name(action->type));
        if (action->type == RTE_FLOW_ACTION_TYPE_QUEUE)
            fprintf(out, "=%u", b.queue.index);
        if (action->type == RTE_FLOW_ACTION_TYPE_MARK)
            fprintf(out, "=%u", b.mark.id);
        for (uint32_t i = 0; action->type == RTE_FLOW_ACTION_TYPE_RSS && i < b.rss.queue_num; i++)
            fprintf(out, "%c%u", i == 0 ? '=' : ',', b.rss.queue[i]);
    }
    return fclose(out) == 0 ? 0 : -EIO;
}
