// Reports: connections, layer-7 status, persistence, explain, certificates, doctor, what happened.
import { useState } from "preact/hooks";
import { get, list, may, post, putText, remove, type Happening, type Schemas } from "./api";
import { happenings, services } from "./live";
import { colour, Lamp, serverColour } from "./overview";
import { ago, bytes, closed, count, csv, Link, number, place, say, time, tried, useAsk, why } from "./parts";

const REPORTS = [["status", "Status"], ["connections", "Connections"], ["persistence", "Persistence"], ["explain", "Explain"], ["certificates", "Certificates"], ["doctor", "Doctor"], ["events", "Events"]] as const;

export function Reports() {
  const query = new URLSearchParams(place.value.split("?")[1] ?? "");
  const report = query.get("report") ?? "status";
  const service = query.get("service") ?? "";
  return (
    <section>
      <header class="page">
        <h1>Reports</h1>
        <nav class="tabs" aria-label="Reports">
          {REPORTS.map(([key, word]) => <Link key={key} to={`/reports?report=${key}`} current={report === key}>{word}</Link>)}
        </nav>
      </header>
      {report === "status" && <StatusReport />}
      {report === "connections" && <Connections key={service} service={service} />}
      {report === "persistence" && <Persistence />}
      {report === "explain" && <Explain />}
      {report === "certificates" && <Certificates />}
      {report === "doctor" && <Doctor />}
      {report === "events" && <Events />}
    </section>
  );
}

/** As dense as HAProxy's page. */
function StatusReport() {
  const all = services.value.map((s) => s.value);
  const rows = (): (string | number)[][] => [
    ["service", "server", "address", "state", "admin", "weight", "current", "total", "requests", "bytes in", "bytes out", "queued", "connect errors", "response errors", "check"],
    ...all.flatMap(({ service: s }) => [
      [s.name, "", s.vip.join(" "), s.state, "", "", s["current-connections"], s["total-connections"], s.requests, s["bytes-in"], s["bytes-out"], s.queued, "", s["bad-requests"], ""],
      ...s["real-servers"].map((r) => [s.name, r.name, r.address, r.state, r["admin-state"], r.weight, r["current-connections"], r["total-connections"], "", r["bytes-in"], r["bytes-out"], "", r["connect-errors"], r["response-errors"], r.check.detail]),
    ]),
  ];
  return (
    <>
      <p class="tools"><button type="button" class="plain" onClick={() => csv("status", rows())}>CSV</button></p>
      <div class="scroll" tabIndex={0} role="region" aria-label="Status of services and real servers">
        <table class="dense">
          <thead><tr><th>Name</th><th>Address</th><th>State</th><th class="n">Weight</th><th class="n">Now</th><th class="n">Total</th><th class="n">Requests</th><th class="n">In</th><th class="n">Out</th><th class="n">Waiting</th><th class="n">Connect err.</th><th class="n">Response err.</th><th>Last check</th><th>Since</th></tr></thead>
          {all.map(({ service: s }) => (
            <tbody key={s.name}>
              <tr class="head"><th scope="rowgroup">{s.name} <small>{s.mode}</small></th><td>{s.vip.join(", ")}</td><td><Lamp of={colour(s)} /></td><td></td><td class="n">{number(s["current-connections"])}</td><td class="n">{number(s["total-connections"])}</td><td class="n">{number(s.requests)}</td><td class="n">{bytes(s["bytes-in"])}</td><td class="n">{bytes(s["bytes-out"])}</td><td class="n">{s.queued}</td><td></td><td class="n">{s["bad-requests"]}</td><td></td><td></td></tr>
              {s["real-servers"].map((r) => (
                <tr key={r.name}><td>{r.name}{r.backup && " (backup)"}</td><td>{r.address}</td><td><Lamp of={serverColour(r)} /></td><td class="n">{r.weight}</td><td class="n">{number(r["current-connections"])}</td><td class="n">{number(r["total-connections"])}</td><td></td><td class="n">{bytes(r["bytes-in"])}</td><td class="n">{bytes(r["bytes-out"])}</td><td></td><td class="n">{r["connect-errors"]}</td><td class="n">{r["response-errors"]}</td><td>{r.check.detail}</td><td>{ago(Date.now() - r.check["since-ms"])}</td></tr>
              ))}
            </tbody>
          ))}
        </table>
      </div>
    </>
  );
}

