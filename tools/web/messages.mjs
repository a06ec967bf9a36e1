// What the page says when there is no picture to look at: title and text of each state.

export const NOTICES = {
  loading: ["Loading", "Asking the server about the network."],
  network: ["Loading the network", "It is downloaded to this page once, and runs here."],
  ready: ["Ready", "Start the camera, or open or drop a video."],
  video: ["Ready", "Start the video, or open or drop another one."],
  asking: ["Waiting for permission", "Allow this page to use the camera."],
  denied: [
    "Camera blocked",
    "Allow the camera for this page, next to its address at the top of the browser, and start again.",
  ],
  missing: ["No camera", "Connect a camera and start again, or open a video."],
  busy: ["Camera in use", "Close the program that uses the camera, and start again."],
  unplugged: ["Camera lost", "Connect it again, or start another one."],
  insecure: [
    "No camera at this address",
    "Browsers give the camera to https pages and to pages of this machine only. Open the page as " +
      "http://localhost; docs/live.md shows how from another machine. Videos work here.",
  ],
  unplayable: [
    "Cannot play this file",
    "The browser does not know its format. Convert it to MP4 with H.264, or to WebM.",
  ],
  finished: ["End of the video", "Start it again, or open or drop another one."],
  stopped: ["Stopped", "Start again, or open or drop a video."],
  no_wasm: [
    "No WebAssembly",
    "This browser cannot run the network. Use another one, or run tools/live.py without --in_browser.",
  ],
  failed: ["Failed", ""],
};

/**
 * The state that a refused camera leads to.
 *
 * @param {DOMException} error of getUserMedia.
 * @returns {string} a key of NOTICES.
 */
export function cameraNotice(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return "denied";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    default:
      return "missing"; // NotFoundError, OverconstrainedError
  }
}
