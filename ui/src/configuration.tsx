// The configuration: forms, the text itself, its history.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, list, may, me, post, type Edit, type Proposal, type Schemas } from "./api";
import { Form, type Json, type Schema, type Table } from "./form";
import { ago, Dialog, Diff, go, Link, place, Problems, Review, say, time, tried, useAsk } from "./parts";

type Configuration = Schemas["Configuration"];

export function ConfigurationPage() {
  const query = new URLSearchParams(place.value.split("?")[1] ?? "");
  const view = query.get("view") ?? "forms";
  const { value, error, again } = useAsk<Configuration>(() => get("/api/v1/configuration"), []);
  if (!may("read")) return <section><h1>Configuration</h1><p>Your role may not read the configuration: it can hold secrets.</p></section>;
  return (
    <section>
      <header class="page">
        <h1>Configuration</h1>
        {value && <p>revision {value.revision}</p>}
        <nav class="tabs" aria-label="Views of the configuration">
          <Link to="/configuration" current={view === "forms"}>Forms</Link>
          <Link to="/configuration?view=text" current={view === "text"}>Text</Link>
          <Link to="/configuration?view=history" current={view === "history"}>History</Link>
        </nav>
      </header>
      {error && <p class="bad" role="alert">{error}</p>}
      {value?.["confirm-within-ms"] != null && <Unconfirmed configuration={value} again={again} />}
      {value && view === "forms" && <Forms key={value.revision} configuration={value} at={query.get("at")} again={again} />}
      {value && view === "text" && <Text key={value.revision} configuration={value} again={again} />}
      {value && view === "history" && <History running={value.revision} again={again} />}
    </section>
  );
}

function Unconfirmed({ configuration, again }: { configuration: Configuration; again: () => void }) {
  const until = useRef(Date.now() + (configuration["confirm-within-ms"] ?? 0));
  const [left, setLeft] = useState(until.current - Date.now());
  useEffect(() => {
    const timer = setInterval(() => {
      setLeft(until.current - Date.now());
      if (until.current + 1500 < Date.now()) again();
    }, 500);
    return () => clearInterval(timer);
  }, []);
  const confirm = () => tried(async () => {
    await post("/api/v1/confirm");
    say("The revision stays");
    again();
  });
  return (
    <p class="notice" role="alert">
      Revision {configuration.revision} goes back by itself in {Math.max(0, Math.ceil(left / 1000))} seconds.
      {may("configure") && <button type="button" onClick={confirm}>Keep it</button>}
    </p>
  );
}

/** Singular tables and lists of tables, in the order of the schema. */
function Forms({ configuration, at, again }: { configuration: Configuration; at: string | null; again: () => void }) {
  const schema = useAsk<Schema>(() => get("/api/v1/schema"), []);
  const values = configuration.values as Table;
  if (!schema.value) return <p>{schema.error || "Loading the forms…"}</p>;
  const roots = Object.entries(schema.value.properties ?? {});
  const [root, name] = (at ?? "virtual-service").split("/");
  const chosen = schema.value.properties?.[root];
  const isList = chosen?.type === "array";
  const all = (isList ? ((values[root] ?? []) as Table[]) : []);
  const place = isList ? all.findIndex((t, i) => t.name === name || String(i) === name) : -1;
  const table = isList ? all[place] : ((values[root] ?? {}) as Table);
  const to = (next: string) => go(`/configuration?at=${next}`);
  return (
    <div class="split">
      <nav aria-label="Parts of the configuration">
        <ul>
          {roots.map(([key, s]) => (
            <li key={key}>
              {s.type === "array"
                ? <>
                    <h2>{key}</h2>
                    <ul>
                      {((values[key] ?? []) as Table[]).map((t, i) => (
                        <li key={i}><Link to={`/configuration?at=${key}/${encodeURIComponent(String(t.name ?? i))}`} current={root === key && i === place}>{String(t.name ?? i)}</Link></li>
                      ))}
                      {may("configure") && <li><Link to={`/configuration?at=${key}/%2B`} current={root === key && name === "+"}>+ new</Link></li>}
                    </ul>
                  </>
                : <Link to={`/configuration?at=${key}`} current={root === key}>{key}{key in values ? "" : " (not set)"}</Link>}
            </li>
          ))}
        </ul>
      </nav>
      {chosen && (table || name === "+")
        ? <Editor key={at} root={root} name={isList ? name : undefined} isNew={name === "+"} schema={(isList ? chosen.items : chosen) as Schema} before={name === "+" ? {} : table} revision={configuration.revision} done={(made) => { again(); to(made ? `${root}/${encodeURIComponent(made)}` : isList ? root : root); }} />
        : <p class="empty">Choose a part of the configuration.</p>}
    </div>
  );
}

