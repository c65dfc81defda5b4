// Both nodes as this one sees them; switching over and back.
import { useState } from "preact/hooks";
import { atTheDoor, get, may, post, remove, type Schemas } from "./api";
import { head } from "./live";
import { ago, Dialog, say, tried, useAsk, why } from "./parts";

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
  if (error) return <Alone found={again} invited={setCode} />;
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
          {value["stood-still"] && <p>stood still for {ago(value["stood-still"]["lasted-ms"])}, {ago(value["stood-still"]["ended-ms-ago"])} ago: {value["stood-still"].cause}</p>}
          {!value.guarded && <p class="bad">no guard process: a frozen daemon would keep its addresses</p>}
        </article>
        {peer && (
          <article class={peer.heard ? (peer.role === "active" ? "green" : "blue") : "red"}>
            <h2>{peer.name ?? peer.address} <small>the other node{peer.name && `, ${peer.address}`}</small></h2>
            <p class="role">{peer.heard ? peer.role : "not heard"}</p>
            <p>{peer["heard-ms-ago"] != null ? `heard ${ago(peer["heard-ms-ago"])} ago` : "never heard"}</p>
            {peer["stood-still"] && <p>stood still for {ago(peer["stood-still"]["lasted-ms"])}, {ago(peer["stood-still"]["ended-ms-ago"])} ago: {peer["stood-still"].cause}</p>}
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
      {!value.paired && may("configure") && <Join found={again} />}
      {code && <Code code={code} close={() => setCode(null)} />}
    </section>
  );
}

function Code({ code, close }: { code: Schemas["Invitation"]; close: () => void }) {
  return (
    <Dialog title="Code for the node that joins" close={close}>
      <p>In the web UI of the other node: Pair, "This machine joins another one". Or on its command line, within {Math.round(code["valid-seconds"] / 60)} minutes:</p>
      <pre>evenkeel pair join {code.code}</pre>
      <p>What the other node needs in either case is the code:</p>
      <pre class="code">{code.code}</pre>
    </Dialog>
  );
}

/** A node without a pair: it gets a second one, or becomes the second one. */
function Alone({ found, invited }: { found: () => void; invited: (code: Schemas["Invitation"]) => void }) {
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const add = async (event: Event) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(data.get(name) ?? "").trim();
    setBusy(true);
    setProblem("");
    try {
      invited(await post<Schemas["Invitation"]>("/api/v1/pair/invite", { name: text("name"), peer: text("peer"), interface: text("interface") || null }));
      found();
    } catch (error) {
      setProblem(why(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <section>
      <h1>Pair</h1>
      <p>This node is alone. Two machines that share their addresses keep services up when one of them dies.</p>
      {may("configure") && (
        <div class="cards">
          <article>
            <h2>Add a second node</h2>
            <p>Install Evenkeel on it and make its first person. It takes this node's configuration.</p>
            <form onSubmit={add}>
              <label>Name of this node<input name="name" required defaultValue={nameOf()} pattern="[A-Za-z0-9][A-Za-z0-9._:\-]{0,63}" /></label>
              <label>Address of the other node<input name="peer" required placeholder="192.0.2.2" /></label>
              <Where />
              <button type="submit" disabled={busy}>Add a second node</button>
            </form>
            {problem && <p class="bad" role="alert">{problem}</p>}
          </article>
          <Join found={found} />
        </div>
      )}
    </section>
  );
}

/** A second path for the beats: the interface of the services. */
function Where() {
  const { value } = useAsk<Schemas["Machine"]>(() => get("/api/v1/node"), []);
  const usable = (value?.interfaces ?? []).filter((i) => i.name !== "lo" && i.addresses.length > 0);
  return (
    <label>Interface of the services, for beats
      <select name="interface">
        {usable.map((i) => <option key={i.name} value={i.name}>{i.name} ({i.addresses[0].address})</option>)}
        <option value="">none: beats on the link alone</option>
      </select>
    </label>
  );
}

const nameOf = (): string => (head.value?.node.name ?? "").split(".")[0] || "lb1";

/** The code holds the other node's address: nothing else has to be known here. */
function Join({ found }: { found: () => void }) {
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState("");
  const join = async (event: Event) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    const code = String(data.get("code") ?? "").trim().split(/\s+/).pop() ?? "";
    const text = (name: string) => String(data.get(name) ?? "").trim() || null;
    setProblem("");
    try {
      setBusy("joining…");
      await post("/api/v1/pair/join", { code, name: text("name"), peer: text("address"), interface: text("interface") });
      atTheDoor.value = "This machine has joined the other one and has its people now: log in as one of them.";
      say("joined: this node has the pair's key, configuration and people");
    } catch (error) {
      setProblem(why(error));
    } finally {
      setBusy("");
      found();
    }
  };
  return (
    <article>
      <h2>This machine joins another one</h2>
      <p>It becomes the passive node. Its services and its people give way to those of the other node: log in as one of them afterwards.</p>
      <form onSubmit={join}>
        <label>Name of this machine<input name="name" required defaultValue={nameOf()} pattern="[A-Za-z0-9][A-Za-z0-9._:\-]{0,63}" /></label>
        <label>Code from the other node<input name="code" required autocomplete="off" placeholder="192.0.2.1:9694/5f1c…" /></label>
        <label>Address of the other node<input name="address" placeholder="as the code says" /></label>
        <Where />
        <button type="submit" disabled={!!busy}>Join</button>
      </form>
      {busy && <p role="status">{busy}</p>}
      {problem && <p class="bad" role="alert">{problem}</p>}
    </article>
  );
}
