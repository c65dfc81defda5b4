/* Run by the loader, not by packets: the lease, the sweep, flows of the other node of a pair. */
#pragma once


SEC("syscall")
int renew(struct renewal *renewal)
{
    __u32 zero = 0;
    struct gate *gate = bpf_map_lookup_elem(&gates, &zero);
    if (!gate)
        return 1;
    __u64 now = bpf_jiffies64();
    if (renewal->lease_jiffies)
        gate->lease_until = now + renewal->lease_jiffies;
    renewal->jiffies = now;
    return 0;
}

/* What only the number of active flows counts. */
static __always_inline int is_over(__u8 state)
{
    return state == STATE_CLOSING || state == STATE_CLOSED;
}

/* Puts a flow of the other node where a packet of it would have put it. */
SEC("syscall")
int adopt(struct adoption *a)
{
    struct tuple t = {
        .source = {a->client[0], a->client[1]},
        .target = {a->vip[0], a->vip[1]},
        .source_port = a->client_port_be,
        .target_port = a->vip_port_be,
        .protocol = a->protocol,
    };
    __u32 tick = bpf_jiffies64() >> setup.tick_shift;
    __u64 hash = hash_tuple(&t);
    __u32 index = a->destination;
    __u64 tag = (__u64)fingerprint_of(hash) << 32 | (tick + a->ticks);
    a->adopted = 0;
    struct destination *d = bpf_map_lookup_elem(&destinations, &index);
    if (!d)
        return 0;
    __u32 slot = find_flow(&t, hash, tick);
    struct place place = {};
    if (slot != NOWHERE && flow_at(slot, tick, &place)) {
        /* One that was closed here and is not there is another flow by now. */
        int anew = place.flow->marks & ~a->marks & FLOW_CUT;
        if (place.flow->destination == index && !anew) {
            if (a->marks & FLOW_CUT)
                __sync_fetch_and_or(&place.flow->marks, FLOW_CUT);
            if ((is_over(a->state) || a->marks & FLOW_CUT) && place.flow->marks & FLOW_COUNTED)
                uncount(slot, 1);
            place.flow->state = a->state;
            place.flow->bytes_in = a->bytes_in;
            place.flow->bytes_out = a->bytes_out;
            __sync_val_compare_and_swap(place.tag, place.seen_tag, tag);
            a->adopted = 2;
            return 0;
        }
        end_flow(&place);
    }
    slot = claim_flow(hash, tick);
    struct flow_bucket *b = flow_bucket_at(slot / WAYS);
    if (slot == NOWHERE || !b)
        return 0;
    struct flow *flow = &b->flow[slot & (WAYS - 1)];
    __u64 *published = &b->tag[slot & (WAYS - 1)];
    flow->client[0] = t.source[0];
    flow->client[1] = t.source[1];
    flow->vip[0] = t.target[0];
    flow->vip[1] = t.target[1];
    flow->client_port_be = t.source_port;
    flow->vip_port_be = t.target_port;
    flow->protocol = t.protocol;
    flow->state = a->state;
    flow->destination = index;
    flow->seen = tick;
    /* Learnt from the client's next packet. */
    flow->client_hop = 0;
    flow->source = a->source;
    flow->source_port_be = a->source_port_be;
    flow->reverse = 0;
    flow->bytes_in = a->bytes_in;
    flow->bytes_out = a->bytes_out;
    __u32 generation = (flow->marks >> FLOW_GENERATION) + 1;
    __u32 kept = a->marks & (FLOW_PERSISTENT | FLOW_CLIENT_FIN | FLOW_SERVER_FIN | FLOW_SHIFTED | FLOW_CUT);
    int over = is_over(a->state) || a->marks & FLOW_CUT;
    flow->marks = generation << FLOW_GENERATION | kept | (over ? 0 : FLOW_COUNTED);
    flow->created = tick - a->age;
    flow->client_number = a->client_number;
    flow->difference = a->difference;
    if (d->mode == MODE_NAT && !take_reverse(flow, d, slot, tick)) {
        PUBLISH(published, 0);
        return 0;
    }
    if (d->mode == MODE_SNAT) {
        __u32 at = a->source;
        struct address *own = bpf_map_lookup_elem(&sources, &at);
        struct tuple reply = {};
        if (!own) {
            PUBLISH(published, 0);
            return 0;
        }
        reply_of(flow, d, &reply);
        reply.target[0] = ((const __u64 *)own)[0];
        reply.target[1] = ((const __u64 *)own)[1];
        reply.target_port = a->source_port_be;
        __u64 word = hash_tuple(&reply);
        struct place other = {};
        /* What this node gave away in another life gives way. */
        __u32 taken = find_reply(&reply, word, tick);
        if (taken != NOWHERE && flow_at(taken, tick, &other))
            end_flow(&other);
        flow->reverse = claim_word(word, slot);
        if (!flow->reverse) {
            PUBLISH(published, 0);
            return 0;
        }
    }
    PUBLISH(published, tag);
    struct load *load = bpf_map_lookup_elem(&loads, &index);
    if (load) {
        if (over) {
            __sync_fetch_and_add(&load->inactive, 1);
        } else {
            __u32 active = __sync_fetch_and_add(&load->active, 1) + 1;
            if (d->upper && active >= d->upper)
                load->full = d->upper;
        }
    }
    a->adopted = 1;
    return 0;
}

