/* Frames that the program itself writes, back to where a packet came from: ICMP errors and TCP
 * resets. Each is no longer than what it answers. */
#pragma once

static __always_inline int icmp_allowed(__u64 jiffies)
{
    __u32 zero = 0;
    struct gate *gate = bpf_map_lookup_elem(&gates, &zero);
    if (!gate)
        return 0;
    __u64 now = jiffies << 10;
    __u64 due = gate->icmp_due;
    if (due > now + (64ULL * setup.icmp_interval))
        return 0;
    gate->icmp_due = (due > now ? due : now) + setup.icmp_interval;
    return 1;
}

static __always_inline void turn_back(struct ethernet *ethernet)
{
    __u8 mac[6];
    __builtin_memcpy(mac, ethernet->source, 6);
    __builtin_memcpy(ethernet->source, ethernet->target, 6);
    __builtin_memcpy(ethernet->target, mac, 6);
}

#define QUOTED_V4 28
#define QUOTED_V6 48

static __always_inline int answer_icmp_v4(struct xdp_md *xdp, struct packet *p, __u8 type, __u8 code, __u16 mtu)
{
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    int surplus = (int)(end - data) - (ETHERNET + QUOTED_V4);
    if (!p->plain || surplus < 0)
        return XDP_DROP;
    if (surplus > 0 && bpf_xdp_adjust_tail(xdp, -surplus))
        return XDP_DROP;
    if (bpf_xdp_adjust_head(xdp, -(int)(sizeof(struct ipv4) + sizeof(struct icmp))))
        return XDP_DROP;
    data = (void *)(long)xdp->data;
    end = (void *)(long)xdp->data_end;
    struct frame {
        struct ethernet ethernet;
        struct ipv4 ip;
        struct icmp icmp;
        __u8 quoted[QUOTED_V4];
    } __attribute__((packed));
    ALL_OF(frame, frame, data) return XDP_DROP;
    /* The old Ethernet header now lies inside; this one is written whole. */
    struct ethernet *old = data + sizeof(struct ipv4) + sizeof(struct icmp);
    struct ethernet copy = *old;
    frame->ethernet = copy;
    turn_back(&frame->ethernet);
    struct ipv4 *inner = (void *)frame->quoted;
    struct ipv4 *ip = &frame->ip;
    ip->version_length = 0x45;
    ip->tos = 0xc0;
    ip->total = bpf_htons(sizeof(struct ipv4) + sizeof(struct icmp) + QUOTED_V4);
    ip->identity = 0;
    ip->fragment = 0;
    ip->ttl = 64;
    ip->protocol = PROTOCOL_ICMP;
    ip->sum = 0;
    ip->source = inner->target;
    ip->target = inner->source;
    ip->sum = sum_of_words(ip, sizeof(*ip));
    struct icmp *icmp = &frame->icmp;
    icmp->type = type;
    icmp->code = code;
    icmp->sum = 0;
    icmp->rest = bpf_htonl(mtu);
    icmp->sum = sum_of_words(icmp, sizeof(struct icmp) + QUOTED_V4);
    return XDP_TX;
}

static __always_inline int answer_icmp_v6(struct xdp_md *xdp, struct packet *p, __u8 type, __u8 code, __u16 mtu)
{
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    int surplus = (int)(end - data) - (ETHERNET + QUOTED_V6);
    if (!p->plain || surplus < 0)
        return XDP_DROP;
    if (surplus > 0 && bpf_xdp_adjust_tail(xdp, -surplus))
        return XDP_DROP;
    if (bpf_xdp_adjust_head(xdp, -(int)(sizeof(struct ipv6) + sizeof(struct icmp))))
        return XDP_DROP;
    data = (void *)(long)xdp->data;
    end = (void *)(long)xdp->data_end;
    struct frame {
        struct ethernet ethernet;
        struct ipv6 ip;
        struct icmp icmp;
        __u8 quoted[QUOTED_V6];
    } __attribute__((packed));
    ALL_OF(frame, frame, data) return XDP_DROP;
    struct ethernet *old = data + sizeof(struct ipv6) + sizeof(struct icmp);
    struct ethernet copy = *old;
    frame->ethernet = copy;
    turn_back(&frame->ethernet);
    struct ipv6 *inner = (void *)frame->quoted;
    struct ipv6 *ip = &frame->ip;
    ip->version_flow = bpf_htonl(6 << 28);
    ip->payload = bpf_htons(sizeof(struct icmp) + QUOTED_V6);
    ip->next = PROTOCOL_ICMP6;
    ip->hops = 64;
    __u64 source[2] = {inner->target[0], inner->target[1]};
    __u64 target[2] = {inner->source[0], inner->source[1]};
    write_v6(ip->source, source);
    write_v6(ip->target, target);
    struct icmp *icmp = &frame->icmp;
    icmp->type = type;
    icmp->code = code;
    icmp->sum = 0;
    icmp->rest = bpf_htonl(mtu);
    __u64 sum = (__u16)~sum_of_words(icmp, sizeof(struct icmp) + QUOTED_V6);
    sum += words_of(source) + words_of(target);
    sum += bpf_htons(PROTOCOL_ICMP6) + bpf_htons(sizeof(struct icmp) + QUOTED_V6);
    icmp->sum = ~fold(sum);
    return XDP_TX;
}

