// The first hour of two machines, in a real browser: a code, the wizard, an address that nobody had, a
// second node, a power cut. Usage: hour.mjs '{"first", "second", "codes": [a, b], "peer", "vip", "servers",
// "folder", "chromium"}'. Somebody else cuts the power when the file "cut" is there.
import { strict as assert } from "node:assert";
import { existsSync, writeFileSync } from "node:fs";
import http from "node:http";
import { chromium } from "playwright-core";

const given = JSON.parse(process.argv[2]);
const began = Date.now();
const step = (text) => console.log(`${((Date.now() - began) / 1000).toFixed(1)} s  ${text}`);
const LONG = 60_000;

const served = () =>
  new Promise((done) => {
    const call = http.get(`http://${given.vip}/`, { agent: new http.Agent(), timeout: 2000 }, (response) => {
      response.resume();
      response.on("end", () => done(response.statusCode === 200));
    });
    call.on("timeout", () => call.destroy());
    call.on("error", () => done(false));
  });
const until = async (what, holds) => {
  const end = Date.now() + LONG;
  while (!(await holds())) {
    assert(Date.now() < end, `never: ${what}`);
    await new Promise((r) => setTimeout(r, 100));
  }
};

const browser = await chromium.launch({ executablePath: given.chromium, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const errors = [];
const enter = async (base, code, name) => {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  page.setDefaultTimeout(LONG);
  page.on("pageerror", (error) => errors.push(error.message));
  await page.goto(base);
  await page.getByLabel("Code of the first start").fill(code);
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password", { exact: true }).fill("correct horse battery");
  await page.getByLabel("Password once more").fill("correct horse battery");
  await page.getByRole("button", { name: "Make the first person" }).click();
  await page.getByRole("heading", { name: "Virtual services" }).waitFor();
  return page;
};
const go = (page, name) => page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name, exact: true }).click();
const header = (page) => page.locator("header.top .node");

const one = await enter(given.first, given.codes[0], "ann");
step("a code let the first person in");

await one.getByRole("link", { name: "Make the first one" }).click();
await one.getByRole("radio", { name: /^Web HTTP/ }).check();
await one.getByLabel("Name", { exact: true }).first().fill("shop");
await one.getByLabel("Address (VIP)").fill(given.vip);
await one.getByLabel("Address of real server 1").fill(given.servers[0]);
await one.getByLabel("Address of real server 2").fill(given.servers[1]);
await one.getByLabel("Address of real server 2").blur();
await one.getByText("✓ HTTP 200").nth(1).waitFor();
await one.getByRole("button", { name: "Review the change" }).click();
const review = one.getByRole("dialog", { name: "Review the change" });
await review.getByText(`address ${given.vip}/32: is put on`).waitFor();
await review.getByRole("button", { name: "Commit" }).click();
await review.waitFor({ state: "detached" });
await until("the address that nobody had is served", served);
await one.locator('[data-service="shop"]').getByText("up", { exact: false }).first().waitFor();
step("the wizard placed an address and serves it");
await go(one, "Node");
await one.getByText(`${given.vip}/32`).waitFor();
step("the page of the node shows it");

await go(one, "Pair");
await one.getByLabel("Name of this node").fill("lb1");
await one.getByLabel("Address of the other node").first().fill(given.peer);
// Nobody who comes meanwhile notices that the node becomes half of a pair.
const missed = [];
let watching = true;
const watch = (async () => {
  while (watching) {
    if (!(await served())) missed.push(Date.now() - began);
    await new Promise((r) => setTimeout(r, 30));
  }
})();
await one.getByRole("button", { name: "Add a second node" }).click();
const code = (await one.locator("pre.code").textContent()).trim();
await one.getByRole("dialog").getByRole("button", { name: "Close" }).click();
await header(one).getByText("silent").waitFor();
watching = false;
await watch;
assert.deepEqual(missed, [], "served all along");
const two = await enter(given.second, given.codes[1], "bea");
await go(two, "Pair");
await two.getByLabel("Name of this machine").fill("lb2");
await two.getByLabel("Code from the other node").fill(code);
await two.getByRole("button", { name: "Join" }).click();
// The people of the first machine are those of both now.
await two.getByText("log in as one of them").waitFor();
await two.getByRole("button", { name: "Log in" }).waitFor();
await two.getByLabel("Name").fill("ann");
await two.getByLabel("Password", { exact: true }).fill("correct horse battery");
await two.getByRole("button", { name: "Log in" }).click();
await go(two, "Pair");
await two.getByRole("button", { name: "Hold" }).waitFor();
await header(two).getByText("passive").waitFor();
await header(two).getByText("link up").waitFor();
await header(one).getByText("link up").waitFor();
await header(one).getByText(/beat \d+ m?s ago/).waitFor();
assert.match(await header(one).textContent(), /lb1.*active.*lb2.*passive/);
await go(two, "Overview");
await two.locator('[data-service="shop"]').waitFor();
await until("it is served on", served);
step("a second node was added in the browser");

writeFileSync(`${given.folder}/cut`, "");
await until("the power is cut", () => existsSync(`${given.folder}/cut.done`));
await header(two).getByText("active").waitFor();
await until("the second node serves", served);
await header(two).getByText("silent").waitFor();
step("the power was cut, and all is served");

assert.deepEqual(errors, []);
await browser.close();
