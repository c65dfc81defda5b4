// Walks through the web UI as people do, in a real browser. Prints a line a step; the first thing
// that does not hold ends it. Usage: walk.mjs '{"base", "vip", "servers": [a, b], "code", "folder", "chromium"}'
import { strict as assert } from "node:assert";
import { readFileSync } from "node:fs";
import http from "node:http";
import { chromium } from "playwright-core";

const given = JSON.parse(process.argv[2]);
const { base, vip, code, folder } = given;
const axe = readFileSync(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const PASSWORD = "correct horse battery";
const began = Date.now();
const step = (text) => console.log(`${((Date.now() - began) / 1000).toFixed(1)} s  ${text}`);

// Real servers that count what they get.
const counts = {};
const origin = (address) => {
  const [host, port] = address.split(":");
  counts[address] = 0;
  const server = http.createServer((request, response) => {
    if (request.url === "/page") counts[address]++;
    setTimeout(() => response.end("hello\n"), request.url === "/slow" ? 1500 : 0);
  });
  return new Promise((done) => server.listen(Number(port), host, () => done(server)));
};
const origins = await Promise.all(given.servers.map(origin));

const request = (path, agent) =>
  new Promise((done) => {
    const call = http.get(`http://${vip}${path}`, { agent }, (response) => {
      response.resume();
      response.on("end", () => done(response.statusCode));
    });
    call.on("error", () => done(0));
  });

/** Clients that never pause; what they got. */
function traffic() {
  const got = { ok: 0, bad: 0 };
  let on = true;
  const agent = new http.Agent({ keepAlive: true });
  const client = async () => {
    while (on) {
      (await request("/page", agent)) === 200 ? got.ok++ : got.bad++;
      await new Promise((r) => setTimeout(r, 10));
    }
  };
  const all = [client(), client(), client(), client()];
  return { got, stop: () => ((on = false), Promise.all(all)) };
}

const browser = await chromium.launch({ executablePath: given.chromium, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const errors = [];
let transferred = 0;
const open = async (options = {}) => {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => /Content Security Policy/i.test(message.text()) && errors.push(message.text()));
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (!["data:", "blob:"].includes(url.protocol) && url.origin !== new URL(base).origin) errors.push(`a request leaves the machine: ${url}`);
  });
  return page;
};
const accessible = async (page, where) => {
  // What fades in has another contrast on its way.
  await page.waitForTimeout(300);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter((v) => v.impact === "serious" || v.impact === "critical");
  assert.deepEqual(serious.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(" ") + " " + (n.any[0]?.message ?? "")).join("; ")}`), [], `axe on ${where}`);
};
const shot = (page, name) => page.screenshot({ path: `${folder}/${name}.png` });
const go = (page, name) => page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name, exact: true }).click();
const revision = async (page) => Number((await page.getByText(/^revision \d+$/).textContent()).split(" ")[1]);
const commit = async (page, message) => {
  const dialog = page.getByRole("dialog", { name: "Review the change" });
  await dialog.getByLabel("Why, for the history").fill(message);
  await dialog.getByRole("button", { name: "Commit" }).click();
  await dialog.waitFor({ state: "detached" });
};

const page = await open();
page.on("response", async (response) => (transferred += Number(response.headers()["content-length"] ?? 0)));

// First login
await page.goto(base);
await accessible(page, "the door");
await page.getByLabel("Code of the first start").fill(code);
await page.getByLabel("Name").fill("ann");
await page.getByLabel("Password", { exact: true }).fill(PASSWORD);
await page.getByLabel("Password once more").fill(PASSWORD);
await page.getByRole("button", { name: "Make the first person" }).click();
await page.getByRole("heading", { name: "Virtual services" }).waitFor();
await page.getByText("There is no virtual service yet").waitFor();
assert(transferred > 1000 && transferred < 300_000, `initial load of ${transferred} bytes`);
step(`first login; ${transferred} bytes were loaded`);

// Wizard
await page.getByRole("link", { name: "Make the first one" }).click();
await page.getByRole("radio", { name: /^Web HTTP/ }).check();
await page.getByLabel("Name", { exact: true }).first().fill("shop");
// Nobody but this machine has a loopback address; a real server with the ARP problem is answered for.
const asked = page.waitForResponse((r) => r.url().includes("/who-has?address=127.") && r.status() === 200);
await page.getByLabel("Address (VIP)").fill(vip.split(":")[0]);
await page.getByLabel("Ports").fill(vip.split(":")[1]);
await asked;
await page.route("**/api/v1/who-has*", (route) => route.fulfill({ json: [{ interface: "e0", mac: "02:00:00:00:00:07", "known-as": given.servers[0].split(":")[0] }] }));
await page.getByLabel("Address of real server 1").fill(given.servers[0]);
await page.getByLabel("Address (VIP)").focus();
await page.getByLabel("Ports").focus();
await page.getByText(/real server server1 \(02:00:00:00:00:07\) answers for/).waitFor();
await page.unroute("**/api/v1/who-has*");
await page.getByLabel("Address (VIP)").focus();
await page.getByLabel("Ports").focus();
await page.getByText(/answers for/).waitFor({ state: "detached" });
await page.getByLabel("Address of real server 1").fill(given.servers[0]);
await page.getByLabel("Address of real server 2").fill("127.0.0.1:1");
await page.getByLabel("Address of real server 2").blur();
await page.getByText("✓ HTTP 200").waitFor();
await page.getByText("✕ connection refused").waitFor();
await page.getByLabel("Address of real server 2").fill(given.servers[1]);
await page.getByRole("button", { name: "Try it" }).nth(1).click();
await page.getByText("✓ HTTP 200").nth(1).waitFor();
await accessible(page, "the wizard");
await shot(page, "wizard");
await page.getByRole("button", { name: "Review the change" }).click();
await page.getByText("add", { exact: true }).first().waitFor();
await accessible(page, "the review of a change");
await shot(page, "review");
await commit(page, "the first service");
await page.locator('[data-service="shop"]').getByText("up", { exact: false }).first().waitFor();
assert.equal(await request("/page"), 200, "the service works");
assert(Date.now() - began < 120_000, "from nothing to a working service in two minutes");
step("the wizard made a service that works");

// Every template makes what the configuration takes, in every mode that it offers
await page.getByRole("link", { name: "New service" }).click();
let offered = 0;
for (const kind of await page.locator("input[name=kind]").evaluateAll((all) => all.map((input) => input.value))) {
  await page.locator(`input[name=kind][value="${kind}"]`).check();
  const modes = await page.locator("select[name=mode] option").evaluateAll((all) => all.map((option) => option.value));
  for (const mode of modes.length > 0 ? modes : [""]) {
    if (mode) await page.locator("select[name=mode]").selectOption(mode);
    await page.getByLabel("Name", { exact: true }).first().fill(`try-${kind}`);
    await page.getByLabel("Address (VIP)").fill("127.0.0.9");
    for (const asked of ["certificate", "user", "password", "secret"]) {
      const field = page.locator(`input[name="${asked}"]`);
      if (await field.count()) await field.fill("/etc/evenkeel/certs/www.pem");
    }
    await page.getByLabel("Address of real server 1").fill("10.0.0.21");
    await page.getByLabel("Address of real server 2").fill("10.0.0.22");
    await page.getByRole("button", { name: "Review the change" }).click();
    const review = page.getByRole("dialog", { name: "Review the change" });
    await review.getByRole("heading", { name: "What changes" }).waitFor();
    assert.deepEqual(await review.getByRole("list", { name: "Problems" }).allTextContents(), [], `${kind} ${mode}`);
    const text = (await review.locator("pre.diff").textContent()) ?? "";
    if (kind === "web-tls") assert.match(text, /10\.0\.0\.21:80/, "the servers' port stays 80");
    if (["dr", "tun"].includes(mode) && kind === "web") assert.match(text, /through-vip = true/);
    if (mode === "nat") await review.getByText(/default gateway/).waitFor();
    await review.getByRole("button", { name: "Not now" }).click();
    offered++;
  }
}
await go(page, "Overview");
step(`${offered} kinds of services that the wizard makes are right`);

// Keyboard
const row = page.locator('[data-service="shop"] button.row');
await row.focus();
if ((await row.getAttribute("aria-expanded")) === "true") await page.keyboard.press("Enter");
await page.keyboard.press("Enter");
assert.equal(await row.getAttribute("aria-expanded"), "true");
await page.locator('[data-server="server1"]').waitFor();
await accessible(page, "the overview");
step("a row opens by the keyboard");

// One machine in every service that it serves
await go(page, "Servers");
const machine = page.locator(`[data-machine="${given.servers[0].split(":")[0]}"]`);
await machine.getByRole("button", { name: "Drain everywhere" }).click();
await machine.getByText("✓ up").first().waitFor({ state: "detached" });
await machine.getByText("draining", { exact: false }).first().waitFor();
await accessible(page, "the servers");
await shot(page, "servers");
await machine.getByRole("button", { name: "Online everywhere" }).click();
await machine.getByText("✓ up").first().waitFor();
await machine.getByRole("button", { name: "Plan maintenance" }).click();
const plan = page.getByRole("dialog", { name: /^Maintenance of/ });
await plan.getByLabel("Why").fill("new disks");
await accessible(page, "the plan of a maintenance");
await plan.getByRole("button", { name: "Plan it" }).click();
await plan.waitFor({ state: "detached" });
const windows = page.getByRole("region", { name: "Maintenance" });
await windows.getByText("new disks").waitFor();
await machine.getByText("draining", { exact: false }).first().waitFor();
await shot(page, "maintenance-plan");
await windows.getByRole("button", { name: "End now" }).click();
await windows.waitFor({ state: "detached" });
await machine.getByText("✓ up").first().waitFor();
await go(page, "Overview");
await page.locator('[data-service="shop"] svg.spark path').waitFor({ state: "attached" });
step("a machine was drained everywhere and is back");

// Drain under live traffic
const load = traffic();
await page.waitForTimeout(1500);
const slow = request("/slow", new http.Agent());
const first = page.locator('[data-server="server1"]');
await first.getByRole("button", { name: "Drain" }).click();
await first.getByText("safe to reboot").waitFor();
await page.locator('[data-service="shop"]').getByText("maintenance").waitFor();
await shot(page, "drain");
const at = counts[given.servers[0]];
await page.waitForTimeout(1000);
assert.equal(counts[given.servers[0]], at, "a drained server gets nothing new");
assert.equal(await slow, 200, "what was under way was finished");
await first.getByRole("button", { name: "Online" }).click();
await first.getByText("✓ up").waitFor();
await page.getByLabel("Weight of server2").fill("50");
await page.getByLabel("Weight of server2").blur();
await page.waitForTimeout(1200);
assert.equal(await page.getByLabel("Weight of server2").inputValue(), "50");
step("a drain under live traffic lost nothing");

// Edit with diff
await page.locator('[data-service="shop"]').getByRole("link", { name: "Settings" }).click();
await page.getByRole("heading", { name: "virtual-service: shop" }).waitFor();
await accessible(page, "the forms");
await page.getByRole("button", { name: /^More settings/ }).last().click();
await page.getByLabel("scheduler", { exact: true }).selectOption("least-connections");
const before = await revision(page);
await page.getByRole("button", { name: "Review the change" }).click();
await page.getByText('+scheduler = "least-connections"').waitFor();
await page.getByText("scheduler round-robin becomes least-connections").waitFor();
await commit(page, "fewest connections");
await page.getByText(`revision ${before + 1}`, { exact: true }).waitFor();
assert.match(readFileSync(given.config, "utf8"), /# written by hand/, "comments stay");
assert.match(readFileSync(given.config, "utf8"), /scheduler = "least-connections"/);
step("an edit showed its diff and plan, and kept the comments");

// The text, checked as it is typed
await page.getByRole("link", { name: "Text" }).click();
const text = page.getByRole("textbox", { name: "Configuration" });
const good = await text.inputValue();
await text.fill(good.replace("scheduler", "schedular"));
await page.getByText(/did you mean .?scheduler/).waitFor();
await accessible(page, "the text");
await shot(page, "text");
assert(await page.getByRole("button", { name: "Review the change" }).isDisabled(), "what is wrong is not committed");

// Goes back unless it is confirmed
await text.fill(good.replace("least-connections", "first"));
await page.getByText("The text is right.").waitFor();
await page.getByRole("button", { name: "Review the change" }).click();
await page.getByLabel("Unless it is confirmed").selectOption("5");
await commit(page, "a try");
await page.getByText(/goes back by itself in/).waitFor();
assert.match(readFileSync(given.config, "utf8"), /scheduler = "first"/);
await page.getByText(/goes back by itself in/).waitFor({ state: "detached" });
assert.match(readFileSync(given.config, "utf8"), /scheduler = "least-connections"/, "it went back");
await page.getByRole("link", { name: "History" }).click();
await page.getByText("a try").waitFor();
await accessible(page, "the history");
step("an unconfirmed commit went back by itself");

// Two people at once: the second is told, and nothing is lost
await go(page, "Configuration");
const other = await page.evaluate(async (text) => {
  const self = await (await fetch("/api/v1/self")).json();
  const answer = await fetch("/api/v1/commit?message=stale", { method: "POST", headers: { "X-Evenkeel-Csrf": self.csrf, "If-Match": '"1"' }, body: text });
  return { status: answer.status, type: answer.headers.get("content-type"), body: await answer.json() };
}, good);
assert.deepEqual([other.status, other.type], [412, "application/problem+json"]);
assert.match(other.body.detail, /made for revision 1/);

// The own order, by the keyboard and by dragging
await page.evaluate(async (vip) => {
  const headers = { "X-Evenkeel-Csrf": (await (await fetch("/api/v1/self")).json()).csrf, "Content-Type": "application/json" };
  const value = { name: "second", vip: [`${vip.split(":")[0]}:8099`], mode: "tcp", "real-server": [{ name: "s", address: "127.0.0.1:1" }] };
  const propose = await fetch("/api/v1/configuration/propose", { method: "POST", headers, body: JSON.stringify({ edits: [{ do: "add", at: ["virtual-service"], value }] }) });
  await fetch("/api/v1/commit", { method: "POST", headers: { ...headers, "Content-Type": "application/toml" }, body: (await propose.json()).text });
}, vip);
await go(page, "Overview");
const order = () => page.locator("ul.services > li").evaluateAll((all) => all.map((li) => li.dataset.service).join());
await page.locator('[data-service="second"]').waitFor();
assert.equal(await order(), "shop,second");
await page.locator('[data-service="second"] button.row').focus();
await page.keyboard.press("Alt+ArrowUp");
await page.getByText("What changes").waitFor();
await commit(page, "second first");
await page.locator('ul.services > li:first-child[data-service="second"]').waitFor();
await page.locator('[data-service="shop"] button.row').dragTo(page.locator('[data-service="second"] button.row'));
await page.getByText("What changes").waitFor();
await commit(page, "shop first");
await page.locator('ul.services > li:first-child[data-service="shop"]').waitFor();
assert.match(readFileSync(given.config, "utf8"), /"shop"[\s\S]*"second"/);
step("services are where somebody put them");

// A stopped server is a visible drop
await go(page, "Graphs");
await page.getByLabel(/^Of/).selectOption("shop");
await page.getByLabel(/^Real server/).selectOption("server1");
await page.getByRole("button", { name: "minute", exact: true }).click();
const graph = page.locator('[data-graph="New connections"] [role="img"]');
const now = async () => Number(((await graph.getAttribute("aria-label")) ?? "").match(/: ([\d.]+)/)?.[1] ?? -1);
const until = async (what, holds) => {
  for (let tries = 0; tries < 100; tries++) {
    if (await holds()) return;
    await page.waitForTimeout(200);
  }
  assert.fail(`never: ${what}`);
};
await until("traffic in the graph", async () => (await now()) > 5);
origins[0].close();
origins[0].closeAllConnections();
await until("the drop in the graph", async () => (await now()) === 0);
await page.waitForTimeout(3000);
await accessible(page, "the graphs");
await shot(page, "graph");
const series = await page.evaluate(async () => (await fetch("/api/v1/series?service=shop&server=server1&range=1m&values=new,up")).json());
const [fresh, up] = series.columns.map((c) => c.points.filter((p) => p !== null));
assert(Math.max(...fresh) > 5 && fresh.at(-1) === 0 && up.includes(1) && up.at(-1) === 0, "the drop is in the series");
const drawn = await page.evaluate(() => {
  const canvas = document.querySelector('[data-graph="New connections"] canvas');
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let blue = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i] < 80 && data[i + 2] > 180 && data[i + 3] > 100) blue++;
  return blue;
});
assert(drawn > 100, `the line is drawn: ${drawn} pixels`);
const got = (await load.stop(), load.got);
assert.equal(got.bad, 0, `${got.ok} requests were answered, ${got.bad} were not`);
step(`a stopped server is a visible drop; ${got.ok} requests, none lost`);

// The other pages
await go(page, "Overview");
await page.locator('[data-service="shop"]').getByText("degraded").waitFor();
await page.getByRole("region", { name: "What is wrong" }).getByText(/1 of 2 real servers is down; server1: /).waitFor();
await shot(page, "wrong");
for (const [name, reports] of [["Reports", ["Status", "Connections", "Persistence", "Explain", "Certificates", "Doctor", "Events"]], ["Logs", ["Access", "Program"]], ["Pair", []], ["Node", []], ["Maintenance", ["System", "Audit", "Your account"]]]) {
  await go(page, name);
  await accessible(page, name);
  for (const report of reports) {
    await page.locator(".tabs").getByRole("link", { name: report }).click();
    await page.waitForTimeout(300);
    await accessible(page, `${name}: ${report}`);
  }
}
await go(page, "Reports");
await page.locator(".tabs").getByRole("link", { name: "Events" }).click();
await page.getByText("shop/server1 is down").first().waitFor();
await page.locator(".tabs").getByRole("link", { name: "Explain" }).click();
await page.getByLabel("Request").fill(`http://${vip}/page`);
await page.getByRole("button", { name: "Why there?" }).click();
await page.getByText("It goes to server2").waitFor();
await go(page, "Logs");
await page.getByText("Requests and connections appear here as they end.").waitFor();
await request("/page?in-the-log");
await page.getByText("in-the-log").waitFor();
step("reports, logs, pair, maintenance");

