/* What the program and its loader both know. build.rs reads this file and writes the same
 * structures for Rust, so nothing here is written twice. Only what it understands may stand here:
 * `#define NAME number`, and structures of __u8/__u16/__u32/__u64, arrays and other structures,
 * without holes. Addresses are four words as on the wire; IPv4 is ::ffff:a.b.c.d.
 * "be" at the end of a name: network byte order. Ticks: jiffies >> setup.tick_shift. */

/* Places in the tables. */
#define WAYS 8
#define MAX_SERVICES 16384
#define MAX_DESTINATIONS 65536
#define MAX_INTERFACES 65536
#define MAX_SOURCES 1024
#define SLOTS_A_LINE 16
#define MAX_SLOT_LINES 524288
#define MAX_RANGES 16
#define SOURCE_RATES 65536
/* Slots of flows that changed lately, for the other node of a pair. */
#define FRESH 65536

/* Modes. */
#define MODE_DR 1
#define MODE_NAT 2
#define MODE_TUN 3
#define MODE_SNAT 4

/* Encapsulation of MODE_TUN. */
#define TUNNEL_IPIP 0
#define TUNNEL_GUE 1
#define GUE_PORT 6080

/* Schedulers. */
#define SCHEDULER_RING 1
#define SCHEDULER_LEAST 2
#define SCHEDULER_DELAY 3
#define SCHEDULER_NEVER_QUEUE 4
#define SCHEDULER_SOURCE 5
#define SCHEDULER_DESTINATION 6
#define SCHEDULER_FLOW 7
#define SCHEDULER_RANDOM 8
#define SCHEDULER_FIRST 9

/* What a destination takes. */
#define TAKES_NEW 1
#define TAKES_PERSISTENT 2
#define TAKES_EXISTING 4
#define RESETS_EXISTING 8
/* Persistence remembers it: backups and their like are not. */
#define TAKES_REMEMBERED 16

/* States of a flow, as seen from the packets that pass here. */
#define STATE_SYN 1
#define STATE_ESTABLISHED 2
#define STATE_CLOSING 3
#define STATE_CLOSED 4
#define STATE_UDP 5
#define STATE_PICKED_UP 6
#define STATE_COOKIE 7
#define STATES 8

/* Marks of a flow. */
#define FLOW_COUNTED 1
#define FLOW_PERSISTENT 2
#define FLOW_CLIENT_FIN 4
#define FLOW_SERVER_FIN 8
#define FLOW_SHIFTED 16
/* Somebody closed it: its next packets are answered with resets, a datagram begins a new flow. */
#define FLOW_CUT 32
/* Above these bits a slot counts the flows it has had. */
#define FLOW_GENERATION 8

/* When first segments are answered with cookies. */
#define COOKIES_NEVER 0
#define COOKIES_OVER_RATE 1
#define COOKIES_ALWAYS 2

/* Marks of an interface. */
#define INTERFACE_IN_USE 1

/* Marks of the gate. */
#define GATE_REPLIES 1
#define GATE_PROBES 2
#define GATE_PEER 4

/* Counted reasons. */
#define REASON_NEW_FLOW 1
#define REASON_LEASE_ENDED 2
#define REASON_MALFORMED 3
#define REASON_NO_REAL_SERVER 4
#define REASON_NO_NEIGHBOUR 5
#define REASON_TABLE_FULL 6
#define REASON_EVICTED 7
#define REASON_PORTS_EXHAUSTED 8
#define REASON_TTL_EXCEEDED 9
#define REASON_TOO_BIG 10
#define REASON_FRAGMENT_UNKNOWN 11
#define REASON_RATE_LIMITED 12
#define REASON_SOURCE_LIMITED 13
#define REASON_RESET_SENT 14
#define REASON_STRAY_RESET 15
#define REASON_UNKNOWN_FLOW 16
#define REASON_ICMP_FORWARDED 17
#define REASON_FRAGMENT_FORWARDED 18
#define REASON_COOKIE_SENT 19
#define REASON_COOKIE_WRONG 20
#define REASON_STATELESS 21
#define REASON_SAME_AT_SERVER 22
#define REASONS 24

struct setup {
    __u64 seed_a;
    __u64 seed_b;
    __u32 flow_mask;
    __u32 persistence_mask;
    __u32 tick_shift;
    __u32 icmp_interval;
    __u32 fragment_ticks;
    __u32 unused;
};

struct gate {
    __u64 lease_until;
    __u64 icmp_due;
    __u32 marks;
    __u32 unused;
};

struct interface {
    __u8 mac[6];
    __u16 marks;
};

struct vip_key {
    __u32 address[4];
    __u16 port_be;
    __u8 protocol;
    __u8 unused;
};

