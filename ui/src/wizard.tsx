// From nothing to a working service: what it is for, where clients come, who serves them.
import { useState } from "preact/hooks";
import { get, may, post, Refusal, type Edit, type Schemas } from "./api";
import type { Json, Table } from "./form";
import { show } from "./overview";
import { Review, useAsk, why } from "./parts";

type Made = { suffix: string; mode: string; ports: string; more: Table };
type Template = { key: string; title: string; what: string; services: (port: string) => Made[]; port: string; modes: string[] };

const http = (path: string): Json => ({ type: "http", path });
const TCP: Json = { type: "tcp" };

const TEMPLATES: Template[] = [
  { key: "web", title: "Web", what: "HTTP; requests are looked at, clients keep their server by a cookie", port: "80", modes: ["http", "tcp", "dr", "nat", "snat", "tun"], services: (ports) => [{ suffix: "", mode: "http", ports, more: { "health-check": http("/"), persistence: { type: "cookie", name: "SERVERID", method: "insert", indirect: true, httponly: true }, forwarded: ["x-forwarded-for", "x-forwarded-proto"] } }] },
  { key: "web-tls", title: "Web with TLS", what: "HTTPS ends here; HTTP/2 and HTTP/1.1 for clients", port: "443", modes: ["http"], services: (ports) => [{ suffix: "", mode: "http", ports, more: { "health-check": http("/"), persistence: { type: "cookie", name: "SERVERID", method: "insert", indirect: true, httponly: true, secure: true }, forwarded: ["x-forwarded-for", "x-forwarded-proto"] } }] },
  { key: "rdp", title: "Remote Desktop", what: "users come back to their session's server, by the cookie of RDP", port: "3389", modes: ["tcp"], services: (ports) => [{ suffix: "", mode: "tcp", ports, more: { scheduler: "least-connections", persistence: { type: "rdp-cookie", expire: "1h" }, "health-check": { type: "tcp" }, timeouts: { client: "12h", server: "12h" } } }] },
  { key: "mail", title: "Mail / Exchange", what: "SMTP, IMAP, POP and the web of Exchange, as four services on one address", port: "25", modes: ["tcp"], services: (): Made[] => [
    { suffix: "-smtp", mode: "tcp", ports: "25,587", more: { "health-check": { type: "smtp", port: 25 } } } as Made,
    { suffix: "-imap", mode: "tcp", ports: "143,993", more: { "health-check": { type: "imap", port: 143 }, timeouts: { client: "35m", server: "35m" } } } as Made,
    { suffix: "-pop", mode: "tcp", ports: "110,995", more: { "health-check": { type: "pop", port: 110 } } } as Made,
    { suffix: "-web", mode: "tcp", ports: "443", more: { "health-check": { type: "tcp", port: 443 }, persistence: { type: "source", expire: "1h" }, timeouts: { client: "30m", server: "30m" } } } as Made,
  ] },
  { key: "sip", title: "SIP / OCS", what: "telephones keep their server by their address", port: "5060,5061", modes: ["tcp", "dr", "nat", "snat"], services: (ports) => [{ suffix: "", mode: "tcp", ports, more: { persistence: { type: "source", expire: "1h" }, "health-check": { type: "tcp", port: 5060 }, timeouts: { client: "1h", server: "1h" } } }] },
  { key: "dns", title: "DNS", what: "TCP and UDP, forwarded in the kernel", port: "53", modes: ["dr", "nat", "snat", "tun"], services: (ports) => [{ suffix: "", mode: "dr", ports, more: { protocol: "both", "health-check": { type: "dns", name: "example.org" } } }] },
  { key: "database", title: "Database", what: "TCP, long connections, the server with the fewest", port: "5432", modes: ["tcp", "dr", "nat", "snat"], services: (ports) => [{ suffix: "", mode: "tcp", ports, more: { scheduler: "least-connections", "health-check": TCP, timeouts: { client: "8h", server: "8h" } } }] },
];

const WORDS: Record<string, string> = {
  http: "http: proxy that reads HTTP", tcp: "tcp: proxy for any TCP", dr: "dr: direct return, servers answer clients themselves", nat: "nat: servers answer through this machine", snat: "snat: servers see this machine's address", tun: "tun: direct return through a tunnel",
};

type Row = { name: string; address: string; result?: Schemas["Attempted"]; busy?: boolean };

