// The access log as it comes, filtered.
import { useEffect, useRef, useState } from "preact/hooks";
import { lines, me } from "./api";
import { why } from "./parts";

const KEPT = 1000;

export function Logs() {
  const [all, setAll] = useState<string[]>([]);
  const [filter, setFilter] = useState("");
  const [paused, setPaused] = useState(false);
  const [error, setError] = useState("");
  const hold = useRef(false);
  hold.current = paused;
  useEffect(() => {
    const stop = new AbortController();
    let waiting: string[] = [];
    lines("/api/v1/logs", (line) => line && waiting.push(line), stop.signal).catch((e) => !stop.signal.aborted && me.value && setError(why(e)));
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
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = all.filter((line) => words.every((w) => (w.startsWith("-") && w.length > 1 ? !line.toLowerCase().includes(w.slice(1)) : line.toLowerCase().includes(w))));
  return (
    <section>
      <header class="page"><h1>Logs</h1></header>
      <div class="tools">
        <label>Only lines with<input type="search" value={filter} onInput={(e) => setFilter(e.currentTarget.value)} placeholder="web 503 -healthz" /></label>
        <button type="button" class="plain" aria-pressed={paused} onClick={() => setPaused(!paused)}>{paused ? "Go on" : "Pause"}</button>
        <button type="button" class="plain" onClick={() => setAll([])}>Clear</button>
      </div>
      {error && <p class="bad" role="alert">{error}</p>}
      <pre class="log" tabIndex={0} role="log" aria-label="Access log" aria-live="off">{shown.length > 0 ? shown.join("\n") : "Requests and connections appear here as they end."}</pre>
    </section>
  );
}
