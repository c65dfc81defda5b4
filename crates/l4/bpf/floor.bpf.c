// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* What measurements are compared with: programs that do nothing, and one that does the look-ups
 * of a load balancer built on the kernel's hash and LRU maps, and nothing else. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "shared.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct tuple_key {
    __u32 source[4];
    __u32 target[4];
    __u16 ports[2];
    __u8 protocol;
    __u8 unused[3];
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 512);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct vip_key);
    __type(value, __u32);
} known SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 1 << 20);
    __type(key, struct tuple_key);
    __type(value, __u64);
} recent SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 4096);
    __type(key, __u32);
    __type(value, struct address);
} reals SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 4096);
    __type(key, __u32);
    __type(value, struct traffic);
} counters SEC(".maps");

SEC("xdp")
int floor_pass(struct xdp_md *xdp)
{
    return XDP_PASS;
}

SEC("xdp")
int floor_tx(struct xdp_md *xdp)
{
    return XDP_TX;
}

/* VIP in a hash, flow in an LRU (written where it is missing), real server in an array, two
 * counters, the clock: IPv4 without options. */
SEC("xdp")
int floor_lookups(struct xdp_md *xdp)
{
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    if (data + 14 + 20 + 20 > end)
        return XDP_PASS;
    struct vip_key vip = {.address = {0, 0, 0xffff0000, *(__u32 *)(data + 30)}};
    vip.port_be = *(__u16 *)(data + 36);
    vip.protocol = *(__u8 *)(data + 23);
    __u32 zero = 0, *number = bpf_map_lookup_elem(&known, &vip);
    if (!number)
        return XDP_PASS;
    struct tuple_key flow = {.protocol = vip.protocol};
    flow.source[3] = *(__u32 *)(data + 26);
    flow.target[3] = *(__u32 *)(data + 30);
    flow.ports[0] = *(__u16 *)(data + 34);
    flow.ports[1] = vip.port_be;
    __u64 now = bpf_ktime_get_ns();
    __u64 *seen = bpf_map_lookup_elem(&recent, &flow);
    if (seen)
        *seen = now;
    else
        bpf_map_update_elem(&recent, &flow, &now, BPF_ANY);
    struct address *real = bpf_map_lookup_elem(&reals, number);
    struct traffic *of_vip = bpf_map_lookup_elem(&counters, number);
    struct traffic *of_real = bpf_map_lookup_elem(&counters, &zero);
    if (!real || !of_vip || !of_real)
        return XDP_PASS;
    of_vip->packets_in += 1;
    of_real->packets_in += 1;
    return XDP_TX;
}
