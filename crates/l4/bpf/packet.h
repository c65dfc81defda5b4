/* Reads a frame: what it is, where its parts are. Never changes anything. */
#pragma once

#define ETHERNET 14
#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_ICMP6 58

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

#define FRAGMENT_NONE 0
#define FRAGMENT_FIRST 1
#define FRAGMENT_LATER 2

/* Extension headers that are walked through; a longer chain is not balanced. */
#define EXTENSIONS 6

struct ethernet {
    __u8 target[6];
    __u8 source[6];
    __be16 type;
} __attribute__((packed));

struct ipv4 {
    __u8 version_length;
    __u8 tos;
    __be16 total;
    __be16 identity;
    __be16 fragment;
    __u8 ttl;
    __u8 protocol;
    __u16 sum;
    __u32 source;
    __u32 target;
};

struct ipv6 {
    __be32 version_flow;
    __be16 payload;
    __u8 next;
    __u8 hops;
    __u64 source[2];
    __u64 target[2];
} __attribute__((packed, aligned(2)));

struct tcp {
    __be16 source;
    __be16 target;
    __be32 sequence;
    __be32 acknowledged;
    __u8 offset;
    __u8 flags;
    __be16 window;
    __u16 sum;
    __be16 urgent;
};

struct udp {
    __be16 source;
    __be16 target;
    __be16 length;
    __u16 sum;
};

struct icmp {
    __u8 type;
    __u8 code;
    __u16 sum;
    __be32 rest;
};

/* Addresses and ports in the direction of travel. */
struct tuple {
    __u64 source[2];
    __u64 target[2];
    __be16 source_port;
    __be16 target_port;
    __u8 protocol;
};

struct packet {
    struct tuple tuple;
    __u32 identity;
    __u16 transport; /* offset of TCP, UDP or ICMP */
    __u16 length;    /* from the IP header on */
    __u8 is_v6;
    __u8 fragment;
    __u8 tcp_flags;
    __u8 plain; /* no options, no extension headers */
};

#define ALL_OF(type, name, at)                                                                         \
    struct type *name = (at);                                                                          \
    if ((void *)(name + 1) > end)

#define READ_FINE 0
#define READ_OTHER 1
#define READ_MALFORMED 2

/* IPv4 as the IPv6 address that stands for it, so that there is one kind of table. */
static __always_inline __u64 mapped(__u32 address)
{
    return ((__u64)address << 32) | 0xffff0000ULL;
}

static __always_inline int is_mapped(const __u64 *address)
{
    return address[0] == 0 && (__u32)address[1] == 0xffff0000;
}

static __always_inline int read_ports(struct packet *p, void *data, void *end)
{
    void *at = data + (p->transport & 0x1ff);
    __u32 left = p->length + ETHERNET - p->transport;
    if (p->tuple.protocol == PROTOCOL_TCP) {
        ALL_OF(tcp, tcp, at) return READ_MALFORMED;
        __u32 header = (tcp->offset >> 4) * 4;
        if (header < sizeof(*tcp) || header > left)
            return READ_MALFORMED;
        p->tuple.source_port = tcp->source;
        p->tuple.target_port = tcp->target;
        p->tcp_flags = tcp->flags;
    } else if (p->tuple.protocol == PROTOCOL_UDP) {
        ALL_OF(udp, udp, at) return READ_MALFORMED;
        if (left < sizeof(*udp))
            return READ_MALFORMED;
        p->tuple.source_port = udp->source;
        p->tuple.target_port = udp->target;
    }
    return READ_FINE;
}

static __always_inline int read_ipv4(struct packet *p, void *data, void *end)
{
    ALL_OF(ipv4, ip, data + ETHERNET) return READ_MALFORMED;
    __u32 header = (ip->version_length & 15) * 4;
    __u32 total = bpf_ntohs(ip->total);
    if (ip->version_length >> 4 != 4 || header < sizeof(*ip) || total < header)
        return READ_MALFORMED;
    if (total > end - data - ETHERNET)
        return READ_MALFORMED;
    p->length = total;
    p->transport = ETHERNET + header;
    p->plain = header == sizeof(*ip);
    p->tuple.source[0] = 0;
    p->tuple.source[1] = mapped(ip->source);
    p->tuple.target[0] = 0;
    p->tuple.target[1] = mapped(ip->target);
    p->tuple.protocol = ip->protocol;
    __u32 fragment = bpf_ntohs(ip->fragment) & 0x3fff;
    if (fragment) {
        p->identity = ip->identity;
        p->fragment = fragment & 0x1fff ? FRAGMENT_LATER : FRAGMENT_FIRST;
    }
    return READ_FINE;
}

static __always_inline int read_ipv6(struct packet *p, void *data, void *end)
{
    ALL_OF(ipv6, ip, data + ETHERNET) return READ_MALFORMED;
    __u32 total = bpf_ntohs(ip->payload) + sizeof(*ip);
    if ((ip->version_flow & bpf_htonl(0xf0000000)) != bpf_htonl(0x60000000))
        return READ_MALFORMED;
    if (total > end - data - ETHERNET)
        return READ_MALFORMED;
    /* Addresses that stand for IPv4 never travel (RFC 4942, section 2.2); here they would be taken
     * for IPv4's own flows. */
    __u64 source[2] = {ip->source[0], ip->source[1]}, target[2] = {ip->target[0], ip->target[1]};
    if (is_mapped(source) || is_mapped(target))
        return READ_MALFORMED;
    p->is_v6 = 1;
    p->length = total;
    p->plain = 1;
    p->tuple.source[0] = ip->source[0];
    p->tuple.source[1] = ip->source[1];
    p->tuple.target[0] = ip->target[0];
    p->tuple.target[1] = ip->target[1];
    __u32 next = ip->next;
    __u32 at = ETHERNET + sizeof(*ip);
    if (next != PROTOCOL_TCP && next != PROTOCOL_UDP) {
#pragma unroll
        for (int i = 0; i < EXTENSIONS; i++) {
            __u8 *extension = data + (at & 0x7ff);
            if (next == 0 || next == 43 || next == 60) {
                if ((void *)(extension + 8) > end)
                    return READ_MALFORMED;
                next = extension[0];
                at += (extension[1] + 1) * 8;
                p->plain = 0;
            } else if (next == 44) {
                if ((void *)(extension + 8) > end)
                    return READ_MALFORMED;
                next = extension[0];
                __u32 offset = (extension[2] << 8 | extension[3]) & 0xfff9;
                __builtin_memcpy(&p->identity, extension + 4, 4);
                if (offset)
                    p->fragment = offset >> 3 ? FRAGMENT_LATER : FRAGMENT_FIRST;
                at += 8;
                p->plain = 0;
                if (p->fragment == FRAGMENT_LATER)
                    break;
            }
            if (at > 0x1ff - 64)
                return READ_OTHER;
        }
    }
    if (at - ETHERNET > total)
        return READ_MALFORMED;
    p->transport = at;
    p->tuple.protocol = next;
    return READ_FINE;
}

static __always_inline int read_packet(struct packet *p, void *data, void *end, __be16 type)
{
    int read = READ_OTHER;
    if (type == bpf_htons(0x0800))
        read = read_ipv4(p, data, end);
    else if (type == bpf_htons(0x86dd))
        read = read_ipv6(p, data, end);
    if (read == READ_FINE && p->fragment != FRAGMENT_LATER)
        read = read_ports(p, data, end);
    return read;
}
