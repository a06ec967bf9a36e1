// Where the pictures come from: a camera or a video file, both played by one <video> element.

import { cameraNotice } from "./messages.mjs";

// Not scaled by the browser: frames are scaled once, when they are cut.
const WANTED = {
  width: { ideal: 640 },
  height: { ideal: 480 },
  frameRate: { ideal: 30 },
  resizeMode: { ideal: "none" },
};

/** A source that cannot be opened; `notice` is a key of NOTICES. */
export class SourceError extends Error {
  constructor(notice) {
    super(notice);
    this.notice = notice;
  }
}

/** Plays a camera or a video, and hands over each picture that is shown. */
export class Source {
  /**
   * @param {HTMLVideoElement} video that plays it.
   * @param {(seconds: number) => void} onPicture called for each new picture, with its time in
   *   the video, or since the camera was opened.
   * @param {(notice: string) => void} onEnd called when the source ends by itself.
   */
  constructor(video, onPicture, onEnd) {
    this.video = video;
    this.isFile = false;
    this.onPicture = onPicture;
    this.onEnd = onEnd;
    this.isOpen = false;
    this.opening = 0; // number of the latest attempt to open something
    this.stream = null;
    this.startedAt = 0;
    video.addEventListener("ended", () => this.end("finished"));
  }

  /** @param {string} deviceId of the camera; "" leaves the choice to the browser. */
  async openCamera(deviceId) {
    this.close();
    if (!window.isSecureContext || !navigator.mediaDevices) {
      throw new SourceError("insecure");
    }
    const wanted = { ...WANTED };
    if (deviceId) {
      wanted.deviceId = { exact: deviceId };
    }
    const opening = this.opening;
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    } catch (error) {
      throw new SourceError(cameraNotice(error));
    }
    if (opening !== this.opening) {
      stopCamera(stream); // closed while the browser asked for permission
      return;
    }
    this.stream = stream;
    this.stream.getVideoTracks()[0].addEventListener("ended", () => this.end("unplugged"));
    this.isFile = false;
    this.video.srcObject = this.stream;
    await this.play();
  }

  /** @param {string} address of a video: a file of the server, or a blob of a dropped one. */
  async openFile(address) {
    this.close();
    this.isFile = true;
    this.video.srcObject = null;
    this.video.src = address;
    await this.play();
  }

  async play() {
    const opening = this.opening;
    try {
      await this.video.play();
    } catch (error) {
      if (opening !== this.opening) {
        return; // closed meanwhile
      }
      throw new SourceError(this.isFile ? "unplayable" : "busy");
    }
    if (opening !== this.opening) {
      return;
    }
    this.isOpen = true;
    this.startedAt = performance.now();
    this.requestPicture(opening);
  }

  /** @returns {string} the id of the camera that is open. */
  cameraId() {
    return this.stream.getVideoTracks()[0].getSettings().deviceId;
  }

  requestPicture(opening) {
    if (this.video.requestVideoFrameCallback) {
      this.video.requestVideoFrameCallback((now, { mediaTime }) =>
        this.give(opening, now, mediaTime),
      );
      return;
    }
    // Firefox before 132: at the rate of the screen, where a picture can come twice.
    requestAnimationFrame((now) => this.give(opening, now, this.video.currentTime));
  }

  give(opening, now, mediaTime) {
    if (opening !== this.opening) {
      return; // a picture of what was open before
    }
    this.requestPicture(opening);
    this.onPicture(this.isFile ? mediaTime : (now - this.startedAt) / 1000);
  }

  end(notice) {
    if (!this.isOpen) {
      return;
    }
    this.close();
    this.onEnd(notice);
  }

  /** Stop; the camera's light goes out. The last picture of a file stays. */
  close() {
    this.isOpen = false;
    this.opening++;
    this.video.pause();
    if (this.stream) {
      stopCamera(this.stream);
      this.stream = null;
      this.video.srcObject = null;
    }
  }
}

function stopCamera(stream) {
  for (const track of stream.getTracks()) {
    track.stop();
  }
}

/** @returns {Promise<{id: string, name: string}[]>} the cameras, named once one was allowed. */
export async function listCameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices
    .filter((device) => device.kind === "videoinput" && device.deviceId)
    .map((device, index) => ({
      id: device.deviceId,
      name: device.label || `Camera ${index + 1}`,
    }));
}
