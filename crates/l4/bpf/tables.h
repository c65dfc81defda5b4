/* The maps, and the tables of flows and persistent clients in them.
 *
 * Both are set-associative: a bucket is one array element, its first cache line holds a tag for
 * each entry (fingerprint of the key above, the tick it expires at below), so that a miss reads one
 * line. A tag of 0 is free; a fingerprint of 0 is being written. Whoever replaces a tag by
 * compare-and-exchange owns the change; readers look at the tag again after they read. */
#pragma once

#define MAP(name_, type_, key_, value_, count_, flags_)                                                \
    struct {                                                                                           \
        __uint(type, type_);                                                                           \
        __uint(max_entries, count_);                                                                   \
        __uint(map_flags, flags_);                                                                     \
        __type(key, key_);                                                                             \
        __type(value, value_);                                                                         \
    } name_ SEC(".maps")

MAP(gates, BPF_MAP_TYPE_ARRAY, __u32, struct gate, 1, BPF_F_MMAPABLE);
MAP(interfaces, BPF_MAP_TYPE_ARRAY, __u32, struct interface, MAX_INTERFACES, 0);
MAP(vips, BPF_MAP_TYPE_HASH, struct vip_key, struct vip, 65536, BPF_F_NO_PREALLOC);
MAP(services, BPF_MAP_TYPE_ARRAY, __u32, struct service, MAX_SERVICES, 0);
MAP(service_states, BPF_MAP_TYPE_ARRAY, __u32, struct service_state, MAX_SERVICES, 0);
MAP(destinations, BPF_MAP_TYPE_ARRAY, __u32, struct destination, MAX_DESTINATIONS, 0);
MAP(loads, BPF_MAP_TYPE_ARRAY, __u32, struct load, MAX_DESTINATIONS, 0);
MAP(traffics, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct traffic, MAX_DESTINATIONS, 0);
MAP(reasons, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, REASONS, 0);
MAP(slot_lines, BPF_MAP_TYPE_ARRAY, __u32, struct slot_line, MAX_SLOT_LINES, 0);
MAP(sources, BPF_MAP_TYPE_ARRAY, __u32, struct address, MAX_SOURCES, 0);
MAP(source_rates, BPF_MAP_TYPE_ARRAY, __u32, __u64, SOURCE_RATES, 0);
/* The loader sets the sizes of these. */
MAP(flows, BPF_MAP_TYPE_ARRAY, __u32, struct flow_bucket, 1, BPF_F_MMAPABLE);
MAP(reverses, BPF_MAP_TYPE_ARRAY, __u32, struct reverse_bucket, 1, BPF_F_MMAPABLE);
MAP(persistences, BPF_MAP_TYPE_ARRAY, __u32, struct persistence_bucket, 1, BPF_F_MMAPABLE);
MAP(fresh, BPF_MAP_TYPE_ARRAY, __u32, __u32, FRESH, 0);
MAP(fresh_heads, BPF_MAP_TYPE_ARRAY, __u32, struct fresh_head, 1, 0);
MAP(fragments, BPF_MAP_TYPE_LRU_HASH, struct fragment_key, struct fragment, 16384, 0);

const volatile struct setup setup;

/* Makes an entry visible: an exchange, so that what was written before is seen before. */
#define PUBLISH(tag, value) __sync_lock_test_and_set(tag, value)

static __always_inline void count(__u32 reason)
{
    __u64 *counter = bpf_map_lookup_elem(&reasons, &reason);
    if (counter)
        *counter += 1;
}

static __always_inline __u64 mix(__u64 hash, __u64 value)
{
    hash ^= value;
    hash *= 0x9e3779b97f4a7c15ULL;
    return hash ^ (hash >> 32);
}

/* Secret, so that nobody can fill a bucket on purpose. */
static __always_inline __u64 hash_tuple(const struct tuple *t)
{
    __u64 hash = setup.seed_a;
    if (t->source[0] | t->target[0]) {
        hash = mix(hash, t->source[0]);
        hash = mix(hash, t->target[0]);
    }
    hash = mix(hash, t->source[1]);
    hash = mix(hash, t->target[1]);
    hash = mix(hash, (__u64)t->source_port << 32 | (__u64)t->target_port << 8 | t->protocol);
    return mix(hash, setup.seed_b);
}

