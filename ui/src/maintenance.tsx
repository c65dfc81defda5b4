// Looking after a node: people, tokens, sessions, audit, backups, lockdown, one's own account.
import { useState } from "preact/hooks";
import { get, list, may, me, post, put, remove, type Edit, type Myself, type Schemas } from "./api";
import { ago, Dialog, download, Link, place, Review, say, time, tried, useAsk } from "./parts";

const ROLES = ["viewer", "operator", "certificate-manager", "admin"];

export function Maintenance() {
  const query = new URLSearchParams(place.value.split("?")[1] ?? "");
  const view = query.get("view") ?? (may("configure") ? "system" : "self");
  const tabs = [...(may("configure") ? [["system", "System"], ["people", "People"], ["audit", "Audit"]] : []), ["self", "Your account"]];
  return (
    <section>
      <header class="page">
        <h1>Maintenance</h1>
        <nav class="tabs" aria-label="Maintenance">
          {tabs.map(([key, word]) => <Link key={key} to={`/maintenance?view=${key}`} current={view === key}>{word}</Link>)}
        </nav>
      </header>
      {view === "system" && <System />}
      {view === "people" && <People />}
      {view === "audit" && <Audit />}
      {view === "self" && <Self />}
    </section>
  );
}

const PARTS: Record<Schemas["Part"], { title: string; what: string }> = {
  program: { title: "the whole program", what: "A new process takes over the listening sockets; connections are kept by the old one until they end. A newer program on disk is used." },
  checks: { title: "the health checks", what: "Every check begins again. States stay until it has found something." },
  layer4: { title: "layer 4", what: "The programs are attached again in place of what is there; routes and neighbours are read again. Flows are kept." },
  web: { title: "the web UI", what: "Listeners are closed and opened, the certificate is read again. Who is logged in stays so." },
  pair: { title: "the paths to the other node", what: "The pair's paths are closed and opened again. The role stays." },
  logs: { title: "the access log", what: "Its files are opened again." },
};

