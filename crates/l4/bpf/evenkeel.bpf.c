// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* Forwards the packets of layer-4 services.
 *
 * In: frames of the interfaces it is attached to, and the maps that user space fills. Out: the
 * frame on its way to a real server or back to a client, an answer of its own, or the frame
 * untouched for the kernel. Never: memory of its own, a decision about configuration.
 *
 * A packet of a known flow reads one cache line of tags, its entry and its destination; no helper
 * that is not inlined runs on that way. Every rule here is also in src/reference/. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "shared.h"
#include "packet.h"
#include "tables.h"
#include "rewrite.h"
#include "answer.h"
#include "schedule.h"

/* The kernel asks what licence the helpers' user has. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* What is known of the packet in hand, for the rarer ways. */
struct work {
    struct packet packet;
    __u64 hash;
    __u64 jiffies;
    __u64 client_hop;
    __u32 tick;
    __u32 closed;  /* the lease has ended */
    __u32 replies; /* some service's replies pass here */
    __u32 probes;  /* some checks go through the VIP */
    __u32 client_number;
    __u32 own_number;
    struct flow none;  /* of a packet that has no entry */
    __u32 own_numbers; /* the segment in hand was written here, numbers and all */
};

MAP(works, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct work, 1, 0);

static __always_inline void add_traffic(__u32 destination, __u32 bytes, int reply, int fresh)
{
    struct traffic *traffic = bpf_map_lookup_elem(&traffics, &destination);
    if (!traffic)
        return;
    if (reply) {
        traffic->packets_out += 1;
        traffic->bytes_out += bytes;
    } else {
        traffic->packets_in += 1;
        traffic->bytes_in += bytes;
    }
    traffic->flows += fresh;
}

/* What a segment says about its connection. Only the client is seen in DR and TUN. */
static __always_inline void advance(struct flow *flow, __u32 slot, __u8 flags, int reply)
{
    __u8 before = flow->state;
    __u8 after = before;
    if (flags & TCP_RST) {
        after = STATE_CLOSED;
    } else if (flags & TCP_FIN) {
        __u32 mark = reply ? FLOW_SERVER_FIN : FLOW_CLIENT_FIN;
        if (!(flow->marks & mark))
            __sync_fetch_and_or(&flow->marks, mark);
        __u32 both = FLOW_CLIENT_FIN | FLOW_SERVER_FIN;
        after = (flow->marks & both) == both ? STATE_CLOSED : STATE_CLOSING;
        if (before == STATE_CLOSED)
            after = before;
    } else if (!reply && before == STATE_SYN && (flags & (TCP_ACK | TCP_SYN)) == TCP_ACK) {
        after = STATE_ESTABLISHED;
    } else if (reply && before == STATE_PICKED_UP) {
        after = STATE_ESTABLISHED;
    }
    if (after == before)
        return;
    flow->state = after;
    flow->seen = 0;
    tell(slot);
    if (after == STATE_CLOSING || after == STATE_CLOSED) {
        if (flow->marks & FLOW_COUNTED)
            uncount(slot, 1);
    }
}

static __always_inline void persist(const struct service *service, const struct tuple *t, struct client_key *key)
{
    const __u64 *mask = (const __u64 *)service->mask6;
    if (is_mapped(t->source))
        mask = (const __u64 *)service->mask;
    key->client[0] = t->source[0] & mask[0];
    key->client[1] = t->source[1] & mask[1];
}

/* Once a tick at most: the flow lives on, and so does what its client is remembered by. */
CHECKED_APART int prolong(__u32 slot, __u32 number, __u32 tick)
{
    struct place found = {};
    struct place *place = &found;
    struct service *service = bpf_map_lookup_elem(&services, &number);
    if (!service || !flow_at(slot, tick, place))
        return 0;
    struct flow *flow = place->flow;
    __u32 ticks = service->timeout_ticks[flow->state & (STATES - 1)];
    __u64 wanted = (place->seen_tag & 0xffffffff00000000ULL) | (tick + ticks);
    flow->seen = tick;
    __sync_val_compare_and_swap(place->tag, place->seen_tag, wanted);
    if (flow->marks & FLOW_PERSISTENT && flow->state != STATE_CLOSED) {
        struct tuple t = {.source = {flow->client[0], flow->client[1]}};
        struct client_key key = {.service = number};
        persist(service, &t, &key);
        keep_persistent(&key, flow->destination, tick, service->persistence_ticks, 0);
    }
    return 0;
}

