// Measures the overview with many services: how long the browser is held up while they change
// every second. Usage: many.mjs '{"base", "user", "password", "chromium", "seconds"}'
import { chromium } from "playwright-core";

const given = JSON.parse(process.argv[2]);
const browser = await chromium.launch({ executablePath: given.chromium, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const page = await browser.newPage({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 900 } });
await page.addInitScript(() => {
  window.long = [];
  new PerformanceObserver((list) => window.long.push(...list.getEntries().map((e) => e.duration))).observe({ type: "longtask", buffered: true });
  window.frames = [];
  let last = performance.now();
  const frame = (now) => (window.frames.push(now - last), (last = now), requestAnimationFrame(frame));
  requestAnimationFrame(frame);
});
await page.goto(given.base);
await page.getByLabel("Name").fill(given.user);
await page.getByLabel("Password").fill(given.password);
const began = Date.now();
await page.getByRole("button", { name: "Log in" }).click();
await page.locator("ul.services > li").nth(given.services - 1).waitFor({ state: "attached", timeout: 60_000 });
const shown = Date.now() - began;
const measure = async (what) => {
  await page.waitForTimeout(2000);
  await page.evaluate(() => ((window.long = []), (window.frames = [])));
  await page.waitForTimeout(given.seconds * 1000);
  const { long, frames } = await page.evaluate(() => ({ long: window.long, frames: window.frames.sort((a, b) => a - b) }));
  const at = (share) => frames[Math.floor(frames.length * share)]?.toFixed(0);
  console.log(JSON.stringify({ what, "frames-per-second": Math.round(frames.length / given.seconds), "frame-p50-ms": at(0.5), "frame-p99-ms": at(0.99), "frame-longest-ms": at(0.9999) ?? frames.at(-1), "tasks-over-50-ms": long.length, "longest-task-ms": Math.round(Math.max(0, ...long)) }));
};
console.log(JSON.stringify({ what: "from login to all rows", ms: shown }));
await measure("rows closed");
await page.getByLabel(/^Order/).selectOption("rate");
await measure("ordered by rate");
await page.getByLabel(/^Order/).selectOption("own");
await page.getByRole("button", { name: "Open all" }).click();
await page.waitForTimeout(1000);
await measure("every row open");
await browser.close();
