"""The page's script, first part: from a file to the pixels that the model was trained on.

What `clients/data/picture_files.py` does with Pillow is done with the same integers: the same box
filter in two passes of 22 bits, the same grey. So a picture gives the same pixels to the last bit,
but for a JPEG of at least four times the model's size, which Pillow decodes at a fraction of it.
"""

PICTURES = r"""
"use strict";
const MOST_BYTES = 25e6, MOST_PIXELS = 80e6, STRIP = 128;

class Refused extends Error {
  constructor(code, values = {}) { super(code); this.code = code; this.values = values; }
}

function kindOf(bytes) {
  const at = (start, text) => [...text].every((c, i) => bytes[start + i] === c.charCodeAt(0));
  if (at(0, "\x89PNG\r\n\x1a\n")) return "png";
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return "jpeg";
  if (at(0, "RIFF") && at(8, "WEBP")) return "webp";
  if (at(0, "II*\0") || at(0, "MM\0*") || at(4, "ftyphe") || at(4, "ftypmif1")) return "tiff";
  const gz = bytes[0] === 0x1f && bytes[1] === 0x8b;
  if (at(128, "DICM") || at(344, "n+1\0") || at(344, "ni1\0") || gz) return "volume";
  if (at(0, "BM") && bytes.length > 26 && bytes[10] >= 14) return "bmp";
  try {
    const start = bytes.subarray(0, 4096);
    const text = new TextDecoder("utf-8", {fatal: true}).decode(start, {stream: true});
    if (!/[\0-\x08\x0e-\x1a]/.test(text)) return "text";
  } catch { /* not UTF-8: no text */ }
  return "";
}

function jpegFrame(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 2; at + 9 < bytes.length;) {
    if (bytes[at] !== 0xff) return null;
    const mark = bytes[at + 1];
    if (mark === 0xff) { at += 1; continue; }
    if (mark >= 0xc0 && mark <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(mark)) {
      return {depth: bytes[at + 4], height: view.getUint16(at + 5), width: view.getUint16(at + 7),
              channels: bytes[at + 9]};
    }
    at += 2 + view.getUint16(at + 2);
  }
  return null;
}

function headOf(bytes, kind) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (kind === "jpeg") return jpegFrame(bytes);
  if (kind === "png" && bytes.length > 26) {
    return {width: view.getUint32(16), height: view.getUint32(20), depth: bytes[24]};
  }
  if (kind === "bmp") {
    return {width: Math.abs(view.getInt32(18, true)), height: Math.abs(view.getInt32(22, true)),
            depth: 8};
  }
  return kind === "webp" ? {width: 1, height: 1, depth: 8} : null;
}

/* Weights of a box filter, as Pillow's Resample.c computes them. */
function boxes(from, to) {
  const step = from / to, scale = Math.max(step, 1), reach = 0.5 * scale, found = [];
  for (let place = 0; place < to; place++) {
    const centre = (place + 0.5) * step;
    const start = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const end = Math.min(Math.trunc(centre + reach + 0.5), from);
    const weights = [];
    for (let x = start; x < end; x++) {
      const where = (x - centre + 0.5) * (1 / scale);
      weights.push(where > -0.5 && where <= 0.5 ? 1 : 0);
    }
    const sum = weights.reduce((a, b) => a + b, 0);
    found.push({start, weights: weights.map(w => Math.trunc(0.5 + (sum ? w / sum : w) * 2 ** 22))});
  }
  return found;
}

const rounded = sum => Math.min(Math.max((sum + 2 ** 21) >> 22, 0), 255);

function squeezeRow(pixels, at, columns, channels, out, to) {
  for (const {start, weights} of columns) {
    for (let c = 0; c < channels; c++) {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) {
        sum += pixels[at + (start + i) * channels + c] * weights[i];
      }
      out[to++] = rounded(sum);
    }
  }
}

/* RGBA of a strip of rows as channels; one is Pillow's grey. */
function channelsOf(rgba, channels) {
  const count = rgba.length / 4, out = new Uint8Array(count * channels);
  for (let i = 0; i < count; i++) {
    const [r, g, b, a] = rgba.subarray(4 * i, 4 * i + 4);
    if (a !== 255) throw new Refused("transparent");
    if (channels === 1) out[i] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
    else { out[3 * i] = r; out[3 * i + 1] = g; out[3 * i + 2] = b; }
  }
  return out;
}

async function decoded(file, bytes, kind) {
  try {
    return await createImageBitmap(new Blob([bytes], {type: "image/" + kind}),
      {imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none"});
  } catch { throw new Refused("damaged", {file: file.name}); }
}

function checkHead(file, bytes, kind) {
  const name = file.name;
  if (["text", "volume", "tiff"].includes(kind)) throw new Refused(kind, {file: name});
  if (!kind) throw new Refused("not-picture", {file: name});
  const head = headOf(bytes, kind);
  if (!head || !head.width || !head.height) throw new Refused("damaged", {file: name});
  if (head.depth > 8) throw new Refused("deep", {file: name});
  if (head.channels === 4) throw new Refused("cmyk", {file: name});
  checkPixels(name, head.width * head.height);
}

function checkPixels(name, count) {
  if (count > MOST_PIXELS) {
    throw new Refused("many-pixels", {file: name, found: Math.round(count / 1e6)});
  }
}

/* Return a file as the model's pixels, uint8 [size, size, channels]. */
async function pixelsOf(file, form) {
  if (!file.size) throw new Refused("empty", {file: file.name});
  if (file.size > MOST_BYTES) {
    throw new Refused("large-file", {file: file.name, found: Math.round(file.size / 1e6)});
  }
  const bytes = new Uint8Array(await file.arrayBuffer());
  const kind = kindOf(bytes);
  checkHead(file, bytes, kind);
  const image = await decoded(file, bytes, kind);
  try {
    checkPixels(file.name, image.width * image.height);
    return resized(image, form);
  } catch (error) {
    if (error instanceof Refused) error.values.file = file.name;
    throw error;
  } finally { image.close(); }
}

/* Yield strips of rows as channels: telephones allow no canvas as large as their pictures. */
function* stripsOf(image, channels) {
  const {width, height} = image, canvas = document.createElement("canvas");
  canvas.width = width; canvas.height = Math.min(STRIP, height);
  const brush = canvas.getContext("2d", {willReadFrequently: true});
  for (let top = 0; top < height; top += STRIP) {
    const count = Math.min(STRIP, height - top);
    brush.clearRect(0, 0, width, count);
    brush.drawImage(image, 0, top, width, count, 0, 0, width, count);
    yield [top, count, channelsOf(brush.getImageData(0, 0, width, count).data, channels)];
  }
  canvas.width = canvas.height = 0;
}

/* Squeeze columns: rows of `row` values that come strip by strip, into `size` rows. */
function squeezeColumns(strips, row, height, size) {
  const sums = new Float64Array(size * row), into = Array.from({length: height}, () => []);
  boxes(height, size).forEach(({start, weights}, y) =>
    weights.forEach((weight, i) => { if (weight) into[start + i].push([y * row, weight]); }));
  for (const [top, count, values] of strips) {
    for (let r = 0; r < count; r++) {
      for (const [to, weight] of into[top + r]) {
        for (let x = 0; x < row; x++) sums[to + x] += values[r * row + x] * weight;
      }
    }
  }
  return Uint8Array.from(sums, rounded);
}

function* squeezedRows(strips, columns, row, channels) {
  for (const [top, count, values] of strips) {
    const wide = values.length / count, out = new Uint8Array(count * columns.length * channels);
    for (let r = 0; r < count; r++) squeezeRow(values, r * wide, columns, channels, out, r * row);
    yield [top, count, out];
  }
}

function resized(image, {size, channels}) {
  const {width, height} = image, row = size * channels, columns = boxes(width, size);
  const strips = stripsOf(image, channels);
  /* Pillow's order, by which the rounding in between differs: rows first but in tall pictures. */
  if (height + size <= 2 * width) {
    return squeezeColumns(squeezedRows(strips, columns, row, channels), row, height, size);
  }
  const narrow = squeezeColumns(strips, width * channels, height, size);
  return [...squeezedRows([[0, size, narrow]], columns, row, channels)][0][2];
}
"""
