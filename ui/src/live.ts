// What runs, kept current by server-sent events. Each service is a signal of its own, so that only
// what has changed is drawn again.
import { batch, signal, type Signal } from "@preact/signals";
import type { Happening, Pool, Server, Service, Status } from "./api";
import { me } from "./api";

export type Rates = { connections: number; requests: number; in: number; out: number };
export type LiveService = { service: Service; rates: Rates };

export const head = signal<Omit<Status, "virtual-services"> | null>(null);
export const services = signal<Signal<LiveService>[]>([]);
export const happenings = signal<Happening[]>([]);
/** Seconds, counted by what the server sends. */
export const second = signal(0);
export const connected = signal(false);

const NONE: Rates = { connections: 0, requests: 0, in: 0, out: 0 };

type Change = {
  "uptime-seconds": number;
  connections: number;
  node: Status["node"];
  services: [number, Partial<Service>, [number, Partial<Server>][]][];
  pools?: Pool[];
};

/** Pools that only routes lead to stand behind the services, and look like them. */
function asService(pool: Pool): Service {
  const sum = (key: "current-connections" | "total-connections" | "bytes-in" | "bytes-out" | "retries") =>
    pool["real-servers"].reduce((total, server) => total + server[key], 0);
  return {
    ...pool,
    mode: "pool",
    vip: [],
    pool: pool.name,
    requests: 0,
    "bad-requests": 0,
    refused: 0,
    "client-aborts": 0,
    retries: sum("retries"),
    answers: [0, 0, 0, 0, 0],
    "current-connections": sum("current-connections"),
    "total-connections": sum("total-connections"),
    "bytes-in": sum("bytes-in"),
    "bytes-out": sum("bytes-out"),
  };
}

let source: EventSource | null = null;
let last = 0;

export function follow(): void {
  source?.close();
  source = new EventSource("/api/v1/live");
  source.addEventListener("status", (event) => whole(JSON.parse(event.data)));
  source.addEventListener("change", (event) => change(JSON.parse(event.data)));
  source.addEventListener("happening", (event) => {
    happenings.value = [JSON.parse(event.data), ...happenings.value].slice(0, 200);
  });
  source.onopen = () => (connected.value = true);
  source.onerror = () => {
    connected.value = false;
    // A session that has ended looks like a connection that broke.
    if (source?.readyState === EventSource.CLOSED) {
      setTimeout(() => {
        fetch("/api/v1/self").then((r) => (r.status === 401 ? (me.value = null) : me.value && follow()), () => me.value && follow());
      }, 2000);
    }
  };
}

export function leave(): void {
  source?.close();
  source = null;
  services.value = [];
  head.value = null;
}

function whole(status: Status): void {
  const before = new Map(services.value.map((s) => [s.value.service.name, s]));
  batch(() => {
    const { "virtual-services": all, ...rest } = status;
    head.value = rest;
    const shown = [...all, ...(status.pools ?? []).map(asService)];
    services.value = shown.map((service) => {
      const known = before.get(service.name);
      if (!known) return signal({ service, rates: NONE });
      known.value = { service, rates: known.value.rates };
      return known;
    });
    second.value++;
  });
  last = performance.now();
}

function rates(old: Service, now: Service, seconds: number): Rates {
  const rate = (key: "total-connections" | "requests" | "bytes-in" | "bytes-out") => Math.max(0, now[key] - old[key]) / seconds;
  return { connections: rate("total-connections"), requests: rate("requests"), in: rate("bytes-in"), out: rate("bytes-out") };
}

function change(change: Change): void {
  const now = performance.now();
  const seconds = Math.max(0.2, (now - last) / 1000);
  last = now;
  const touched = new Set<number>();
  batch(() => {
    if (head.value) {
      head.value = { ...head.value, connections: change.connections, node: change.node, "uptime-seconds": change["uptime-seconds"] };
    }
    for (const [place, fields, servers] of change.services) {
      const one = services.value[place];
      if (!one) continue;
      touched.add(place);
      const old = one.value.service;
      const service: Service = { ...old, ...fields };
      if (servers.length > 0) {
        service["real-servers"] = [...old["real-servers"]];
        for (const [at, changed] of servers) {
          service["real-servers"][at] = { ...old["real-servers"][at], ...changed };
        }
      }
      one.value = { service, rates: rates(old, service, seconds) };
    }
    const first = services.value.length - (change.pools?.length ?? 0);
    change.pools?.forEach((pool, at) => {
      const one = services.value[first + at];
      if (!one || one.value.service.name !== pool.name) return;
      touched.add(first + at);
      const service = asService(pool);
      one.value = { service, rates: rates(one.value.service, service, seconds) };
    });
    services.value.forEach((one, place) => {
      const { rates } = one.value;
      if (!touched.has(place) && rates !== NONE) one.value = { service: one.value.service, rates: NONE };
    });
    second.value++;
  });
}
