// Small things that pages share.
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { commit, post, Refusal, type Proposal, type Edit, type Schemas } from "./api";

export const place = signal(location.pathname + location.search);
addEventListener("popstate", () => (place.value = location.pathname + location.search));

export function go(to: string): void {
  history.pushState(null, "", to);
  place.value = to;
  scrollTo(0, 0);
  document.getElementById("main")?.focus();
}

export function Link({ to, children, current }: { to: string; children: ComponentChildren; current?: boolean }) {
  const click = (event: MouseEvent) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(to);
  };
  return <a href={to} onClick={click} aria-current={current ? "page" : undefined}>{children}</a>;
}

export const number = (value: number): string => {
  if (value >= 1e9) return (value / 1e9).toFixed(1) + " G";
  if (value >= 1e6) return (value / 1e6).toFixed(1) + " M";
  if (value >= 1e4) return (value / 1e3).toFixed(1) + " k";
  return value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1);
};

export const bytes = (value: number): string => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; value >= 1024 && at < units.length - 1; at++) value /= 1024;
  return `${at === 0 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
};

export const bits = (bytesPerSecond: number): string => number(bytesPerSecond * 8) + "bit/s";

export const time = (ms: number): string => new Date(ms).toLocaleString();

/** A count with its noun; for numbers of figures only the noun, see `noun`. */
export const count = (of: number, one: string, many: string): string => `${number(of)} ${noun(of, one, many)}`;

export const noun = (of: number, one: string, many: string): string => (of === 1 ? one : many);

/** What was closed, and what becomes of connections of layer 4. */
export function closed(done: Schemas["Closed"]): string {
  const later = done["at-next-packet"] ?? 0;
  const what = `${count(done.closed, "connection", "connections")} closed`;
  return later > 0 ? `${what}, ${later === done.closed ? "" : `${later} of them `}by a reset at the next packet of either side` : what;
}

export function ago(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 90) return `${seconds} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export const why = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Said aloud by screen readers, and shown for a while. */
export const said = signal<{ text: string; bad: boolean; at: number } | null>(null);

export function say(text: string, bad = false): void {
  const at = Date.now();
  said.value = { text, bad, at };
  setTimeout(() => said.value?.at === at && (said.value = null), bad ? 15000 : 6000);
}

export async function tried(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    say(why(error), true);
    return false;
  }
}

/** What an address gives, and a way to ask again. */
export function useAsk<T>(ask: () => Promise<T>, depends: unknown[], every?: number): { value: T | null; error: string; again: () => void } {
  const [value, set] = useState<T | null>(null);
  const [error, setError] = useState("");
  const [count, setCount] = useState(0);
  useEffect(() => {
    let here = true;
    const run = () => ask().then((v) => here && (set(() => v), setError("")), (e) => here && setError(why(e)));
    run();
    const timer = every ? setInterval(run, every) : undefined;
    return () => {
      here = false;
      clearInterval(timer);
    };
  }, [...depends, count]);
  return { value, error, again: () => setCount((c) => c + 1) };
}

export function Dialog({ title, close, children, wide }: { title: string; close: () => void; children: ComponentChildren; wide?: boolean }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
    return () => dialog.current?.close();
  }, []);
  return (
    <dialog ref={dialog} class={wide ? "wide" : ""} aria-label={title} onCancel={(e) => (e.preventDefault(), close())}>
      <header>
        <h2>{title}</h2>
        <button type="button" class="plain" onClick={close} aria-label="Close">✕</button>
      </header>
      {children}
    </dialog>
  );
}

export function Diff({ text }: { text: string }) {
  if (!text) return <p>Nothing differs.</p>;
  const kind = (line: string) => (line.startsWith("+") ? "add" : line.startsWith("-") ? "out" : line.startsWith("@") ? "at" : "");
  return (
    <pre class="diff" tabIndex={0} aria-label="What changes">
      {text.split("\n").filter((l) => !l.startsWith("---") && !l.startsWith("+++")).map((line, at) => (
        <span key={at} class={kind(line)}>{line + "\n"}</span>
      ))}
    </pre>
  );
}

