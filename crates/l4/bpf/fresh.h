/* New flows: rates, which service they are for, the entry, ports and the way back. */
#pragma once

/* Generic cell rate algorithm; time in 1/1024 jiffies. */
static __always_inline int within_rate(__u64 *due, __u64 jiffies, __u64 interval, __u64 burst)
{
    if (!interval)
        return 1;
    __u64 now = jiffies << 10;
    __u64 at = *due > now ? *due : now;
    if (at - now > burst)
        return 0;
    *due = at + interval;
    return 1;
}

#define OVER_RATE 2

static __always_inline int within_rates(struct work *w, __u32 number, const struct service *service,
                                        struct service_state *state, __u8 first)
{
    const struct tuple *t = &w->packet.tuple;
    if (service->source_interval) {
        __u64 network = t->source[0];
        if (network == 0)
            network = t->source[1];
        __u64 hash = mix(mix(setup.seed_b, network), number);
        __u32 index = hash & (SOURCE_RATES - 1);
        __u64 *due = bpf_map_lookup_elem(&source_rates, &index);
        if (due && !within_rate(due, w->jiffies, service->source_interval, service->source_burst)) {
            count(REASON_SOURCE_LIMITED);
            return 0;
        }
    }
    if (service->cookies == COOKIES_ALWAYS && first == STATE_SYN)
        return OVER_RATE;
    if (!within_rate(&state->flow_due, w->jiffies, service->flow_interval, service->flow_burst)) {
        count(REASON_RATE_LIMITED);
        return OVER_RATE;
    }
    return 1;
}

/* Whether this machine has an open connection of its own with this packet's ends: a service of layer 7 took it
 * before one of layer 4 took its VIP. */
static __always_inline int is_own_connection(struct xdp_md *xdp, const struct packet *p)
{
    const struct tuple *t = &p->tuple;
    struct bpf_sock_tuple ends = {};
    __u32 size = sizeof(ends.ipv4);
    if (p->is_v6) {
        __builtin_memcpy(ends.ipv6.saddr, t->source, sizeof(ends.ipv6.saddr));
        __builtin_memcpy(ends.ipv6.daddr, t->target, sizeof(ends.ipv6.daddr));
        ends.ipv6.sport = t->source_port;
        ends.ipv6.dport = t->target_port;
        size = sizeof(ends.ipv6);
    } else {
        ends.ipv4.saddr = v4_of(t->source);
        ends.ipv4.daddr = v4_of(t->target);
        ends.ipv4.sport = t->source_port;
        ends.ipv4.dport = t->target_port;
    }
    struct bpf_sock *socket = bpf_skc_lookup_tcp(xdp, &ends, size, BPF_F_CURRENT_NETNS, 0);
    if (!socket)
        return 0;
    int own = socket->state != BPF_TCP_LISTEN;
    bpf_sk_release(socket);
    return own;
}

static __always_inline __u32 service_of(const struct tuple *t)
{
    struct vip_key key = {.port_be = t->target_port, .protocol = t->protocol};
    const __u32 *words = (const __u32 *)t->target;
    for (int i = 0; i < 4; i++)
        key.address[i] = words[i];
    struct vip *vip = bpf_map_lookup_elem(&vips, &key);
    if (vip)
        return vip->service;
    key.port_be = 0;
    vip = bpf_map_lookup_elem(&vips, &key);
    if (!vip)
        return MAX_SERVICES;
    __u16 port = bpf_ntohs(t->target_port);
    for (int i = 0; i < MAX_RANGES; i++) {
        if (i >= vip->range_count)
            break;
        if (vip->ranges[i].first <= port && port <= vip->ranges[i].last)
            return vip->ranges[i].service;
    }
    return MAX_SERVICES;
}

static __always_inline void reply_of(const struct flow *flow, const struct destination *d,
                                     struct tuple *reply)
{
    const __u64 *real = (const __u64 *)d->address;
    reply->protocol = flow->protocol;
    reply->source_port = real_port(d, flow);
    reply->source[0] = real[0];
    reply->source[1] = real[1];
}

/* One choice of address and port for a flow of SNAT: taken unless another flow to the same real
 * server has it. The word in the reverse table is what reserves it. */
CHECKED_APART int try_source(struct flow *flow, struct destination *d, __u32 slot, __u32 choice, __u32 tick)
{
    if (!flow || !d)
        return 0;
    __u32 ports = d->port_last - d->port_first + 1;
    __u32 index = d->source_at + choice / ports;
    struct address *own = bpf_map_lookup_elem(&sources, &index);
    if (!own)
        return 0;
    struct tuple reply = {};
    reply_of(flow, d, &reply);
    reply.target[0] = ((const __u64 *)own)[0];
    reply.target[1] = ((const __u64 *)own)[1];
    reply.target_port = bpf_htons(d->port_first + choice % ports);
    __u64 hash = hash_tuple(&reply);
    if (find_reply(&reply, hash, tick) != NOWHERE)
        return 0;
    flow->source = index;
    flow->source_port_be = reply.target_port;
    flow->reverse = claim_word(hash, slot);
    return flow->reverse != 0;
}

