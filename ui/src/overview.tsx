// The home: every virtual service with its state, its real servers, and what can be done with them.
import { computed, signal, type Signal } from "@preact/signals";
import { memo } from "preact/compat";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { get, may, post, remove, type Edit, type Schemas, type Server, type Service } from "./api";
import { head, second, services, type LiveService } from "./live";
import { Spark } from "./spark";
import { ago, bits, closed, count, go, Link, noun, number, Review, say, tried } from "./parts";

const open = signal<Set<string>>(new Set());
const filter = signal("");
const order = signal<"own" | "name" | "state" | "connections" | "rate">("own");

/** What the state of a service looks like: a colour, a sign and a word. */
export function colour(service: Service): { colour: string; sign: string; word: string } {
  const deliberate = service["real-servers"].some((s) => s["admin-state"] !== "online");
  const broken = service["real-servers"].some((s) => s["admin-state"] === "online" && s.state === "down");
  if (service.state === "down") return { colour: "red", sign: "✕", word: "down" };
  if (service.state === "halted") return { colour: "blue", sign: "❚❚", word: "halted" };
  if (broken) return { colour: "yellow", sign: "!", word: "degraded" };
  if (deliberate) return { colour: "blue", sign: "↓", word: "maintenance" };
  return { colour: "green", sign: "✓", word: "up" };
}

export function serverColour(server: Server): { colour: string; sign: string; word: string } {
  if (server["admin-state"] === "halted") return { colour: "blue", sign: "❚❚", word: "halted" };
  if (server["admin-state"] === "draining") return { colour: "blue", sign: "↓", word: "draining" };
  if (server.state === "down") return { colour: "red", sign: "✕", word: "down" };
  if (server.weight === 0) return { colour: "blue", sign: "0", word: "weight 0" };
  return { colour: "green", sign: "✓", word: "up" };
}

export function Lamp({ of }: { of: { colour: string; sign: string; word: string } }) {
  return <span class={`lamp ${of.colour}`}><span aria-hidden="true">{of.sign}</span> {of.word}</span>;
}

const RANK: Record<string, number> = { red: 0, yellow: 1, blue: 2, green: 3 };

const shown = computed(() => {
  const wanted = filter.value.toLowerCase();
  const all = services.value.filter((one) => {
    if (!wanted) return true;
    const { service } = one.peek();
    const texts = [service.name, service.mode, ...service.vip, ...service["real-servers"].flatMap((s) => [s.name, s.address])];
    return texts.some((text) => text.toLowerCase().includes(wanted));
  });
  if (order.value === "own") return all;
  if (order.value !== "name") second.value;
  const by = (a: LiveService, b: LiveService): number => {
    switch (order.value) {
      case "state": return RANK[colour(a.service).colour] - RANK[colour(b.service).colour];
      case "connections": return b.service["current-connections"] - a.service["current-connections"];
      case "rate": return b.rates.connections - a.rates.connections;
      default: return 0;
    }
  };
  return [...all].sort((a, b) => by(a.peek(), b.peek()) || a.peek().service.name.localeCompare(b.peek().service.name));
});

export function Overview() {
  const [move, setMove] = useState<{ edits: Edit[]; base: number } | null>(null);
  // The same function each time: rows are drawn again for what is theirs alone.
  const moved = useCallback((name: string, to: number) => {
    const running = head.peek();
    if (running) setMove({ edits: [{ do: "move", at: ["virtual-service", name], to }], base: running.revision });
  }, []);
  const own = order.value === "own" && !filter.value && may("configure");
  return (
    <section>
      <header class="page">
        <h1>Virtual services</h1>
        <Counts />
        {head.value && <p class="counts">{count(head.value.connections, "connection", "connections")} now</p>}
        {may("configure") && <Link to="/wizard">New service</Link>}
      </header>
      <Troubles />
      <div class="tools">
        <label>Search<input type="search" value={filter.value} onInput={(e) => (filter.value = e.currentTarget.value)} placeholder="name, address, mode" /></label>
        <label>Order
          <select value={order.value} onChange={(e) => (order.value = e.currentTarget.value as typeof order.value)}>
            <option value="own">own (drag, or Alt and arrows)</option>
            <option value="state">worst first</option>
            <option value="connections">connections now</option>
            <option value="rate">new connections</option>
            <option value="name">name</option>
          </select>
        </label>
        <button type="button" class="plain" onClick={() => (open.value = new Set(open.value.size ? [] : shown.value.map((s) => s.peek().service.name)))}>
          {open.value.size ? "Close all" : "Open all"}
        </button>
      </div>
      {services.value.length === 0 && head.value && (
        <p class="empty">There is no virtual service yet. {may("configure") && <Link to="/wizard">Make the first one</Link>}</p>
      )}
      <ul class="services" aria-label="Virtual services">
        {shown.value.map((one) => (
          <Row key={one.peek().service.name} one={one} own={own} moved={moved} />
        ))}
      </ul>
      {move && <Review edits={move.edits} base={move.base} close={() => setMove(null)} done={() => setMove(null)} />}
    </section>
  );
}