static __always_inline __u32 fingerprint_of(__u64 hash)
{
    return (__u32)(hash >> 32) | 1;
}

/* The other of two places. The table of replies has twice as many buckets: its words cannot give way
 * to each other, so it must not fill. */
#define REPLY_MASK (setup.flow_mask * 2 + 1)

static __always_inline __u32 other_bucket(__u32 bucket, __u32 fingerprint, __u32 mask)
{
    return (bucket ^ (fingerprint * 0x5bd1e995)) & mask;
}

static __always_inline struct flow_bucket *flow_bucket_at(__u32 bucket)
{
    return bpf_map_lookup_elem(&flows, &bucket);
}

static __always_inline int tag_lives(__u64 tag, __u32 fingerprint, __u32 tick)
{
    return (__u32)(tag >> 32) == fingerprint && (__u32)tag > tick;
}

/* The other node of a pair is to hear of the flow in a slot. */
static __always_inline void tell(__u32 slot)
{
    __u32 zero = 0;
    struct gate *gate = bpf_map_lookup_elem(&gates, &zero);
    struct fresh_head *head = bpf_map_lookup_elem(&fresh_heads, &zero);
    if (!gate || !head || !(gate->marks & GATE_PEER))
        return;
    __u32 at = __sync_fetch_and_add(&head->count, 1) & (FRESH - 1);
    __u32 *place = bpf_map_lookup_elem(&fresh, &at);
    if (place)
        *place = slot;
}

/* No flow, no word. */
#define NOWHERE 0xffffffffU

/* Functions that are not static are checked by the verifier once, for any arguments; that keeps the
 * program small in its eyes. They take no pointers that they would have to believe in. */
#define CHECKED_APART __attribute__((noinline))

/* A flow that was found: where it is and the tag it had. */
struct place {
    struct flow *flow;
    __u64 *tag;
    __u64 seen_tag;
    __u32 slot;
};

static __always_inline int flow_is(const struct flow *flow, const struct tuple *t)
{
    return flow->client[1] == t->source[1] && flow->vip[1] == t->target[1] &&
           flow->client_port_be == t->source_port && flow->vip_port_be == t->target_port &&
           flow->client[0] == t->source[0] && flow->vip[0] == t->target[0] && flow->protocol == t->protocol;
}

static __always_inline __u32 find_in(__u32 bucket, __u32 fingerprint, const struct tuple *t, __u32 tick)
{
    struct flow_bucket *b = flow_bucket_at(bucket);
    if (!b)
        return NOWHERE;
#pragma unroll
    for (int way = 0; way < WAYS; way++) {
        if (tag_lives(b->tag[way], fingerprint, tick) && flow_is(&b->flow[way], t))
            return bucket * WAYS + way;
    }
    return NOWHERE;
}

/* The slot of a flow. */
CHECKED_APART __u32 find_flow(const struct tuple *t, __u64 hash, __u32 tick)
{
    __u32 fingerprint = fingerprint_of(hash);
    __u32 bucket = (__u32)hash & setup.flow_mask;
    if (!t)
        return NOWHERE;
    __u32 slot = find_in(bucket, fingerprint, t, tick);
    if (slot != NOWHERE)
        return slot;
    return find_in(other_bucket(bucket, fingerprint, setup.flow_mask), fingerprint, t, tick);
}

static __always_inline int flow_at(__u32 slot, __u32 tick, struct place *place)
{
    struct flow_bucket *b = flow_bucket_at(slot / WAYS);
    __u32 way = slot & (WAYS - 1);
    if (!b)
        return 0;
    place->seen_tag = b->tag[way];
    if ((__u32)(place->seen_tag >> 32) == 0 || (__u32)place->seen_tag <= tick)
        return 0;
    place->flow = &b->flow[way];
    place->tag = &b->tag[way];
    place->slot = slot;
    return 1;
}

