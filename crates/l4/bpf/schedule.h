/* Picks the destination of a new flow. */
#pragma once

/* Servers whose load is compared for one new flow. */
#define COMPARED 4096
/* Places of a table that are tried after one that is full. */
#define TRIED 32

static __always_inline __u32 slot_at(__u32 index)
{
    __u32 line_index = index / SLOTS_A_LINE;
    struct slot_line *line = bpf_map_lookup_elem(&slot_lines, &line_index);
    return line ? line->destination[index & (SLOTS_A_LINE - 1)] : MAX_DESTINATIONS;
}

/* Of a server that has been full: until it has few enough, by the limits that it has now. */
static __always_inline int is_full_still(struct load *load, const struct destination *d)
{
    if (load->full == d->upper && load->active >= few_enough(d))
        return 1;
    load->full = d->upper && load->active >= d->upper ? d->upper : 0;
    return load->full != 0;
}

static __always_inline int is_full(__u32 destination)
{
    struct load *load = bpf_map_lookup_elem(&loads, &destination);
    if (!load || !load->full)
        return !load;
    struct destination *d = bpf_map_lookup_elem(&destinations, &destination);
    return !d || is_full_still(load, d);
}

/* The same on every node and in every version: no secret goes in. */
static __always_inline __u64 public_mix(__u64 hash, const __u64 *address)
{
    return mix(mix(hash, address[0]), address[1]);
}

CHECKED_APART __u32 pick_in_table(__u32 at, __u32 length, __u64 hash)
{
    if (!length)
        return MAX_DESTINATIONS;
    __u32 start = hash % length;
    for (int i = 0; i < TRIED; i++) {
        __u32 destination = slot_at(at + start);
        if (!is_full(destination))
            return destination;
        if (++start >= length)
            start = 0;
    }
    return MAX_DESTINATIONS;
}

struct comparison {
    __u32 at;
    __u32 length;
    __u32 start;
    __u32 scheduler;
    __u32 best;
    __u64 best_load;
    __u64 best_weight;
};

static long compare(__u32 i, struct comparison *c)
{
    __u32 index = c->start + i;
    if (index >= c->length)
        index -= c->length;
    __u32 destination = slot_at(c->at + index);
    struct load *load = bpf_map_lookup_elem(&loads, &destination);
    struct destination *d = bpf_map_lookup_elem(&destinations, &destination);
    if (!load || !d || (load->full && is_full_still(load, d)))
        return 0;
    __u64 active = load->active;
    if (c->scheduler == SCHEDULER_FIRST || (c->scheduler == SCHEDULER_NEVER_QUEUE && active == 0)) {
        c->best = destination;
        return 1;
    }
    __u64 weighed = c->scheduler == SCHEDULER_LEAST ? active : active + 1;
    if (c->best == MAX_DESTINATIONS || weighed * c->best_weight < c->best_load * d->weight) {
        c->best = destination;
        c->best_load = weighed;
        c->best_weight = d->weight;
    }
    return 0;
}

static __always_inline __u32 pick_least(const struct service *service, __u32 start)
{
    struct comparison c = {
        .at = service->ring_at,
        .length = service->ring_length,
        .start = service->scheduler == SCHEDULER_FIRST ? 0 : start % service->ring_length,
        .scheduler = service->scheduler,
        .best = MAX_DESTINATIONS,
    };
    bpf_loop(c.length < COMPARED ? c.length : COMPARED, compare, &c, 0);
    return c.best;
}

/* Where a flow goes that must go the same way from every node, or without an entry. */
static __always_inline __u32 pick_by_flow(const struct service *service, const struct tuple *t)
{
    if (!service->hash_length)
        return MAX_DESTINATIONS;
    __u64 hash = public_mix(0x1d8af0664b19e6c1ULL, t->source);
    hash = public_mix(hash, t->target);
    hash = mix(hash, (__u64)t->source_port << 16 | t->target_port);
    return pick_in_table(service->hash_at, service->hash_length, mix(hash, t->protocol));
}

static __always_inline __u32 schedule(const struct service *service, struct service_state *state,
                                      const struct tuple *t)
{
    if (!service->ring_length || !service->hash_length)
        return MAX_DESTINATIONS;
    switch (service->scheduler) {
    case SCHEDULER_RING:
        return pick_in_table(service->ring_at, service->ring_length, __sync_fetch_and_add(&state->turn, 1));
    case SCHEDULER_RANDOM:
        return pick_in_table(service->ring_at, service->ring_length, bpf_get_prandom_u32());
    case SCHEDULER_SOURCE:
        return pick_in_table(service->hash_at, service->hash_length,
                             public_mix(0x5851f42d4c957f2dULL, t->source));
    case SCHEDULER_DESTINATION:
        return pick_in_table(service->hash_at, service->hash_length,
                             public_mix(0x14057b7ef767814fULL, t->target));
    case SCHEDULER_FLOW:
        return pick_by_flow(service, t);
    default:
        return pick_least(service, __sync_fetch_and_add(&state->turn, 1));
    }
}