function Connections({ service }: { service: string }) {
  const [filter, setFilter] = useState({ service, server: "", state: "", client: "" });
  const query = new URLSearchParams({ limit: "1000" });
  Object.entries(filter).forEach(([key, value]) => value && query.set(key, value));
  const { value, error, again } = useAsk<Schemas["Connection"][]>(() => get(`/api/v1/connections?${query}`), [query.toString()], 3000);
  // Streams are no connections of their own; entries of layer 4 that are closed or cut are none any more.
  const open = value?.filter((c) => c.state !== "closed" && c.state !== "cut") ?? [];
  const connections = new Set(open.map((c, i) => c.http2 ?? `row ${i}`)).size;
  const clients = new Set(open.map((c) => c.client.replace(/:\d+$/, ""))).size;
  const close = (which: Record<string, string>) => tried(async () => {
    const query = new URLSearchParams(Object.entries(which).filter(([, value]) => value));
    say(closed(await remove<Schemas["Closed"]>(`/api/v1/connections?${query}`)));
    again();
  });
  const narrowed = filter.client || (filter.service && !filter.state);
  const rows = () => [["protocol", "client", "vip", "service", "server", "state", "age ms", "requests", "bytes in", "bytes out"], ...(value ?? []).map((c) => [c.protocol ?? "", c.client, c.vip, c.service, c["real-server"] ?? "", c.state, c["age-ms"], c.requests, c["bytes-in"], c["bytes-out"]])];
  const field = (key: keyof typeof filter, label: string, hint: string) => (
    <label>{label}<input value={filter[key]} placeholder={hint} onChange={(e) => setFilter({ ...filter, [key]: e.currentTarget.value.trim() })} /></label>
  );
  return (
    <>
      <div class="tools">
        {field("service", "Service", "any")}{field("server", "Real server", "any")}{field("state", "State", "any")}{field("client", "Client", "address")}
        <button type="button" class="plain" onClick={() => csv("connections", rows())}>CSV</button>
        {may("operate") && narrowed && <button type="button" class="plain" onClick={() => close({ service: filter.service, server: filter.server, client: filter.client })}>Close these</button>}
      </div>
      {error && <p class="bad" role="alert">{error}</p>}
      <p>{value ? `${value.length === 1000 ? "of the first 1000 entries: " : ""}${count(connections, "connection", "connections")} of ${count(clients, "client", "clients")}` : "…"}</p>
      <div class="scroll" tabIndex={0} role="region" aria-label="Connections">
        <table class="dense">
          <thead><tr><th>Client</th><th>VIP</th><th>Service</th><th>Real server</th><th>State</th><th class="n">Age</th><th class="n">Requests</th><th class="n">In</th><th class="n">Out</th>{may("operate") && <th>Do</th>}</tr></thead>
          <tbody>{value?.map((c, i) => <tr key={i}><td>{c.client}</td><td>{c.vip} {c.protocol === "udp" && "udp"}</td><td>{c.service}</td><td>{c["real-server"] ?? "—"}</td><td>{c.state}</td><td class="n">{ago(c["age-ms"])}</td><td class="n">{c.requests}</td><td class="n">{bytes(c["bytes-in"])}</td><td class="n">{bytes(c["bytes-out"])}</td>{may("operate") && <td><button type="button" class="plain" onClick={() => close({ service: c.service, client: c.client.replace(/:\d+$/, "").replace(/^\[|\]$/g, ""), "client-port": /:(\d+)$/.exec(c.client)?.[1] ?? "" })} aria-label={`Close the connection of ${c.client}`}>Close</button></td>}</tr>)}</tbody>
        </table>
      </div>
    </>
  );
}

