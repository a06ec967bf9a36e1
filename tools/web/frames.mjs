// From a picture to the frame that the network takes, and which pictures it takes.

const CHANNELS = 4; // of a canvas: RGBA
const SLOT_TOLERANCE = 1e-3; // of the time from one frame to the next

/** Cuts the square in the middle out of pictures, at the network's size. */
export class Cropper {
  /**
   * @param {number} size S, side of a frame in pixels.
   * @param {number} share side of the square, relative to the short side of the picture.
   */
  constructor(size, share) {
    this.size = size;
    this.share = share;
    const canvas = new OffscreenCanvas(size, size);
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.context.imageSmoothingQuality = "high";
  }

  /** @returns {{x: number, y: number, side: number}} the square, in pixels of the picture. */
  square(width, height) {
    const side = this.share * Math.min(width, height);
    return { x: (width - side) / 2, y: (height - side) / 2, side };
  }

  /** @returns {Uint8ClampedArray} RGBA of a frame, row by row, [S, S, 4]. */
  cut(video) {
    const { x, y, side } = this.square(video.videoWidth, video.videoHeight);
    this.context.drawImage(video, x, y, side, side, 0, 0, this.size, this.size);
    return this.context.getImageData(0, 0, this.size, this.size).data;
  }
}

/**
 * Separates the channels, and drops alpha.
 *
 * @param {Uint8ClampedArray} pixels RGBA, [S, S, 4].
 * @param {Uint8Array} planes receives RGB, [3, S, S].
 */
export function toPlanes(pixels, planes) {
  const count = planes.length / 3;
  for (let i = 0; i < count; i++) {
    planes[i] = pixels[CHANNELS * i];
    planes[count + i] = pixels[CHANNELS * i + 1];
    planes[2 * count + i] = pixels[CHANNELS * i + 2];
  }
}

/**
 * Frames that anyone can compute, to compare the page's numbers with Python's
 * (lib/live/page_report.py has the same formula).
 *
 * @param {number} index number of the frame.
 * @param {number} size S.
 * @returns {Uint8ClampedArray} RGBA, [S, S, 4]: stripes that move, in other directions per channel.
 */
export function checkFrame(index, size) {
  const pixels = new Uint8ClampedArray(size * size * CHANNELS).fill(255);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const place = CHANNELS * (y * size + x);
      pixels[place] = (5 * x + 2 * y + 17 * index) & 255;
      pixels[place + 1] = (x + 7 * y + 29 * index) & 255;
      pixels[place + 2] = (3 * x + 3 * y + 113 * index) & 255;
    }
  }
  return pixels;
}

/**
 * Which pictures become frames: the first one of each part of 1 / rate seconds, as LiveStream in
 * ops/streaming/live.py samples.
 */
export class Sampler {
  /** @param {number | null} rate frames per second; null takes every picture. */
  constructor(rate) {
    this.rate = rate;
    this.first = null; // time of the first frame, in seconds
    this.slot = -1; // number of the part of the last frame
  }

  isDue(seconds) {
    return this.rate === null || this.slotOf(seconds) !== this.slot;
  }

  /** Note that the picture of this time became a frame. */
  take(seconds) {
    this.slot = this.slotOf(seconds);
    this.first ??= seconds;
  }

  slotOf(seconds) {
    return Math.trunc((seconds - (this.first ?? seconds)) * this.rate + SLOT_TOLERANCE);
  }
}
