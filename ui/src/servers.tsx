// Machines: each real server's machine once, with every service that it serves, and one action for all of them.
import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { get, may, post, remove, type Server, type Service } from "./api";
import { Lamp, serverColour, show } from "./overview";
import { second, services } from "./live";
import { count, Dialog, noun, number, say, time, tried, useAsk } from "./parts";

const filter = signal("");

/** As the API has it. */
type Window = { id: string; servers: string[]; "from-ms": number; "until-ms": number; "admin-state": string; begun: boolean; by: string; message: string };
const changed = signal(0);
/** Machines that are drawn: all of them anew every second. */
const MOST = 200;

type Place = { service: Service; server: Server };
type Machine = { host: string; places: Place[] };

/** The machine of `ADDRESS:PORT`, of `[ADDRESS]:PORT`, or of a name. */
export function machineOf(server: Server): string {
  const address = server.host ?? server.address;
  const bracket = address.match(/^\[(.*)\](:\d+)?$/);
  if (bracket) return bracket[1];
  const parts = address.split(":");
  return parts.length === 2 ? parts[0] : address;
}

const RANK: Record<string, number> = { red: 0, yellow: 1, blue: 2, green: 3 };

/** All at once: one word if every service says the same, and the worst lamp. */
function look(places: Place[]): { colour: string; sign: string; word: string } {
  const all = places.map((p) => serverColour(p.server)).sort((a, b) => RANK[a.colour] - RANK[b.colour]);
  const same = all.every((one) => one.word === all[0].word);
  return same ? all[0] : { ...all[0], word: `${all[0].word} in ${all.filter((one) => one.word === all[0].word).length} of ${all.length}` };
}

function machines(): Machine[] {
  const found = new Map<string, Place[]>();
  for (const one of services.value) {
    const { service } = one.peek();
    for (const server of service["real-servers"]) {
      const host = machineOf(server);
      const places = found.get(host);
      if (places) places.push({ service, server });
      else found.set(host, [{ service, server }]);
    }
  }
  const wanted = filter.value.toLowerCase();
  const all = [...found].map(([host, places]) => ({ host, places }));
  const fits = (m: Machine) => !wanted || [m.host, ...m.places.flatMap((p) => [p.server.name, p.service.name])].some((t) => t.toLowerCase().includes(wanted));
  const rank = (m: Machine) => RANK[look(m.places).colour];
  return all.filter(fits).sort((a, b) => rank(a) - rank(b) || a.host.localeCompare(b.host, undefined, { numeric: true }));
}

/** In every service, as far as it goes; what was refused is said with its service. */
async function everywhere(machine: Machine, state: string): Promise<void> {
  const asked = await Promise.allSettled(machine.places.map(({ service, server }) =>
    post(`/api/v1/servers/${encodeURIComponent(service.name)}/${encodeURIComponent(server.name)}`, { "admin-state": state })));
  const refused = asked.flatMap((one, at) => one.status === "rejected" ? [`${machine.places[at].service.name}: ${one.reason.message}`] : []);
  const services = machine.places.length;
  if (refused.length === 0) return say(`${machine.host} is ${state} in ${count(services, "service", "services")}`);
  say(`${machine.host} is ${state} in ${services - refused.length} of ${count(services, "service", "services")}; ${refused.join("; ")}`, true);
}

export function Servers() {
  second.value;
  const all = machines();
  return (
    <section>
      <header class="page"><h1>Servers</h1><p class="counts">each machine once, with every service that it serves</p></header>
      <div class="tools">
        <label>Search<input type="search" value={filter.value} onInput={(e) => (filter.value = e.currentTarget.value)} placeholder="machine, service" /></label>
      </div>
      <Windows />
      {all.length === 0 && <p class="empty">{filter.value ? "No machine fits." : "There is no real server yet."}</p>}
      <ul class="services" aria-label="Machines">{all.slice(0, MOST).map((machine) => <MachineRow key={machine.host} machine={machine} />)}</ul>
      {all.length > MOST && <p class="empty">and {all.length - MOST} more: search for them</p>}
    </section>
  );
}