export function Plan({ plan }: { plan: Proposal["plan"] }) {
  if (!plan) return null;
  const warnings = plan.warnings?.map((warning) => <p key={warning} class="notice">Warning: {warning}</p>);
  if (plan.steps.length === 0) return <>{warnings}<p>Nothing would change.</p></>;
  return (
    <>
    {warnings}
    {plan.peer && <p class="notice">{plan.peer}</p>}
    {plan.notes?.map((note) => <p key={note} class="notice">{note}</p>)}
    <table class="plan">
      <thead><tr><th>Step</th><th>What</th><th>Connections</th></tr></thead>
      <tbody>
        {plan.steps.map((step, at) => (
          <tr key={at}>
            <td>{step.action}</td>
            <td>{step.subject}{step.detail && `: ${step.detail}`}</td>
            <td>{step.impact}</td>
          </tr>
        ))}
      </tbody>
    </table>
    </>
  );
}

export function Problems({ problems }: { problems: Proposal["problems"] }) {
  if (problems.length === 0) return null;
  return (
    <ul class="problems" aria-label="Problems">
      {problems.map((p, at) => (
        <li key={at}>Line {p.line}: {p.message}{p.help && <em> — {p.help}</em>}</li>
      ))}
    </ul>
  );
}

/** Diff and plan of edits (or of a text), and the way to commit them. */
export function Review({ edits, text, base, close, done }: { edits?: Edit[]; text?: string; base: number; close: () => void; done: () => void }) {
  const { value, error } = useAsk<Proposal>(() => post("/api/v1/configuration/propose", { text, edits: edits ?? [] }), []);
  const [message, setMessage] = useState("");
  const [confirm, setConfirm] = useState("");
  const [busy, setBusy] = useState(false);
  const send = async (event: Event) => {
    event.preventDefault();
    if (!value) return;
    setBusy(true);
    try {
      const committed = await commit(value.text, base, message, confirm ? Number(confirm) * 1000 : undefined);
      const peer = committed.peer ? `; on the other node: ${committed.peer}` : "";
      say(`Revision ${committed.revision} runs${peer}`, committed.peer?.startsWith("NOT"));
      done();
    } catch (failure) {
      const changed = failure instanceof Refusal && failure.status === 412;
      say(changed ? `${why(failure)}. Close this, and make your change to the new revision.` : why(failure), true);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Dialog title="Review the change" close={close} wide>
      {error && <p class="bad" role="alert">{error}</p>}
      {!value && !error && <p>Looking at it…</p>}
      {value && (
        <form onSubmit={send}>
          <Problems problems={value.problems} />
          <h3>What changes</h3>
          <Diff text={value.diff} />
          {value.plan && <h3>What that does</h3>}
          <Plan plan={value.plan} />
          <label>Why, for the history
            <input name="message" value={message} onInput={(e) => setMessage(e.currentTarget.value)} maxLength={200} />
          </label>
          <label>Unless it is confirmed
            <select name="confirm" value={confirm} onChange={(e) => setConfirm(e.currentTarget.value)}>
              <option value="">keep it</option>
              <option value="5">go back after 5 seconds</option>
              <option value="60">go back after a minute</option>
              <option value="600">go back after ten minutes</option>
            </select>
          </label>
          <footer>
            <button type="button" class="plain" onClick={close}>Not now</button>
            <button type="submit" disabled={busy || value.problems.length > 0 || !value.diff}>Commit</button>
          </footer>
        </form>
      )}
    </Dialog>
  );
}

/** A table that can be had as CSV. */
export function csv(name: string, rows: (string | number)[][]): void {
  const field = (value: string | number) => {
    const text = String(value);
    // What a spreadsheet would take for a formula is text.
    const safe = typeof value === "string" && /^[=+\-@\t]/.test(text) ? "'" + text : text;
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  download(name + ".csv", rows.map((row) => row.map(field).join(",")).join("\r\n"), "text/csv");
}

export function download(name: string, text: string, type = "application/json"): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