const same = (a: Json | undefined, b: Json | undefined) => JSON.stringify(a) === JSON.stringify(b);

/** Edits that turn one table into another; lists of tables are compared by name. */
export function edits(at: string[], before: Table, after: Table): Edit[] {
  const all: Edit[] = [];
  for (const key of Object.keys(before).filter((key) => !(key in after))) all.push({ do: "remove", at: [...at, key] });
  for (const [key, next] of Object.entries(after)) {
    const old = before[key];
    if (same(old, next)) continue;
    const named = (value: Json | undefined): value is Table[] => Array.isArray(value) && value.length > 0 && value.every((v) => v !== null && typeof v === "object" && !Array.isArray(v) && typeof v.name === "string");
    const names = (tables: Table[]) => tables.map((t) => String(t.name));
    if (named(old) && named(next) && new Set(names(next)).size === next.length) {
      const [was, is] = [names(old), names(next)];
      const kept = was.filter((n) => is.includes(n));
      if (same(kept, is.filter((n) => was.includes(n))) && same(is.slice(0, kept.length), kept)) {
        was.filter((n) => !is.includes(n)).forEach((n) => all.push({ do: "remove", at: [...at, key, n] }));
        next.forEach((table) => {
          const known = old.find((t) => t.name === table.name);
          if (known) all.push(...edits([...at, key, String(table.name)], known, table));
          else all.push({ do: "add", at: [...at, key], value: table });
        });
        continue;
      }
    }
    all.push({ do: "set", at: [...at, key], value: next });
  }
  return all;
}

function Editor({ root, name, isNew, schema, before, revision, done }: { root: string; name?: string; isNew: boolean; schema: Schema; before: Table; revision: number; done: (made?: string) => void }) {
  const [value, setValue] = useState<Table>(before);
  const [review, setReview] = useState<Edit[] | null>(null);
  const submit = (event: Event) => {
    event.preventDefault();
    const at = name === undefined ? [root] : [root, name];
    setReview(isNew ? [{ do: "add", at: [root], value }] : edits(at, before, value));
  };
  const remove = () => setReview([{ do: "remove", at: name === undefined ? [root] : [root, name] }]);
  const changed = !same(before, value);
  return (
    <form class="editor" onSubmit={submit}>
      <h2>{isNew ? `New ${root}` : name === undefined ? root : `${root}: ${name}`}</h2>
      {schema.description && <p>{schema.description.replaceAll("`", "")}</p>}
      <fieldset class="bare" disabled={!may("configure")}>
        <Form schema={schema} value={value} change={setValue} path={root} />
      </fieldset>
      {may("configure") && (
        <footer>
          {!isNew && <button type="button" class="plain bad" onClick={remove}>Remove</button>}
          <button type="button" class="plain" disabled={!changed} onClick={() => setValue(before)}>Undo</button>
          <button type="submit" disabled={!changed}>Review the change</button>
        </footer>
      )}
      {review && <Review edits={review} base={revision} close={() => setReview(null)} done={() => { setReview(null); done(review[0]?.do === "remove" && review[0].at.length < 3 ? undefined : String(value.name ?? "") || undefined); }} />}
    </form>
  );
}

