// The connection to the server, which runs the network unless the page does.

const UNAUTHORIZED = 401;
const FIRST_WAIT = 500; // ms before the first attempt to connect again
const LONGEST_WAIT = 5000; // ms

/** The server does not answer. */
export class ServerGone extends Error {}

/** The server answers that it does not want to. */
export class ServerRefused extends Error {}

/** Requests to the server, with the token of the page. */
export class Server {
  constructor() {
    this.token = document.querySelector("meta[name=token]").content;
  }

  /** @returns {Promise<object>} what the server tells the page about the network. */
  async settings() {
    const answer = await this.request("/settings", {});
    return answer.json();
  }

  /** Post the report; `keepalive` sends it even if the page is being closed. */
  async report(report, keepalive = false) {
    await this.request("/report", { method: "POST", body: JSON.stringify(report), keepalive });
  }

  async request(address, options) {
    const headers = { ...options.headers, "X-Token": this.token };
    let answer;
    try {
      answer = await fetch(address, { ...options, headers });
    } catch {
      throw new ServerGone();
    }
    if (answer.status === UNAUTHORIZED) {
      throw new ServerGone(); // another server at this address: it has another token
    }
    if (!answer.ok) {
      throw new ServerRefused((await answer.text()).trim());
    }
    return answer;
  }

  /** Try until the server answers again. @returns {Promise<object>} its settings. */
  async reconnect() {
    for (let wait = FIRST_WAIT; ; wait = Math.min(2 * wait, LONGEST_WAIT)) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      try {
        await this.readToken();
        return await this.settings();
      } catch (error) {
        if (!(error instanceof ServerGone)) {
          throw error;
        }
      }
    }
  }

  async readToken() {
    const answer = await this.request("/", {});
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    this.token = page.querySelector("meta[name=token]").content;
  }
}

/** The network on the server: frames go there, and probabilities come back. */
export class RemoteNetwork {
  constructor(server) {
    this.server = server;
    this.client = "";
    this.details = { mode: "server" };
  }

  async open() {
    this.restart();
  }

  /** Begin a new stream: with another name, the server knows nothing of earlier frames. */
  restart() {
    const numbers = crypto.getRandomValues(new Uint32Array(4));
    this.client = Array.from(numbers, (number) => number.toString(16)).join("-");
  }

  /**
   * @param {Uint8ClampedArray} pixels RGBA, [S, S, 4].
   * @param {number} seconds time of the frame.
   * @returns {Promise<object | null>} scores and probabilities of the classes, label (or null) and
   *   latency in ms; null if this frame alone leads to no result.
   */
  async push(pixels, seconds) {
    const headers = { "X-Client": this.client, "X-Seconds": String(seconds) };
    const answer = await this.server.request("/frames", { method: "POST", body: pixels, headers });
    return answer.json();
  }
}