static __always_inline __be16 real_port(const struct destination *d, const struct flow *flow)
{
    return d->port_be ? d->port_be : flow->vip_port_be;
}

/* Adds the difference to the number that speaks of the server's bytes; what changes in the sum. */
static __always_inline __u64 shift_numbers(struct packet *p, void *data, void *end, const struct flow *flow,
                                           int reply)
{
    void *at = data + (p->transport & 0x1ff);
    ALL_OF(tcp, tcp, at) return 0;
    __be32 *number = reply ? &tcp->sequence : &tcp->acknowledged;
    __u32 before = *number;
    if (!reply && !(p->tcp_flags & TCP_ACK))
        return 0;
    __u32 host = bpf_ntohl(before);
    __u32 after = bpf_htonl(reply ? host - flow->difference : host + flow->difference);
    *number = after;
    return (__u64)after + (__u32)~before;
}

#define TTL_IS_LOW -1
#define IS_TOO_BIG -2

/* Towards the real server: addresses, ports, checksums, the next hop. */
static __always_inline int forward(struct xdp_md *xdp, struct packet *p, struct flow *flow, struct destination *d, __u64 hash)
{
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    __u64 hop = d->next_hop;
    if (!interface_of(hop)) {
        count(REASON_NO_NEIGHBOUR);
        return XDP_DROP;
    }
    if (ttl_is_low(p, data, end)) {
        count(REASON_TTL_EXCEEDED);
        return TTL_IS_LOW;
    }
    const __u64 *real = (const __u64 *)d->address;
    if (d->mode == MODE_DR) {
        if (!write_ip(p, data, end, 0, 0))
            return XDP_DROP;
        return send_to(xdp, data, end, hop);
    }
    if (d->mode == MODE_TUN) {
        if (p->length + overhead_of(d) > d->mtu) {
            count(REASON_TOO_BIG);
            return IS_TOO_BIG;
        }
        if (!write_ip(p, data, end, 0, 0))
            return XDP_DROP;
        return encapsulate(xdp, p, d, hash, hop);
    }
    __u64 change = difference(p->tuple.target, real);
    __be16 source_port = p->tuple.source_port;
    __u64 source[2] = {p->tuple.source[0], p->tuple.source[1]};
    if (d->mode == MODE_SNAT) {
        __u32 index = flow->source;
        struct address *own = bpf_map_lookup_elem(&sources, &index);
        if (!own)
            return XDP_DROP;
        source[0] = ((const __u64 *)own)[0];
        source[1] = ((const __u64 *)own)[1];
        change += difference(p->tuple.source, source);
        source_port = flow->source_port_be;
    }
    if (flow->marks & FLOW_SHIFTED && flow->state != STATE_COOKIE && p->fragment != FRAGMENT_LATER)
        change += shift_numbers(p, data, end, flow, 0);
    if (p->fragment != FRAGMENT_LATER &&
        !write_transport(p, data, end, source_port, real_port(d, flow), change))
        return XDP_DROP;
    if (!write_ip(p, data, end, source, real))
        return XDP_DROP;
    return send_to(xdp, data, end, hop);
}

