/* web.js - the same as tests/web.c, by the WebAssembly that a page holds.
   usage: node tests/web.js PAGE.html */
"use strict";
const page = require("fs").readFileSync(process.argv[2], "utf8");
const CLASSES = 10, GLYPH = 32, INK = GLYPH * GLYPH, BATCH = 20, TRAIN = 1000, SINGLE = -3, LATE = 1;

function hash(h, floats) {
    const words = new Uint32Array(new Float32Array(floats).buffer);
    for (const w of words) h = Math.imul(h ^ w, 16777619) >>> 0;
    return h;
}

const hex = h => h.toString(16).padStart(8, "0");

function trial(web, members, steps) {
    const floats = (address, n) => new Float32Array(web.memory.buffer, address, n);
    let losses = 2166136261, views = losses, answers = losses;
    let bad = web.begin(3, members, steps, 0.05, 0.1, 0.2);
    for (let t = 0; t < steps && !bad; t++) {
        bad = web.step();
        losses = hash(losses, [web.loss(0), web.loss(1)]);
        if (t > web.t0() && t % 10 === 0) views = hash(views, floats(web.view(), 3 * (members + 2)));
    }
    bad = bad || web.average();
    for (let i = 0; i < 200 && !bad; i += BATCH) bad = web.judge(LATE, SINGLE, TRAIN + i, i === 0);
    floats(web.ink(), INK).forEach((_, i, ink) => { ink[i] = i % GLYPH >> 2 === 4; });
    bad = bad || web.classify();
    for (const net of [0, 1]) answers = hash(answers, floats(web.probs(net), CLASSES));
    console.log(`web ${bad ? "status " + bad : "ok"} losses=${hex(losses)} members=${hex(views)} answers=${hex(answers)}`
        + ` accuracy=${(100 * web.accuracy()).toFixed(1)} nll=${web.nll().toFixed(4)}`);
}

async function main() {
    const [, text] = page.match(/<script[^>]* id="wasm">([^<]*)</);
    const web = (await WebAssembly.instantiate(Buffer.from(text, "base64"))).instance.exports;
    trial(web, 3, 150);
    for (const label of [0, 1]) {
        new Float32Array(web.memory.buffer, web.ink(), INK).forEach((_, i, ink) => {
            ink[i] = (label ? i % GLYPH : i / GLYPH) >> 2 === 4;
        });
        web.add(label);
    }
    trial(web, 2, 20);
}

main();
