// The access log as it comes, filtered.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, lines, may, me } from "./api";
import { Link, place, useAsk, why } from "./parts";

const KEPT = 1000;

export function Logs() {
  const query = new URLSearchParams(place.value.split("?")[1] ?? "");
  const program = query.get("log") === "program" && may("operate");
  return (
    <section>
      <header class="page">
        <h1>Logs</h1>
        {may("operate") && (
          <nav class="tabs" aria-label="Logs">
            <Link to="/logs" current={!program}>Access</Link>
            <Link to="/logs?log=program" current={program}>Program</Link>
          </nav>
        )}
      </header>
      {program ? <ProgramLog /> : <AccessLog />}
    </section>
  );
}

/** Which lines have all these words, and none of those with a dash. */
function fits(line: string, filter: string): boolean {
  const low = line.toLowerCase();
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((w) => (w.startsWith("-") && w.length > 1 ? !low.includes(w.slice(1)) : low.includes(w)));
}

/** What the program has said of itself, the latest last. */
function ProgramLog() {
  const [filter, setFilter] = useState("");
  const { value, error } = useAsk<string[]>(() => get("/api/v1/program-log"), [], 2000);
  const shown = (value ?? []).filter((line) => fits(line, filter));
  return (
    <>
      <div class="tools"><label>Only lines with<input type="search" value={filter} onInput={(e) => setFilter(e.currentTarget.value)} placeholder="WARN -check" /></label></div>
      {error && <p class="bad" role="alert">{error}</p>}
      <pre class="log" tabIndex={0} role="log" aria-label="The program's log" aria-live="off">{shown.join("\n") || "…"}</pre>
    </>
  );
}

function AccessLog() {
  const [all, setAll] = useState<string[]>([]);
  const [filter, setFilter] = useState("");
  const [paused, setPaused] = useState(false);
  const [following, setFollowing] = useState(false);
  const [error, setError] = useState("");
  const hold = useRef(false);
  hold.current = paused;
  useEffect(() => {
    const stop = new AbortController();
    let waiting: string[] = [];
    const opened = () => {
      setFollowing(true);
      setError("");
    };
    // The answer ends when the program is restarted or handed over: it is asked for again.
    const follow = async () => {
      while (!stop.signal.aborted && me.value) {
        await lines("/api/v1/logs", opened, (line) => line && waiting.push(line), stop.signal).catch((e) => !stop.signal.aborted && me.value && setError(why(e)));
        setFollowing(false);
        await new Promise((later) => setTimeout(later, 1000));
      }
    };
    void follow();
    // A busy log is drawn a few times a second, not a line at a time.
    const timer = setInterval(() => {
      if (hold.current || waiting.length === 0) return;
      const fresh = waiting;
      waiting = [];
      setAll((old) => [...old, ...fresh].slice(-KEPT));
    }, 250);
    return () => {
      stop.abort();
      clearInterval(timer);
    };
  }, []);
  const shown = all.filter((line) => fits(line, filter));
  const nothing = following ? "Requests and connections appear here as they end." : "Not following the log yet…";
  return (
    <>
      <div class="tools">
        <label>Only lines with<input type="search" value={filter} onInput={(e) => setFilter(e.currentTarget.value)} placeholder="web 503 -healthz" /></label>
        <button type="button" class="plain" aria-pressed={paused} onClick={() => setPaused(!paused)}>{paused ? "Go on" : "Pause"}</button>
        <button type="button" class="plain" onClick={() => setAll([])}>Clear</button>
      </div>
      {error && <p class="bad" role="alert">{error}</p>}
      {!following && shown.length > 0 && <p role="status">Lines of this time are missing: the log is not followed.</p>}
      <pre class="log" tabIndex={0} role="log" aria-label="Access log" aria-live="off">{shown.join("\n") || nothing}</pre>
    </>
  );
}
