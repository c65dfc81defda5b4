// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* Makes frames of many clients, for measurements and tests. Run with BPF_F_TEST_XDP_LIVE_FRAMES it
 * sends each out of the interface it is run for, as a driver's frames, without a socket. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "shared.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct plan);
} plans SEC(".maps");

static __always_inline __u32 sum_words(const void *at, int bytes)
{
    const __u16 *word = at;
    __u32 sum = 0;
    for (int i = 0; i < bytes / 2; i++)
        sum += word[i];
    return sum;
}

static __always_inline __u16 folded(__u32 sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

/* IPv4, a header of 20 bytes, UDP without a checksum or TCP with one option. The whole of it is
 * written each time: the page in hand may have been sent before, and changed on its way. */
SEC("xdp")
int generate(struct xdp_md *xdp)
{
    __u32 zero = 0;
    struct plan *plan = bpf_map_lookup_elem(&plans, &zero);
    __u8 *data = (void *)(long)xdp->data;
    __u8 *end = (void *)(long)xdp->data_end;
    if (!plan || data + PLANNED > end)
        return XDP_DROP;
    __builtin_memcpy(data, plan->frame, PLANNED);
    __u32 number = plan->flows ? (plan->next++ % plan->flows) : bpf_get_prandom_u32();
    __u8 *ip = data + 14, *transport = data + 34;
    *(__be32 *)(ip + 12) = bpf_htonl(plan->first_client + number / 60000);
    *(__be16 *)transport = bpf_htons(1024 + number % 60000);
    *(__u16 *)(ip + 10) = 0;
    *(__u16 *)(ip + 10) = folded(sum_words(ip, 20));
    if (ip[9] == 6) {
        *(__u16 *)(transport + 16) = 0;
        __u32 sum = sum_words(transport, 24) + sum_words(ip + 12, 8) + bpf_htons(6) + bpf_htons(24);
        *(__u16 *)(transport + 16) = folded(sum);
    }
    return XDP_TX;
}