export function Wizard() {
  const [kind, setKind] = useState("web");
  const template = TEMPLATES.find((t) => t.key === kind)!;
  const [name, setName] = useState("");
  const [vip, setVip] = useState("");
  const [ports, setPorts] = useState("80");
  const [mode, setMode] = useState("http");
  const [certificate, setCertificate] = useState("");
  const [rows, setRows] = useState<Row[]>([{ name: "server1", address: "" }, { name: "server2", address: "" }]);
  const [review, setReview] = useState<Edit[] | null>(null);
  const [problem, setProblem] = useState("");
  const { value } = useAsk<Schemas["Configuration"]>(() => get("/api/v1/configuration"), []);
  const [holders, setHolders] = useState<Schemas["Holder"][]>([]);
  const doctor = useAsk<{ findings?: { what: string; fix: string; subject: string }[] } | { what: string; fix: string; subject: string }[]>(() => (mode === "dr" || mode === "tun" ? get("/api/v1/doctor") : Promise.resolve([])), [mode]);
  if (!may("configure")) return <section><h1>New service</h1><p>Your role may not change the configuration.</p></section>;

  const choose = (key: string) => {
    const next = TEMPLATES.find((t) => t.key === key)!;
    setKind(key);
    setPorts(next.port);
    setMode(next.services(next.port)[0].mode);
    if (!name || TEMPLATES.some((t) => t.key === name)) setName(next.key);
  };
  const made = template.services(ports).map((s) => ({ ...s, mode: template.modes.length > 1 ? mode : s.mode }));
  const isDirect = made[0].mode === "dr" || made[0].mode === "tun";
  const isLayer4 = !["http", "tcp"].includes(made[0].mode);

  const row = (at: number, change: Partial<Row>) => setRows((all) => all.map((r, i) => (i === at ? { ...r, ...change } : r)));
  const attempt = async (at: number) => {
    const address = rows[at].address.trim();
    if (!address) return;
    row(at, { busy: true, result: undefined });
    const first = made[0];
    const hasPort = /:\d+$/.test(address) && !/^[0-9a-f:]+$/i.test(address);
    const port = first.ports.split(/[,-]/)[0];
    const host = address.includes(":") && !address.includes("]") && !hasPort ? `[${address}]` : address;
    const to = hasPort ? address : `${host}:${port}`;
    try {
      const result = await post<Schemas["Attempted"]>("/api/v1/attempt", { address: to, "health-check": first.more["health-check"] });
      row(at, { busy: false, result });
    } catch (error) {
      row(at, { busy: false, result: { passed: false, detail: error instanceof Refusal ? error.failure.detail : why(error), "took-ms": 0 } });
    }
  };

  // Somebody else who has the address: the ARP problem, or a mistake.
  const whoHas = async () => {
    setHolders([]);
    if (!vip) return;
    try {
      setHolders(await get<Schemas["Holder"][]>(`/api/v1/who-has?address=${encodeURIComponent(vip.replace(/^\[|\]$/g, ""))}`));
    } catch {
      // What is no address is said when the change is reviewed.
    }
  };
  const holder = (h: Schemas["Holder"]) => {
    const server = rows.find((r) => h["known-as"] && r.address.trim().replace(/:\d+$/, "").replace(/^\[|\]$/g, "") === h["known-as"]);
    const who = server ? `The real server ${server.name} (${h.mac})` : h["known-as"] ? `${h["known-as"]} (${h.mac})` : `A machine with the MAC ${h.mac}`;
    return `${who} answers for ${vip} on ${h.interface}: clients there would go past this machine. ${isDirect ? `On a real server: evenkeel real-server setup --mode ${mode} --vip ${vip}` : "Take the address off it, or choose another one."}`;
  };

  const submit = (event: Event) => {
    event.preventDefault();
    const servers = rows.filter((r) => r.address.trim());
    if (servers.length === 0) return setProblem("A service needs a real server.");
    const host = vip.includes(":") && !vip.startsWith("[") ? `[${vip}]` : vip;
    setProblem("");
    setReview(made.map((s) => {
      const more: Table = { ...s.more };
      if (isLayer4) {
        // The kernel's path knows sources, not cookies or HTTP headers.
        delete more.forwarded;
        delete more.timeouts;
        if ((more.persistence as Table | undefined)?.type !== "source") delete more.persistence;
        if (more.persistence) more.persistence = { type: "source", timeout: "5m" };
      } else if (s.mode === "tcp") {
        delete more.forwarded;
        if ((more.persistence as Table | undefined)?.type === "cookie") more.persistence = { type: "source", expire: "30m" };
      }
      const address = (text: string) => {
        if (!isLayer4 || s.mode === "nat" || s.mode === "snat") return withPort(text, s.ports);
        return text.replace(/:\d+$/, "");
      };
      const service: Table = {
        name: name + s.suffix,
        vip: [`${host}:${s.ports}`],
        mode: s.mode,
        ...more,
        ...(kind === "web-tls" && { tls: { certificates: [certificate] } }),
        "real-server": servers.map((r) => ({ name: r.name, address: address(r.address.trim()) })),
      };
      return { do: "add", at: ["virtual-service"], value: service };
    }));
  };

  return (
    <section class="wizard">
      <h1>New service</h1>
      <form onSubmit={submit}>
        <fieldset class="cards">
          <legend>What is it for?</legend>
          {TEMPLATES.map((t) => (
            <label key={t.key} class={kind === t.key ? "chosen" : ""}>
              <input type="radio" name="kind" value={t.key} checked={kind === t.key} onChange={() => choose(t.key)} />
              <strong>{t.title}</strong><small>{t.what}</small>
            </label>
          ))}
        </fieldset>
        <fieldset>
          <legend>Where do clients come?</legend>
          <label>Name<input name="name" required value={name} pattern="[A-Za-z0-9][A-Za-z0-9._:\-]{0,63}" onInput={(e) => setName(e.currentTarget.value)} placeholder={template.key} /></label>
          <label>Address (VIP)<input name="vip" required value={vip} onInput={(e) => setVip(e.currentTarget.value.trim())} onBlur={whoHas} placeholder="192.0.2.10" /></label>
          {holders.map((h) => <p key={h.mac + h.interface} class="bad" role="alert">{holder(h)}</p>)}
          {made.length === 1 && <label>Ports<input name="ports" required value={ports} onInput={(e) => setPorts(e.currentTarget.value.trim())} /><small>80, or 80,443, or 6000-6100</small></label>}
          {template.modes.length > 1 && (
            <label>How
              <select name="mode" value={mode} onChange={(e) => setMode(e.currentTarget.value)}>
                {template.modes.map((m) => <option key={m} value={m}>{WORDS[m]}</option>)}
              </select>
            </label>
          )}
          {kind === "web-tls" && <label>Certificate and key (a PEM file on this machine)<input name="certificate" required value={certificate} onInput={(e) => setCertificate(e.currentTarget.value)} placeholder="/etc/evenkeel/certs/www.pem" /></label>}
          {made.length > 1 && <p>It becomes {made.length} services: {made.map((s) => `${name || template.key}${s.suffix} (${s.ports})`).join(", ")}.</p>}
        </fieldset>
        <fieldset>
          <legend>Who serves them?</legend>
          {rows.map((r, at) => (
            <div class="server" key={at}>
              <label>Name<input value={r.name} onInput={(e) => row(at, { name: e.currentTarget.value })} aria-label={`Name of real server ${at + 1}`} /></label>
              <label>Address (RIP)<input value={r.address} onInput={(e) => row(at, { address: e.currentTarget.value, result: undefined })} onBlur={() => !r.result && attempt(at)} placeholder={isLayer4 && mode !== "nat" && mode !== "snat" ? "192.0.2.21" : "192.0.2.21:80"} aria-label={`Address of real server ${at + 1}`} /></label>
              <button type="button" class="plain" onClick={() => attempt(at)} disabled={!r.address}>Try it</button>
              {rows.length > 1 && <button type="button" class="plain" onClick={() => setRows(rows.filter((_, i) => i !== at))} aria-label={`Remove real server ${at + 1}`}>✕</button>}
              <span role="status" class={r.result ? (r.result.passed ? "safe" : "bad") : ""}>
                {r.busy ? "trying…" : r.result ? `${r.result.passed ? "✓" : "✕"} ${r.result.detail}` : ""}
              </span>
            </div>
          ))}
          <button type="button" class="plain" onClick={() => setRows([...rows, { name: `server${rows.length + 1}`, address: "" }])}>Add a real server</button>
          {(mode === "dr" || mode === "tun") && made.length === 1 && (
            <p class="notice">Each real server needs the VIP on its loopback, and must not answer ARP for it (the ARP problem). On Linux: <code>evenkeel real-server setup --mode {mode} --vip {vip || "VIP"}</code>. Afterwards the doctor under Reports finds what is wrong.</p>
          )}
          {Array.isArray(doctor.value) && doctor.value.filter((f) => /ARP/i.test(f.what)).map((f, i) => <p key={i} class="bad">{f.subject}: {f.what} — {f.fix}</p>)}
        </fieldset>
        {problem && <p class="bad" role="alert">{problem}</p>}
        <footer><button type="submit" disabled={!value}>Review the change</button></footer>
      </form>
      {review && value && <Review edits={review} base={value.revision} close={() => setReview(null)} done={() => { setReview(null); show(name + made[0].suffix); }} />}
    </section>
  );
}

function withPort(address: string, ports: string): string {
  const hasPort = /\]:\d+$|^[^:]+:\d+$/.test(address);
  if (hasPort) return address;
  const bare = address.includes(":") && !address.startsWith("[") ? `[${address}]` : address;
  // Many ports: the client's own is kept.
  return /^\d+$/.test(ports) ? `${bare}:${ports}` : address;
}