function Persistence() {
  const names = services.value.map((s) => s.peek().service.name);
  const [service, setService] = useState(names[0] ?? "");
  const { value, error, again } = useAsk(() => (service ? list<Schemas["PersistenceEntry"]>(`/api/v1/persistence/${encodeURIComponent(service)}?limit=500`) : Promise.resolve({ items: [], total: 0 })), [service], 5000);
  const clear = (key?: string) => tried(async () => {
    const { cleared } = await remove<Schemas["Cleared"]>(`/api/v1/persistence/${encodeURIComponent(service)}${key ? `?key=${encodeURIComponent(key)}` : ""}`);
    say(`${cleared} forgotten`);
    again();
  });
  return (
    <>
      <div class="tools">
        <label>Service or table<input list="known" value={service} onChange={(e) => setService(e.currentTarget.value.trim())} /></label>
        <datalist id="known">{names.map((n) => <option key={n} value={n} />)}</datalist>
        {may("operate") && value && value.total > 0 && <button type="button" class="plain" onClick={() => clear()}>Forget all</button>}
      </div>
      {error && <p role="status">{error}</p>}
      {!error && value && (
        <>
          <p>{count(value.total, "entry", "entries")}</p>
          <table class="dense">
            <thead><tr><th>Key</th><th>Real server</th><th class="n">Ends in</th><th></th></tr></thead>
            <tbody>{value.items.map((e) => <tr key={e.key}><td>{e.key}</td><td>{e["real-server"] ?? "—"}</td><td class="n">{ago(e["expires-in-ms"])}</td><td>{may("operate") && <button type="button" class="plain" onClick={() => clear(e.key)}>Forget</button>}</td></tr>)}</tbody>
          </table>
        </>
      )}
    </>
  );
}

function Explain() {
  const [answer, setAnswer] = useState<Schemas["Explanation"] | null>(null);
  const [error, setError] = useState("");
  const ask = async (event: Event) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(data.get(name) ?? "").trim();
    try {
      setError("");
      setAnswer(await post("/api/v1/explain", { target: text("target"), source: text("source") || null, method: text("method") || null, headers: text("headers").split("\n").filter(Boolean), configuration: null }));
    } catch (failure) {
      setAnswer(null);
      setError(why(failure));
    }
  };
  return (
    <>
      <form class="tools" onSubmit={ask}>
        <label>Request<input name="target" required placeholder="http://192.0.2.10/cart" size={36} /></label>
        <label>Method<input name="method" placeholder="GET" size={6} /></label>
        <label>Client<input name="source" placeholder="198.51.100.7" /></label>
        <label>Headers, one a line<textarea name="headers" rows={2} placeholder="Cookie: SERVERID=web2" /></label>
        <button type="submit">Why there?</button>
      </form>
      {error && <p class="bad" role="alert">{error}</p>}
      {answer && (
        <div aria-live="polite">
          <p class="notice">{answer["real-server"] ? <>It goes to <strong>{answer["real-server"]}</strong> of {answer.pool}.</> : <strong>No real server takes it.</strong>}</p>
          <ol>{answer.reasons.map((r, i) => <li key={i}>{r}</li>)}</ol>
          {(answer.routes ?? []).length > 0 && <table><thead><tr><th>Route</th><th>Holds</th><th>Tests</th></tr></thead><tbody>{answer.routes!.map((r) => <tr key={r.name}><td>{r.name}</td><td>{r.holds ? "yes" : "no"}</td><td>{r.tests.map((t) => `${t.test}: ${t.holds ? "yes" : "no"}`).join("; ")}</td></tr>)}</tbody></table>}
          <table><thead><tr><th>Real server</th><th class="n">Weight</th><th class="n">Connections</th><th>Verdict</th></tr></thead><tbody>{answer.candidates.map((c) => <tr key={c["real-server"]}><td>{c["real-server"]}</td><td class="n">{c["effective-weight"]}</td><td class="n">{c["current-connections"]}</td><td>{c.verdict}</td></tr>)}</tbody></table>
        </div>
      )}
    </>
  );
}

