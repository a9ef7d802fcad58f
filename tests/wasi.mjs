// wasi.mjs - runs a program compiled for wasm32-wasi: node tests/wasi.mjs PROGRAM.wasm [ARGUMENTS]
import { WASI } from "node:wasi";
import { readFileSync } from "node:fs";
const wasi = new WASI({ version: "preview1", args: process.argv.slice(2) });
const { instance } = await WebAssembly.instantiate(readFileSync(process.argv[2]), wasi.getImportObject());
process.exitCode = wasi.start(instance);