/* Back to the client, of NAT and SNAT. */
static __always_inline int forward_reply(struct xdp_md *xdp, struct packet *p, struct flow *flow,
                                         struct destination *d, int own_numbers)
{
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    if (ttl_is_low(p, data, end)) {
        count(REASON_TTL_EXCEEDED);
        return TTL_IS_LOW;
    }
    __u64 hop = flow->client_hop;
    __u64 vip[2] = {flow->vip[0], flow->vip[1]};
    __u64 client[2] = {flow->client[0], flow->client[1]};
    __u64 change = difference(p->tuple.source, vip);
    __u64 target[2] = {p->tuple.target[0], p->tuple.target[1]};
    __be16 target_port = p->tuple.target_port;
    if (d->mode == MODE_SNAT) {
        change += difference(p->tuple.target, client);
        target[0] = client[0];
        target[1] = client[1];
        target_port = flow->client_port_be;
    }
    if (flow->marks & FLOW_SHIFTED && !own_numbers && p->fragment != FRAGMENT_LATER)
        change += shift_numbers(p, data, end, flow, 1);
    if (p->fragment != FRAGMENT_LATER &&
        !write_transport(p, data, end, flow->vip_port_be, target_port, change))
        return XDP_DROP;
    if (!write_ip(p, data, end, vip, target))
        return XDP_DROP;
    return send_to(xdp, data, end, hop);
}

/* The same for the rarer ways. */
CHECKED_APART int forward_apart(struct xdp_md *xdp, struct work *w, struct flow *flow, struct destination *d)
{
    if (!w || !flow || !d)
        return XDP_DROP;
    return forward(xdp, &w->packet, flow, d, w->hash);
}

CHECKED_APART int forward_reply_apart(struct xdp_md *xdp, struct work *w, struct flow *flow,
                                      struct destination *d)
{
    if (!w || !flow || !d)
        return XDP_DROP;
    return forward_reply(xdp, &w->packet, flow, d, w->own_numbers);
}

#include "icmp.h"

/* A real server that may keep nothing, or whose flow somebody closed, goes on sending: what it says
 * first becomes a reset for the client, in the place of the data, and what it says then is answered
 * with a reset. */
CHECKED_APART int cut_reply(struct xdp_md *xdp, struct work *w, __u32 slot)
{
    struct place place = {};
    if (!w || !flow_at(slot, w->tick, &place))
        return XDP_DROP;
    struct packet *p = &w->packet;
    struct flow *flow = place.flow;
    if (p->tuple.protocol != PROTOCOL_TCP || p->tcp_flags & TCP_RST)
        return XDP_DROP;
    if (flow->state == STATE_CLOSED) {
        if (!(flow->marks & FLOW_CUT))
            end_flow(&place);
        return answer_reset(xdp, p);
    }
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    __u32 network = p->is_v6 ? sizeof(struct ipv6) : sizeof(struct ipv4);
    int surplus = (int)(end - data) - (int)(ETHERNET + network + sizeof(struct tcp));
    if (!p->plain || surplus < 0 || ttl_is_low(p, data, end))
        return XDP_DROP;
    if (surplus > 0 && bpf_xdp_adjust_tail(xdp, -surplus))
        return XDP_DROP;
    data = (void *)(long)xdp->data;
    end = (void *)(long)xdp->data_end;
    ALL_OF(tcp, tcp, data + ETHERNET + network) return XDP_DROP;
    /* The number that the client expects next. */
    if (flow->marks & FLOW_SHIFTED)
        tcp->sequence = bpf_htonl(flow->state == STATE_COOKIE ? flow->difference + 1
                                                              : bpf_ntohl(tcp->sequence) - flow->difference);
    advance(flow, slot, TCP_RST, 1);
    __u64 vip[2] = {flow->vip[0], flow->vip[1]};
    __u64 client[2] = {flow->client[0], flow->client[1]};
    tcp->source = flow->vip_port_be;
    tcp->target = flow->client_port_be;
    tcp->offset = 5 << 4;
    tcp->flags = TCP_RST | TCP_ACK;
    tcp->window = 0;
    tcp->urgent = 0;
    tcp->sum = 0;
    __u64 sum = (__u16)~sum_of_words(tcp, sizeof(*tcp));
    sum += bpf_htons(PROTOCOL_TCP) + bpf_htons(sizeof(*tcp)) + words_of(vip) + words_of(client);
    /* What marks an address as IPv4 is 0xffff, which is nothing in one's complement. */
    tcp->sum = ~fold(sum);
    if (p->is_v6) {
        ALL_OF(ipv6, ip, data + ETHERNET) return XDP_DROP;
        write_v6(ip->source, vip);
        write_v6(ip->target, client);
        ip->payload = bpf_htons(sizeof(*tcp));
        ip->hops = 64;
    } else {
        ALL_OF(ipv4, ip, data + ETHERNET) return XDP_DROP;
        ip->source = v4_of(vip);
        ip->target = v4_of(client);
        ip->total = bpf_htons(sizeof(*ip) + sizeof(*tcp));
        ip->fragment = bpf_htons(0x4000);
        ip->ttl = 64;
        ip->sum = 0;
        ip->sum = sum_of_words(ip, sizeof(*ip));
    }
    count(REASON_RESET_SENT);
    return send_to(xdp, data, end, flow->client_hop);
}