function Certificates() {
  const { value, error, again } = useAsk<Schemas["Certificate"][]>(() => get("/api/v1/certificates"), []);
  const replace = async (file: string, event: Event) => {
    const chosen = (event.currentTarget as HTMLInputElement).files?.[0];
    if (!chosen) return;
    const text = await chosen.text();
    const done = await tried(() => putText(`/api/v1/certificates/${encodeURIComponent(file.split("/").pop() ?? "")}`, text));
    if (done) say("The certificate is in use");
    again();
  };
  const manage = async (name: string, what: "renew" | "revoke") => {
    const sure = what === "renew" || confirm(`The authority takes back the certificate of ${name}, and another one is ordered. Go on?`);
    if (sure && (await tried(() => post(`/api/v1/certificates/${encodeURIComponent(name)}/${what}`)))) say(what === "renew" ? "It is being ordered" : "The authority is asked to take it back");
    again();
  };
  if (error) return <p class="bad">{error}</p>;
  if (value?.length === 0) return <p class="empty">No service ends TLS here.</p>;
  // One that renews itself is looked at by its share of life, not by days.
  const red = (c: Schemas["Certificate"]) => (c.managed ? c.managed.state === "failed" : c["days-left"] < 7);
  const yellow = (c: Schemas["Certificate"]) => (c.managed ? c.managed.state !== "valid" && c.managed.state !== "passive" : c["days-left"] < 21);
  return (
    <ul class="timeline">
      {value?.map((c) => (
        <li key={c.file} class={c.trouble || red(c) ? "red" : yellow(c) ? "yellow" : "green"}>
          <h2>{c.names.join(", ") || c.file}</h2>
          {c.trouble ? <p class="bad">{c.trouble}</p> : <>
            <progress max={(c["not-after-ms"] - c["not-before-ms"]) / 86400000} value={Math.max(0, c["days-left"])} aria-label={`${c["days-left"]} days left`} />
            <p><strong>{c["days-left"]} days left</strong>, until {time(c["not-after-ms"])}; by {c.issuer}</p>
          </>}
          {c.managed && <>
            <p>Given by {c.managed.authority} ({c.managed.challenges.join(", ")}): {c.managed.state}{c.managed["next-attempt-ms"] ? `, next attempt ${time(c.managed["next-attempt-ms"])}` : ""}</p>
            {c.managed["last-error"] && <p class="bad">{c.managed["last-error"]}</p>}
          </>}
          <p><small>{c.file}, used by {c["used-by"].join(", ")}</small></p>
          {c.managed && may("certificates") && <p class="tools">
            <button type="button" class="plain" onClick={() => manage(c.managed!.name, "renew")}>Order anew</button>
            <button type="button" class="plain" onClick={() => manage(c.managed!.name, "revoke")}>Revoke</button>
          </p>}
          {!c.managed && may("certificates") && <label class="file">Replace by a PEM file with chain and key<input type="file" accept=".pem,.crt,.key,text/plain" onChange={(e) => replace(c.file, e)} /></label>}
        </li>
      ))}
    </ul>
  );
}

function Doctor() {
  const { value, error, again } = useAsk<{ level: string; subject: string; what: string; fix: string }[]>(() => get("/api/v1/doctor"), []);
  return (
    <>
      <p class="tools"><button type="button" class="plain" onClick={again}>Look again</button></p>
      {error && <p class="bad" role="alert">{error}</p>}
      {!value && !error && <p role="status">Looking…</p>}
      {value?.length === 0 && <p class="safe">Nothing is wrong.</p>}
      <ul class="findings">{value?.map((f, i) => <li key={i} class={f.level === "error" ? "red" : "yellow"}><h2>{f.subject}</h2><p>{f.what}</p><p><strong>To mend it:</strong> {f.fix}</p></li>)}</ul>
    </>
  );
}

function Events() {
  const { value } = useAsk(() => list<Happening>("/api/v1/happenings?limit=500"), []);
  const known = value?.items ?? [];
  const fresh = happenings.value.filter((h) => !known.some((k) => k["time-ms"] === h["time-ms"] && k.text === h.text));
  const all = [...fresh, ...known];
  return all.length === 0 ? <p class="empty">Nothing has happened yet.</p> : (
    <table><thead><tr><th>When</th><th>What</th></tr></thead><tbody>{all.map((h, i) => <tr key={i} class={h.level}><td>{time(h["time-ms"])}</td><td>{h.text}</td></tr>)}</tbody></table>
  );
}