CHECKED_APART int answer_time_exceeded(struct xdp_md *xdp, struct packet *p)
{
    if (!p)
        return XDP_DROP;
    return p->is_v6 ? answer_icmp_v6(xdp, p, 3, 0, 0) : answer_icmp_v4(xdp, p, 11, 0, 0);
}

CHECKED_APART int answer_too_big(struct xdp_md *xdp, struct packet *p, __u16 mtu)
{
    if (!p)
        return XDP_DROP;
    return p->is_v6 ? answer_icmp_v6(xdp, p, 2, 0, mtu) : answer_icmp_v4(xdp, p, 3, 4, mtu);
}

/* A reset for the sender of this segment (RFC 9293, section 3.10.7.1). */
CHECKED_APART int answer_reset(struct xdp_md *xdp, struct packet *p)
{
    if (!p)
        return XDP_DROP;
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    __u32 network = p->is_v6 ? sizeof(struct ipv6) : sizeof(struct ipv4);
    int surplus = (int)(end - data) - (int)(ETHERNET + network + sizeof(struct tcp));
    if (!p->plain || surplus < 0 || p->tcp_flags & TCP_RST)
        return XDP_DROP;
    if (surplus > 0 && bpf_xdp_adjust_tail(xdp, -surplus))
        return XDP_DROP;
    data = (void *)(long)xdp->data;
    end = (void *)(long)xdp->data_end;
    ALL_OF(ethernet, ethernet, data) return XDP_DROP;
    turn_back(ethernet);
    ALL_OF(tcp, tcp, data + ETHERNET + network) return XDP_DROP;
    __u32 spoken = p->length - network - (tcp->offset >> 4) * 4;
    spoken += !!(p->tcp_flags & TCP_SYN) + !!(p->tcp_flags & TCP_FIN);
    __be32 acknowledged = tcp->acknowledged;
    tcp->source = p->tuple.target_port;
    tcp->target = p->tuple.source_port;
    if (p->tcp_flags & TCP_ACK) {
        tcp->sequence = acknowledged;
        tcp->acknowledged = 0;
        tcp->flags = TCP_RST;
    } else {
        tcp->acknowledged = bpf_htonl(bpf_ntohl(tcp->sequence) + spoken);
        tcp->sequence = 0;
        tcp->flags = TCP_RST | TCP_ACK;
    }
    tcp->offset = 5 << 4;
    tcp->window = 0;
    tcp->urgent = 0;
    tcp->sum = 0;
    __u64 sum = (__u16)~sum_of_words(tcp, sizeof(*tcp));
    sum += bpf_htons(PROTOCOL_TCP) + bpf_htons(sizeof(*tcp));
    if (p->is_v6) {
        ALL_OF(ipv6, ip, data + ETHERNET) return XDP_DROP;
        sum += words_of(p->tuple.source) + words_of(p->tuple.target);
        write_v6(ip->source, p->tuple.target);
        write_v6(ip->target, p->tuple.source);
        ip->payload = bpf_htons(sizeof(*tcp));
        ip->hops = 64;
    } else {
        ALL_OF(ipv4, ip, data + ETHERNET) return XDP_DROP;
        sum += (__u64)v4_of(p->tuple.source) + v4_of(p->tuple.target);
        ip->source = v4_of(p->tuple.target);
        ip->target = v4_of(p->tuple.source);
        ip->total = bpf_htons(sizeof(*ip) + sizeof(*tcp));
        ip->fragment = bpf_htons(0x4000);
        ip->ttl = 64;
        ip->sum = 0;
        ip->sum = sum_of_words(ip, sizeof(*ip));
    }
    tcp->sum = ~fold(sum);
    count(REASON_RESET_SENT);
    return XDP_TX;
}