#include "cookie.h"

/* Later fragments name no port: the first one leaves word where they go. */
CHECKED_APART int note_fragment(struct work *w, __u32 slot, __u32 reply)
{
    if (!w)
        return 0;
    struct place place = {};
    if (!flow_at(slot, w->tick, &place))
        return 0;
    struct fragment_key key = {.identity = w->packet.identity, .protocol = w->packet.tuple.protocol};
    key.source[0] = w->packet.tuple.source[0];
    key.source[1] = w->packet.tuple.source[1];
    key.target[0] = w->packet.tuple.target[0];
    key.target[1] = w->packet.tuple.target[1];
    struct fragment fragment = {
        .slot = slot,
        .tag = place.seen_tag >> 32,
        .generation = place.flow->marks >> FLOW_GENERATION,
        .reply = reply,
        .until = w->tick + setup.fragment_ticks,
    };
    bpf_map_update_elem(&fragments, &key, &fragment, BPF_ANY);
    return 0;
}

/* A packet that cannot go on: its sender is told, within a rate. */
CHECKED_APART int give_back(struct xdp_md *xdp, struct work *w, int action, struct destination *d)
{
    if (!w || !d || !icmp_allowed(w->jiffies))
        return XDP_DROP;
    if (action == TTL_IS_LOW)
        return answer_time_exceeded(xdp, &w->packet);
    return answer_too_big(xdp, &w->packet, d->mtu - overhead_of(d));
}

static __always_inline int take_known(struct xdp_md *xdp, struct work *w, struct place *place, struct destination *d)
{
    struct packet *p = &w->packet;
    struct flow *flow = place->flow;
    if (flow->client_hop != w->client_hop)
        flow->client_hop = w->client_hop;
    if (p->tuple.protocol == PROTOCOL_TCP && p->tcp_flags & (TCP_FIN | TCP_RST | TCP_ACK))
        advance(flow, place->slot, p->tcp_flags, 0);
    flow->bytes_in += p->length;
    add_traffic(flow->destination, p->length, 0, 0);
    if (flow->seen != w->tick)
        prolong(place->slot, d->service, w->tick);
    int action = forward(xdp, p, flow, d, w->hash);
    return action < 0 ? give_back(xdp, w, action, d) : action;
}

static __always_inline int take_reply(struct xdp_md *xdp, struct work *w, struct place *place, struct destination *d)
{
    struct packet *p = &w->packet;
    struct flow *flow = place->flow;
    if (p->tuple.protocol == PROTOCOL_TCP && p->tcp_flags)
        advance(flow, place->slot, p->tcp_flags, 1);
    flow->bytes_out += p->length;
    add_traffic(flow->destination, p->length, 1, 0);
    if (flow->seen != w->tick)
        prolong(place->slot, d->service, w->tick);
    int action = forward_reply(xdp, p, flow, d, 0);
    return action < 0 ? give_back(xdp, w, action, d) : action;
}

#include "fresh.h"
#include "probe.h"

