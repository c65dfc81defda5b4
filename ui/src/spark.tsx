// The last hour of a service in a word's space.
import { useEffect, useState } from "preact/hooks";
import { get, type Series } from "./api";

const WIDTH = 96;
const HEIGHT = 22;

/** The points of a line, broken where nothing is known. */
export function path(points: (number | null)[]): string {
  const most = Math.max(1e-9, ...points.map((p) => p ?? 0));
  let drawn = "";
  let on = false;
  points.forEach((point, at) => {
    if (point === null) return (on = false);
    const x = (at * WIDTH) / Math.max(1, points.length - 1);
    const y = HEIGHT - 1 - (point / most) * (HEIGHT - 2);
    drawn += `${on ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    on = true;
  });
  return drawn;
}

export function Spark({ service, value }: { service: string; value: "requests" | "new" }) {
  const [points, setPoints] = useState<(number | null)[]>([]);
  useEffect(() => {
    const leave = new AbortController();
    const query = new URLSearchParams({ service, range: "1h", values: value });
    const look = () => get<Series>(`/api/v1/series?${query}`, leave.signal).then((s) => setPoints(s.columns[0]?.points ?? []), () => {});
    look();
    const timer = setInterval(look, 60_000);
    return () => {
      clearInterval(timer);
      leave.abort();
    };
  }, [service, value]);
  const most = Math.max(0, ...points.map((p) => p ?? 0));
  const words = `${value === "requests" ? "Requests" : "New connections"} of the last hour, ${most.toFixed(1)} a second at most`;
  return <svg class="spark" width={WIDTH} height={HEIGHT} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={words}><path d={path(points)} fill="none" stroke="currentColor" stroke-width="1.5" /></svg>;
}
