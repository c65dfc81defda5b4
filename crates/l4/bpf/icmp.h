/* ICMP errors about a balanced flow go where the flow goes (RFC 5508 for NAT). */
#pragma once

static __always_inline int is_error(const struct packet *p, __u8 type)
{
    if (p->is_v6)
        return type >= 1 && type <= 4;
    return type == 3 || type == 11 || type == 12;
}

/* The packet that the error is about, in its own direction of travel. */
static __always_inline int read_quoted(struct packet *p, void *data, void *end, struct tuple *quoted)
{
    void *at = data + (p->transport & 0x1ff) + sizeof(struct icmp);
    __be16 *ports;
    if (p->is_v6) {
        ALL_OF(ipv6, ip, at) return 0;
        quoted->source[0] = ip->source[0];
        quoted->source[1] = ip->source[1];
        quoted->target[0] = ip->target[0];
        quoted->target[1] = ip->target[1];
        quoted->protocol = ip->next;
        ports = (void *)(ip + 1);
    } else {
        ALL_OF(ipv4, ip, at) return 0;
        if (ip->version_length != 0x45 || bpf_ntohs(ip->fragment) & 0x1fff)
            return 0;
        quoted->source[0] = 0;
        quoted->source[1] = mapped(ip->source);
        quoted->target[0] = 0;
        quoted->target[1] = mapped(ip->target);
        quoted->protocol = ip->protocol;
        ports = (void *)(ip + 1);
    }
    if ((void *)(ports + 4) > end)
        return 0;
    quoted->source_port = ports[0];
    quoted->target_port = ports[1];
    return quoted->protocol == PROTOCOL_TCP || quoted->protocol == PROTOCOL_UDP;
}

static __always_inline void turned(const struct tuple *from, struct tuple *to)
{
    to->source[0] = from->target[0];
    to->source[1] = from->target[1];
    to->target[0] = from->source[0];
    to->target[1] = from->source[1];
    to->source_port = from->target_port;
    to->target_port = from->source_port;
    to->protocol = from->protocol;
}

/* Puts other addresses and ports into the quoted packet and its IP checksum, and what that changes
 * into the ICMP checksum. A quoted segment's number is shifted too: its sender looks whether it has
 * sent that (RFC 5927, section 4.1). */
static __always_inline int write_quoted(struct packet *p, void *data, void *end, const struct tuple *from,
                                        const struct tuple *to, __u32 shift)
{
    void *at = data + (p->transport & 0x1ff);
    ALL_OF(icmp, icmp, at) return 0;
    __u64 change = port_difference(from->source_port, to->source_port) +
                   port_difference(from->target_port, to->target_port);
    __u64 addresses = difference(from->source, to->source) + difference(from->target, to->target);
    __be16 *ports;
    if (p->is_v6) {
        ALL_OF(ipv6, ip, at + sizeof(*icmp)) return 0;
        write_v6(ip->source, to->source);
        write_v6(ip->target, to->target);
        change += addresses;
        ports = (void *)(ip + 1);
    } else {
        ALL_OF(ipv4, ip, at + sizeof(*icmp)) return 0;
        ip->source = v4_of(to->source);
        ip->target = v4_of(to->target);
        /* The header's sum makes up for its addresses, so the ICMP sum need not know. */
        __u16 before = ip->sum;
        adjust_sum(&ip->sum, addresses);
        change += addresses + (__u16)~before + ip->sum;
        ports = (void *)(ip + 1);
    }
    if ((void *)(ports + 4) > end)
        return 0;
    ports[0] = to->source_port;
    ports[1] = to->target_port;
    if (shift) {
        __be32 *number = (void *)(ports + 2);
        __be32 after = bpf_htonl(bpf_ntohl(*number) + shift);
        change += (__u64)after + (__u32)~*number;
        *number = after;
    }
    adjust_sum(&icmp->sum, change);
    return 1;
}

/* The outer addresses are part of the checksum in ICMPv6 alone. */
static __always_inline int write_outer(struct packet *p, void *data, void *end, const __u64 *source,
                                       const __u64 *target)
{
    if (p->is_v6) {
        ALL_OF(icmp, icmp, data + (p->transport & 0x1ff)) return 0;
        adjust_sum(&icmp->sum, difference(p->tuple.source, source) + difference(p->tuple.target, target));
    }
    return write_ip(p, data, end, source, target);
}

