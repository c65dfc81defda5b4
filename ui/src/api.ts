// Talks to the REST API. Types come from its OpenAPI document.
import { signal } from "@preact/signals";
import type { components } from "./openapi";

export type Schemas = components["schemas"];
export type Status = Schemas["Status"];
export type Service = Schemas["Service"];
export type Pool = Schemas["Pool"];
export type Server = Schemas["RealServer"];
export type Myself = Schemas["Myself"];
export type Proposal = Schemas["Proposal"];
export type Edit = Schemas["Edit"];
export type Series = Schemas["Series"];
export type Happening = Schemas["Happening"];
export type Failure = Schemas["Failure"];

export const me = signal<Myself | null>(null);
/** What somebody who has to log in should know. */
export const atTheDoor = signal("");

/** Why something was not done, in the server's own words. */
export class Refusal extends Error {
  constructor(public failure: Failure, public status: number) {
    super(failure.detail);
  }
}

type Options = { body?: unknown; text?: string; headers?: Record<string, string>; signal?: AbortSignal };

async function send(method: string, path: string, { body, text, headers = {}, signal }: Options): Promise<Response> {
  if (me.value?.csrf) headers["X-Evenkeel-Csrf"] = me.value.csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const init: RequestInit = { method, headers, signal, body: text ?? (body === undefined ? undefined : JSON.stringify(body)) };
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal({ detail: "Evenkeel cannot be reached", title: "", status: 0 }, 0);
  }
  if (response.ok) return response;
  let failure: Failure = { title: "", status: response.status, detail: `HTTP ${response.status}` };
  try {
    failure = await response.json();
  } catch {
    // What is no JSON has nothing more to say.
  }
  if (response.status === 401 && me.value) me.value = null;
  throw new Refusal(failure, response.status);
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await send("GET", path, { signal })).json();
}

export async function list<T>(path: string): Promise<{ items: T[]; total: number }> {
  const response = await send("GET", path, {});
  const items: T[] = await response.json();
  return { items, total: Number(response.headers.get("X-Total-Count") ?? items.length) };
}

export async function post<T>(path: string, body?: unknown, headers?: Record<string, string>): Promise<T> {
  return (await send("POST", path, { body: body ?? {}, headers })).json();
}

export async function put<T>(path: string, body: unknown): Promise<T> {
  return (await send("PUT", path, { body })).json();
}

export async function putText<T>(path: string, text: string): Promise<T> {
  return (await send("PUT", path, { text, headers: { "Content-Type": "application/x-pem-file" } })).json();
}

export async function remove<T>(path: string): Promise<T> {
  return (await send("DELETE", path, {})).json();
}

/** Commits a text that was made from a revision; refused if another is running by now. */
export async function commit(text: string, base: number, message: string, confirmMs?: number): Promise<Schemas["Committed"]> {
  const query = new URLSearchParams();
  if (message) query.set("message", message);
  if (confirmMs) query.set("confirm-ms", String(confirmMs));
  const headers = { "If-Match": `"${base}"`, "Content-Type": "application/toml" };
  return (await send("POST", `/api/v1/commit?${query}`, { text, headers })).json();
}

/** Lines of an answer without an end; `opened` is called when none that follows is missed. */
export async function lines(path: string, opened: () => void, each: (line: string) => void, signal: AbortSignal): Promise<void> {
  const response = await send("GET", path, { signal });
  opened();
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop() ?? "";
    parts.forEach(each);
  }
}

const MAY: Record<string, string[]> = {
  operate: ["operator", "admin"],
  read: ["operator", "certificate-manager", "admin"],
  certificates: ["certificate-manager", "admin"],
  configure: ["admin"],
};

/** Whether to offer something; the server decides. */
export function may(what: keyof typeof MAY): boolean {
  return !!me.value && MAY[what].includes(me.value.role);
}
