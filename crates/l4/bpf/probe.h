/* Health checks through the VIP (see struct probe). */
#pragma once

MAP(probes, BPF_MAP_TYPE_HASH, __u32, struct probe, MAX_DESTINATIONS, BPF_F_NO_PREALLOC);
MAP(probe_returns, BPF_MAP_TYPE_LRU_HASH, struct probe_key, struct address, 65536, 0);

/* An answer to a probe: its source becomes the real server's address again, for the kernel. */
CHECKED_APART int take_probe_answer(struct xdp_md *xdp, struct work *w)
{
    if (!w)
        return XDP_PASS;
    struct packet *p = &w->packet;
    const struct tuple *t = &p->tuple;
    struct probe_key key = {.vip_port_be = t->source_port, .own_port_be = t->target_port};
    key.vip[0] = t->source[0];
    key.vip[1] = t->source[1];
    key.own[0] = t->target[0];
    key.own[1] = t->target[1];
    struct address *known = bpf_map_lookup_elem(&probe_returns, &key);
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    if (!known || t->protocol != PROTOCOL_TCP || p->fragment || ttl_is_low(p, data, end))
        return XDP_PASS;
    __u64 real[2] = {((const __u64 *)known)[0], ((const __u64 *)known)[1]};
    __u64 own[2] = {t->target[0], t->target[1]};
    if (!write_transport(p, data, end, t->source_port, t->target_port, difference(t->source, real)))
        return XDP_DROP;
    if (!write_ip(p, data, end, real, own))
        return XDP_DROP;
    return XDP_PASS;
}

/* What stands behind the outer header; with GUE each check comes from a port of its own. */
static __always_inline __u32 room_of(const struct probe *probe, __u32 header)
{
    return probe->tunnel == TUNNEL_GUE ? header + sizeof(struct udp) : header;
}

static __always_inline void write_gue(struct __sk_buff *skb, __u32 at, __u32 length, __be16 own_port)
{
    struct udp udp = {
        .source = own_port | bpf_htons(0xc000),
        .target = bpf_htons(GUE_PORT),
        .length = bpf_htons(length + sizeof(udp)),
    };
    bpf_skb_store_bytes(skb, at, &udp, sizeof(udp), 0);
}

#define ADDRESS_AT_V4 (ETHERNET + 16)
#define ADDRESS_AT_V6 (ETHERNET + 24)

static __always_inline int probe_out_v4(struct __sk_buff *skb, const struct probe *probe)
{
    void *data = (void *)(long)skb->data;
    void *end = (void *)(long)skb->data_end;
    ALL_OF(ipv4, ip, data + ETHERNET) return -1;
    if (ip->version_length != 0x45 || ip->protocol != PROTOCOL_TCP || ip->target != probe->real[3])
        return -1;
    ALL_OF(tcp, tcp, data + ETHERNET + sizeof(*ip)) return -1;
    struct probe_key key = {.vip_port_be = tcp->target, .own_port_be = tcp->source};
    const __u64 *vip = (const __u64 *)probe->vip;
    key.vip[0] = vip[0];
    key.vip[1] = vip[1];
    key.own[1] = mapped(ip->source);
    __u16 total = bpf_ntohs(ip->total);
    struct address real;
    __builtin_memcpy(&real, probe->real, sizeof(real));
    bpf_map_update_elem(&probe_returns, &key, &real, BPF_ANY);
    __u32 from = probe->real[3], to = probe->vip[3];
    bpf_l4_csum_replace(skb, ETHERNET + sizeof(struct ipv4) + 16, from, to, BPF_F_PSEUDO_HDR | 4);
    bpf_l3_csum_replace(skb, ETHERNET + 10, from, to, 4);
    bpf_skb_store_bytes(skb, ADDRESS_AT_V4, &to, 4, 0);
    if (probe->mode != MODE_TUN)
        return -1;
    int gue = probe->tunnel == TUNNEL_GUE;
    __u32 room = room_of(probe, sizeof(struct ipv4));
    __u64 flags = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | (gue ? BPF_F_ADJ_ROOM_ENCAP_L4_UDP : 0);
    if (bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, flags))
        return 2;
    if (gue)
        write_gue(skb, ETHERNET + sizeof(struct ipv4), total, key.own_port_be);
    struct ipv4 outer = {
        .version_length = 0x45,
        .total = bpf_htons(total + room),
        .fragment = bpf_htons(0x4000),
        .ttl = 64,
        .protocol = gue ? PROTOCOL_UDP : 4,
        .source = probe->tunnel_source[3],
        .target = probe->real[3],
    };
    outer.sum = sum_of_words(&outer, sizeof(outer));
    bpf_skb_store_bytes(skb, ETHERNET, &outer, sizeof(outer), 0);
    return -1;
}

