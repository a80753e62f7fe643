"""The page's script, second part: from pixels to two shares, one of them sealed for the provider.

Words are as in `crypto/inference/words.py`, to the bit. Sealing is HPKE (RFC 9180) in base mode, by
the browser's own cryptography; `crypto/inference/sealed_shares.py` opens it with another library.
"""

SHARING = r"""
const utf8 = text => new TextEncoder().encode(text);
const joined = (...parts) => new Uint8Array(parts.flatMap(part => [...part]));
const fromHex = text => new Uint8Array(text.match(/../g).map(pair => parseInt(pair, 16)));

/* Halves go to the even number, as numpy rounds. */
function rint(value) {
  const low = Math.floor(value), rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low;
}

/* Return pixels as training reads them: float32 in [0, 1]. */
function scaledOf(pixels, {low, high}) {
  const width = Math.fround(high - low), start = Math.fround(low);
  return Float32Array.from(pixels, pixel =>
    Math.min(Math.max(Math.fround(Math.fround(pixel - start) / width), 0), 1));
}

/* Return pixels [size, size, channels] as words, int64 [channels of the model, size, size]. */
function wordsOf(pixels, form) {
  const {size, channels, gain, offset, shape} = form, area = size * size;
  const one = list => (list.length === 1 ? () => list[0] : c => list[c]);
  const gains = one(gain), offsets = one(offset), scaled = scaledOf(pixels, form);
  const words = new BigInt64Array(shape[0] * area);
  for (let c = 0; c < shape[0]; c++) {
    for (let i = 0; i < area; i++) {
      const value = scaled[i * channels + (channels === 1 ? 0 : c)] * gains(c) + offsets(c);
      words[c * area + i] = BigInt(rint(value * 65536));
    }
  }
  return words;
}

/* Return a row of features as words. */
const rowWords = row => BigInt64Array.from(row, value => BigInt(rint(value * 65536)));

/* Return two shares whose sum modulo 2**64 are the words; either alone is uniform. */
function sharesOf(words) {
  const provider = new BigUint64Array(words.length), agent = new BigUint64Array(words.length);
  const bytes = new Uint8Array(provider.buffer);
  for (let at = 0; at < bytes.length; at += 65536) {
    crypto.getRandomValues(bytes.subarray(at, at + 65536));
  }
  for (let i = 0; i < words.length; i++) agent[i] = words[i] - provider[i];
  return {provider: bytes, agent: new Uint8Array(agent.buffer)};
}

const KEM = joined(utf8("KEM"), [0, 0x10]), SUITE = joined(utf8("HPKE"), [0, 0x10, 0, 1, 0, 2]);
const CURVE = {name: "ECDH", namedCurve: "P-256"};

async function hmac(key, data) {
  /* An empty key is as one of zeros, and browsers take none that is empty. */
  const raw = key.length ? key : new Uint8Array(32);
  const made = await crypto.subtle.importKey("raw", raw, {name: "HMAC", hash: "SHA-256"}, false,
    ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", made, data));
}
const extract = (salt, suite, label, data) =>
  hmac(salt, joined(utf8("HPKE-v1"), suite, utf8(label), data));
const expand = async (secret, suite, label, info, size) =>
  (await hmac(secret, joined([0, size], utf8("HPKE-v1"), suite, utf8(label), info, [1])))
    .slice(0, size);

/* Return a share sealed for a public key: HPKE, base mode, one message. */
async function sealed(share, publicKey, model) {
  const info = utf8("asclepias share 1|" + model);
  const theirs = await crypto.subtle.importKey("raw", publicKey, CURVE, false, []);
  const mine = await crypto.subtle.generateKey(CURVE, false, ["deriveBits"]);
  const point = new Uint8Array(await crypto.subtle.exportKey("raw", mine.publicKey));
  const common = new Uint8Array(await crypto.subtle.deriveBits(
    {name: "ECDH", public: theirs}, mine.privateKey, 256));
  const agreed = await expand(await extract([], KEM, "eae_prk", common), KEM, "shared_secret",
    joined(point, publicKey), 32);
  const bound = joined([0], await extract([], SUITE, "psk_id_hash", []),
    await extract([], SUITE, "info_hash", info));
  const secret = await extract(agreed, SUITE, "secret", []);
  const raw = await expand(secret, SUITE, "key", bound, 32);
  const iv = await expand(secret, SUITE, "base_nonce", bound, 12);
  const key = await crypto.subtle.importKey("raw", raw, "AES-GCM", false, ["encrypt"]);
  const closed = await crypto.subtle.encrypt({name: "AES-GCM", iv}, key, share);
  return new Blob([point, closed]);
}
"""
