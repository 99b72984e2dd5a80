/* How a port ends: on the thread that its driver needs. */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include <rte_alarm.h>
#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>

#include "shim.h"

/* A call for another thread, in the memory of the one that waits for it. */
struct call {
    int (*function)(uint16_t port);
    uint16_t port;
    int result;
    bool done;
    pthread_mutex_t lock;
    pthread_cond_t finished;
};

static void carry_out(void *argument)
{
    struct call *call = argument;
    int result = call->function(call->port);
    pthread_mutex_lock(&call->lock);
    call->result = result;
    call->done = true;
    /* Under the lock: the memory is gone as soon as the caller has it. */
    pthread_cond_signal(&call->finished);
    pthread_mutex_unlock(&call->lock);
}

/* On EAL's interrupt thread, between two of its handlers. Alarms are carried out there. */
static int on_interrupt_thread(int (*function)(uint16_t), uint16_t port)
{
    struct call call = {
        .function = function,
        .port = port,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .finished = PTHREAD_COND_INITIALIZER,
    };
    int result = rte_thread_is_intr() ? -EDEADLK : rte_eal_alarm_set(1, carry_out, &call);
    if (result < 0)
        return function(port);
    pthread_mutex_lock(&call.lock);
    while (!call.done)
        pthread_cond_wait(&call.finished, &call.lock);
    pthread_mutex_unlock(&call.lock);
    pthread_cond_destroy(&call.finished);
    pthread_mutex_destroy(&call.lock);
    return call.result;
}

/*
 * Whether a handler of the driver takes apart, on the interrupt thread, what stop and close do. net_memif: when its
 * peer leaves, the handler frees channel, rings and regions without a lock, and a close at that moment frees them a
 * second time (DPDK 22.11).
 */
static bool parts_by_itself(const struct rte_eth_dev_info *info)
{
    return info->driver_name != NULL && strcmp(info->driver_name, "net_memif") == 0;
}

static int end(int (*function)(uint16_t), uint16_t port, const struct rte_eth_dev_info *info)
{
    return info != NULL && parts_by_itself(info) ? on_interrupt_thread(function, port) : function(port);
}

int lc_port_stop(uint16_t port)
{
    struct rte_eth_dev_info info;
    return end(rte_eth_dev_stop, port, rte_eth_dev_info_get(port, &info) < 0 ? NULL : &info);
}

int lc_port_close(uint16_t port)
{
    struct rte_eth_dev_info info;
    bool known = rte_eth_dev_info_get(port, &info) >= 0;
    int closed = end(rte_eth_dev_close, port, known ? &info : NULL);
    int removed = known ? rte_dev_remove(info.device) : -ENODEV;
    return closed < 0 ? closed : removed;
}
