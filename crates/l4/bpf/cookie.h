/* SYN cookies, for modes that see both directions (NAT, SNAT). A first segment is answered without
 * an entry; the number in the answer proves the client's address when it comes back (RFC 4987,
 * section 3.6). Then the real server is asked with the client's own number, and from there on the
 * difference between the two servers' numbers is added to each segment.
 *
 * The answer has a window of zero: the client's data wait until the real server has answered. */
#pragma once

#define SIP_ROUND(a, b, c, d)                                                                          \
    do {                                                                                               \
        a += b;                                                                                        \
        b = (b << 13 | b >> 51) ^ a;                                                                   \
        a = a << 32 | a >> 32;                                                                         \
        c += d;                                                                                        \
        d = (d << 16 | d >> 48) ^ c;                                                                   \
        a += d;                                                                                        \
        d = (d << 21 | d >> 43) ^ a;                                                                   \
        c += b;                                                                                        \
        b = (b << 17 | b >> 47) ^ c;                                                                   \
        c = c << 32 | c >> 32;                                                                         \
    } while (0)

/* SipHash-2-4 (Aumasson, Bernstein 2012) over the flow, the client's number and the time. */
static __always_inline __u64 cookie_hash(const struct tuple *t, __u32 number, __u32 slot)
{
    __u64 a = setup.seed_a ^ 0x736f6d6570736575ULL, b = setup.seed_b ^ 0x646f72616e646f6dULL;
    __u64 c = setup.seed_a ^ 0x6c7967656e657261ULL, d = setup.seed_b ^ 0x7465646279746573ULL;
    __u64 words[6] = {t->source[0], t->source[1], t->target[0], t->target[1],
                      (__u64)t->source_port << 16 | t->target_port, (__u64)number << 32 | slot};
#pragma unroll
    for (int i = 0; i < 6; i++) {
        d ^= words[i];
        SIP_ROUND(a, b, c, d);
        SIP_ROUND(a, b, c, d);
        a ^= words[i];
    }
    c ^= 0xff;
    SIP_ROUND(a, b, c, d);
    SIP_ROUND(a, b, c, d);
    SIP_ROUND(a, b, c, d);
    SIP_ROUND(a, b, c, d);
    return a ^ b ^ c ^ d;
}

/* About half a minute; a number is good for two of them. */
static __always_inline __u32 cookie_slot(__u64 jiffies)
{
    return (jiffies >> (setup.tick_shift + 8)) & 31;
}

static __always_inline __u32 cookie_mss(__u32 index)
{
    return index == 3 ? 1440 : index == 2 ? 1300 : index == 1 ? 1220 : 536;
}

static __always_inline __u32 cookie_of(const struct tuple *t, __u32 number, __u32 slot, __u32 index)
{
    __u32 hash = cookie_hash(t, number, slot << 2 | index) & 0x1ffffff;
    return slot << 27 | index << 25 | hash;
}

/* Gives a segment a header of its own with one option, the MSS: everything else is cut off.
 * The checksum is written whole, for the addresses that the packet has now. */