function Text({ configuration, again }: { configuration: Configuration; again: () => void }) {
  const [text, setText] = useState(configuration.text);
  const [checked, setChecked] = useState<Proposal | null>(null);
  const [review, setReview] = useState(false);
  const area = useRef<HTMLTextAreaElement>(null);
  const gutter = useRef<HTMLPreElement>(null);
  useEffect(() => {
    if (!may("configure")) return;
    const timer = setTimeout(() => {
      post<Proposal>("/api/v1/configuration/propose", { text }).then(setChecked, () => setChecked(null));
    }, 300);
    return () => clearTimeout(timer);
  }, [text]);
  const bad = new Map((checked?.problems ?? []).map((p) => [p.line, p.message]));
  const lines = text.split("\n");
  const jump = (line: number) => {
    const start = lines.slice(0, line - 1).reduce((sum, l) => sum + l.length + 1, 0);
    area.current?.focus();
    area.current?.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
  };
  return (
    <div class="texteditor">
      <div class="code">
        <pre ref={gutter} aria-hidden="true">{lines.map((_, i) => <span key={i} class={bad.has(i + 1) ? "bad" : ""} title={bad.get(i + 1)}>{`${bad.has(i + 1) ? "✕" : ""}${i + 1}\n`}</span>)}</pre>
        <textarea ref={area} aria-label="Configuration" spellcheck={false} value={text} readOnly={!may("configure")} wrap="off"
          onInput={(e) => setText(e.currentTarget.value)}
          onScroll={(e) => gutter.current && (gutter.current.scrollTop = e.currentTarget.scrollTop)} />
      </div>
      <div aria-live="polite">
        {checked && checked.problems.length > 0 && (
          <ul class="problems">
            {checked.problems.map((p, i) => <li key={i}><button type="button" class="plain" onClick={() => jump(p.line)}>Line {p.line}, column {p.column}</button> {p.message}{p.help && <em> — {p.help}</em>}</li>)}
          </ul>
        )}
        {checked && checked.problems.length === 0 && <p class="safe">The text is right.</p>}
      </div>
      {may("configure") && (
        <footer>
          <button type="button" class="plain" disabled={text === configuration.text} onClick={() => setText(configuration.text)}>Undo</button>
          <button type="button" disabled={text === configuration.text || !checked || checked.problems.length > 0} onClick={() => setReview(true)}>Review the change</button>
        </footer>
      )}
      {review && <Review text={text} base={configuration.revision} close={() => setReview(false)} done={() => { setReview(false); again(); }} />}
    </div>
  );
}

function History({ running, again }: { running: number; again: () => void }) {
  const { value, error } = useAsk(() => list<Schemas["Revision"]>("/api/v1/revisions?limit=200"), [running]);
  const [looked, setLooked] = useState<{ revision: number; text: string } | null>(null);
  const look = (revision: number) => tried(async () => {
    const { text } = await get<Schemas["RevisionText"]>(`/api/v1/revisions/${revision}`);
    setLooked({ revision, text });
  });
  if (error) return <p class="bad">{error}</p>;
  return (
    <>
      <table>
        <thead><tr><th class="n">Revision</th><th>When</th><th>Who</th><th>Why</th><th></th></tr></thead>
        <tbody>
          {value?.items.map((r) => (
            <tr key={r.revision}>
              <td class="n">{r.revision}{r.revision === running && <strong> runs</strong>}</td>
              <td title={time(r["time-ms"])}>{ago(Date.now() - r["time-ms"])} ago</td>
              <td>{r.author}</td>
              <td>{r.message}</td>
              <td>{r.revision !== running && may("configure") && <button type="button" class="plain" onClick={() => look(r.revision)}>Compare</button>}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {looked && <Back revision={looked.revision} text={looked.text} running={running} close={() => setLooked(null)} done={() => { setLooked(null); again(); }} />}
    </>
  );
}

function Back({ revision, text, running, close, done }: { revision: number; text: string; running: number; close: () => void; done: () => void }) {
  const { value } = useAsk<Proposal>(() => post("/api/v1/configuration/propose", { text }), [revision]);
  const back = () => tried(async () => {
    const committed = await post<Schemas["Committed"]>("/api/v1/rollback", { revision }, { "If-Match": `"${running}"` });
    say(`Revision ${committed.revision} runs: it is what ${revision} was`);
    done();
  });
  return (
    <Dialog title={`From the running revision to revision ${revision}`} close={close} wide>
      {value && <><Problems problems={value.problems} /><Diff text={value.diff} /></>}
      <footer>
        <button type="button" class="plain" onClick={close}>Close</button>
        {may("configure") && me.value && <button type="button" disabled={!value?.plan} onClick={back}>Go back to it</button>}
      </footer>
    </Dialog>
  );
}