/** Why a service is not well: what the checks of its servers found. */
export function reason(service: Service): string {
  const down = service["real-servers"].filter((s) => s.state === "down" && s["admin-state"] === "online");
  const said = down.slice(0, 3).map((s) => `${s.name}: ${s.check.detail || "not checked yet"}`).join("; ");
  const more = down.length > 3 ? ` and ${down.length - 3} more` : "";
  if (service.state === "down") return down.length > 0 ? `no real server can serve; ${said}${more}` : "no real server can serve: all of them are drained or halted";
  return `${down.length} of ${service["real-servers"].length} ${noun(service["real-servers"].length, "real server", "real servers")} ${noun(down.length, "is", "are")} down; ${said}${more}`;
}

const MOST_TROUBLES = 8;

/** What is red or yellow, the worst first, with its reason. */
function Troubles() {
  second.value;
  const bad = services.value.map((one) => one.peek().service).filter((s) => RANK[colour(s).colour] < 2);
  if (bad.length === 0) return null;
  bad.sort((a, b) => RANK[colour(a).colour] - RANK[colour(b).colour]);
  return (
    <section class="troubles" aria-label="What is wrong">
      <h2>What is wrong</h2>
      <ul>
        {bad.slice(0, MOST_TROUBLES).map((service) => (
          <li key={service.name}><Lamp of={colour(service)} /> <button type="button" class="plain" onClick={() => show(service.name)}>{service.name}</button> {reason(service)}</li>
        ))}
      </ul>
      {bad.length > MOST_TROUBLES && <p>and {bad.length - MOST_TROUBLES} more: <button type="button" class="plain" onClick={() => (order.value = "state")}>worst first</button></p>}
    </section>
  );
}

const WORDS = { red: "down", yellow: "degraded", blue: "in maintenance", green: "up" };

function Counts() {
  second.value;
  const counts: Record<string, number> = { red: 0, yellow: 0, blue: 0, green: 0 };
  services.value.forEach((one) => counts[colour(one.peek().service).colour]++);
  return (
    <p class="counts" aria-live="off">
      {(["red", "yellow", "blue", "green"] as const).map((c) => counts[c] > 0 && <span class={`lamp ${c}`} key={c}>{counts[c]} {WORDS[c]}</span>)}
    </p>
  );
}

let dragged = "";

const Row = memo(function Row({ one, own, moved }: { one: Signal<LiveService>; own: boolean; moved: (name: string, to: number) => void }) {
  // A row that nobody sees is not drawn again until somebody does.
  const [seen, setSeen] = useState(true);
  const item = useRef<HTMLLIElement>(null);
  useEffect(() => {
    const watch = new IntersectionObserver(([entry]) => setSeen(entry.isIntersecting), { rootMargin: "200px" });
    watch.observe(item.current!);
    return () => watch.disconnect();
  }, []);
  const { service, rates } = seen ? one.value : one.peek();
  const isOpen = open.value.has(service.name);
  const toggle = () => {
    const next = new Set(open.value);
    isOpen ? next.delete(service.name) : next.add(service.name);
    open.value = next;
  };
  const index = () => services.value.indexOf(one);
  const keys = (event: KeyboardEvent) => {
    if (!own || !event.altKey || (event.key !== "ArrowUp" && event.key !== "ArrowDown")) return;
    event.preventDefault();
    moved(service.name, Math.max(0, index() + (event.key === "ArrowUp" ? -1 : 1)));
  };
  const up = service["real-servers"].filter((s) => serverColour(s).colour === "green").length;
  const look = colour(service);
  return (
    <li
      ref={item}
      class={look.colour}
      data-service={service.name}
      draggable={own}
      onDragStart={() => (dragged = service.name)}
      onDragOver={(e) => own && dragged && e.preventDefault()}
      onDrop={(e) => {
        e.preventDefault();
        if (own && dragged && dragged !== service.name) moved(dragged, index());
        dragged = "";
      }}
    >
      <button type="button" class="row" aria-expanded={isOpen} onClick={toggle} onKeyDown={keys}>
        <span class="name"><strong>{service.name}</strong> <small>{service.mode}</small></span>
        <Lamp of={look} />
        <span class="vips">{service.vip.join(", ")}</span>
        <span class="figure"><b>{up}</b>/{service["real-servers"].length} <small>servers</small></span>
        <span class="figure"><b>{number(service["current-connections"])}</b> <small>{noun(service["current-connections"], "connection", "connections")} now</small></span>
        <span class="figure"><b>{number(service.mode === "http" ? rates.requests : rates.connections)}</b> <small>{service.mode === "http" ? "requests/s" : "new/s"}</small></span>
        <span class="figure wide"><b>{bits(rates.out)}</b> <small>out</small></span>
        <span class="figure wide">{seen && service.mode !== "pool" && <Spark service={service.name} value={service.mode === "http" ? "requests" : "new"} />}</span>
        {service.queued > 0 && <span class="figure bad"><b>{number(service.queued)}</b> <small>waiting</small></span>}
      </button>
      {isOpen && <Servers service={service} />}
    </li>
  );
});