static __always_inline int write_segment(struct xdp_md *xdp, struct packet *p, const struct tuple *t,
                                         __u32 sequence, __u32 acknowledged, __u8 flags, __u16 window,
                                         __u32 mss)
{
    __u32 network = p->is_v6 ? sizeof(struct ipv6) : sizeof(struct ipv4);
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    int wanted = ETHERNET + network + sizeof(struct tcp) + 4;
    int change = wanted - (int)(end - data);
    if (!p->plain)
        return 0;
    if (change && bpf_xdp_adjust_tail(xdp, change))
        return 0;
    data = (void *)(long)xdp->data;
    end = (void *)(long)xdp->data_end;
    struct segment {
        struct tcp tcp;
        __u8 option[4];
    };
    ALL_OF(segment, segment, data + ETHERNET + network) return 0;
    struct tcp *tcp = &segment->tcp;
    tcp->source = t->source_port;
    tcp->target = t->target_port;
    tcp->sequence = bpf_htonl(sequence);
    tcp->acknowledged = bpf_htonl(acknowledged);
    tcp->offset = 6 << 4;
    tcp->flags = flags;
    tcp->window = window;
    tcp->urgent = 0;
    tcp->sum = 0;
    /* Two bytes of kind and length, or four of nothing. */
    segment->option[0] = flags & TCP_SYN ? 2 : 1;
    segment->option[1] = flags & TCP_SYN ? 4 : 1;
    segment->option[2] = flags & TCP_SYN ? mss >> 8 : 1;
    segment->option[3] = flags & TCP_SYN ? mss : 1;
    __u64 sum = (__u16)~sum_of_words(segment, sizeof(*segment));
    sum += bpf_htons(PROTOCOL_TCP) + bpf_htons(sizeof(*segment));
    sum += words_of(t->source) + words_of(t->target);
    tcp->sum = ~fold(sum);
    if (p->is_v6) {
        ALL_OF(ipv6, ip, data + ETHERNET) return 0;
        ip->payload = bpf_htons(sizeof(*segment));
        write_v6(ip->source, t->source);
        write_v6(ip->target, t->target);
        ip->hops = 64;
    } else {
        ALL_OF(ipv4, ip, data + ETHERNET) return 0;
        ip->total = bpf_htons(sizeof(*ip) + sizeof(*segment));
        ip->fragment = bpf_htons(0x4000);
        ip->ttl = 64;
        ip->source = v4_of(t->source);
        ip->target = v4_of(t->target);
        ip->sum = 0;
        ip->sum = sum_of_words(ip, sizeof(*ip));
    }
    p->length = network + sizeof(*segment);
    return 1;
}

static __always_inline int read_numbers(struct xdp_md *xdp, struct packet *p, __u32 *sequence,
                                        __u32 *acknowledged, __u16 *window)
{
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    __u32 network = p->is_v6 ? sizeof(struct ipv6) : sizeof(struct ipv4);
    ALL_OF(tcp, tcp, data + ETHERNET + network) return 0;
    *sequence = bpf_ntohl(tcp->sequence);
    *acknowledged = bpf_ntohl(tcp->acknowledged);
    *window = tcp->window;
    return p->plain;
}

/* What the client offered; the nearest size below it that a cookie can say. */
static __always_inline __u32 offered_mss(struct xdp_md *xdp, struct packet *p)
{
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    __u32 network = p->is_v6 ? sizeof(struct ipv6) : sizeof(struct ipv4);
    ALL_OF(tcp, tcp, data + ETHERNET + network) return 0;
    __u8 *option = (void *)(tcp + 1);
    if (tcp->offset >> 4 < 6 || (void *)(option + 4) > end || option[0] != 2 || option[1] != 4)
        return 0;
    __u32 mss = option[2] << 8 | option[3];
    return mss >= 1440 ? 3 : mss >= 1300 ? 2 : mss >= 1220 ? 1 : 0;
}

CHECKED_APART int answer_cookie(struct xdp_md *xdp, struct work *w)
{
    if (!w)
        return XDP_DROP;
    struct packet *p = &w->packet;
    __u32 number, acknowledged;
    __u16 window;
    if (!read_numbers(xdp, p, &number, &acknowledged, &window))
        return XDP_DROP;
    __u32 index = offered_mss(xdp, p);
    __u32 own = cookie_of(&p->tuple, number, cookie_slot(w->jiffies), index);
    struct tuple back = {};
    turned(&p->tuple, &back);
    if (!write_segment(xdp, p, &back, own, number + 1, TCP_SYN | TCP_ACK, 0, cookie_mss(index)))
        return XDP_DROP;
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    ALL_OF(ethernet, ethernet, data) return XDP_DROP;
    turn_back(ethernet);
    count(REASON_COOKIE_SENT);
    return XDP_TX;
}

