// What services are made for, with what each needs: ports, modes, checks, persistence, time-outs.
import type { Json, Table } from "./form";

/** One of the services that a template makes. */
export type Made = {
  suffix: string;
  mode: string;
  ports: string;
  more: Table;
  /** The servers' port, where it is another than the clients'. */
  serverPort?: string;
};

export type Template = {
  key: string;
  title: string;
  what: string;
  port: string;
  modes: string[];
  /** TLS ends here. */
  tls?: boolean;
  /** What has to be done on the servers beside. */
  note?: string;
  /** Things that only people know, such as a shared secret; each goes into the check. */
  asks?: { key: string; label: string; secret?: boolean }[];
  services: (ports: string, asked: Record<string, string>) => Made[];
};

const TCP: Json = { type: "tcp" };
const WEB: Table = {
  "health-check": { type: "http", path: "/" },
  persistence: { type: "cookie", name: "SERVERID", method: "insert", indirect: true, httponly: true },
  forwarded: ["x-forwarded-for", "x-forwarded-proto"],
};
const ANY4 = ["dr", "nat", "snat", "tun"];
const source = (timeout: string): Json => ({ type: "source", timeout });
const long = (time: string): Json => ({ client: time, server: time });
const named = (suffix: string, ports: string, more: Table): Made => ({ suffix, mode: "tcp", ports, more });
const one = (made: Omit<Made, "suffix">): Made[] => [{ suffix: "", ...made }];

/** Ports of a front end of Office Communications Server, Lync and Skype for Business. */
const LYNC = "80,135,443,444,448,4443,5060-5065,5067-5073,5075,5076,5080,5086,5087,8057,8058,8060,8061,8080,8404";

const DATABASES: Record<string, Json> = {
  3306: { type: "mysql" },
  5432: { type: "postgresql" },
  6379: { type: "redis" },
};

export const TEMPLATES: Template[] = [
  {
    key: "web", title: "Web", what: "HTTP; requests are looked at, clients keep their server by a cookie",
    port: "80", modes: ["http", "tcp", ...ANY4],
    services: (ports) => one({ mode: "http", ports, more: WEB }),
  },
  {
    key: "web-tls", title: "Web with TLS", what: "HTTPS ends here; HTTP/2 and HTTP/1.1 for clients, plain HTTP to the servers",
    port: "443", modes: ["http"], tls: true,
    services: (ports) => one({ mode: "http", ports, serverPort: "80", more: { ...WEB, persistence: { ...(WEB.persistence as Table), secure: true } } }),
  },
  {
    key: "rdp", title: "Remote Desktop", what: "users come back to their session's server, by the cookie of RDP",
    port: "3389", modes: ["tcp"],
    services: (ports) => one({ mode: "tcp", ports, more: { scheduler: "least-connections", persistence: { type: "rdp-cookie", expire: "1h" }, "health-check": { type: "rdp" }, timeouts: long("12h") } }),
  },
  {
    key: "rdp-broker", title: "Remote Desktop with a Connection Broker", what: "the broker's token says where a session is; new users go where fewest are",
    port: "3389", modes: ["tcp"],
    note: "On the session hosts: join the farm of the Connection Broker, and switch IP address redirection off, so that it uses routing tokens. The addresses here must be those that the broker knows.",
    services: (ports) => one({ mode: "tcp", ports, more: { scheduler: "least-connections", persistence: { type: "rdp-cookie", expire: "12h" }, "health-check": { type: "rdp" }, timeouts: long("12h") } }),
  },
  {
    key: "exchange", title: "Exchange", what: "Outlook (RPC), the web, SMTP, IMAP and POP, as five services on one address",
    port: "443", modes: ["tcp"],
    note: "Outlook over RPC needs static ports on every client access server: 60200 for RPC Client Access, 60201 for the address book.",
    services: (): Made[] => [
      named("-rpc", "135,60200,60201", { "health-check": { type: "tcp", port: 135 }, "on-marked-down": "close", persistence: source("1h"), timeouts: long("2h") }),
      named("-web", "80,443", { "health-check": { type: "tcp", port: 443 }, "on-marked-down": "close", persistence: source("1h"), timeouts: long("30m") }),
      named("-smtp", "25,587", { "health-check": { type: "smtp", port: 25 } }),
      named("-imap", "143,993", { "health-check": { type: "imap", port: 143 }, timeouts: long("35m") }),
      named("-pop", "110,995", { "health-check": { type: "pop", port: 110 } }),
    ],
  },
  {
    key: "mail", title: "Mail", what: "SMTP, IMAP and POP, as three services on one address",
    port: "25", modes: ["tcp"],
    services: (): Made[] => [
      named("-smtp", "25,587", { "health-check": { type: "smtp", port: 25 } }),
      named("-imap", "143,993", { "health-check": { type: "imap", port: 143 }, timeouts: long("35m") }),
      named("-pop", "110,995", { "health-check": { type: "pop", port: 110 } }),
    ],
  },
  {
    key: "lync", title: "OCS, Lync, Skype", what: "everything that a front end pool listens on; the port that a client asks for is kept",
    port: LYNC, modes: ["tcp", "dr", "nat", "snat"],
    services: (ports) => one({ mode: "tcp", ports, more: { scheduler: "least-connections", persistence: source("20m"), "health-check": { type: "tcp", port: 5061 }, "on-marked-down": "close", timeouts: long("30m") } }),
  },
  {
    key: "sip", title: "SIP", what: "telephones over UDP and TCP keep their server by their address",
    port: "5060", modes: ["dr", "nat", "snat", "tun", "tcp"],
    services: (ports) => one({ mode: "dr", ports, more: { protocol: "both", persistence: source("1h"), "health-check": { type: "sip", port: 5060 }, timeouts: long("1h") } }),
  },
  {
    key: "dns", title: "DNS", what: "TCP and UDP, forwarded in the kernel",
    port: "53", modes: ANY4,
    services: (ports) => one({ mode: "dr", ports, more: { protocol: "both", "health-check": { type: "dns", name: "." } } }),
  },
  {
    key: "radius", title: "RADIUS", what: "UDP; a switch or access point keeps its server for as long as a conversation lasts",
    port: "1812,1813", modes: ANY4,
    asks: [{ key: "user", label: "A user to check with" }, { key: "password", label: "The user's password", secret: true }, { key: "secret", label: "The secret that is shared with the servers", secret: true }],
    services: (ports, { user = "", password = "", secret = "" }) => one({ mode: "dr", ports, more: { protocol: "udp", persistence: source("5m"), "health-check": { type: "radius", port: 1812, user, password, secret } } }),
  },
  {
    key: "files", title: "File servers", what: "SMB; clients keep their server by their address",
    port: "139,445", modes: [...ANY4, "tcp"],
    note: "All servers must have the same files (DFS replication, a cluster file system), and answer to the name of the VIP (a service principal name, or DisableStrictNameChecking).",
    services: (ports) => one({ mode: "dr", ports, more: { protocol: "tcp", persistence: source("1h"), "health-check": { type: "tcp", port: 445 }, timeouts: long("8h") } }),
  },
  {
    key: "print", title: "Print servers", what: "Windows printing, LPD and raw printing; clients keep their server by their address",
    port: "135,139,445,515,9100,49152-65535", modes: ANY4,
    note: "Each server has the same printers under the same names, and answers to the name of the VIP.",
    services: (ports) => one({ mode: "dr", ports, more: { protocol: "tcp", persistence: source("1h"), "health-check": { type: "tcp", port: 445 } } }),
  },
  {
    key: "dicom", title: "DICOM", what: "pictures of medical devices: long connections that carry much",
    port: "104", modes: ["tcp", ...ANY4],
    services: (ports) => one({ mode: "tcp", ports, more: { scheduler: "least-connections", "health-check": TCP, persistence: source("30m"), timeouts: long("4h") } }),
  },
  {
    key: "database", title: "Database", what: "TCP, long connections, the server with the fewest; MySQL, PostgreSQL and Redis are asked in their own words",
    port: "5432", modes: ["tcp", ...ANY4],
    services: (ports) => one({ mode: "tcp", ports, more: { scheduler: "least-connections", "health-check": DATABASES[ports] ?? TCP, timeouts: long("8h") } }),
  },
];

