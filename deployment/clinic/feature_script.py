"""The page's script, beside pixels: the fixed features that some models learn from.

What `clients/models/scattering.py` and `clients/models/features.py` do, in the browser and in
doubles, so that no other process has the picture. The constants come from the agent.
"""

FEATURES = r"""
/* Of a Fourier transform of n = a * b places: cosines, sines, and the two factors. */
const WAVES = new Map();
function waves(n) {
  if (!WAVES.has(n)) {
    const angle = i => 2 * Math.PI * i / n, places = Array.from({length: n}, (_, i) => i);
    const a = places.findLast(i => i * i <= n && n % i === 0), b = n / a;
    const cos = Float64Array.from(places, i => Math.cos(angle(i)));
    WAVES.set(n, {cos, sin: Float64Array.from(places, i => Math.sin(angle(i))), a, b});
  }
  return WAVES.get(n);
}

/* Sum `count` complex values that lie `stride` apart, each turned by `by` places of n more. */
function turnedSum(re, im, start, stride, count, by, n, sign, table) {
  let real = 0, imaginary = 0;
  for (let i = 0, at = start, turn = 0; i < count; i++, at += stride) {
    const c = table.cos[turn], s = sign * table.sin[turn];
    real += re[at] * c - im[at] * s; imaginary += re[at] * s + im[at] * c;
    turn += by; if (turn >= n) turn -= n;
  }
  return [real, imaginary];
}

/* Transform the rows of a complex matrix [n, n], by two factors of n (Cooley and Tukey 1965), and
   return it turned over. */
function turnedRows({re, im}, n, sign) {
  const table = waves(n), {cos, sin, a, b} = table;
  const outRe = new Float64Array(n * n), outIm = new Float64Array(n * n);
  const innerRe = new Float64Array(n), innerIm = new Float64Array(n);
  for (let y = 0; y < n; y++) {
    for (let x = 0; x < b; x++) for (let k = 0; k < a; k++) {
      const [r, i] = turnedSum(re, im, y * n + x, b, a, b * k, n, sign, table);
      const c = cos[x * k], s = sign * sin[x * k];
      innerRe[k * b + x] = r * c - i * s; innerIm[k * b + x] = r * s + i * c;
    }
    for (let k = 0; k < a; k++) for (let m = 0; m < b; m++) {
      const [r, i] = turnedSum(innerRe, innerIm, k * b, 1, b, a * m, n, sign, table);
      outRe[(k + a * m) * n + y] = r; outIm[(k + a * m) * n + y] = i;
    }
  }
  return {re: outRe, im: outIm};
}
const fourier = (values, n, sign) => turnedRows(turnedRows(values, n, sign), n, sign);
const real = values => ({re: values, im: new Float64Array(values.length)});

/* Multiply a spectrum [n, n] by a real filter, and subsample in space by averaging its aliases. */
function filtered({re, im}, filter, n, by) {
  const m = n / by, out = real(new Float64Array(m * m));
  for (let y = 0; y < n; y++) {
    for (let x = 0; x < n; x++) {
      const at = y * n + x, to = (y % m) * m + x % m, weight = filter[at] / (by * by);
      out.re[to] += re[at] * weight; out.im[to] += im[at] * weight;
    }
  }
  return out;
}

function modulus(spectrum, n) {
  const {re, im} = fourier(spectrum, n, 1);
  return re.map((a, i) => Math.hypot(a, im[i]) / (n * n));
}

/* Return values [n, n] under a blur [out, n] of rows and of columns: [out, out]. */
function blurred(values, n, blur, out) {
  const half = new Float64Array(out * n), made = new Float64Array(out * out);
  for (let o = 0; o < out; o++) for (let y = 0; y < n; y++) {
    const weight = blur[o * n + y];
    for (let x = 0; x < n; x++) half[o * n + x] += weight * values[y * n + x];
  }
  for (let r = 0; r < out; r++) for (let o = 0; o < out; o++) {
    let sum = 0;
    for (let x = 0; x < n; x++) sum += half[r * n + x] * blur[o * n + x];
    made[r * out + o] = sum;
  }
  return made;
}

/* Cut the agent's constants into their arrays. */
function constantsOf(buffer, form) {
  const {angles, scales, size, out, maps} = form, all = new Float32Array(buffer);
  let at = 0;
  const next = count => all.subarray(at, at += count);
  const first = Array.from({length: scales}, () => next(angles * size * size));
  const wide = size / 2 ** (scales - 2);
  const second = next(angles * wide * wide);
  const blurs = Array.from({length: scales}, (_, r) => next(out * size / 2 ** r));
  const found = {first, second, blurs, mean: next(maps), whitener: next(maps * maps)};
  if (at !== all.length || found.whitener.length !== maps * maps) throw new Refused("failed");
  return found;
}

/* Return a channel [side, side] mirrored at its edges to [size, size]. */
function widened(values, side, {size, before}) {
  const mirrored = at => (at < 0 ? -at : at >= side ? 2 * side - 2 - at : at);
  const out = new Float64Array(size * size);
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) {
    out[y * size + x] = values[mirrored(y - before) * side + mirrored(x - before)];
  }
  return out;
}

/* Return the scattering maps of one channel, each [out, out]. */
function scattered(values, side, form, {first, second, blurs}) {
  const {angles, scales, size, out} = form, wide = widened(values, side, form);
  const spectrum = fourier(real(wide), size, -1), last = [];
  const maps = [blurred(wide, size, blurs[0], out)];
  const one = (all, angle, n) => all.subarray(angle * n * n, (angle + 1) * n * n);
  for (let scale = 0; scale < scales; scale++) {
    const n = size / 2 ** scale;
    for (let angle = 0; angle < angles; angle++) {
      const filter = one(first[scale], angle, size);
      const ring = modulus(filtered(spectrum, filter, size, 2 ** scale), n);
      maps.push(blurred(ring, n, blurs[scale], out));
      if (scale !== scales - 2) continue;
      const deeper = fourier(real(ring), n, -1);
      for (let other = 0; other < angles; other++) {
        const inner = modulus(filtered(deeper, one(second, other, n), n, 2), n / 2);
        last.push(blurred(inner, n / 2, blurs[scales - 1], out));
      }
    }
  }
  return [...maps, ...last];
}

/* Return logarithms of maps [out, out], averaged over `pool` places a side. */
function pooled(map, {out, pool}) {
  const left = Math.floor(out / pool), made = new Float64Array(left * left);
  for (let y = 0; y < left * pool; y++) for (let x = 0; x < left * pool; x++) {
    const to = Math.floor(y / pool) * left + Math.floor(x / pool);
    made[to] += Math.log(Math.abs(map[y * out + x]) + 1e-2) / (pool * pool);
  }
  return made;
}

/* Whiten maps, and bring them to mean 0 and variance 1. */
function whitened(maps, {mean, whitener}) {
  const count = maps.length, area = maps[0].length, out = new Float64Array(count * area);
  for (let c = 0; c < count; c++) for (let d = 0; d < count; d++) {
    const weight = whitener[c * count + d];
    for (let i = 0; i < area; i++) out[d * area + i] += (maps[c][i] - mean[c]) * weight;
  }
  const middle = out.reduce((a, b) => a + b, 0) / out.length;
  const spread = out.reduce((a, b) => a + (b - middle) ** 2, 0) / out.length;
  return out.map(value => (value - middle) / Math.sqrt(spread + 1e-5));
}

/* Return the feature row of pixels [size, size, channels]. */
function featuresOf(pixels, form, constants) {
  const {size, channels, features} = form, values = scaledOf(pixels, form), parts = [];
  for (let c = 0; c < channels; c++) {
    const channel = new Float64Array(size * size);
    for (let i = 0; i < channel.length; i++) channel[i] = values[i * channels + c];
    const maps = scattered(channel, size, features, constants);
    parts.push(...whitened(maps.map(map => pooled(map, features)), constants));
  }
  return parts;
}
"""