function System() {
  const [report, setReport] = useState<Schemas["Lockdown"] | null>(null);
  const [part, setPart] = useState<Schemas["Part"]>("program");
  const [alerts, setAlerts] = useState<Schemas["AlertsTested"] | null>(null);
  const [backup, setBackup] = useState<Schemas["Backup"] | null>(null);
  const [reset, setReset] = useState<{ edits: Edit[]; base: number } | null>(null);
  const [ask, setAsk] = useState<{ title: string; text: string; act: () => void } | null>(null);
  const stamp = () => new Date().toISOString().slice(0, 16).replaceAll(":", "");
  const save = (path: string, name: string) => tried(async () => download(`${name}-${stamp()}.json`, JSON.stringify(await get(path), null, 1)));
  const restore = async (event: Event) => {
    const file = (event.currentTarget as HTMLInputElement).files?.[0];
    if (!file) return;
    await tried(async () => {
      setBackup(JSON.parse(await file.text()));
    });
  };
  const restoreAs = (part: string) => tried(async () => {
    const query = part ? `?as=${part}` : "";
    const sent = backup;
    setBackup(null);
    const done = await post<Schemas["Restored"]>(`/api/v1/restore${query}`, sent);
    say(`Restored as revision ${done.revision}: ${done.notes.join("; ")}`);
  });
  const lockdown = () => setAsk({
    title: "Lock down?",
    text: "Only this address may connect to the web UI; TLS 1.3 only; tokens without an end are revoked; all other sessions end; the pair gets a new key.",
    act: () => tried(async () => setReport(await post("/api/v1/lockdown"))),
  });
  const defaults = () => tried(async () => {
    const running = await get<Schemas["Configuration"]>("/api/v1/configuration");
    const kept = ["admin", "state", "pair"];
    const parts = Object.keys(running.values as object).filter((key) => !kept.includes(key));
    setReset({ edits: parts.map((key) => ({ do: "remove", at: [key] })), base: running.revision });
  });
  const restart = () => setAsk({
    title: part === "program" ? "Start the program anew?" : `Start ${PARTS[part].title} anew?`,
    text: PARTS[part].what,
    act: () => tried(async () => say((await post<Schemas["Restarting"]>("/api/v1/restart", { part })).detail)),
  });
  return (
    <div class="cards">
      <article><h2>Backup</h2><p>Configuration, certificates with their keys, people, live states. Keep it as safe as the keys are.</p><button type="button" onClick={() => save("/api/v1/backup", "evenkeel-backup")}>Download</button><label class="file">Restore<input type="file" accept=".json,application/json" onChange={restore} /></label></article>
      <article><h2>Lockdown</h2><p>Closes what is open, rotates keys, and says what is left to do.</p><button type="button" onClick={lockdown}>Lock down</button></article>
      <article><h2>Support bundle</h2><p>What a helper needs to see, without secrets.</p><button type="button" onClick={() => save("/api/v1/support-bundle", "evenkeel-support")}>Download</button></article>
      <article><h2>Alerts</h2><p>Sends a test message to every receiver.</p><button type="button" onClick={() => tried(async () => setAlerts(await post("/api/v1/alerts/test")))}>Send a test</button>{alerts && <ul>{alerts.receivers.map((r) => <li key={r.receiver} class={r.sent ? "safe" : "bad"}>{r.receiver}: {r.detail}</li>)}</ul>}</article>
      <article><h2>Restart</h2><p>Starts the program, or one part of it, anew; connections are kept.</p><label>Part<select value={part} onChange={(e) => setPart(e.currentTarget.value as Schemas["Part"])}>{Object.entries(PARTS).map(([key, { title }]) => <option key={key} value={key}>{title}</option>)}</select></label><button type="button" onClick={restart}>Restart</button></article>
      <article><h2>Defaults</h2><p>Removes every service and setting but the way in, the state folder and the pair. The history keeps what was.</p><button type="button" onClick={defaults}>Review the change</button></article>
      <article><h2>Configuration</h2><p>Earlier revisions, and the way back to them.</p><Link to="/configuration?view=history">History</Link></article>
      {report && (
        <Dialog title="Lockdown" close={() => setReport(null)}>
          <ul>{report.done.map((l) => <li key={l} class="safe">{l}</li>)}{report.left.map((l) => <li key={l} class="bad">left: {l}</li>)}</ul>
        </Dialog>
      )}
      {reset && <Review edits={reset.edits} base={reset.base} close={() => setReset(null)} done={() => setReset(null)} />}
      {backup && (
        <Dialog title="Restore this backup?" close={() => setBackup(null)}>
          <p>It is of <strong>{backup.node}</strong>, made {time(backup["made-ms"])} by Evenkeel {backup.version}. Configuration, certificates, people and live states become what they were; everybody logs in again. All of it is checked before anything happens. A node of a pair keeps its role until it is done, and stays passive then until it is released.</p>
          <p><strong>As this node</strong>: name, peer, doors of the administration and state folder stay this node's. <strong>As {backup.node}</strong>: it becomes that node, which must be off.</p>
          <footer><button type="button" class="plain" onClick={() => setBackup(null)}>Not now</button><button type="button" onClick={() => restoreAs("this-node")}>As this node</button><button type="button" onClick={() => restoreAs("that-node")}>As {backup.node}</button></footer>
        </Dialog>
      )}
      {ask && (
        <Dialog title={ask.title} close={() => setAsk(null)}>
          <p>{ask.text}</p>
          <footer><button type="button" class="plain" onClick={() => setAsk(null)}>Not now</button><button type="button" onClick={() => { setAsk(null); ask.act(); }}>Do it</button></footer>
        </Dialog>
      )}
    </div>
  );
}