struct port_range {
    __u16 first;
    __u16 last;
    __u32 service;
};

struct vip {
    __u32 service;
    __u32 range_count;
    struct port_range ranges[MAX_RANGES];
};

struct service {
    __u32 ring_at;
    __u32 ring_length;
    __u32 hash_at;
    __u32 hash_length;
    __u32 scheduler;
    __u32 persistence_ticks;
    __u32 mask[4];
    __u32 mask6[4];
    __u32 timeout_ticks[STATES];
    __u32 cookies;
    __u32 unused;
    __u64 flow_interval;
    __u64 flow_burst;
    __u64 source_interval;
    __u64 source_burst;
};

struct service_state {
    __u64 turn;
    __u64 flow_due;
    __u64 cookies_until;
};

struct destination {
    __u64 next_hop;
    __u8 unused[6];
    __u16 port_be;
    __u32 address[4];
    __u32 tunnel_source[4];
    __u32 service;
    __u16 takes;
    __u8 mode;
    __u8 tunnel;
    __u32 mtu;
    __u16 source_at;
    __u16 source_count;
    __u32 weight;
    __u32 upper;
    __u32 lower;
    __u16 port_first;
    __u16 port_last;
};

/* `full` is the limit that was reached, and 0 while none is. */
struct load {
    __u32 active;
    __u32 inactive;
    __u32 full;
    __u32 unused;
};

struct traffic {
    __u64 packets_in;
    __u64 bytes_in;
    __u64 packets_out;
    __u64 bytes_out;
    __u64 flows;
};

struct address {
    __u32 word[4];
};

struct slot_line {
    __u32 destination[SLOTS_A_LINE];
};

struct flow {
    __u64 client[2];
    __u64 vip[2];
    __u16 client_port_be;
    __u16 vip_port_be;
    __u8 protocol;
    __u8 state;
    __u16 unused;
    __u32 destination;
    __u32 seen;
    __u64 client_hop;
    __u16 source_port_be;
    __u16 source;
    __u32 reverse;
    __u64 bytes_in;
    __u64 bytes_out;
    __u32 marks;
    __u32 created;
    __u32 client_number;
    __u32 difference;
};

struct flow_bucket {
    __u64 tag[WAYS];
    struct flow flow[WAYS];
};

struct reverse_bucket {
    __u64 word[WAYS];
};

struct persistent {
    __u64 client[2];
    __u32 service;
    __u32 destination;
};

struct persistence_bucket {
    __u64 tag[WAYS];
    struct persistent entry[WAYS];
};

struct fragment_key {
    __u64 source[2];
    __u64 target[2];
    __u32 identity;
    __u32 protocol;
};

struct fragment {
    __u32 slot;
    __u32 tag;
    __u32 generation;
    __u32 reply;
    __u32 until;
};

/* Health checks through the VIP: sockets to the real server's address have a mark; on their way out
 * the address becomes the VIP, on the way back again the real server's. */
struct probe {
    __u32 real[4];
    __u32 vip[4];
    __u32 tunnel_source[4];
    __u32 mode;
    __u32 tunnel;
};

struct probe_key {
    __u64 vip[2];
    __u64 own[2];
    __u16 vip_port_be;
    __u16 own_port_be;
    __u32 unused;
};

struct fresh_head {
    __u64 count;
};

/* A flow that the other node of a pair has. */
struct adoption {
    __u64 client[2];
    __u64 vip[2];
    __u16 client_port_be;
    __u16 vip_port_be;
    __u8 protocol;
    __u8 state;
    __u16 source_port_be;
    __u32 destination;
    __u32 source;
    __u32 ticks;
    __u32 age;
    __u32 marks;
    __u32 client_number;
    __u32 difference;
    __u32 adopted;
    __u64 bytes_in;
    __u64 bytes_out;
};

/* A flow that somebody closes; whether it counted as active. */
struct cutting {
    __u64 client[2];
    __u64 vip[2];
    __u16 client_port_be;
    __u16 vip_port_be;
    __u8 protocol;
    __u8 cut;
    __u16 unused;
};

/* A client that its persistence knows. */
struct adopted_client {
    __u64 client[2];
    __u32 service;
    __u32 destination;
    __u32 ticks;
    __u32 unused;
};

struct renewal {
    __u64 lease_jiffies;
    __u64 jiffies;
};

struct sweeping {
    __u32 from;
    __u32 count;
    __u32 live;
    __u32 ended;
};

/* Of the generator of frames: what is the same in all of them. */
#define PLANNED 60

struct plan {
    __u8 frame[PLANNED];
    __u32 first_client;
    __u32 flows;
    __u32 unused;
    __u64 next;
};
