// Forms made from the schema of the configuration: every key has its help text and its limits.
import { useState } from "preact/hooks";

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Table = { [key: string]: Json };
export type Schema = {
  type?: string;
  description?: string;
  default?: string;
  enum?: string[];
  items?: Schema;
  properties?: Record<string, Schema>;
  required?: string[];
  oneOf?: Schema[];
  additionalProperties?: boolean | Schema;
  minimum?: number;
  maximum?: number;
  pattern?: string;
  const?: string;
};

const isTables = (schema: Schema) => schema.type === "array" && schema.items?.type === "object";

/** A form of a table: what is set first, the rest behind a fold. */
export function Form({ schema, value, change, path }: { schema: Schema; value: Table; change: (value: Table) => void; path: string }) {
  const [more, setMore] = useState(false);
  const properties = Object.entries(schema.properties ?? {}).filter(([, s]) => s.const === undefined);
  const required = schema.required ?? [];
  const set = properties.filter(([key]) => key in value || required.includes(key));
  const rest = properties.filter(([key]) => !(key in value) && !required.includes(key));
  const put = (key: string, next: Json | undefined) => {
    const { [key]: _, ...others } = value;
    change(next === undefined ? others : key in value ? { ...value, [key]: next } : { ...others, [key]: next });
  };
  const field = ([key, s]: [string, Schema]) => (
    <Field key={key} name={key} schema={s} value={value[key]} required={required.includes(key)} change={(v) => put(key, v)} path={`${path}.${key}`} />
  );
  return (
    <div class="form">
      {set.map(field)}
      {rest.length > 0 && (
        <>
          <button type="button" class="plain fold" aria-expanded={more} onClick={() => setMore(!more)}>
            {more ? "Fewer settings" : `More settings (${rest.length})`}
          </button>
          {more && rest.map(field)}
        </>
      )}
    </div>
  );
}

type FieldProps = { name: string; schema: Schema; value: Json | undefined; required: boolean; change: (value: Json | undefined) => void; path: string };

function Field(props: FieldProps) {
  const { name, schema, value, change, path } = props;
  const id = `f-${path.replaceAll(/[^a-zA-Z0-9]/g, "-")}`;
  const help = schema.description && <small id={`${id}-help`}>{plain(schema.description)}</small>;
  if (schema.oneOf) return <Typed {...props} id={id} />;
  if (isTables(schema)) return <Tables {...props} />;
  if (schema.type === "object" && schema.properties) {
    return (
      <fieldset>
        <legend>{name}</legend>
        {help}
        {value === undefined
          ? <button type="button" class="plain" onClick={() => change({})}>Set {name}</button>
          : <>
              <Form schema={schema} value={value as Table} change={change} path={path} />
              <button type="button" class="plain" onClick={() => change(undefined)}>Remove {name}</button>
            </>}
      </fieldset>
    );
  }
  return (
    <div class="field">
      <label for={id}>{name}{props.required && <abbr title="needed"> *</abbr>}</label>
      <Input {...props} id={id} />
      {help}
    </div>
  );
}

const plain = (text: string) => text.replaceAll("`", "");