function People() {
  const users = useAsk<Schemas["User"][]>(() => get("/api/v1/users"), []);
  const tokens = useAsk<Schemas["Token"][]>(() => get("/api/v1/tokens"), []);
  const sessions = useAsk<Schemas["Session"][]>(() => get("/api/v1/sessions"), []);
  const [made, setMade] = useState<Schemas["Token"] | null>(null);
  const act = (work: () => Promise<unknown>, done: string) => tried(async () => {
    await work();
    say(done);
    users.again();
    tokens.again();
    sessions.again();
  });
  const form = (event: Event) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    return { form, text: (name: string) => String(new FormData(form).get(name) ?? "") };
  };
  const addUser = async (event: Event) => {
    const { form: f, text } = form(event);
    if (await act(() => post("/api/v1/users", { name: text("name"), role: text("role"), password: text("password") }), `${text("name")} may log in`)) f.reset();
  };
  const addToken = async (event: Event) => {
    const { form: f, text } = form(event);
    const days = Number(text("days"));
    const body = { name: text("name"), role: text("role"), ...(days > 0 && { "valid-days": days }) };
    if (await act(async () => setMade(await post("/api/v1/tokens", body)), "The token is made")) f.reset();
  };
  const roles = (value: string, change?: (role: string) => void, label = "Role") => (
    <select name="role" aria-label={label} value={value} onChange={(e) => change?.(e.currentTarget.value)}>{ROLES.map((r) => <option key={r} value={r}>{r}</option>)}</select>
  );
  const path = (name: string) => `/api/v1/users/${encodeURIComponent(name)}`;
  return (
    <>
      <h2>People</h2>
      <table>
        <thead><tr><th>Name</th><th>Role</th><th>Second factor</th><th>Since</th><th></th></tr></thead>
        <tbody>{users.value?.map((u) => (
          <tr key={u.name}>
            <td>{u.name}{u["locked-ms"] > 0 && <span class="bad"> locked for {ago(u["locked-ms"])}</span>}</td>
            <td>{roles(u.role, (role) => act(() => put(path(u.name), { role }), `${u.name} is ${role}`), `Role of ${u.name}`)}</td>
            <td>{u["second-factor"] ? <>yes <button type="button" class="plain" onClick={() => act(() => put(path(u.name), { "second-factor": false }), `${u.name} has no second factor`)}>take away</button></> : "no"}</td>
            <td>{time(u["created-ms"])}</td>
            <td><button type="button" class="plain" onClick={() => act(() => remove(path(u.name)), `${u.name} is removed`)} aria-label={`Remove ${u.name}`}>Remove</button></td>
          </tr>
        ))}</tbody>
      </table>
      <form class="tools" onSubmit={addUser}>
        <label>Name<input name="name" required pattern="[A-Za-z0-9_.@\-]{1,64}" autocomplete="off" /></label>
        <label>Role{roles("viewer")}</label>
        <label>Password<input name="password" type="password" required minLength={10} autocomplete="new-password" /></label>
        <button type="submit">Add a person</button>
      </form>
      <h2>Tokens</h2>
      <table>
        <thead><tr><th>Name</th><th>Role</th><th>Owner</th><th>Ends</th><th></th></tr></thead>
        <tbody>{tokens.value?.map((t) => (
          <tr key={t.id}><td>{t.name}</td><td>{t.role}</td><td>{t.owner}</td><td class={t["expires-ms"] ? "" : "bad"}>{t["expires-ms"] ? time(t["expires-ms"]) : "never"}</td><td><button type="button" class="plain" onClick={() => act(() => remove(`/api/v1/tokens/${t.id}`), `${t.name} is revoked`)} aria-label={`Revoke ${t.name}`}>Revoke</button></td></tr>
        ))}</tbody>
      </table>
      <form class="tools" onSubmit={addToken}>
        <label>Name<input name="name" required pattern="[A-Za-z0-9_.@\-]{1,64}" autocomplete="off" /></label>
        <label>Role{roles("viewer")}</label>
        <label>Days<input name="days" type="number" min="0" max="3650" value="90" /></label>
        <button type="submit">Make a token</button>
      </form>
      <h2>Logged in</h2>
      <table>
        <thead><tr><th>Who</th><th>From</th><th>With</th><th>Last seen</th><th></th></tr></thead>
        <tbody>{sessions.value?.map((s) => (
          <tr key={s.id}><td>{s.user}</td><td>{s.from}</td><td class="why">{s.agent}</td><td>{ago(Date.now() - s["seen-ms"])} ago</td><td>{s.own ? "this one" : <button type="button" class="plain" onClick={() => act(() => remove(`/api/v1/sessions/${s.id}`), "ended")} aria-label={`End the session of ${s.user}`}>End</button>}</td></tr>
        ))}</tbody>
      </table>
      {made && <Dialog title={`Token ${made.name}`} close={() => setMade(null)}><p>It is shown this once:</p><pre class="secret">{made.token}</pre></Dialog>}
    </>
  );
}

