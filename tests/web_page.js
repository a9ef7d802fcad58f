/* web_page.js - looks at the page in headless Chromium, through the pipe of its DevTools: no package.
   usage: node tests/web_page.js CHROMIUM PAGE.html [DIRECTORY]      (for screenshots)
   Prints a line for each thing that is wrong, then "N passed, N failed". */
"use strict";
const { spawn } = require("child_process"), fs = require("fs"), os = require("os"), path = require("path");
const [chromium, page, pictures] = process.argv.slice(2);
let passed = 0, failed = 0;

function test(name, ok, found) {
    if (ok) return passed++;
    failed++;
    console.log(`FAIL ${name}: ${found}`);
}

/* ---- the DevTools protocol: messages of JSON, each ended by a zero byte, on descriptors 3 and 4 */

const home = fs.mkdtempSync(path.join(os.tmpdir(), "page-"));
const browser = spawn(chromium, ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
    "--user-data-dir=" + home, "about:blank"], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const waiting = new Map(), complaints = [];
let count = 0, rest = "", session;

function heard(message) {
    const reply = waiting.get(message.id);
    waiting.delete(message.id);
    if (reply && message.error) reply.reject(new Error(message.error.message));
    else if (reply) reply.resolve(message.result);
    else if (message.method === "Runtime.exceptionThrown")
        complaints.push(message.params.exceptionDetails.exception?.description || message.params.exceptionDetails.text);
    else if (message.method === "Runtime.consoleAPICalled" && message.params.type === "error")
        complaints.push(message.params.args.map(a => a.value || a.description).join(" "));
    else if (message.method === "Log.entryAdded" && message.params.entry.level === "error")
        complaints.push(message.params.entry.text);
}

browser.stdio[4].setEncoding("utf8");
browser.stdio[4].on("data", text => {
    const messages = (rest + text).split("\0");
    rest = messages.pop();
    for (const m of messages) heard(JSON.parse(m));
});

function send(method, params = {}) {
    browser.stdio[3].write(JSON.stringify({ id: ++count, method, params, sessionId: session }) + "\0");
    return new Promise((resolve, reject) => waiting.set(count, { resolve, reject }));
}

const pause = ms => new Promise(done => setTimeout(done, ms));

async function value(expression) {
    const r = await send("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true });
    if (r.exceptionDetails) throw new Error(expression + ": " + r.exceptionDetails.exception.description);
    return r.result.value;
}

async function until(expression, seconds) {
    const end = Date.now() + 1000 * seconds;
    while (!await value(expression)) {
        if (Date.now() > end) throw new Error(`not within ${seconds} s: ${expression}`);
        await pause(100);
    }
}

/* ---- what a visitor does */

async function open(width, height, dark) {
    await send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
    await send("Emulation.setTouchEmulationEnabled", { enabled: width < 600 });
    await send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }] });
    await send("Page.navigate", { url: "file://" + path.resolve(page) });
    await until("document.readyState === 'complete' && document.body.dataset.state === 'ready'", 30);
}

/* The page from top to bottom, in pieces. */
async function picture(name) {
    if (!pictures) return;
    await value("scrollTo(0, 0)");
    await pause(300);
    const [width, height] = await value("[innerWidth, document.documentElement.scrollHeight]"), piece = 1400;
    for (let y = 0, i = 1; y < height; y += piece, i++) {
        const clip = { x: 0, y, width, height: Math.min(piece, height - y), scale: 1 };
        const { data } = await send("Page.captureScreenshot", { captureBeyondViewport: true, clip });
        fs.writeFileSync(path.join(pictures, `${name}-${i}.png`), Buffer.from(data, "base64"));
    }
}

const press = id => value(`document.getElementById("${id}").click()`);
const choose = (id, v) => value(`{ const e = document.getElementById("${id}"); e.value = "${v}"; e.dispatchEvent(new Event("change", { bubbles: true })); }`);
const train = async seconds => { await press("start"); await until("['finished', 'failed'].includes(document.body.dataset.state)", seconds); };
/* Column 1: accuracy, 2: NLL, 3: labels learned. */
const result = (name, column) => value(`parseFloat([...document.querySelectorAll("#result tr")]
    .find(r => r.cells[0].textContent === "${name}").cells[${column}].textContent)`);

/* Left, top and width of an element, once it is in sight. */
const place = id => value(`(() => { const e = document.getElementById("${id}"); e.scrollIntoView({ block: "center" });
    const b = e.getBoundingClientRect(); return [b.left, b.top, b.width]; })()`);

async function drag(id, points) {
    const box = await place(id);
    const at = ([x, y]) => ({ x: box[0] + x * box[2], y: box[1] + y * box[2], button: "left", clickCount: 1 });
    await send("Input.dispatchMouseEvent", { type: "mousePressed", ...at(points[0]) });
    for (const p of points) await send("Input.dispatchMouseEvent", { type: "mouseMoved", ...at(p) });
    await send("Input.dispatchMouseEvent", { type: "mouseReleased", ...at(points.at(-1)) });
}

/* One finger; what it does to the page besides, such as scrolling, must be nothing. */
async function touch(id, points) {
    const box = await place(id), at = ([x, y]) => [{ x: box[0] + x * box[2], y: box[1] + y * box[2] }];
    await send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: at(points[0]) });
    for (const p of points) await send("Input.dispatchTouchEvent", { type: "touchMove", touchPoints: at(p) });
    await send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
}

async function key(name, times = 1) {
    for (let i = 0; i < times; i++) await send("Input.dispatchKeyEvent", { type: "keyDown", key: name });
}