/* About a packet that a real server sent to a client. */
static __always_inline int icmp_to_server(struct xdp_md *xdp, struct work *w, const struct tuple *quoted, struct flow *flow,
                                          struct destination *d)
{
    struct packet *p = &w->packet;
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    if (!interface_of(d->next_hop)) {
        count(REASON_NO_NEIGHBOUR);
        return XDP_DROP;
    }
    if (ttl_is_low(p, data, end))
        return XDP_DROP;
    count(REASON_ICMP_FORWARDED);
    if (d->mode == MODE_DR || d->mode == MODE_TUN) {
        int action = forward_apart(xdp, w, flow, d);
        return action < 0 ? XDP_DROP : action;
    }
    const __u64 *real = (const __u64 *)d->address;
    struct tuple to = *quoted;
    to.source[0] = real[0];
    to.source[1] = real[1];
    to.source_port = real_port(d, flow);
    if (d->mode == MODE_SNAT) {
        __u32 index = flow->source;
        struct address *own = bpf_map_lookup_elem(&sources, &index);
        if (!own)
            return XDP_DROP;
        to.target[0] = ((const __u64 *)own)[0];
        to.target[1] = ((const __u64 *)own)[1];
        to.target_port = flow->source_port_be;
    }
    __u32 shift = flow->marks & FLOW_SHIFTED && flow->state != STATE_COOKIE ? flow->difference : 0;
    if (!write_quoted(p, data, end, quoted, &to, shift) || !write_outer(p, data, end, p->tuple.source, real))
        return XDP_DROP;
    return send_to(xdp, data, end, d->next_hop);
}

/* About a packet that a client sent, from beyond the load balancer. */
static __always_inline int icmp_to_client(struct xdp_md *xdp, struct work *w, const struct tuple *quoted, struct flow *flow,
                                          struct destination *d)
{
    struct packet *p = &w->packet;
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    if (ttl_is_low(p, data, end))
        return XDP_DROP;
    count(REASON_ICMP_FORWARDED);
    struct tuple to = *quoted;
    __u64 vip[2] = {flow->vip[0], flow->vip[1]};
    __u64 client[2] = {flow->client[0], flow->client[1]};
    to.target[0] = vip[0];
    to.target[1] = vip[1];
    to.target_port = flow->vip_port_be;
    to.source[0] = client[0];
    to.source[1] = client[1];
    to.source_port = flow->client_port_be;
    const __u64 *real = (const __u64 *)d->address;
    /* A real server must not show its own address; routers on the way keep theirs. */
    int own = p->tuple.source[0] == real[0] && p->tuple.source[1] == real[1];
    if (!write_quoted(p, data, end, quoted, &to, 0))
        return XDP_DROP;
    int hidden = d->mode == MODE_SNAT;
    __u64 source[2] = {own ? vip[0] : p->tuple.source[0], own ? vip[1] : p->tuple.source[1]};
    __u64 target[2] = {hidden ? client[0] : p->tuple.target[0], hidden ? client[1] : p->tuple.target[1]};
    if (!write_outer(p, data, end, source, target))
        return XDP_DROP;
    return send_to(xdp, data, end, flow->client_hop);
}

CHECKED_APART int take_icmp(struct xdp_md *xdp, struct work *w)
{
    if (!w)
        return XDP_DROP;
    struct packet *p = &w->packet;
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    ALL_OF(icmp, icmp, data + (p->transport & 0x1ff)) return XDP_PASS;
    struct tuple quoted = {}, reply = {};
    if (!is_error(p, icmp->type) || !read_quoted(p, data, end, &quoted))
        return XDP_PASS;
    turned(&quoted, &reply);
    __u64 hash = hash_tuple(&reply);
    struct place place = {};
    __u32 slot = find_flow(&reply, hash, w->tick);
    int to_server = slot != NOWHERE;
    if (!to_server && w->replies)
        slot = find_reply(&reply, hash, w->tick);
    if (slot == NOWHERE || !flow_at(slot, w->tick, &place))
        return XDP_PASS;
    struct destination *d = bpf_map_lookup_elem(&destinations, &place.flow->destination);
    if (!d || w->closed || !(d->takes & TAKES_EXISTING))
        return XDP_DROP;
    w->hash = hash;
    if (to_server)
        return icmp_to_server(xdp, w, &quoted, place.flow, d);
    return icmp_to_client(xdp, w, &quoted, place.flow, d);
}
