// Both nodes as this one sees them; switching over and back.
import { useState } from "preact/hooks";
import { get, may, post, remove, type Schemas } from "./api";
import { ago, Dialog, say, tried, useAsk } from "./parts";

type PairState = Schemas["Pair"];

export function Pair() {
  const { value, error, again } = useAsk<PairState>(() => get("/api/v1/pair"), [], 1000);
  const [code, setCode] = useState<Schemas["Invitation"] | null>(null);
  const [rehearsal, setRehearsal] = useState("");
  const act = (work: () => Promise<unknown>, done: string) => tried(async () => {
    await work();
    say(done);
    again();
  });
  const switchOver = () => tried(async () => {
    const done = await post<Schemas["SwitchedOver"]>("/api/v1/pair/switch-over");
    say(`${done.active} is active; it took ${done["took-ms"]} ms`);
    again();
  });
  /** There and back, as a client of this page sees it. */
  const rehearse = async () => {
    setRehearsal("switching over…");
    const ok = await tried(async () => {
      const there = await post<Schemas["SwitchedOver"]>("/api/v1/pair/switch-over");
      setRehearsal(`${there.active} is active after ${there["took-ms"]} ms; switching back in five seconds…`);
      await new Promise((r) => setTimeout(r, 5000));
      const state = await get<PairState>("/api/v1/pair");
      if (state.role === "active") return setRehearsal(`there and back: ${there["took-ms"]} ms`);
      setRehearsal(`${there.active} is active after ${there["took-ms"]} ms. Switch back on its own page, or with: evenkeel pair rehearse`);
    });
    if (!ok) setRehearsal("");
    again();
  };
  if (error) {
    return (
      <section>
        <h1>Pair</h1>
        <p class="empty">{error}.</p>
        <p>Two machines that share floating IPs keep services up when one of them dies. <code>[pair]</code> in the configuration of both, then <code>evenkeel pair invite</code> on one and <code>evenkeel pair join CODE</code> on the other.</p>
      </section>
    );
  }
  if (!value) return <section><h1>Pair</h1><p role="status">Looking…</p></section>;
  const peer = value.peer;
  return (
    <section>
      <header class="page"><h1>Pair</h1></header>
      {value["split-brain"] && <p class="notice bad" role="alert">Both nodes are active.</p>}
      <div class="nodes">
        <article class={value.role === "active" ? "green" : "blue"}>
          <h2>{value.name} <small>this node</small></h2>
          <p class="role">{value.role}{value.held && ", held"}</p>
          <p>{value.why}, for {ago(value["since-ms"])}</p>
          <p>priority {value.priority}, revision {value.revision}</p>
          {value.troubles.length > 0 && <ul class="bad">{value.troubles.map((t) => <li key={t}>{t}</li>)}</ul>}
          {!value.guarded && <p class="bad">no guard process: a frozen daemon would keep its addresses</p>}
        </article>
        {peer && (
          <article class={peer.heard ? (peer.role === "active" ? "green" : "blue") : "red"}>
            <h2>{peer.address} <small>the other node</small></h2>
            <p class="role">{peer.heard ? peer.role : "not heard"}</p>
            <p>{peer["heard-ms-ago"] != null ? `heard ${ago(peer["heard-ms-ago"])} ago` : "never heard"}</p>
            {peer.priority != null && <p>priority {peer.priority}, revision {peer.revision}</p>}
          </article>
        )}
      </div>
      <table>
        <thead><tr><th>Path</th><th>Last heard</th><th>Trouble</th></tr></thead>
        <tbody>
          {value.paths.map((p) => <tr key={p.name}><td>{p.name}</td><td>{p["heard-ms-ago"] != null ? `${p["heard-ms-ago"]} ms ago` : "never"}</td><td class="bad">{p.trouble}</td></tr>)}
          {value.witness && <tr><td>witness {value.witness.address}</td><td>{value.witness["heard-ms-ago"] != null ? `${value.witness["heard-ms-ago"]} ms ago` : "never"}</td><td></td></tr>}
        </tbody>
      </table>
      {value.link && <p>Link: {value.link.connected ? "up" : "down"}{value.link.detail && `, ${value.link.detail}`}; configuration: {value.link.configuration}; {value.link.waiting} messages wait{value.link["lag-ms"] != null && `, ${value.link["lag-ms"]} ms behind`}.</p>}
      {value.conflict && <p class="bad">Somebody else answered for an address: {value.conflict}</p>}
      {may("operate") && (
        <p class="do">
          {value.role === "active" && <button type="button" onClick={switchOver}>Switch over</button>}
          {value.role === "active" && <button type="button" class="plain" onClick={rehearse}>Rehearse</button>}
          {value.held
            ? <button type="button" onClick={() => act(() => remove("/api/v1/pair/hold"), "released")}>Release</button>
            : <button type="button" class="plain" onClick={() => act(() => post("/api/v1/pair/hold"), "held: it stays passive")}>Hold</button>}
          {may("configure") && <>
            <button type="button" class="plain" onClick={() => act(() => post("/api/v1/pair/rotate-key"), "the pair has a new key")}>New key</button>
            <button type="button" class="plain" onClick={() => act(() => post("/api/v1/pair/push"), "pushed")}>Push this configuration</button>
            <button type="button" class="plain" onClick={() => tried(async () => setCode(await post("/api/v1/pair/invite")))}>Invite a node</button>
          </>}
        </p>
      )}
      {rehearsal && <p role="status">{rehearsal}</p>}
      {code && <Dialog title="Code for the node that joins" close={() => setCode(null)}><p>On the other node, within {code["valid-seconds"]} seconds:</p><pre>evenkeel pair join {code.code}</pre></Dialog>}
    </section>
  );
}
