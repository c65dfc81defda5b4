// The frame: who is logged in, where to go, what has just been said.
import { render } from "preact";
import { useEffect } from "preact/hooks";
import "./style.css";
import { get, me, post, type Myself, type Status } from "./api";
import { ConfigurationPage } from "./configuration";
import { Graphs } from "./graphs";
import { connected, follow, head, leave } from "./live";
import { Login } from "./login";
import { Logs } from "./logs";
import { Maintenance } from "./maintenance";
import { NodePage } from "./node";
import { Overview } from "./overview";
import { Pair } from "./pair";
import { ago, Link, place, said, tried } from "./parts";
import { Reports } from "./reports";
import { Servers } from "./servers";
import { Wizard } from "./wizard";

const PAGES: [string, string, () => preact.JSX.Element][] = [
  ["/", "Overview", Overview],
  ["/servers", "Servers", Servers],
  ["/graphs", "Graphs", Graphs],
  ["/configuration", "Configuration", ConfigurationPage],
  ["/reports", "Reports", Reports],
  ["/logs", "Logs", Logs],
  ["/pair", "Pair", Pair],
  ["/node", "Node", NodePage],
  ["/maintenance", "Maintenance", Maintenance],
];

function App() {
  useEffect(() => {
    if (!me.value) return leave();
    follow();
    return leave;
  }, [me.value?.name]);
  if (!me.value) return <Login />;
  const path = place.value.split("?")[0];
  const Page = path === "/wizard" ? Wizard : (PAGES.find(([p]) => p === path)?.[2] ?? Overview);
  document.title = `Evenkeel: ${path === "/wizard" ? "New service" : (PAGES.find(([p]) => p === path)?.[1] ?? "Overview")}`;
  const logOut = () => tried(async () => {
    await post("/api/v1/logout");
    me.value = null;
  });
  return (
    <>
      <a class="skip" href="#main">Skip to the page</a>
      <header class="top">
        <img src="/icon.svg" alt="Evenkeel" width="28" height="28" />
        <nav aria-label="Pages">
          {PAGES.map(([to, word]) => <Link key={to} to={to} current={path === to}>{word}</Link>)}
        </nav>
        <p class="node">
          {!connected.value && <span class="lamp red">not connected</span>}
          {head.value && <NodeLine node={head.value.node} />}
        </p>
        <p class="who">{me.value.name} <small>{me.value.role}</small> <button type="button" class="plain" onClick={logOut}>Log out</button></p>
      </header>
      <main id="main" tabIndex={-1}><Page /></main>
      <div class={`said ${said.value?.bad ? "bad" : ""}`} role="status" aria-live="polite">{said.value && <p>{said.value.text}<button type="button" class="plain" aria-label="Close the message" onClick={() => (said.value = null)}>✕</button></p>}</div>
    </>
  );
}

/** Who this node is, and how it stands to the other one. */
function NodeLine({ node }: { node: Status["node"] }) {
  const { peer } = node;
  const age = peer?.["heard-ms-ago"];
  return (
    <>
      {node.name && <strong>{node.name}</strong>}{" "}
      <span class={`lamp ${node.role === "active" ? "green" : "blue"}`}>{node.role}</span>
      {peer && (
        <small>
          {" "}peer {peer.name ?? peer.address}{" "}
          <span class={`lamp ${!peer.heard ? "red" : peer.role === "active" ? "green" : "blue"}`}>{peer.heard ? (peer.role ?? "heard") : "silent"}</span>
          {" "}link {peer.link ? "up" : "down"}{age != null && `, beat ${age < 10000 ? `${age} ms` : ago(age)} ago`}
        </small>
      )}
    </>
  );
}

const root = document.getElementById("app")!;
get<Myself>("/api/v1/self").then((self) => (me.value = self), () => {}).finally(() => {
  root.textContent = "";
  render(<App />, root);
});
