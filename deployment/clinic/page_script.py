"""The page's script, third part: what it does when a picture is chosen, and how it tells of it."""

PAGE_SCRIPT = r"""
const $ = id => document.getElementById(id);
const filled = (text, values = {}) => text.replace(/\{(\w+)\}/g, (all, key) => values[key] ?? all);
const token = () => location.hash.slice(1);
let form = null, pixels = null, known = null, constants = null;

function made(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function say(text) { $("status").textContent = text; }

function showError(error) {
  const code = error instanceof Refused ? error.code : "failed";
  $("error").textContent = filled(TEXTS.errors[code] ?? TEXTS.errors.failed, error.values);
  $("error").hidden = false;
  $("picture").setAttribute("aria-invalid", String(!pixels));
  say("");
}

/* Its text goes too: hidden, it would still be read out as part of what describes the field. */
function hideError() {
  $("error").hidden = true;
  $("error").textContent = "";
}

function forget() {
  pixels = null;
  hideError();
  $("preview").hidden = $("progress").hidden = $("result").hidden = true;
  $("picture").removeAttribute("aria-invalid");
}

async function asked(path, options = {}) {
  let response;
  try {
    response = await fetch(path, {...options, cache: "no-store", credentials: "omit",
      headers: {...options.headers, Authorization: "Bearer " + token()}});
  } catch { throw new Refused("agent"); }
  if (!response.ok) {
    const said = await response.json().catch(() => ({}));
    throw new Refused(said.error ?? "failed");
  }
  return response;
}

async function introduced() {
  const said = await (await asked("about")).json();
  /* Who took the port after the agent had ended would get both shares for a key of its own. */
  if (known !== null && said.agent !== known) throw new Refused("changed");
  known = said.agent;
  if (said.error) throw new Refused(said.error);
  /* Pixels and constants that are here were made for the model as it was. */
  if (form !== null && said.model !== form.model) throw new Refused("model");
  form = said;
  if (form.features && constants === null) {
    const response = await asked("features");
    constants = constantsOf(await response.arrayBuffer(), form.features);
  }
  const classes = form.classes.join(", ");
  $("model").textContent = filled(TEXTS.model, {title: form.title, classes});
  $("left").textContent = filled(TEXTS.left, {left: form.left});
}

function show(taken) {
  const {size, channels} = form, canvas = $("preview-canvas");
  canvas.width = canvas.height = size;
  const data = new ImageData(size, size);
  for (let i = 0; i < size * size; i++) {
    for (let c = 0; c < 3; c++) data.data[4 * i + c] = taken[i * channels + c % channels];
    data.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(data, 0, 0);
  canvas.setAttribute("aria-label", filled(TEXTS.preview, {size}));
  $("preview-caption").textContent = filled(TEXTS.preview, {size});
  $("preview").hidden = false;
}

async function choose() {
  forget();
  const file = $("picture").files[0];
  if (!file) return;
  try {
    if (!form) await introduced();
    pixels = await pixelsOf(file, form);
    show(pixels);
    say(TEXTS.chosen);
  } catch (error) { showError(error); }
}

async function* linesOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const {value, done} = await reader.read().catch(() => { throw new Refused("agent"); });
    const lines = (rest + (value ?? "")).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
    if (done) return;
  }
}

function step(name, since) {
  const item = $("step-" + name), seconds = ((performance.now() - since) / 1000).toFixed(1);
  item.classList.add("done");
  item.querySelector("span").textContent = filled(TEXTS.seconds, {seconds});
  say(TEXTS.steps[name]);
}

function begin() {
  $("result").hidden = true;
  $("progress").hidden = false;
  for (const item of document.querySelectorAll("#progress li")) {
    item.classList.remove("done");
    item.querySelector("span").textContent = "";
  }
}

async function ask(event) {
  event.preventDefault();
  if (!pixels) {
    if (!$("picture").files.length) showError(new Refused("nothing-chosen"));
    $("picture").focus();
    return;
  }
  hideError();
  $("ask").disabled = $("picture").disabled = true;
  try {
    if (!crypto.subtle) throw new Refused("old-browser");
    begin();
    await answered(performance.now());
  } catch (error) { showError(error); } finally {
    $("ask").disabled = $("picture").disabled = false;
    /* What is disabled loses the focus; who works by keyboard goes on from there. */
    if (document.activeElement === document.body) $("ask").focus();
  }
}

/* Return the words to share: the picture, or what the model looks at of it, computed here. */
async function inputWords() {
  if (!form.features) return wordsOf(pixels, form);
  say(TEXTS.computing);
  await new Promise(shown => setTimeout(shown, 20));
  const row = featuresOf(pixels, form, constants);
  if (row.length !== form.shape[0] || !row.every(Number.isFinite)) throw new Refused("failed");
  return rowWords(row);
}

async function answered(since) {
  await introduced();  /* The provider's key, as it is now. */
  const {provider, agent} = sharesOf(await inputWords());
  const closed = await sealed(provider, fromHex(form.seal), form.model);
  step("shared", since);
  const response = await asked("predictions?model=" + form.model, {method: "POST",
    headers: {"Content-Type": "application/octet-stream"}, body: new Blob([agent, closed])});
  let said = null;
  for await (const line of linesOf(response)) {
    if (line.error) throw new Refused(line.error);
    if (line.step) step(line.step, since);
    if (line.answer) said = line;
  }
  if (!said) throw new Refused("agent");
  tell(said.answer, [[TEXTS.agent, TEXTS.rows["agent-share"], agent.length],
    [TEXTS.provider, TEXTS.rows["sealed-share"], closed.size]].concat(said.sent));
}

function doubt(answer) {
  if (!answer.chances) return [TEXTS.class];
  const names = answer.within.map(one => form.classes[one]), count = names.length;
  const percent = Math.round(100 * answer.chances[answer.favourite]);
  const lines = [filled(TEXTS.calibrated, {percent, class: form.classes[answer.favourite]})];
  if (!form.measured) return [...lines, TEXTS.unmeasured];
  const which = count === 1 ? "one" : count === form.classes.length ? "everything" : "several";
  const said = filled(TEXTS[which], {names: names.join(TEXTS.or), count});
  return [...lines, filled(TEXTS.sets, {share: form.share}) + " " + said];
}

function rowOf(cells, heads) {
  const row = document.createElement("tr");
  cells.forEach((cell, place) => {
    const number = typeof cell === "number";
    const text = number ? cell.toLocaleString("en") : cell;
    const kind = number ? {class: "number"} : {};
    row.append(place ? made("td", text, {...kind, "data-label": heads[place]})
                     : made("th", text, {scope: "row"}));
  });
  return row;
}

function tell(answer, sent) {
  const best = form.classes[answer.favourite], chance = answer.chances?.[answer.favourite];
  const percent = value => (100 * value).toFixed(value > 0.0995 && value < 0.9995 ? 0 : 1);
  $("best").textContent = answer.chances
    ? filled(TEXTS.chance, {class: best, percent: percent(chance)}) : best;
  $("doubt").replaceChildren(...[...doubt(answer), TEXTS.unlike].map(line => made("p", line)));
  $("classes").hidden = !answer.chances;
  $("chances").replaceChildren(...(answer.chances ?? []).map((chance, one) => {
    const row = rowOf([form.classes[one], percent(chance) + " %"], ["", TEXTS["chance-head"]]);
    row.lastChild.className = "number";
    return row;
  }));
  $("sent").replaceChildren(...sent.map(cells => rowOf(cells, TEXTS["sent-heads"])));
  $("left").textContent = filled(TEXTS.left, {left: answer.left});
  $("result").hidden = false;
  say(TEXTS.asked);
  $("result-head").focus();
}

$("picture").addEventListener("change", choose);
$("form").addEventListener("submit", ask);
introduced().then(() => say(TEXTS.ready), showError);
"""