/* The client's number and its MSS, if this segment answers one of our cookies. */
CHECKED_APART int check_cookie(struct xdp_md *xdp, struct work *w)
{
    if (!w)
        return 0;
    struct packet *p = &w->packet;
    __u32 number, own;
    __u16 window;
    if (!read_numbers(xdp, p, &number, &own, &window))
        return 0;
    number -= 1;
    own -= 1;
    __u32 slot = own >> 27;
    __u32 index = own >> 25 & 3;
    __u32 age = (cookie_slot(w->jiffies) - slot) & 31;
    if (age > 1 || cookie_of(&p->tuple, number, slot, index) != own) {
        count(REASON_COOKIE_WRONG);
        return 0;
    }
    w->client_number = number;
    w->own_number = own;
    return 1;
}

/* Turns the client's segment into the first one that the real server sees. */
static __always_inline int write_first(struct xdp_md *xdp, struct work *w, const struct flow *flow)
{
    struct packet *p = &w->packet;
    __u32 sequence, acknowledged;
    __u16 window;
    if (!read_numbers(xdp, p, &sequence, &acknowledged, &window))
        return 0;
    __u32 mss = cookie_mss(flow->difference >> 25 & 3);
    struct tuple same = p->tuple;
    return write_segment(xdp, p, &same, flow->client_number, 0, TCP_SYN, window, mss);
}

/* A segment that is written anew goes no further than it would have gone. */
static __always_inline int is_last_hop(struct xdp_md *xdp, struct work *w)
{
    if (!ttl_is_low(&w->packet, (void *)(long)xdp->data, (void *)(long)xdp->data_end))
        return 0;
    count(REASON_TTL_EXCEEDED);
    return 1;
}

/* Until the real server has answered, `difference` holds our own number. */
CHECKED_APART int take_client_waiting(struct xdp_md *xdp, struct work *w, __u32 slot)
{
    struct place place = {};
    if (!w || !flow_at(slot, w->tick, &place))
        return XDP_DROP;
    struct destination *d = bpf_map_lookup_elem(&destinations, &place.flow->destination);
    if (!d || w->packet.tcp_flags & TCP_SYN || is_last_hop(xdp, w))
        return XDP_DROP;
    if (w->packet.tcp_flags & (TCP_RST | TCP_FIN)) {
        end_flow(&place);
        return XDP_DROP;
    }
    if (!write_first(xdp, w, place.flow))
        return XDP_DROP;
    return forward_apart(xdp, w, place.flow, d);
}

CHECKED_APART int take_server_answer(struct xdp_md *xdp, struct work *w, __u32 slot)
{
    struct place place = {};
    if (!w || !flow_at(slot, w->tick, &place))
        return XDP_DROP;
    struct packet *p = &w->packet;
    struct flow *flow = place.flow;
    struct destination *d = bpf_map_lookup_elem(&destinations, &flow->destination);
    __u32 number, acknowledged;
    __u16 window;
    if (!d || is_last_hop(xdp, w) || !read_numbers(xdp, p, &number, &acknowledged, &window))
        return XDP_DROP;
    struct tuple same = p->tuple;
    if (p->tcp_flags & TCP_RST) {
        __u32 own = flow->difference;
        advance(flow, slot, TCP_RST, 1);
        if (!write_segment(xdp, p, &same, own + 1, flow->client_number + 1, TCP_RST | TCP_ACK, 0, 0))
            return XDP_DROP;
        return forward_reply_apart(xdp, w, flow, d);
    }
    if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) != (TCP_SYN | TCP_ACK))
        return XDP_DROP;
    if (flow->state == STATE_COOKIE) {
        /* The client hears that it may send; what it sends tells the server that all is well. */
        __u32 own = flow->difference;
        flow->difference = number - own;
        flow->state = STATE_ESTABLISHED;
        flow->seen = 0;
        tell(slot);
        if (!write_segment(xdp, p, &same, own + 1, flow->client_number + 1, TCP_ACK, window, 0))
            return XDP_DROP;
        return forward_reply_apart(xdp, w, flow, d);
    }
    /* The server has heard nothing: the client waits for it to speak first. */
    struct tuple back = {};
    turned(&p->tuple, &back);
    if (!write_segment(xdp, p, &back, flow->client_number + 1, number + 1, TCP_ACK, bpf_htons(64000), 0))
        return XDP_DROP;
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    ALL_OF(ethernet, ethernet, data) return XDP_DROP;
    turn_back(ethernet);
    return XDP_TX;
}