const zero = Array.from({ length: 25 }, (_, i) => [0.5 + 0.22 * Math.sin(i / 4), 0.5 - 0.34 * Math.cos(i / 4)]);
const one = Array.from({ length: 10 }, (_, i) => [0.5 + 0.005 * i, 0.15 + 0.07 * i]);
const seven = [[0.3, 0.2], [0.5, 0.2], [0.7, 0.2], [0.6, 0.4], [0.5, 0.6], [0.42, 0.8]];

async function visit() {
    await open(1280, 900, false);
    await picture("desktop-before");
    await choose("wrong", 0);
    await choose("noise", 0.1);
    await train(240);
    test("the training ends", await value("document.body.dataset.state") === "finished", await value("document.getElementById('status').textContent"));
    for (const name of ["plain SGD", "late-phase average"]) {
        const accuracy = await result(name, 1);
        test(`${name} learns`, accuracy > 85, accuracy + " % of the test images");
    }
    const apart = await value("run.distance.map(d => d.at(-2)[1])");
    test("members drift apart, then are averaged", apart.length === 5 && apart.every(d => d > 0.1) &&
        await value("run.distance.every(d => d.at(-1)[1] === 0)"), apart);
    test("the same until T0", await value("JSON.stringify(run.loss[0].filter(p => p[0] <= run.t0)) === JSON.stringify(run.loss[1].filter(p => p[0] <= run.t0))"), "the losses differ");
    test("not the same after T0", await value("run.loss[0].at(-1)[1] !== run.loss[1].at(-1)[1]"), "the losses are equal");
    for (const [digit, drawing] of [[0, zero], [1, one], [7, seven]]) {
        await press("try-clear");
        await drag("try", drawing);
        const answer = await value("document.getElementById('answer').textContent");
        test(`a drawn ${digit} is read`, answer === `Plain SGD: ${digit}, late-phase: ${digit}.`, answer);
    }
    await picture("desktop-after");
    await press("try-clear");
    await value("document.getElementById('try').focus()");
    await key(" "), await key("ArrowDown", 15);
    test("the keyboard draws a 1", /SGD: 1, /.test(await value("document.getElementById('answer').textContent")),
        await value("document.getElementById('answer').textContent"));

    /* two digits of one's own; a label for each by the radio buttons */
    for (const drawing of [zero, one]) {
        await drag("teach", drawing);
        await press("add");
    }
    test("own digits are taken", await value("run.conditions.includes('2 own')"), await value("run.conditions"));
    await choose("steps", 750);
    await train(120);
    await press("next");
    await until("document.body.dataset.state === 'finished'", 120);
    const verdict = await value("document.getElementById('verdict').textContent");
    test("the seeds are added up", /Mean of 2 seeds/.test(verdict) && await value("number('seed')") === 2, verdict);
    test("own digits are learned", await result("late-phase average", 1) > 95, await result("late-phase average", 1));

    /* a picture from the disk: a dark stroke on light paper, made by the page itself */
    await value(`(async () => {
        const c = new OffscreenCanvas(60, 80), x = c.getContext("2d");
        x.fillStyle = "#eee", x.fillRect(0, 0, 60, 80), x.fillStyle = "#225", x.fillRect(25, 10, 8, 60);
        const t = new DataTransfer();
        t.items.add(new File([await c.convertToBlob()], "7-mine.png", { type: "image/png" }));
        t.items.add(new File(["no picture"], "3.png", { type: "image/png" }));
        document.getElementById("pictures").files = t.files;
        await addPictures();
    })()`);
    test("a picture is taken, and its label is its name's", await value("own.length === 3 && own[2].label === 7"), await value("JSON.stringify(own.map(o => o.label))"));
    const [stroke, paper] = await value("[16, 10].map(x => own[2].ink[16 * GLYPH + x])");
    test("a picture's stroke is ink, its paper is not", stroke > 0.9 && paper < 0.1, [stroke, paper]);

    for (const dark of [false, true]) {
        const name = dark ? "phone-dark" : "phone";
        await open(390, 844, dark);
        await picture(name + "-before");
        const width = await value("document.documentElement.scrollWidth");
        test("no wider than a phone", width <= 390, width);
        const small = await value(`[...document.querySelectorAll("button, select, .file")].filter(e => e.offsetHeight < 44).length`);
        test("targets are large enough for fingers", small === 0, small + " are less than 44 pixels high");
        const before = await place("try");
        await touch("try", seven);
        const after = await value("document.getElementById('try').getBoundingClientRect().top");
        test("a finger draws", await value("tryPad.strokes.length === 1 && tryPad.strokes[0].length >= 6"), await value("tryPad.strokes.length"));
        test("a finger on the pad does not scroll", before[1] === after, after - before[1]);
        await press("try-clear");
        if (!pictures) continue;
        await train(240);
        await drag("try", seven);
        await picture(name + "-after");
    }
    if (pictures) {
        await open(1280, 900, true);
        await train(240);
        await picture("desktop-dark-after");
    }
    test("no error on the console", complaints.length === 0, complaints.join("; "));
}

async function main() {
    const { targetInfos } = await send("Target.getTargets");
    const target = targetInfos.find(t => t.type === "page");
    session = (await send("Target.attachToTarget", { targetId: target.targetId, flatten: true })).sessionId;
    for (const domain of ["Page", "Runtime", "Log"]) await send(domain + ".enable");
    await visit();
}

browser.on("error", e => test("Chromium starts", false, e.message));
main().catch(e => test("the visit", false, e.message)).finally(() => {
    browser.once("exit", () => fs.rmSync(home, { recursive: true, force: true, maxRetries: 3 }));
    browser.kill();
    console.log(`${passed} passed, ${failed} failed`);
    process.exitCode = failed ? 1 : 0;
});
