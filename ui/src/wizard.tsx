// From nothing to a working service: what it is for, where clients come, who serves them.
import { useState } from "preact/hooks";
import { get, may, post, Refusal, type Edit, type Schemas } from "./api";
import type { Table } from "./form";
import { show } from "./overview";
import { Review, useAsk, why } from "./parts";
import { checkedAt, fitted, isDirect as direct, serverAddress, TEMPLATES } from "./templates";

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
  const [serverPort, setServerPort] = useState("");
  const [asked, setAsked] = useState<Record<string, string>>({});
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
    const [first] = next.services(next.port, {});
    setKind(key);
    setPorts(next.port);
    setServerPort(first.serverPort ?? "");
    setMode(first.mode);
    setAsked({});
    if (!name || TEMPLATES.some((t) => t.key === name)) setName(next.key);
  };
  const made = template.services(ports, asked).map((s) => ({ ...s, mode: template.modes.length > 1 ? mode : s.mode, serverPort: serverPort || undefined }));
  const first = made[0];
  const isDirect = direct(first.mode);
  // Where each port of a list goes to the same port there is nothing to choose.
  const hasServerPort = made.length === 1 && !isDirect && /^\d+$/.test(ports);

  const row = (at: number, change: Partial<Row>) => setRows((all) => all.map((r, i) => (i === at ? { ...r, ...change } : r)));
  /** Each check of what is made, with what the first that fails has found. */
  const attempt = async (at: number) => {
    const address = rows[at].address.trim();
    if (!address) return;
    row(at, { busy: true, result: undefined });
    const results: Schemas["Attempted"][] = [];
    try {
      for (const one of made) {
        const check = fitted({ ...one, mode: isDirect ? "nat" : one.mode })["health-check"] as Table;
        const result = await post<Schemas["Attempted"]>("/api/v1/attempt", { address: checkedAt(address, one), "health-check": check });
        results.push({ ...result, detail: one.suffix ? `${one.suffix.slice(1)}: ${result.detail}` : result.detail });
      }
      const bad = results.filter((r) => !r.passed);
      row(at, { busy: false, result: { passed: bad.length === 0, detail: (bad.length > 0 ? bad : results).map((r) => r.detail).join("; "), "took-ms": 0 } });
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
      const service: Table = {
        name: name + s.suffix,
        vip: [`${host}:${s.ports}`],
        mode: s.mode,
        ...fitted(s),
        ...(template.tls && { tls: { certificates: [certificate] } }),
        "real-server": servers.map((r) => ({ name: r.name, address: serverAddress(r.address.trim(), s) })),
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
          {hasServerPort && <label>Port of the real servers<input name="server-port" value={serverPort} pattern="\d{1,5}" onInput={(e) => setServerPort(e.currentTarget.value.trim())} placeholder={ports} /><small>unless an address says another</small></label>}
          {template.asks?.map((a) => <label key={a.key}>{a.label}<input name={a.key} required type={a.secret ? "password" : "text"} autocomplete="off" value={asked[a.key] ?? ""} onInput={(e) => setAsked({ ...asked, [a.key]: e.currentTarget.value })} /></label>)}
          {template.tls && <label>Certificate and key (a PEM file on this machine)<input name="certificate" required value={certificate} onInput={(e) => setCertificate(e.currentTarget.value)} placeholder="/etc/evenkeel/certs/www.pem" /></label>}
          {made.length > 1 && <p>It becomes {made.length} services: {made.map((s) => `${name || template.key}${s.suffix} (${s.ports})`).join(", ")}.</p>}
        </fieldset>
        <fieldset>
          <legend>Who serves them?</legend>
          {rows.map((r, at) => (
            <div class="server" key={at}>
              <label>Name<input value={r.name} onInput={(e) => row(at, { name: e.currentTarget.value })} aria-label={`Name of real server ${at + 1}`} /></label>
              <label>Address (RIP)<input value={r.address} onInput={(e) => row(at, { address: e.currentTarget.value, result: undefined })} onBlur={() => !r.result && attempt(at)} placeholder="192.0.2.21" aria-label={`Address of real server ${at + 1}`} /></label>
              <button type="button" class="plain" onClick={() => attempt(at)} disabled={!r.address}>Try it</button>
              {rows.length > 1 && <button type="button" class="plain" onClick={() => setRows(rows.filter((_, i) => i !== at))} aria-label={`Remove real server ${at + 1}`}>✕</button>}
              <span role="status" class={r.result ? (r.result.passed ? "safe" : "bad") : ""}>
                {r.busy ? "trying…" : r.result ? `${r.result.passed ? "✓" : "✕"} ${r.result.detail}` : ""}
              </span>
            </div>
          ))}
          <button type="button" class="plain" onClick={() => setRows([...rows, { name: `server${rows.length + 1}`, address: "" }])}>Add a real server</button>
          {template.note && <p class="notice">{template.note}</p>}
          {first.mode === "nat" && <p class="notice">Each real server needs this machine as its default gateway. The review says which address that is; in a pair it must be one that moves (a floating IP).</p>}
          {isDirect && (
            <p class="notice">Each real server needs the VIP on its loopback, and must not answer ARP for it (the ARP problem). On Linux: <code>evenkeel real-server setup --mode {mode} --vip {vip || "VIP"}</code>. The checks go through the VIP: a server that does not take it stays down. Afterwards the doctor under Reports finds what is wrong.</p>
          )}
          {Array.isArray(doctor.value) && doctor.value.filter((f) => /ARP/i.test(f.what)).map((f, i) => <p key={i} class="bad">{f.subject}: {f.what} — {f.fix}</p>)}
        </fieldset>
        {problem && <p class="bad" role="alert">{problem}</p>}
        <footer><button type="submit" disabled={!value}>Review the change</button></footer>
      </form>
      {review && value && <Review edits={review} base={value.revision} close={() => setReview(null)} done={() => { setReview(null); show(name + first.suffix); }} />}
    </section>
  );
}