function Servers({ service }: { service: Service }) {
  return (
    <div class="servers">
      <p class="links">
        <Link to={`/graphs?service=${encodeURIComponent(service.name)}`}>Graphs</Link>
        {may("read") && <Link to={`/configuration?at=virtual-service/${encodeURIComponent(service.name)}`}>Settings</Link>}
        <Link to={`/reports?report=connections&service=${encodeURIComponent(service.name)}`}>Connections</Link>
      </p>
      <div class="scroll" tabIndex={0} role="region" aria-label={`Real servers of ${service.name}`}>
        <table>
          <thead>
            <tr><th>Real server</th><th>State</th><th>Last check</th><th class="n">Weight</th><th class="n">Connections</th><th class="n">Total</th><th class="n">Errors</th>{may("operate") && <th>Do</th>}</tr>
          </thead>
          <tbody>
            {service["real-servers"].map((server) => <ServerRow key={server.name} service={service} server={server} />)}
          </tbody>
        </table>
      </div>
    </div>
  );
}

function ServerRow({ service, server }: { service: Service; server: Server }) {
  const path = `/api/v1/servers/${encodeURIComponent(service.name)}/${encodeURIComponent(server.name)}`;
  const set = (state: string) => tried(async () => {
    await post(path, { "admin-state": state });
    say(`${service.name}/${server.name} is ${state}`);
  });
  const weigh = (event: Event) => {
    const field = event.currentTarget as HTMLInputElement;
    const weight = Number(field.value);
    if (Number.isInteger(weight) && weight !== server.weight) tried(() => post(path, { weight }));
  };
  const close = () => tried(async () => {
    const query = new URLSearchParams({ service: service.name, server: server.name });
    say(`${service.name}/${server.name}: ${closed(await remove<Schemas["Closed"]>(`/api/v1/connections?${query}`))}`);
  });
  const state = server["admin-state"];
  return (
    <tr data-server={server.name}>
      <td><strong>{server.name}</strong>{server.backup && <small> backup</small>}<br /><small>{server.address}{server.host && !server.address.startsWith(server.host) && ` (${server.host})`}{server["found-in"] && `, ${server["found-in"]}`}{server["set-at-run-time"] && ", set at run time"}</small> {service.mode !== "pool" && <Link to={`/graphs?service=${encodeURIComponent(service.name)}&server=${encodeURIComponent(server.name)}`}>Graph</Link>}</td>
      <td><Lamp of={serverColour(server)} />{server["configured-admin-state"] != null && <small> in the file {server["configured-admin-state"]}</small>}{state === "draining" && <Drain service={service.name} server={server} />}</td>
      <td class="why">{server.check.detail || "—"}<br /><small>for {ago(Date.now() - server.check["since-ms"])}</small></td>
      <td class="n" data-label="Weight">
        {may("operate")
          ? <input class="weight" type="number" min="0" max="65535" value={server.weight} onChange={weigh} aria-label={`Weight of ${server.name}`} />
          : server.weight}
        {server["configured-weight"] != null && <small> in the file {server["configured-weight"]}</small>}
      </td>
      <td class="n" data-label="Connections">{number(server["current-connections"])}</td>
      <td class="n" data-label="Total">{number(server["total-connections"])}</td>
      <td class={server["connect-errors"] + server["response-errors"] > 0 ? "n bad" : "n"} data-label="Errors">{number(server["connect-errors"] + server["response-errors"])}</td>
      {may("operate") && (
        <td class="do">
          {state !== "online" && <button type="button" onClick={() => set("online")}>Online</button>}
          {state !== "draining" && <button type="button" class="plain" onClick={() => set("draining")}>Drain</button>}
          {state !== "halted" && <button type="button" class="plain" onClick={() => set("halted")}>Halt</button>}
          {service.mode !== "pool" && server["current-connections"] > 0 && <button type="button" class="plain" onClick={close} aria-label={`Close connections of ${server.name}`}>Close connections</button>}
        </td>
      )}
    </tr>
  );
}

/** How far a drain is: what is left, how old, and whether the machine may be switched off. */
function Drain({ service, server }: { service: string; server: Server }) {
  const [oldest, setOldest] = useState(0);
  const left = server["current-connections"];
  useEffect(() => {
    if (left === 0) return;
    const look = () => {
      const query = new URLSearchParams({ service, server: server.name });
      get<Schemas["Connection"][]>(`/api/v1/connections?${query}`).then((all) => setOldest(Math.max(0, ...all.map((c) => c["age-ms"]))), () => {});
    };
    look();
    const timer = setInterval(look, 3000);
    return () => clearInterval(timer);
  }, [left === 0]);
  if (left === 0) return <p class="safe">no connection left: safe to reboot</p>;
  return <p class="draining">{left} left{oldest > 0 && `, the oldest ${ago(oldest)}`}</p>;
}

/** Opens a service on the overview. */
export function show(name: string): void {
  open.value = new Set([...open.value, name]);
  go("/");
}
