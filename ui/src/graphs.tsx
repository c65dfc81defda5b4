// Graphs of the node, a service, a real server: from the last minute to a year.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { get, type Series } from "./api";
import { services } from "./live";
import { bits, bytes, number, place, useAsk } from "./parts";

const RANGES = [["1m", "minute"], ["5m", "5 minutes"], ["1h", "hour"], ["1d", "day"], ["7d", "week"], ["30d", "month"], ["365d", "year"]] as const;

/** Values that are looked at together. */
const GROUPS: { title: string; note?: string; names: string[] }[] = [
  { title: "New connections", note: "how many clients come: each counts once", names: ["new", "requests"] },
  { title: "Connections now", note: "how many are there at a time: long ones count for as long as they last", names: ["current"] },
  { title: "Traffic", names: ["in", "out"] },
  { title: "Response time", names: ["p50", "p95", "p99"] },
  { title: "Answers by class", names: ["2xx", "3xx", "4xx", "5xx"] },
  { title: "Refused and errors", names: ["refused", "errors"] },
  { title: "Up", names: ["up"] },
  { title: "Processor and memory", names: ["cpu", "memory"] },
  { title: "Load average", names: ["load"] },
  { title: "Memory of Evenkeel", names: ["own-memory"] },
];

const STROKES = ["#2563eb", "#ea580c", "#7c3aed", "#16a34a"];

const shown = (unit: string) => (value: number | null | undefined): string => {
  if (value === null || value === undefined) return "—";
  if (unit === "bytes per second") return bits(value);
  if (unit === "bytes") return bytes(value);
  return number(value) + (unit === "milliseconds" ? " ms" : unit === "percent" ? "%" : unit === "per second" ? "/s" : "");
};

export function Graphs() {
  const query = new URLSearchParams(place.value.split("?")[1] ?? "");
  const [range, setRange] = useState("5m");
  const service = query.get("service") ?? "";
  const server = query.get("server") ?? "";
  const ask = new URLSearchParams({ range });
  if (service) ask.set("service", service);
  if (server) ask.set("server", server);
  const every = range === "1m" || range === "5m" ? 1000 : range === "1h" ? 10000 : 60000;
  const { value, error } = useAsk<Series>(() => get(`/api/v1/series?${ask}`), [ask.toString()], every);
  const to = (service: string, server: string) => {
    const next = new URLSearchParams();
    if (service) next.set("service", service);
    if (server) next.set("server", server);
    history.replaceState(null, "", `/graphs?${next}`);
    place.value = `/graphs?${next}`;
  };
  const known = services.value.map((s) => s.peek().service);
  const servers = known.find((s) => s.name === service)?.["real-servers"] ?? [];
  return (
    <section>
      <header class="page"><h1>Graphs</h1></header>
      <div class="tools">
        <label>Of
          <select value={service} onChange={(e) => to(e.currentTarget.value, "")}>
            <option value="">this node</option>
            {known.map((s) => <option key={s.name} value={s.name}>{s.name}</option>)}
          </select>
        </label>
        {service && (
          <label>Real server
            <select value={server} onChange={(e) => to(service, e.currentTarget.value)}>
              <option value="">all together</option>
              {servers.map((s) => <option key={s.name} value={s.name}>{s.name}</option>)}
            </select>
          </label>
        )}
        <fieldset class="ranges">
          <legend>Last</legend>
          {RANGES.map(([key, word]) => (
            <button key={key} type="button" class={range === key ? "" : "plain"} aria-pressed={range === key} onClick={() => setRange(key)}>{word}</button>
          ))}
        </fieldset>
        <p class="links"><a href={`/api/v1/series.csv?${ask}`} download={`${service || "node"}.csv`}>CSV</a> <a href={`/api/v1/series.png?${ask}`} download={`${service || "node"}.png`}>PNG</a></p>
      </div>
      {error && <p class="bad" role="alert">{error}</p>}
      {value && (
        <div class="graphs">
          {GROUPS.map((group) => {
            const columns = value.columns.filter((c) => group.names.includes(c.name));
            return columns.length > 0 && <Graph key={group.title + service + server} title={group.title} note={group.note} series={value} columns={columns} />;
          })}
        </div>
      )}
    </section>
  );
}

/** A mark of the time axis: hours within a day or two, days beyond. */
function moment(seconds: number, span: number, at: number): string {
  const when = new Date(seconds * 1000);
  const day = when.toLocaleDateString([], { day: "numeric", month: "short" });
  if (span > 3 * 86400) return day;
  const clock = when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: span < 600 ? "2-digit" : undefined, hourCycle: "h23" });
  return at === 0 && span > 3600 ? `${clock}\n${day}` : clock;
}

function Graph({ title, note, series, columns }: { title: string; note?: string; series: Series; columns: Series["columns"] }) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const times = columns[0].points.map((_, at) => series.start + at * series["step-seconds"]);
  const data = [times, ...columns.map((c) => c.points)] as uPlot.AlignedData;
  const unit = columns[0].unit;
  useEffect(() => {
    if (!box.current) return;
    const ink = getComputedStyle(box.current).color;
    const axis = { stroke: ink, grid: { stroke: "#8884", width: 1 }, ticks: { stroke: "#8886" } };
    plot.current = new uPlot(
      {
        width: box.current.clientWidth,
        height: 180,
        scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
        axes: [{ ...axis, values: (_, splits) => splits.map((t, i) => moment(t, splits[splits.length - 1] - splits[0], i)) }, { ...axis, size: 74, values: (_, all) => all.map((v) => shown(unit)(v)) }],
        series: [{}, ...columns.map((c, at) => ({ label: c.title, stroke: STROKES[at], width: 2, value: (_: uPlot, v: number | null) => shown(c.unit)(v) }))],
        legend: { live: true },
      },
      data,
      box.current,
    );
    const resize = new ResizeObserver(() => box.current && plot.current?.setSize({ width: box.current.clientWidth, height: 180 }));
    resize.observe(box.current);
    return () => {
      resize.disconnect();
      plot.current?.destroy();
    };
  }, [columns.length]);
  useEffect(() => plot.current?.setData(data), [series]);
  const last = (points: (number | null)[]) => [...points].reverse().find((p) => p !== null);
  const words = columns.map((c) => `${c.title}: ${shown(c.unit)(last(c.points))} now`).join("; ");
  return (
    <figure data-graph={title}>
      <figcaption><h2>{title}</h2>{note && <small>{note}</small>}</figcaption>
      <div ref={box} role="img" aria-label={words} />
    </figure>
  );
}