CHECKED_APART int take_new(struct xdp_md *xdp, struct work *w)
{
    if (!w)
        return XDP_DROP;
    struct packet *p = &w->packet;
    struct tuple *t = &p->tuple;
    __u32 index = service_of(t);
    struct service *service = bpf_map_lookup_elem(&services, &index);
    struct service_state *state = bpf_map_lookup_elem(&service_states, &index);
    if (!service || !state)
        return w->probes ? take_probe_answer(xdp, w) : XDP_PASS;
    if (t->protocol == PROTOCOL_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN && is_own_connection(xdp, p))
        return XDP_PASS;
    if (w->closed) {
        count(REASON_LEASE_ENDED);
        return XDP_DROP;
    }
    if (ttl_is_low(p, (void *)(long)xdp->data, (void *)(long)xdp->data_end)) {
        count(REASON_TTL_EXCEEDED);
        return icmp_allowed(w->jiffies) ? answer_time_exceeded(xdp, p) : XDP_DROP;
    }
    __u8 first = STATE_UDP;
    if (t->protocol == PROTOCOL_TCP) {
        if (p->tcp_flags & TCP_RST) {
            count(REASON_STRAY_RESET);
            return XDP_DROP;
        }
        first = (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN ? STATE_SYN : STATE_PICKED_UP;
    }
    if (first == STATE_PICKED_UP && state->cookies_until > w->jiffies && check_cookie(xdp, w))
        first = STATE_COOKIE;
    int rate = first == STATE_COOKIE ? 1 : within_rates(w, index, service, state, first);
    if (rate == OVER_RATE && first == STATE_SYN && service->cookies) {
        state->cookies_until = w->jiffies + (1ULL << (setup.tick_shift + 10));
        return answer_cookie(xdp, w);
    }
    if (rate != 1)
        return XDP_DROP;
    struct client_key key = {.service = index};
    __u32 chosen = MAX_DESTINATIONS;
    if (service->persistence_ticks) {
        persist(service, t, &key);
        chosen = find_persistent(&key, w->tick);
        struct destination *known = bpf_map_lookup_elem(&destinations, &chosen);
        __u32 both = TAKES_PERSISTENT | TAKES_REMEMBERED;
        if (known && ((known->takes & both) != both || known->service != index || is_full(chosen)))
            chosen = MAX_DESTINATIONS;
    }
    if (chosen == MAX_DESTINATIONS)
        chosen = first == STATE_PICKED_UP ? pick_by_flow(service, t) : schedule(service, state, t);
    struct destination *d = bpf_map_lookup_elem(&destinations, &chosen);
    if (!d) {
        count(REASON_NO_REAL_SERVER);
        return t->protocol == PROTOCOL_TCP ? answer_reset(xdp, p) : XDP_DROP;
    }
    if (first == STATE_PICKED_UP && d->mode == MODE_SNAT) {
        /* Which port it had is not known any more: say so at once. */
        count(REASON_UNKNOWN_FLOW);
        return answer_reset(xdp, p);
    }
    struct place place = {};
    if (insert(w, &place, d, chosen, first, service)) {
        if (service->persistence_ticks && d->takes & TAKES_REMEMBERED)
            keep_persistent(&key, chosen, w->tick, service->persistence_ticks, 1);
        if (first == STATE_COOKIE && !write_first(xdp, w, place.flow))
            return XDP_DROP;
        if (p->fragment == FRAGMENT_FIRST)
            note_fragment(w, place.slot, 0);
    } else {
        if (d->mode == MODE_NAT || d->mode == MODE_SNAT)
            return XDP_DROP;
        /* No room: the flow goes where its hash says, packet by packet. */
        chosen = pick_by_flow(service, t);
        d = bpf_map_lookup_elem(&destinations, &chosen);
        if (!d)
            return XDP_DROP;
        count(REASON_STATELESS);
    }
    add_traffic(chosen, p->length, 0, 1);
    __builtin_memset(&w->none, 0, sizeof(w->none));
    int action = place.flow ? forward_apart(xdp, w, place.flow, d) : forward_apart(xdp, w, &w->none, d);
    return action < 0 ? give_back(xdp, w, action, d) : action;
}

#define STARTS_ANEW -3

/* A packet of a flow whose destination no longer takes it as it is, or that somebody closed. */
CHECKED_APART int take_unwanted(struct xdp_md *xdp, struct work *w, __u32 slot, __u32 takes)
{
    if (!w)
        return XDP_DROP;
    struct packet *p = &w->packet;
    int tcp = p->tuple.protocol == PROTOCOL_TCP;
    int opens = tcp && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
    if (w->closed) {
        count(REASON_LEASE_ENDED);
        return XDP_DROP;
    }
    struct place place = {};
    if (flow_at(slot, w->tick, &place)) {
        if (tcp && !opens && place.flow->marks & FLOW_CUT) {
            /* The entry stays, so that no later segment is taken for a flow of mid-way. */
            advance(place.flow, slot, TCP_RST, 0);
            return answer_reset(xdp, p);
        }
        end_flow(&place);
    }
    if (opens || !tcp)
        return STARTS_ANEW;
    return takes & RESETS_EXISTING ? answer_reset(xdp, p) : XDP_DROP;
}


/* Whether the flow goes on as it is; a new connection on the ports of an old one does not. */
static __always_inline int goes_on(const struct packet *p, const struct flow *flow,
                                   const struct destination *d)
{
    if (!(d->takes & TAKES_EXISTING) || flow->marks & FLOW_CUT)
        return 0;
    if (p->tuple.protocol == PROTOCOL_UDP)
        return d->takes & (TAKES_NEW | TAKES_PERSISTENT);
    if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
        return 1;
    int over = flow->state == STATE_CLOSING || flow->state == STATE_CLOSED || flow->state == STATE_PICKED_UP;
    return !over && d->takes & (TAKES_NEW | TAKES_PERSISTENT);
}

static __always_inline int take_fragment(struct xdp_md *xdp, struct work *w)
{
    struct packet *p = &w->packet;
    struct fragment_key key = {.identity = p->identity, .protocol = p->tuple.protocol};
    key.source[0] = p->tuple.source[0];
    key.source[1] = p->tuple.source[1];
    key.target[0] = p->tuple.target[0];
    key.target[1] = p->tuple.target[1];
    struct fragment *known = bpf_map_lookup_elem(&fragments, &key);
    struct place place = {};
    if (!known || known->until <= w->tick || !flow_at(known->slot, w->tick, &place) ||
        place.seen_tag >> 32 != known->tag || place.flow->marks >> FLOW_GENERATION != known->generation)
        return -1;
    struct destination *d = bpf_map_lookup_elem(&destinations, &place.flow->destination);
    if (!d || w->closed || !(d->takes & TAKES_EXISTING) || place.flow->marks & FLOW_CUT)
        return XDP_DROP;
    count(REASON_FRAGMENT_FORWARDED);
    add_traffic(place.flow->destination, p->length, known->reply, 0);
    int action;
    if (known->reply)
        action = forward_reply_apart(xdp, w, place.flow, d);
    else
        action = forward_apart(xdp, w, place.flow, d);
    return action < 0 ? XDP_DROP : action;
}

/* A later fragment for an address of a service is not for the kernel either. */
CHECKED_APART int take_later_fragment(struct xdp_md *xdp, struct work *w)
{
    if (!w)
        return XDP_DROP;
    int action = take_fragment(xdp, w);
    if (action >= 0)
        return action;
    struct vip_key key = {.protocol = 0};
    const __u32 *words = (const __u32 *)w->packet.tuple.target;
    for (int i = 0; i < 4; i++)
        key.address[i] = words[i];
    if (!bpf_map_lookup_elem(&vips, &key))
        return XDP_PASS;
    count(REASON_FRAGMENT_UNKNOWN);
    return XDP_DROP;
}

SEC("xdp")
int evenkeel_l4(struct xdp_md *xdp)
{
    void *data = (void *)(long)xdp->data;
    void *end = (void *)(long)xdp->data_end;
    __u32 index = xdp->ingress_ifindex;
    struct interface *interface = bpf_map_lookup_elem(&interfaces, &index);
    __u32 zero = 0;
    struct gate *gate = bpf_map_lookup_elem(&gates, &zero);
    ALL_OF(ethernet, ethernet, data) return XDP_PASS;
    if (!interface || !gate || !(interface->marks & INTERFACE_IN_USE))
        return XDP_PASS;
    __u32 mac_low, own_low;
    __u16 mac_high, own_high;
    __builtin_memcpy(&mac_low, ethernet->target, 4);
    __builtin_memcpy(&mac_high, ethernet->target + 4, 2);
    __builtin_memcpy(&own_low, interface->mac, 4);
    __builtin_memcpy(&own_high, interface->mac + 4, 2);
    if (mac_low != own_low || mac_high != own_high)
        return XDP_PASS;

    struct work *w = bpf_map_lookup_elem(&works, &zero);
    if (!w)
        return XDP_PASS;
    struct packet *p = &w->packet;
    __builtin_memset(p, 0, sizeof(*p));
    w->client_number = w->own_number = w->own_numbers = 0;
    int read = read_packet(p, data, end, ethernet->type);
    if (read == READ_OTHER)
        return XDP_PASS;
    if (read == READ_MALFORMED) {
        count(REASON_MALFORMED);
        return XDP_DROP;
    }
    w->jiffies = bpf_jiffies64();
    w->tick = w->jiffies >> setup.tick_shift;
    w->closed = w->jiffies >= gate->lease_until;
    w->replies = gate->marks & GATE_REPLIES;
    w->probes = gate->marks & GATE_PROBES;
    w->client_hop = hop_back(ethernet, index);
    if (p->fragment == FRAGMENT_LATER)
        return take_later_fragment(xdp, w);
    if (p->tuple.protocol == PROTOCOL_ICMP || p->tuple.protocol == PROTOCOL_ICMP6)
        return take_icmp(xdp, w);
    if (p->tuple.protocol != PROTOCOL_TCP && p->tuple.protocol != PROTOCOL_UDP)
        return XDP_PASS;

    w->hash = hash_tuple(&p->tuple);
    struct place place = {};
    __u32 slot = find_flow(&p->tuple, w->hash, w->tick);
    if (slot != NOWHERE && flow_at(slot, w->tick, &place)) {
        struct destination *d = bpf_map_lookup_elem(&destinations, &place.flow->destination);
        if (!d)
            return XDP_DROP;
        if (w->closed || !goes_on(p, place.flow, d)) {
            int action = take_unwanted(xdp, w, place.slot, d->takes);
            return action == STARTS_ANEW ? take_new(xdp, w) : action;
        }
        if (place.flow->state == STATE_COOKIE)
            return take_client_waiting(xdp, w, slot);
        if (p->fragment == FRAGMENT_FIRST)
            note_fragment(w, place.slot, 0);
        return take_known(xdp, w, &place, d);
    }
    if (w->replies)
        slot = find_reply(&p->tuple, w->hash, w->tick);
    if (slot != NOWHERE && flow_at(slot, w->tick, &place)) {
        struct destination *d = bpf_map_lookup_elem(&destinations, &place.flow->destination);
        if (!d || w->closed)
            return XDP_DROP;
        if (place.flow->marks & FLOW_CUT)
            return cut_reply(xdp, w, slot);
        if (!(d->takes & TAKES_EXISTING))
            return d->takes & RESETS_EXISTING ? cut_reply(xdp, w, slot) : XDP_DROP;
        if (place.flow->marks & FLOW_SHIFTED && (place.flow->state == STATE_COOKIE || (p->tcp_flags & (TCP_SYN | TCP_RST)) == TCP_SYN)) {
            w->own_numbers = 1;
            return take_server_answer(xdp, w, slot);
        }
        if (p->fragment == FRAGMENT_FIRST)
            note_fragment(w, place.slot, 1);
        return take_reply(xdp, w, &place, d);
    }
    return take_new(xdp, w);
}

#include "orders.h"
