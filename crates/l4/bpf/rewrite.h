/* Changes a frame and sends it on: addresses, ports, checksums, encapsulation. */
#pragma once

/* One's complement differences are kept in 64 bits and folded once. */
static __always_inline __u64 words_of(const __u64 *address)
{
    return (address[0] & 0xffffffff) + (address[0] >> 32) + (address[1] & 0xffffffff) + (address[1] >> 32);
}

static __always_inline __u64 difference(const __u64 *from, const __u64 *to)
{
    __u64 inverted[2] = {~from[0], ~from[1]};
    return words_of(to) + words_of(inverted);
}

static __always_inline __u64 port_difference(__be16 from, __be16 to)
{
    return (__u64)to + (__u16)~from;
}

static __always_inline __u16 fold(__u64 sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

/* RFC 1624, equation 3. */
static __always_inline void adjust_sum(__u16 *sum, __u64 change)
{
    *sum = ~fold((__u64)(__u16)~*sum + change);
}

static __always_inline void write_v6(__u64 *to, const __u64 *from)
{
    to[0] = from[0];
    to[1] = from[1];
}

static __always_inline __u32 v4_of(const __u64 *address)
{
    return address[1] >> 32;
}

/* Lowers the TTL and, where given, puts addresses into the IP header. The caller has seen to it
 * that the TTL is above 1. */
static __always_inline int write_ip(struct packet *p, void *data, void *end, const __u64 *source,
                                    const __u64 *target)
{
    if (p->is_v6) {
        ALL_OF(ipv6, ip, data + ETHERNET) return 0;
        ip->hops -= 1;
        if (source)
            write_v6(ip->source, source);
        if (target)
            write_v6(ip->target, target);
        return 1;
    }
    ALL_OF(ipv4, ip, data + ETHERNET) return 0;
    /* TTL is the first byte of its word on the wire. */
    __u64 change = (__u16)~bpf_htons((__u16)ip->ttl << 8) + bpf_htons((__u16)(ip->ttl - 1) << 8);
    ip->ttl -= 1;
    if (source) {
        change += (__u64)(__u32)~ip->source + v4_of(source);
        ip->source = v4_of(source);
    }
    if (target) {
        change += (__u64)(__u32)~ip->target + v4_of(target);
        ip->target = v4_of(target);
    }
    adjust_sum(&ip->sum, change);
    return 1;
}

/* Ports and the transport's checksum; `change` is that of the addresses. */
static __always_inline int write_transport(struct packet *p, void *data, void *end, __be16 source,
                                           __be16 target, __u64 change)
{
    void *at = data + (p->transport & 0x1ff);
    change += port_difference(p->tuple.source_port, source) + port_difference(p->tuple.target_port, target);
    if (p->tuple.protocol == PROTOCOL_TCP) {
        ALL_OF(tcp, tcp, at) return 0;
        tcp->source = source;
        tcp->target = target;
        adjust_sum(&tcp->sum, change);
        return 1;
    }
    ALL_OF(udp, udp, at) return 0;
    udp->source = source;
    udp->target = target;
    if (udp->sum) {
        adjust_sum(&udp->sum, change);
        if (!udp->sum)
            udp->sum = 0xffff;
    }
    return 1;
}

static __always_inline int ttl_is_low(struct packet *p, void *data, void *end)
{
    if (p->is_v6) {
        ALL_OF(ipv6, ip, data + ETHERNET) return 1;
        return ip->hops <= 1;
    }
    ALL_OF(ipv4, ip, data + ETHERNET) return 1;
    return ip->ttl <= 1;
}

/* A hop: the target's MAC in wire order in the low six bytes, the interface above. */
static __always_inline __u32 interface_of(__u64 hop)
{
    return hop >> 48;
}

static __always_inline void write_mac(__u8 *at, __u64 hop)
{
    __u8 *bytes = (__u8 *)&hop;
    __builtin_memcpy(at, bytes, 6);
}

static __always_inline __u64 hop_back(struct ethernet *ethernet, __u32 interface)
{
    __u64 hop = 0;
    __builtin_memcpy(&hop, ethernet->source, 6);
    return hop | (__u64)interface << 48;
}

/* Sends the frame at `data` to a hop. */
static __always_inline int send_to(struct xdp_md *xdp, void *data, void *end, __u64 hop)
{
    ALL_OF(ethernet, ethernet, data) return XDP_DROP;
    __u32 index = interface_of(hop);
    struct interface *interface = bpf_map_lookup_elem(&interfaces, &index);
    if (!interface)
        return XDP_DROP;
    write_mac(ethernet->target, hop);
    __builtin_memcpy(ethernet->source, interface->mac, 6);
    if (index == xdp->ingress_ifindex)
        return XDP_TX;
    return bpf_redirect(index, 0);
}

/* Encapsulation: an outer header before the packet, and UDP where the tunnel is GUE (variant 1,
 * draft-ietf-intarea-gue-09 section 4: the IP packet follows at once). */

static __always_inline __u32 overhead_of(const struct destination *d)
{
    const __u64 *real = (const __u64 *)d->address;
    __u32 bytes = is_mapped(real) ? sizeof(struct ipv4) : sizeof(struct ipv6);
    return bytes + (d->tunnel == TUNNEL_GUE ? sizeof(struct udp) : 0);
}

static __always_inline __u16 sum_of_words(const void *at, int bytes)
{
    const __u16 *word = at;
    __u64 sum = 0;
#pragma unroll
    for (int i = 0; i < bytes / 2; i++)
        sum += word[i];
    return ~fold(sum);
}

static __always_inline int encapsulate(struct xdp_md *xdp, struct packet *p, const struct destination *d,
                                       __u16 flow_bits, __u64 hop)
{
    const __u64 *real = (const __u64 *)d->address;
    const __u64 *own = (const __u64 *)d->tunnel_source;
    int outer_v4 = is_mapped(real);
    int gue = d->tunnel == TUNNEL_GUE;
    __u32 overhead = overhead_of(d);
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    __u8 tos = 0;
    if (p->is_v6) {
        ALL_OF(ipv6, inner, data + ETHERNET) return XDP_DROP;
        tos = bpf_ntohl(inner->version_flow) >> 20;
    } else {
        ALL_OF(ipv4, inner, data + ETHERNET) return XDP_DROP;
        tos = inner->tos;
    }
    int grown;
    if (outer_v4)
        grown = gue ? bpf_xdp_adjust_head(xdp, -28) : bpf_xdp_adjust_head(xdp, -20);
    else
        grown = gue ? bpf_xdp_adjust_head(xdp, -48) : bpf_xdp_adjust_head(xdp, -40);
    if (grown)
        return XDP_DROP;
    data = (void *)(long)xdp->data;
    end = (void *)(long)xdp->data_end;
    ALL_OF(ethernet, ethernet, data) return XDP_DROP;
    __u8 inner_protocol = p->is_v6 ? 41 : 4;
    __u32 total = p->length + overhead;
    struct udp *udp;
    if (outer_v4) {
        ALL_OF(ipv4, ip, data + ETHERNET) return XDP_DROP;
        ethernet->type = bpf_htons(0x0800);
        ip->version_length = 0x45;
        ip->tos = tos;
        ip->total = bpf_htons(total);
        ip->identity = 0;
        ip->fragment = bpf_htons(0x4000);
        ip->ttl = 64;
        ip->protocol = gue ? PROTOCOL_UDP : inner_protocol;
        ip->sum = 0;
        ip->source = v4_of(own);
        ip->target = v4_of(real);
        ip->sum = sum_of_words(ip, sizeof(*ip));
        udp = (void *)(ip + 1);
    } else {
        ALL_OF(ipv6, ip, data + ETHERNET) return XDP_DROP;
        ethernet->type = bpf_htons(0x86dd);
        ip->version_flow = bpf_htonl(6 << 28 | (__u32)tos << 20);
        ip->payload = bpf_htons(total - sizeof(*ip));
        ip->next = gue ? PROTOCOL_UDP : inner_protocol;
        ip->hops = 64;
        write_v6(ip->source, own);
        write_v6(ip->target, real);
        udp = (void *)(ip + 1);
    }
    if (gue) {
        if ((void *)(udp + 1) > end)
            return XDP_DROP;
        /* The source port tells flows apart, for routers and receive queues (RFC 6935: no sum). */
        udp->source = bpf_htons(49152 | (flow_bits & 0x3fff));
        udp->target = bpf_htons(GUE_PORT);
        udp->length = bpf_htons(p->length + sizeof(*udp));
        udp->sum = 0;
    }
    return send_to(xdp, data, end, hop);
}