// A part is started anew
await go(page, "Maintenance");
await page.getByLabel("Part").selectOption("checks");
await page.getByRole("button", { name: "Restart" }).click();
await page.getByText("Start the health checks anew?").waitFor();
await page.getByRole("button", { name: "Do it" }).click();
await page.getByText(/checks begin again/).waitFor();
step("the checks are started anew");

// A viewer changes nothing
await page.locator(".tabs").getByRole("link", { name: "People" }).click();
await page.getByLabel("Name").first().fill("vic");
await page.getByLabel("Password").fill(PASSWORD);
await page.getByRole("button", { name: "Add a person" }).click();
await page.getByText("vic may log in").waitFor();
await accessible(page, "people");
const viewer = await open({ colorScheme: "dark", viewport: { width: 390, height: 800 }, hasTouch: true });
await viewer.goto(base);
await viewer.getByLabel("Name").fill("vic");
await viewer.getByLabel("Password").fill(PASSWORD);
await viewer.getByRole("button", { name: "Log in" }).click();
await viewer.getByRole("button", { name: "Open all" }).click();
await viewer.locator('[data-server="server2"]').waitFor();
assert.equal(await viewer.getByRole("button", { name: /^(Drain|Halt|Online)$/ }).count(), 0);
assert.equal(await viewer.getByLabel(/^Weight of/).count(), 0);
const tries = await viewer.evaluate(async () => {
  const self = await (await fetch("/api/v1/self")).json();
  const headers = { "X-Evenkeel-Csrf": self.csrf, "Content-Type": "application/json" };
  const each = [["POST", "/api/v1/servers/shop/server2", { "admin-state": "halted" }], ["POST", "/api/v1/commit", {}], ["POST", "/api/v1/users", {}], ["POST", "/api/v1/lockdown", {}], ["GET", "/api/v1/configuration"], ["GET", "/api/v1/backup"]];
  return Promise.all(each.map(async ([method, path, body]) => (await fetch(path, { method, headers, body: body && JSON.stringify(body) })).status));
});
assert.deepEqual(tries, [403, 403, 403, 403, 403, 403]);
step("a viewer sees and changes nothing");

// On a phone, in the dark
for (const path of ["/", "/servers", "/graphs", "/reports", "/logs", "/pair", "/maintenance"]) {
  await viewer.goto(base + path);
  await viewer.getByRole("heading", { level: 1 }).waitFor();
  await viewer.waitForTimeout(400);
  await accessible(viewer, `${path} on a phone, in the dark`);
  const [wide, screen] = await viewer.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert(wide <= screen, `${path} is ${wide} wide on a screen of ${screen}`);
}
await viewer.goto(base);
await viewer.getByRole("button", { name: "Open all" }).click();
await shot(viewer, "phone");
await viewer.getByRole("button", { name: "Log out" }).click();
await viewer.getByRole("button", { name: "Log in" }).waitFor();
step("on a phone, in the dark");

assert.deepEqual(errors, []);
await browser.close();
origins.forEach((o) => o.close());
step("done");
process.exit(0);