export const isLayer4 = (mode: string): boolean => !["http", "tcp"].includes(mode);
export const isDirect = (mode: string): boolean => mode === "dr" || mode === "tun";

/** Checks that can go through the VIP: those over TCP, other than of UDP or of a program's. */
const NOT_THROUGH = ["ping", "dns", "ntp", "radius", "script", "none"];

/** What a service of a mode can use of a template. */
export function fitted(made: Made): Table {
  const more: Table = { ...made.more };
  const persistence = more.persistence as Table | undefined;
  if (isLayer4(made.mode)) {
    // The kernel's path knows sources, not cookies or HTTP headers.
    delete more.forwarded;
    delete more.timeouts;
    if (persistence?.type !== "source") delete more.persistence;
    const check = more["health-check"] as Table | undefined;
    const overUdp = check?.type === "sip" && check.udp !== false;
    if (isDirect(made.mode) && check && !NOT_THROUGH.includes(String(check.type)) && !overUdp) more["health-check"] = { ...check, "through-vip": true };
  } else {
    delete more.protocol;
    const check = more["health-check"] as Table | undefined;
    if (check?.type === "sip") more["health-check"] = { ...check, udp: false };
    if (made.mode === "tcp") {
      delete more.forwarded;
      if (persistence?.type === "cookie") more.persistence = source("30m");
    }
  }
  return more;
}

/** The address of a real server with the port that its service needs, or without one where the client's is kept. */
export function serverAddress(text: string, made: Made): string {
  const hasPort = /\]:\d+$|^[^:]+:\d+$/.test(text);
  if (isDirect(made.mode)) return (hasPort ? text.replace(/:\d+$/, "") : text).replace(/^\[|\]$/g, "");
  const ports = made.serverPort || made.ports;
  const single = /^\d+$/.test(ports);
  if (hasPort && single) return text;
  // Many ports: the client's own is kept, whatever was typed.
  const bare = (hasPort ? text.replace(/:\d+$/, "") : text).replace(/^\[|\]$/g, "");
  if (!single) return bare;
  return bare.includes(":") && !bare.startsWith("[") ? `[${bare}]:${ports}` : `${bare}:${ports}`;
}

/** Where the check of a service asks one of its servers. */
export function checkedAt(text: string, made: Made): string {
  const check = made.more["health-check"] as Table | undefined;
  const host = text.replace(/\]:\d+$|^([^:]+):\d+$/, (_, plain) => plain ?? "]").replace(/^\[|\]$/g, "");
  const own = /(?:\]|^[^:]+):(\d+)$/.exec(text)?.[1];
  const single = /^\d+$/.test(made.serverPort || made.ports);
  const port = (single && own && !isDirect(made.mode) ? own : undefined) ?? check?.port ?? (made.serverPort || made.ports).split(/[,-]/)[0];
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