function Audit() {
  const [offset, setOffset] = useState(0);
  const { value, error } = useAsk(() => list<Schemas["AuditEntry"]>(`/api/v1/audit?limit=100&offset=${offset}`), [offset]);
  const verdict = useAsk<Schemas["AuditVerdict"]>(() => get("/api/v1/audit/verify"), []);
  return (
    <>
      {verdict.value && <p class={verdict.value.intact ? "safe" : "bad"} role="status">{verdict.value.intact ? `Intact: ${verdict.value.detail}` : `Tampered with: ${verdict.value.detail}`}</p>}
      {error && <p class="bad">{error}</p>}
      <table class="dense">
        <thead><tr><th class="n">No.</th><th>When</th><th>Who</th><th>From</th><th>What</th><th class="n">Outcome</th></tr></thead>
        <tbody>{value?.items.map((e) => <tr key={e.number}><td class="n">{e.number}</td><td>{time(e["time-ms"])}</td><td>{e.who}</td><td>{e.from}</td><td>{e.what}</td><td class={Number(e.outcome) >= 400 ? "n bad" : "n"}>{e.outcome}</td></tr>)}</tbody>
      </table>
      <p class="do">
        {offset > 0 && <button type="button" class="plain" onClick={() => setOffset(Math.max(0, offset - 100))}>Later</button>}
        {value && offset + 100 < value.total && <button type="button" class="plain" onClick={() => setOffset(offset + 100)}>Earlier</button>}
      </p>
    </>
  );
}

function Self() {
  const [factor, setFactor] = useState<Schemas["SecondFactor"] | null>(null);
  const change = (event: Event) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const data = new FormData(form);
    tried(async () => {
      if (data.get("new") !== data.get("again")) throw new Error("The two new passwords differ");
      await put("/api/v1/self/password", { old: data.get("old"), new: data.get("new") });
      form.reset();
      say("You have a new password; your other sessions have ended");
    });
  };
  const begin = (event: Event) => {
    event.preventDefault();
    const proof = Object.fromEntries(new FormData(event.currentTarget as HTMLFormElement));
    tried(async () => setFactor(await post("/api/v1/self/second-factor", proof)));
  };
  const finish = (event: Event) => {
    event.preventDefault();
    const code = new FormData(event.currentTarget as HTMLFormElement).get("code");
    tried(async () => {
      me.value = await put<Myself>("/api/v1/self/second-factor", { code });
      setFactor(null);
      say("From now on logging in needs your authenticator");
    });
  };
  return (
    <div class="cards">
      <article>
        <h2>Password</h2>
        <form onSubmit={change}>
          <label>Old password<input name="old" type="password" required autocomplete="current-password" /></label>
          <label>New password<input name="new" type="password" required minLength={10} autocomplete="new-password" /></label>
          <label>New password once more<input name="again" type="password" required autocomplete="new-password" /></label>
          <button type="submit">Change</button>
        </form>
      </article>
      <article>
        <h2>Second factor</h2>
        {me.value?.["second-factor"] ? <p class="safe">Logging in needs your authenticator.</p> : <p>Six digits of an authenticator on your telephone, beside the password.</p>}
        <form onSubmit={begin}>
          {me.value?.["second-factor"] && (
            <>
              <label>Password<input name="password" type="password" required autocomplete="current-password" /></label>
              <label>Code of the present one<input name="code" inputMode="numeric" required autocomplete="one-time-code" /></label>
            </>
          )}
          <button type="submit">{me.value?.["second-factor"] ? "Set it up anew" : "Set it up"}</button>
        </form>
      </article>
      {factor && (
        <Dialog title="Second factor" close={() => setFactor(null)}>
          <p>Photograph this with your authenticator:</p>
          <img class="qr" alt="QR code of the secret" src={`data:image/svg+xml;base64,${btoa(factor.picture)}`} />
          <p>Or type: <code>{factor.secret}</code></p>
          <form onSubmit={finish}><label>Its six digits<input name="code" inputMode="numeric" autocomplete="one-time-code" required autofocus /></label><footer><button type="submit">Finish</button></footer></form>
        </Dialog>
      )}
    </div>
  );
}
