// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* Runs on a real server of mode "tun": takes the outer header off packets that a load balancer
 * sent here, so that the kernel needs no tunnel module. IPIP, IP6IP6, 4-in-6, 6-in-4, and GUE
 * variant 1 on its port. Only packets whose inner target is in `allowed` are opened, so that nobody
 * can tunnel anything else through. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "shared.h"
#include "packet.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1024);
    __type(key, struct address);
    __type(value, __u32);
} allowed SEC(".maps");

static __always_inline int is_allowed(__u64 high, __u64 low)
{
    struct address key;
    __builtin_memcpy(&key.word[0], &high, 8);
    __builtin_memcpy(&key.word[2], &low, 8);
    return bpf_map_lookup_elem(&allowed, &key) != 0;
}

SEC("xdp")
int decapsulate(struct xdp_md *xdp)
{
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    ALL_OF(ethernet, ethernet, data) return XDP_PASS;
    struct ethernet copy = *ethernet;
    __u32 outer;
    __u8 protocol;
    void *at;
    if (copy.type == bpf_htons(0x0800)) {
        ALL_OF(ipv4, ip, data + ETHERNET) return XDP_PASS;
        if (ip->version_length != 0x45 || ip->fragment & bpf_htons(0x3fff))
            return XDP_PASS;
        protocol = ip->protocol;
        outer = sizeof(*ip);
        at = ip + 1;
    } else if (copy.type == bpf_htons(0x86dd)) {
        ALL_OF(ipv6, ip, data + ETHERNET) return XDP_PASS;
        protocol = ip->next;
        outer = sizeof(*ip);
        at = ip + 1;
    } else {
        return XDP_PASS;
    }
    if (protocol == PROTOCOL_UDP) {
        ALL_OF(udp, udp, at) return XDP_PASS;
        if (udp->target != bpf_htons(GUE_PORT))
            return XDP_PASS;
        __u8 *first = (void *)(udp + 1);
        if ((void *)(first + 1) > end)
            return XDP_PASS;
        protocol = *first >> 4 == 4 ? 4 : *first >> 4 == 6 ? 41 : 0;
        outer += sizeof(*udp);
        at = first;
    }
    if (protocol == 4) {
        ALL_OF(ipv4, ip, at) return XDP_PASS;
        if (!is_allowed(0, mapped(ip->target)))
            return XDP_PASS;
        copy.type = bpf_htons(0x0800);
    } else if (protocol == 41) {
        ALL_OF(ipv6, ip, at) return XDP_PASS;
        if (!is_allowed(ip->target[0], ip->target[1]))
            return XDP_PASS;
        copy.type = bpf_htons(0x86dd);
    } else {
        return XDP_PASS;
    }
    if (bpf_xdp_adjust_head(xdp, outer))
        return XDP_DROP;
    data = (void *)(long)xdp->data;
    end = (void *)(long)xdp->data_end;
    ALL_OF(ethernet, inner, data) return XDP_DROP;
    *inner = copy;
    return XDP_PASS;
}