/* The reply of a real server: is the flow behind a word of the reverse table its own? */
static __always_inline int reply_is(const struct flow *flow, const struct tuple *t)
{
    if (flow->protocol != t->protocol)
        return 0;
    struct destination *d = bpf_map_lookup_elem(&destinations, &flow->destination);
    if (!d)
        return 0;
    const __u64 *real = (const __u64 *)d->address;
    __be16 real_port = d->port_be ? d->port_be : flow->vip_port_be;
    if (real[1] != t->source[1] || real[0] != t->source[0] || real_port != t->source_port)
        return 0;
    if (d->mode != MODE_SNAT)
        return flow->client[1] == t->target[1] && flow->client[0] == t->target[0] &&
               flow->client_port_be == t->target_port;
    __u32 index = flow->source;
    struct address *source = bpf_map_lookup_elem(&sources, &index);
    const __u64 *own = (const __u64 *)source;
    return source && own[1] == t->target[1] && own[0] == t->target[0] &&
           flow->source_port_be == t->target_port;
}

static __always_inline __u32 find_reply_in(__u32 bucket, __u32 fingerprint, const struct tuple *t, __u32 tick)
{
    struct reverse_bucket *b = bpf_map_lookup_elem(&reverses, &bucket);
    if (!b)
        return NOWHERE;
    for (int way = 0; way < WAYS; way++) {
        __u64 word = b->word[way];
        struct place place;
        if ((__u32)(word >> 32) != fingerprint)
            continue;
        if (flow_at((__u32)word, tick, &place) && reply_is(place.flow, t))
            return (__u32)word;
    }
    return NOWHERE;
}

/* The slot of the flow that a packet of a real server belongs to. */
CHECKED_APART __u32 find_reply(const struct tuple *t, __u64 hash, __u32 tick)
{
    __u32 fingerprint = fingerprint_of(hash);
    __u32 bucket = (__u32)hash & REPLY_MASK;
    if (!t)
        return NOWHERE;
    __u32 slot = find_reply_in(bucket, fingerprint, t, tick);
    if (slot != NOWHERE)
        return slot;
    return find_reply_in(other_bucket(bucket, fingerprint, REPLY_MASK), fingerprint, t, tick);
}

/* A server that was full takes flows again below this. */
static __always_inline __u32 few_enough(const struct destination *d)
{
    return d->lower ? d->lower : d->upper - d->upper / 4;
}

/* The flow in a slot leaves the count of its destination, once: for good, or to the inactive. */
CHECKED_APART int uncount(__u32 slot, __u32 now_inactive)
{
    struct flow_bucket *b = flow_bucket_at(slot / WAYS);
    if (!b)
        return 0;
    struct flow *flow = &b->flow[slot & (WAYS - 1)];
    __u32 before = __sync_fetch_and_and(&flow->marks, ~FLOW_COUNTED);
    __u32 index = flow->destination;
    struct load *load = bpf_map_lookup_elem(&loads, &index);
    struct destination *d = bpf_map_lookup_elem(&destinations, &index);
    if (!load || !d)
        return 0;
    if (before & FLOW_COUNTED) {
        __u32 left = __sync_fetch_and_add(&load->active, -1) - 1;
        if (load->full && left < few_enough(d))
            load->full = 0;
        if (now_inactive)
            __sync_fetch_and_add(&load->inactive, 1);
    } else if (!now_inactive) {
        __sync_fetch_and_add(&load->inactive, -1);
    }
    return 0;
}

/* Called by whoever has taken the tag away. */
CHECKED_APART int release(__u32 slot)
{
    uncount(slot, 0);
    struct flow_bucket *f = flow_bucket_at(slot / WAYS);
    if (!f)
        return 0;
    __u32 reverse = f->flow[slot & (WAYS - 1)].reverse;
    if (!reverse)
        return 0;
    __u32 bucket = (reverse - 1) / WAYS;
    struct reverse_bucket *b = bpf_map_lookup_elem(&reverses, &bucket);
    if (!b)
        return 0;
    __u64 *word = &b->word[(reverse - 1) & (WAYS - 1)];
    __u64 held = *word;
    if ((__u32)held == slot && held >> 32)
        __sync_val_compare_and_swap(word, held, 0);
    return 0;
}

