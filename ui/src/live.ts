// What runs, kept current by server-sent events. Each service is a signal of its own, so that only
// what has changed is drawn again.
import { batch, signal, type Signal } from "@preact/signals";
import type { Happening, Server, Service, Status } from "./api";
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
};

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
    services.value = all.map((service) => {
      const known = before.get(service.name);
      if (!known) return signal({ service, rates: NONE });
      known.value = { service, rates: known.value.rates };
      return known;
    });
    second.value++;
  });
  last = performance.now();
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
      const rate = (key: "total-connections" | "requests" | "bytes-in" | "bytes-out") => Math.max(0, service[key] - old[key]) / seconds;
      const rates = { connections: rate("total-connections"), requests: rate("requests"), in: rate("bytes-in"), out: rate("bytes-out") };
      one.value = { service, rates };
    }
    services.value.forEach((one, place) => {
      const { rates } = one.value;
      if (!touched.has(place) && rates !== NONE) one.value = { service: one.value.service, rates: NONE };
    });
    second.value++;
  });
}