/* Choices of address and port that a new flow of SNAT tries before it is refused. */
#define SOURCES_TRIED 32

static __always_inline int take_source(struct work *w, struct flow *flow, struct destination *d, __u32 slot)
{
    __u32 choices = (d->port_last - d->port_first + 1) * d->source_count;
    if (!choices)
        return 0;
    __u32 start = (w->hash >> 17) % choices;
    __u32 step = (w->hash >> 40) % choices | 1;
    for (int i = 0; i < SOURCES_TRIED; i++) {
        if (try_source(flow, d, slot, start % choices, w->tick))
            return 1;
        start += step;
    }
    return 0;
}

/* The way back of NAT. Two ports of a VIP that are one port of the server can meet there with the
 * same client address and port; the server could not tell them apart, so the later one has to come
 * from another port. */
CHECKED_APART int take_reverse(struct flow *flow, struct destination *d, __u32 slot, __u32 tick)
{
    if (!flow || !d)
        return 0;
    struct tuple reply = {};
    reply_of(flow, d, &reply);
    reply.target[0] = flow->client[0];
    reply.target[1] = flow->client[1];
    reply.target_port = flow->client_port_be;
    __u64 hash = hash_tuple(&reply);
    struct place other = {};
    __u32 taken = find_reply(&reply, hash, tick);
    if (taken != NOWHERE && flow_at(taken, tick, &other)) {
        if (other.flow->state != STATE_CLOSING && other.flow->state != STATE_CLOSED &&
            !(other.flow->marks & FLOW_CUT)) {
            count(REASON_SAME_AT_SERVER);
            return 0;
        }
        end_flow(&other);
    }
    flow->reverse = claim_word(hash, slot);
    if (!flow->reverse)
        count(REASON_TABLE_FULL);
    return flow->reverse != 0;
}

/* Writes the entry of a new flow; its tag makes it visible last. */
static __always_inline int insert(struct work *w, struct place *place, struct destination *d, __u32 index,
                                  __u8 state, const struct service *service)
{
    const struct tuple *t = &w->packet.tuple;
    __u32 slot = claim_flow(w->hash, w->tick);
    struct flow_bucket *b = flow_bucket_at(slot / WAYS);
    if (slot == NOWHERE || !b) {
        count(REASON_TABLE_FULL);
        return 0;
    }
    struct flow *flow = &b->flow[slot & (WAYS - 1)];
    place->flow = flow;
    place->tag = &b->tag[slot & (WAYS - 1)];
    place->slot = slot;
    flow->client[0] = t->source[0];
    flow->client[1] = t->source[1];
    flow->vip[0] = t->target[0];
    flow->vip[1] = t->target[1];
    flow->client_port_be = t->source_port;
    flow->vip_port_be = t->target_port;
    flow->protocol = t->protocol;
    flow->state = state;
    flow->destination = index;
    flow->seen = w->tick;
    flow->client_hop = w->client_hop;
    flow->source = 0;
    flow->source_port_be = 0;
    flow->reverse = 0;
    flow->bytes_in = w->packet.length;
    flow->bytes_out = 0;
    __u32 generation = (flow->marks >> FLOW_GENERATION) + 1;
    flow->client_number = w->client_number;
    flow->difference = w->own_number;
    flow->marks = generation << FLOW_GENERATION | (state == STATE_COOKIE ? FLOW_SHIFTED : 0) | FLOW_COUNTED | (service->persistence_ticks ? FLOW_PERSISTENT : 0);
    flow->created = w->tick;
    int kept = 1;
    if (d->mode == MODE_SNAT && !take_source(w, flow, d, place->slot)) {
        count(REASON_PORTS_EXHAUSTED);
        kept = 0;
    } else if (d->mode == MODE_NAT && !take_reverse(flow, d, place->slot, w->tick)) {
        kept = 0;
    }
    if (!kept) {
        PUBLISH(place->tag, 0);
        place->flow = 0;
        return 0;
    }
    __u64 tag = (__u64)fingerprint_of(w->hash) << 32 |
                (__u32)(w->tick + service->timeout_ticks[state & (STATES - 1)]);
    PUBLISH(place->tag, tag);
    place->seen_tag = tag;
    if (state == STATE_UDP || state == STATE_PICKED_UP)
        tell(slot);
    struct load *load = bpf_map_lookup_elem(&loads, &index);
    if (load) {
        __u32 active = __sync_fetch_and_add(&load->active, 1) + 1;
        if (d->upper && active >= d->upper)
            load->full = d->upper;
    }
    count(REASON_NEW_FLOW);
    return 1;
}