function Input({ schema, value, required, change, id }: FieldProps & { id: string }) {
  const common = { id, required, "aria-describedby": `${id}-help` };
  if (schema.type === "boolean") {
    return (
      <select {...common} value={value === undefined ? "" : String(value)} onChange={(e) => change(e.currentTarget.value === "" ? undefined : e.currentTarget.value === "true")}>
        <option value="">{schema.default ? `not set (${schema.default})` : "not set"}</option>
        <option value="true">yes</option>
        <option value="false">no</option>
      </select>
    );
  }
  if (schema.enum) {
    return (
      <select {...common} value={value === undefined ? "" : String(value)} onChange={(e) => change(e.currentTarget.value || undefined)}>
        <option value="">{schema.default ? `not set (${schema.default})` : "not set"}</option>
        {schema.enum.map((word) => <option key={word} value={word}>{word}</option>)}
      </select>
    );
  }
  if (schema.type === "integer") {
    const take = (text: string) => change(text === "" ? undefined : Number(text));
    return <input {...common} type="number" step="1" min={schema.minimum} max={schema.maximum} value={value === undefined ? "" : String(value)} onInput={(e) => take(e.currentTarget.value)} />;
  }
  if (schema.type === "array") {
    const text = Array.isArray(value) ? value.join("\n") : "";
    const take = (text: string) => {
      const all = text.split("\n").map((l) => l.trim()).filter(Boolean);
      change(all.length > 0 || required ? all : undefined);
    };
    return <textarea {...common} rows={Math.max(2, text.split("\n").length)} value={text} placeholder="one a line" onChange={(e) => take(e.currentTarget.value)} />;
  }
  if (schema.type === "object") {
    const text = value === undefined ? "" : Object.entries(value as Table).map(([k, v]) => `${k} = ${v}`).join("\n");
    const take = (text: string) => {
      const pairs = text.split("\n").map((l) => l.split("=")).filter((p) => p.length > 1).map(([k, ...v]) => [k.trim(), v.join("=").trim()]);
      change(pairs.length > 0 ? Object.fromEntries(pairs) : undefined);
    };
    return <textarea {...common} rows={3} value={text} placeholder="name = value, one a line" onChange={(e) => take(e.currentTarget.value)} />;
  }
  const text = value === undefined ? "" : String(value);
  const take = (text: string) => change(text === "" && !required ? undefined : text);
  const placeholder = schema.default ? `${schema.default}` : "";
  if (text.includes("\n")) return <textarea {...common} value={text} onInput={(e) => take(e.currentTarget.value)} />;
  return <input {...common} type="text" value={text} placeholder={placeholder} pattern={schema.pattern} onInput={(e) => take(e.currentTarget.value)} />;
}

/** A table whose `type` says which other keys it has. */
function Typed({ name, schema, value, required, change, path, id }: FieldProps & { id: string }) {
  const variants = schema.oneOf ?? [];
  const table = (value ?? {}) as Table;
  const kind = String(table.type ?? "");
  const variant = variants.find((v) => v.properties?.type?.const === kind);
  const choose = (kind: string) => {
    const next = variants.find((v) => v.properties?.type?.const === kind);
    if (!next) return change(undefined);
    // What both kinds have stays.
    const kept = Object.entries(table).filter(([key]) => key !== "type" && next.properties?.[key]);
    change({ type: kind, ...Object.fromEntries(kept) });
  };
  return (
    <fieldset>
      <legend>{name}{required && " *"}</legend>
      {schema.description && <small>{plain(schema.description)}</small>}
      <div class="field">
        <label for={id}>type of {name}</label>
        <select id={id} value={kind} onChange={(e) => choose(e.currentTarget.value)}>
          <option value="">not set</option>
          {variants.map((v) => <option key={v.properties?.type?.const} value={v.properties?.type?.const}>{v.properties?.type?.const}</option>)}
        </select>
      </div>
      {variant && <Form schema={variant} value={table} change={(next) => change({ ...next, type: kind })} path={path} />}
    </fieldset>
  );
}

function Tables({ name, schema, value, change, path }: FieldProps) {
  const all = (Array.isArray(value) ? value : []) as Table[];
  const items = schema.items ?? {};
  const at = (place: number, next: Table) => change(all.map((one, i) => (i === place ? next : one)));
  const begin = () => {
    const needed = Object.fromEntries((items.required ?? []).map((key) => [key, items.properties?.[key].type === "array" ? [] : ""]));
    change([...all, needed]);
  };
  const move = (from: number, by: number) => {
    const next = [...all];
    next.splice(from + by, 0, next.splice(from, 1)[0]);
    change(next);
  };
  return (
    <fieldset class="tables">
      <legend>{name}</legend>
      {schema.description && <small>{plain(schema.description)}</small>}
      {all.map((one, place) => (
        <details key={place} open={all.length === 1 || !one.name}>
          <summary>{String(one.name || one.action || `${name} ${place + 1}`)} <small>{String(one.address ?? one.when ?? "")}</small></summary>
          <Form schema={items} value={one} change={(next) => at(place, next)} path={`${path}.${place}`} />
          <p class="do">
            {place > 0 && <button type="button" class="plain" onClick={() => move(place, -1)}>Move up</button>}
            {place < all.length - 1 && <button type="button" class="plain" onClick={() => move(place, 1)}>Move down</button>}
            <button type="button" class="plain" onClick={() => { const rest = all.filter((_, i) => i !== place); change(rest.length > 0 ? rest : undefined); }}>Remove {String(one.name || "it")}</button>
          </p>
        </details>
      ))}
      <button type="button" class="plain" onClick={begin}>Add {name}</button>
    </fieldset>
  );
}