/* Closes a flow: the packets that come say so to both sides. It counts as active no more; whether it did. */
SEC("syscall")
int cut(struct cutting *c)
{
    struct tuple t = {
        .source = {c->client[0], c->client[1]},
        .target = {c->vip[0], c->vip[1]},
        .source_port = c->client_port_be,
        .target_port = c->vip_port_be,
        .protocol = c->protocol,
    };
    __u32 tick = bpf_jiffies64() >> setup.tick_shift;
    __u32 slot = find_flow(&t, hash_tuple(&t), tick);
    struct place place = {};
    c->cut = 0;
    if (slot == NOWHERE || !flow_at(slot, tick, &place))
        return 0;
    if (place.flow->state == STATE_CLOSED || __sync_fetch_and_or(&place.flow->marks, FLOW_CUT) & FLOW_CUT)
        return 0;
    /* What is over on one side is closed, too, but was counted as open no more. */
    if (place.flow->marks & FLOW_COUNTED) {
        uncount(slot, 1);
        c->cut = 1;
    }
    tell(slot);
    return 0;
}

SEC("syscall")
int adopt_client(struct adopted_client *a)
{
    struct client_key key = {.client = {a->client[0], a->client[1]}, .service = a->service};
    __u32 tick = bpf_jiffies64() >> setup.tick_shift;
    keep_persistent(&key, a->destination, tick, a->ticks, 1);
    return 0;
}

struct sweeper {
    __u32 from;
    __u32 tick;
    __u32 live;
    __u32 ended;
};

static long sweep_bucket(__u32 i, struct sweeper *s)
{
    __u32 bucket = s->from + i;
    struct flow_bucket *b = flow_bucket_at(bucket);
    if (!b)
        return 1;
    for (int way = 0; way < WAYS; way++) {
        __u64 tag = b->tag[way];
        if (!(tag >> 32))
            continue;
        if ((__u32)tag > s->tick) {
            s->live += 1;
            continue;
        }
        if (__sync_val_compare_and_swap(&b->tag[way], tag, 0) == tag) {
            release(bucket * WAYS + way);
            s->ended += 1;
        }
    }
    return 0;
}

SEC("syscall")
int sweep(struct sweeping *sweeping)
{
    struct sweeper s = {.from = sweeping->from, .tick = bpf_jiffies64() >> setup.tick_shift};
    bpf_loop(sweeping->count, sweep_bucket, &s, 0);
    sweeping->live = s.live;
    sweeping->ended = s.ended;
    return 0;
}