static __always_inline int probe_out_v6(struct __sk_buff *skb, const struct probe *probe)
{
    void *data = (void *)(long)skb->data;
    void *end = (void *)(long)skb->data_end;
    const __u64 *real = (const __u64 *)probe->real, *vip = (const __u64 *)probe->vip;
    ALL_OF(ipv6, ip, data + ETHERNET) return -1;
    if (ip->next != PROTOCOL_TCP || ip->target[0] != real[0] || ip->target[1] != real[1])
        return -1;
    ALL_OF(tcp, tcp, data + ETHERNET + sizeof(*ip)) return -1;
    struct probe_key key = {.vip_port_be = tcp->target, .own_port_be = tcp->source};
    key.vip[0] = vip[0];
    key.vip[1] = vip[1];
    key.own[0] = ip->source[0];
    key.own[1] = ip->source[1];
    __u16 payload = bpf_ntohs(ip->payload);
    struct address behind;
    __builtin_memcpy(&behind, probe->real, sizeof(behind));
    bpf_map_update_elem(&probe_returns, &key, &behind, BPF_ANY);
    __u32 old[4], new[4];
    __builtin_memcpy(old, probe->real, sizeof(old));
    __builtin_memcpy(new, probe->vip, sizeof(new));
    for (int i = 0; i < 4; i++)
        bpf_l4_csum_replace(skb, ETHERNET + sizeof(struct ipv6) + 16, old[i], new[i], BPF_F_PSEUDO_HDR | 4);
    bpf_skb_store_bytes(skb, ADDRESS_AT_V6, new, sizeof(new), 0);
    if (probe->mode != MODE_TUN)
        return -1;
    int gue = probe->tunnel == TUNNEL_GUE;
    __u32 room = room_of(probe, sizeof(struct ipv6));
    __u64 flags = BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | (gue ? BPF_F_ADJ_ROOM_ENCAP_L4_UDP : 0);
    if (bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, flags))
        return 2;
    if (gue)
        write_gue(skb, ETHERNET + sizeof(struct ipv6), payload + sizeof(struct ipv6), key.own_port_be);
    struct ipv6 outer = {
        .version_flow = bpf_htonl(6 << 28),
        .payload = bpf_htons(payload + room),
        .next = gue ? PROTOCOL_UDP : 41,
        .hops = 64,
    };
    __builtin_memcpy(outer.source, probe->tunnel_source, sizeof(outer.source));
    __builtin_memcpy(outer.target, probe->real, sizeof(outer.target));
    bpf_skb_store_bytes(skb, ETHERNET, &outer, sizeof(outer), 0);
    return -1;
}

/* On the way out of each interface; -1 lets other programs have their say, 2 drops. */
SEC("tc")
int probe_out(struct __sk_buff *skb)
{
    __u32 mark = skb->mark;
    if (!mark)
        return -1;
    struct probe *known = bpf_map_lookup_elem(&probes, &mark);
    if (!known)
        return -1;
    struct probe probe = *known;
    return is_mapped((const __u64 *)probe.real) ? probe_out_v4(skb, &probe) : probe_out_v6(skb, &probe);
}