static __always_inline void end_flow(struct place *place)
{
    if (__sync_val_compare_and_swap(place->tag, place->seen_tag, 0) == place->seen_tag)
        release(place->slot);
}

static __always_inline __u32 free_ways(__u32 bucket, __u32 tick)
{
    struct flow_bucket *b = flow_bucket_at(bucket);
    __u32 free = 0;
    if (!b)
        return 0;
#pragma unroll
    for (int way = 0; way < WAYS; way++)
        free += (__u32)b->tag[way] <= tick;
    return free;
}

/* Takes a way for writing: a free or expired one, else the flow nearest to its end of those that
 * never were established or are over. An established flow never gives way. */
CHECKED_APART __u32 claim(__u32 bucket, __u32 tick, __u32 evict)
{
    struct flow_bucket *b = flow_bucket_at(bucket);
    if (!b)
        return NOWHERE;
    __u32 best = WAYS;
    __u32 best_expiry = ~0U;
    for (int way = 0; way < WAYS; way++) {
        __u64 tag = b->tag[way];
        __u32 expiry = (__u32)tag;
        int usable = expiry <= tick;
        if (!usable && evict && tag >> 32) {
            __u8 state = b->flow[way].state;
            usable = state == STATE_SYN || state == STATE_PICKED_UP || state == STATE_CLOSED;
        }
        if (usable && expiry < best_expiry) {
            best = way;
            best_expiry = expiry;
        }
    }
    if (best >= WAYS)
        return NOWHERE;
    best &= WAYS - 1;
    __u64 old = b->tag[best];
    /* Held by a fingerprint of zero for a few ticks, so that a lost writer leaks nothing. */
    if (__sync_val_compare_and_swap(&b->tag[best], old, (__u64)tick + 4) != old)
        return NOWHERE;
    if (old >> 32) {
        release(bucket * WAYS + best);
        if ((__u32)old > tick)
            count(REASON_EVICTED);
    }
    return bucket * WAYS + best;
}

/* A slot for a new flow: in its first bucket while that is half empty, so that most look-ups read
 * one; else in the emptier of the two, so that the table fills evenly. */
static __always_inline __u32 claim_flow(__u64 hash, __u32 tick)
{
    __u32 fingerprint = fingerprint_of(hash);
    __u32 first = (__u32)hash & setup.flow_mask;
    __u32 second = other_bucket(first, fingerprint, setup.flow_mask);
    __u32 free = free_ways(first, tick);
    if (free < WAYS / 2 && free_ways(second, tick) > free) {
        __u32 swap = first;
        first = second;
        second = swap;
    }
    __u32 slot = claim(first, tick, 0);
    if (slot == NOWHERE)
        slot = claim(second, tick, 0);
    if (slot == NOWHERE)
        slot = claim(first, tick, 1);
    if (slot == NOWHERE)
        slot = claim(second, tick, 1);
    return slot;
}

static __always_inline __u32 claim_word_in(__u32 bucket, __u64 word)
{
    struct reverse_bucket *b = bpf_map_lookup_elem(&reverses, &bucket);
    if (!b)
        return 0;
    for (int way = 0; way < WAYS; way++) {
        if (b->word[way] == 0 && __sync_val_compare_and_swap(&b->word[way], 0, word) == 0)
            return bucket * WAYS + way + 1;
    }
    return 0;
}

static __always_inline __u32 free_words(__u32 bucket)
{
    struct reverse_bucket *b = bpf_map_lookup_elem(&reverses, &bucket);
    __u32 free = 0;
    if (!b)
        return 0;
#pragma unroll
    for (int way = 0; way < WAYS; way++)
        free += b->word[way] == 0;
    return free;
}