/** Times in which machines are away: those that are on, and those to come. */
function Windows() {
  const { value, again } = useAsk<Window[]>(() => get("/api/v1/maintenance"), [changed.value], 5000);
  if (!value || value.length === 0) return null;
  const end = (one: Window) => tried(async () => {
    await remove(`/api/v1/maintenance/${encodeURIComponent(one.id)}`);
    again();
  });
  return (
    <section class="troubles" aria-label="Maintenance">
      <h2>Maintenance</h2>
      <ul>
        {value.map((one) => (
          <li key={one.id}>
            <span class={`lamp ${one.begun ? "blue" : "green"}`}>{one.begun ? "on" : "to come"}</span> {one.servers.join(", ")} {one["admin-state"]} from {time(one["from-ms"])} until {time(one["until-ms"])} <small>{one.by}{one.message && `: ${one.message}`}</small>
            {may("operate") && <> <button type="button" class="plain" onClick={() => end(one)}>{one.begun ? "End now" : "Drop"}</button></>}
          </li>
        ))}
      </ul>
    </section>
  );
}

/** Now, as a field for local times has it. */
function local(ms: number): string {
  return new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

function Plan({ machine, close }: { machine: Machine; close: () => void }) {
  const [from, setFrom] = useState(local(Date.now()));
  const [hours, setHours] = useState("2");
  const [message, setMessage] = useState("");
  const plan = (event: Event) => {
    event.preventDefault();
    const begin = Math.max(Date.now(), new Date(from).getTime());
    tried(async () => {
      const servers = machine.places.map((p) => `${p.service.name}/${p.server.name}`);
      await post("/api/v1/maintenance", { servers, "from-ms": begin, "until-ms": Math.round(begin + Number(hours) * 3_600_000), message });
      changed.value++;
      say(`${machine.host} is drained from ${time(begin)} for ${hours} h`);
      close();
    });
  };
  return (
    <Dialog title={`Maintenance of ${machine.host}`} close={close}>
      <form onSubmit={plan}>
        <p>It is drained in every service at its time, and comes back by itself.</p>
        <p><label>From<input type="datetime-local" required value={from} onInput={(e) => setFrom(e.currentTarget.value)} /></label></p>
        <p><label>Hours<input type="number" min="0.1" max="720" step="0.1" required value={hours} onInput={(e) => setHours(e.currentTarget.value)} /></label></p>
        <p><label>Why<input maxLength={500} value={message} onInput={(e) => setMessage(e.currentTarget.value)} /></label></p>
        <p><button type="submit">Plan it</button></p>
      </form>
    </Dialog>
  );
}

function MachineRow({ machine }: { machine: Machine }) {
  const [plans, setPlans] = useState(false);
  const { host, places } = machine;
  const lamp = look(places);
  const sum = (key: "current-connections" | "connect-errors" | "response-errors") => places.reduce((n, p) => n + p.server[key], 0);
  const left = sum("current-connections");
  const away = places.every((p) => p.server["admin-state"] !== "online");
  const any = (state: string) => places.some((p) => p.server["admin-state"] !== state);
  return (
    <li class={lamp.colour} data-machine={host}>
      <div class="machine">
        <p><strong>{host}</strong> <Lamp of={lamp} /> <b>{number(left)}</b> <small>{noun(left, "connection", "connections")} now</small>{sum("connect-errors") + sum("response-errors") > 0 && <> <b class="bad">{number(sum("connect-errors") + sum("response-errors"))}</b> <small>errors</small></>}
          {away && left === 0 && <span class="safe"> no connection left: safe to reboot</span>}
        </p>
        {may("operate") && (
          <p class="do">
            {any("online") && <button type="button" onClick={() => everywhere(machine, "online")}>Online everywhere</button>}
            {any("draining") && <button type="button" class="plain" onClick={() => everywhere(machine, "draining")}>Drain everywhere</button>}
            {any("halted") && <button type="button" class="plain" onClick={() => everywhere(machine, "halted")}>Halt everywhere</button>}
            <button type="button" class="plain" onClick={() => setPlans(true)}>Plan maintenance</button>
          </p>
        )}
        {plans && <Plan machine={machine} close={() => setPlans(false)} />}
        <ul class="places" aria-label={`Services of ${host}`}>
          {places.map(({ service, server }) => (
            <li key={`${service.name}/${server.name}`}>
              <button type="button" class="plain" onClick={() => show(service.name)}>{service.name}/{server.name}</button> <Lamp of={serverColour(server)} /> <small>{server.address}, weight {server.weight}, {count(server["current-connections"], "connection", "connections")}{server.state === "down" && `: ${server.check.detail}`}</small>
            </li>
          ))}
        </ul>
      </div>
    </li>
  );
}
