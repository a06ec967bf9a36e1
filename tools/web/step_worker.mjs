// Runs the exported step with onnxruntime-web, beside the page, which stays responsive.
//
// Receives {type: "open", address, threads}, and after that {type: "restart"} and
// {type: "frame", number, pixels}; answers {type: "opened", threads}, {type: "scores", number,
// scores} and {type: "failed", reason}.

import * as ort from "./vendor/ort.wasm.min.mjs";
import { toPlanes } from "./frames.mjs";

const FRAME = "frame"; // names of the exported step, see ops/export.py
const SCORES = "scores";
const STATE = /^state_/;

let session = null;
let planes = null; // uint8 RGB of a frame, [3, S, S]
let frameShape = [];
let state = {};
let last = Promise.resolve(); // steps follow each other: each needs the state of the one before

async function open({ address, threads }) {
  ort.env.wasm.wasmPaths = new URL("./vendor/", import.meta.url).href;
  ort.env.wasm.numThreads = threads;
  session = await ort.InferenceSession.create(address, { executionProviders: ["wasm"] });
  frameShape = shapeOf(FRAME);
  planes = new Uint8Array(frameShape.reduce((product, side) => product * side));
  restart();
  postMessage({ type: "opened", threads: ort.env.wasm.numThreads });
}

/** The shape of an input for one stream: the batch is the only size that is left open. */
function shapeOf(name) {
  const input = session.inputMetadata.find((metadata) => metadata.name === name);
  return input.shape.map((side) => (typeof side === "number" ? side : 1));
}

/** A stream begins with zeros. */
function restart() {
  state = {};
  for (const name of session.inputNames) {
    if (STATE.test(name)) {
      state[name] = zeros(shapeOf(name));
    }
  }
}

function zeros(shape) {
  const count = shape.reduce((product, side) => product * side);
  return new ort.Tensor("float32", new Float32Array(count), shape);
}

async function step({ number, pixels }) {
  toPlanes(pixels, planes);
  const frame = new ort.Tensor("uint8", planes, frameShape);
  const results = await session.run({ [FRAME]: frame, ...state });
  for (const name of Object.keys(state)) {
    state[name] = results[`new_${name}`];
  }
  postMessage({ type: "scores", number, scores: results[SCORES].data });
}

function handle(message) {
  switch (message.type) {
    case "open":
      return open(message);
    case "restart":
      return restart();
    default:
      return step(message);
  }
}

self.addEventListener("message", ({ data }) => {
  last = last
    .then(() => handle(data))
    .catch((error) => postMessage({ type: "failed", reason: error.message }));
});