/* A place for a word of the reverse table, counted from one; 0 where both buckets are full. The first
 * bucket is taken while it has some room, so that most look-ups read one; then the emptier of the two, so
 * that none is full while the table of flows has room. */
CHECKED_APART __u32 claim_word(__u64 hash, __u32 slot)
{
    __u32 fingerprint = fingerprint_of(hash);
    __u32 first = (__u32)hash & REPLY_MASK;
    __u32 second = other_bucket(first, fingerprint, REPLY_MASK);
    __u64 word = (__u64)fingerprint << 32 | slot;
    __u32 free = free_words(first);
    if (free < WAYS / 2 - 1 && free_words(second) > free) {
        __u32 swap = first;
        first = second;
        second = swap;
    }
    __u32 at = claim_word_in(first, word);
    return at ? at : claim_word_in(second, word);
}

/* Persistence */

struct client_key {
    __u64 client[2];
    __u32 service;
};

static __always_inline __u64 hash_client(const struct client_key *k)
{
    __u64 hash = mix(setup.seed_b, k->client[0]);
    hash = mix(hash, k->client[1]);
    hash = mix(hash, k->service);
    return mix(hash, setup.seed_a);
}

static __always_inline struct persistence_bucket *persistence_bucket_of(__u64 hash)
{
    __u32 bucket = (__u32)hash & setup.persistence_mask;
    return bpf_map_lookup_elem(&persistences, &bucket);
}

static __always_inline int persistent_is(const struct persistent *p, const struct client_key *k)
{
    return p->client[1] == k->client[1] && p->client[0] == k->client[0] && p->service == k->service;
}

/* The destination of a known client, or MAX_DESTINATIONS. */
CHECKED_APART __u32 find_persistent(const struct client_key *k, __u32 tick)
{
    if (!k)
        return MAX_DESTINATIONS;
    __u64 hash = hash_client(k);
    struct persistence_bucket *b = persistence_bucket_of(hash);
    if (!b)
        return MAX_DESTINATIONS;
#pragma unroll
    for (int way = 0; way < WAYS; way++) {
        if (tag_lives(b->tag[way], fingerprint_of(hash), tick) && persistent_is(&b->entry[way], k))
            return b->entry[way].destination;
    }
    return MAX_DESTINATIONS;
}

/* Remembers a client, or prolongs what is known; the entry nearest to its end gives way. A client
 * that was sent elsewhere since is not called back by an older flow: `fresh` says which this is. */
CHECKED_APART int keep_persistent(const struct client_key *k, __u32 destination, __u32 tick, __u32 ticks,
                                  __u32 fresh)
{
    if (!k)
        return 0;
    __u64 hash = hash_client(k);
    __u32 fingerprint = fingerprint_of(hash);
    struct persistence_bucket *b = persistence_bucket_of(hash);
    if (!b)
        return 0;
    __u64 wanted = (__u64)fingerprint << 32 | (tick + ticks);
    __u32 best = 0;
    __u32 best_expiry = ~0U;
#pragma unroll
    for (int way = 0; way < WAYS; way++) {
        __u64 tag = b->tag[way];
        if ((__u32)(tag >> 32) == fingerprint && persistent_is(&b->entry[way], k)) {
            if (!fresh && b->entry[way].destination != destination && (__u32)tag > tick)
                return 0;
            b->entry[way].destination = destination;
            b->tag[way] = wanted;
            return 0;
        }
        if ((__u32)tag < best_expiry) {
            best = way;
            best_expiry = (__u32)tag;
        }
    }
    best &= WAYS - 1;
    __u64 old = b->tag[best];
    if (__sync_val_compare_and_swap(&b->tag[best], old, (__u64)tick + 4) != old)
        return 0;
    struct persistent *entry = &b->entry[best];
    entry->client[0] = k->client[0];
    entry->client[1] = k->client[1];
    entry->service = k->service;
    entry->destination = destination;
    PUBLISH(&b->tag[best], wanted);
    return 0;
}
