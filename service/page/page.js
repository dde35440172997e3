// Photos go to POST /detect, one after another; what comes back is drawn over them.
// Nothing is asked of the service again when the threshold or the classes change.

const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
const photos = [];          // { file, article, answer }
const hidden = new Set();   // classes that are not shown
let classes = [];
let key = "";

// ---- the model -------------------------------------------------------------------------------

async function askForModel() {
  const model = await (await fetch("/model")).json();
  classes = model.classes;
  const networks = model.members === 1 ? "one network" : `${model.members} networks`;
  $("model").textContent = `${model.name} ${model.version}: ${networks}, ${classes.length} classes`;
  $("preset").replaceChildren(...Object.keys(model.presets).map((name) => new Option(name)));
}

// The golden ratio spreads any number of hues; detector-run --visualize has the same.
const colour = (label) => `hsl(${Math.round(360 * ((classes.indexOf(label) * 0.618034) % 1))} 85% 70%)`;

// ---- photos come in --------------------------------------------------------------------------

$("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";  // so that the same photo can be chosen again
});
document.addEventListener("paste", (event) => add(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  add(event.dataTransfer.files);
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value;
  $("key-form").hidden = true;
  $("files").focus();
  for (const photo of photos) if (photo.refused) wait(photo);
  next();
});

function add(files) {
  for (const file of files) {
    const article = $("photo").content.firstElementChild.cloneNode(true);
    const photo = { file, article };
    article.querySelector("h2").textContent = file.name || "pasted photo";
    article.querySelector(".remove").addEventListener("click", () => remove(photo));
    article.querySelector(".again").addEventListener("click", () => again(photo));
    article.querySelector(".json").addEventListener("click", () => saveJson(photo));
    article.querySelector(".picture").addEventListener("click", () => savePicture(photo));
    $("photos").append(article);
    photos.push(photo);
    wait(photo);
  }
  next();
}

function again(photo) {
  photo.article.querySelector(".remove").focus();  // before this button is hidden
  wait(photo);
  next();
}

function remove(photo) {
  photos.splice(photos.indexOf(photo), 1);
  photo.article.remove();
  if (photo.url) URL.revokeObjectURL(photo.url);
  listClasses();
  $("files").focus();
}

// ---- one after another to the service --------------------------------------------------------

let busy = false;

function wait(photo) {
  photo.waiting = true;
  photo.refused = false;
  offer(photo, {});
  say(photo, "waiting");
}

async function next() {
  const photo = photos.find((each) => each.waiting);
  if (busy || !photo || !$("key-form").hidden) return;
  busy = true;
  photo.waiting = false;
  say(photo, "looking …");
  try {
    await detect(photo);
  } catch (error) {
    fail(photo, `the service cannot be reached (${error.message})`, true);
  }
  busy = false;
  next();
}

async function detect(photo) {
  const form = new FormData();
  form.append("image", photo.file);
  const query = new URLSearchParams({
    preset: $("preset").value,
    score_threshold: $("threshold").min,
    include: "proposals",
  });
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const response = await fetch(`/detect?${query}`, { method: "POST", body: form, headers });
  const answer = await response.json().catch(() => null);  // a proxy may answer in its own words
  if (!photos.includes(photo)) return;  // it was removed meanwhile
  if (!response.ok || !answer) {
    const { status, statusText } = response;
    fail(photo, answer?.detail ?? `${status} ${statusText}`, status === 408 || status >= 500);
    if (status === 401) {
      photo.refused = true;
      $("key-form").hidden = false;
      $("key").focus();
    }
    return;
  }
  await show(photo, answer);
}

function fail(photo, text, temporary) {
  say(photo, text, true);
  offer(photo, { again: temporary });
}

function offer({ article }, { again = false, json = false, picture = false }) {
  article.querySelector(".again").hidden = !again;
  article.querySelector(".json").hidden = !json;
  article.querySelector(".picture").hidden = !picture;
}

function say(photo, text, wrong = false) {
  photo.article.querySelector(".state").textContent = text;
  photo.article.classList.toggle("wrong", wrong);
  const name = photo.article.querySelector("h2").textContent;
  if (text) $("status").textContent = `${name}: ${text}`;
}

// ---- what was found --------------------------------------------------------------------------

async function show(photo, answer) {
  const { article } = photo;
  photo.answer = answer;
  photo.url ??= URL.createObjectURL(photo.file);
  const image = article.querySelector("img");
  image.src = photo.url;
  const fits = () =>
    image.naturalWidth === answer.width && image.naturalHeight === answer.height;
  const readable = await image.decode().then(fits, () => false);
  if (!readable) {  // not a format of the browser's, or it does not turn it upright
    image.removeAttribute("src");
    image.width = answer.width;
    image.height = answer.height;
    image.alt = "This browser cannot show the photo.";
  }
  const { decode, proposals, classify, total } = answer.seconds;
  article.querySelector("figcaption").textContent =
    `${answer.width} × ${answer.height} pixels, ${answer.proposals.merged} regions, ` +
    `${total.toFixed(2)} s: decode ${decode.toFixed(2)}, propose ${proposals.toFixed(2)}, ` +
    `classify ${classify.toFixed(2)}`;
  const svg = article.querySelector("svg");
  svg.setAttribute("viewBox", `0 0 ${answer.width} ${answer.height}`);
  article.querySelector("figure").hidden = false;
  offer(photo, { json: true, picture: readable });
  listClasses();
  draw(photo);
  $("status").textContent = `${article.querySelector("h2").textContent}: ${summary(photo)}`;
}

const shown = (photo) => photo.answer.detections.filter(
  ({ label, score }) => score >= Number($("threshold").value) && !hidden.has(label));

function summary(photo) {
  const counts = new Map();
  for (const { label } of shown(photo)) counts.set(label, (counts.get(label) ?? 0) + 1);
  const parts = [...counts].map(([label, count]) => `${count} ${label}`);
  return parts.length ? parts.join(", ") : "nothing from this score on";
}

function draw(photo) {
  if (!photo.answer) return;
  const { article, answer } = photo;
  const regions = $("proposals").checked ? answer.proposal_boxes : [];
  article.querySelector(".regions").replaceChildren(...regions.map((box) => rectangle(box)));
  const pixel = answer.width / (article.querySelector("img").clientWidth || answer.width);
  const size = Math.max(answer.width / 45, answer.height / 45, 11 * pixel);
  const best = shown(photo);
  article.querySelector(".boxes").replaceChildren(
    ...best.map((found) => outline(found, size, answer)).reverse());  // the best one on top
  article.querySelector(".found").replaceChildren(...best.map(entry));
  article.querySelector("svg").setAttribute("aria-label", summary(photo));
  article.querySelector(".state").textContent = summary(photo);
}

function element(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

const rectangle = ([x1, y1, x2, y2], more = {}) =>
  element("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, ...more });

function outline({ label, score, box }, size, { width }) {
  const text = `${label} ${score.toFixed(2)}`;
  const breadth = text.length * size * 0.58 + size * 0.4;
  const x = Math.max(0, Math.min(box[0], width - breadth));
  const y = box[1] >= 1.3 * size ? box[1] - 1.3 * size : box[1];
  return element("g", {},
    rectangle(box, { class: "box", stroke: colour(label) }),
    rectangle([x, y, x + breadth, y + 1.3 * size], { fill: colour(label) }),
    element("text", { x: x + 0.2 * size, y: y + size, "font-size": size }, text));
}

function entry({ label, score, box }) {
  const made = document.createElement("li");
  made.append(swatch(label), `${label} ${score.toFixed(2)}`);
  made.title = `x ${box[0]} to ${box[2]}, y ${box[1]} to ${box[3]}`;
  return made;
}

function swatch(label) {
  const made = document.createElement("span");
  made.className = "swatch";
  made.style.background = colour(label);
  return made;
}

// ---- what is shown of it ---------------------------------------------------------------------

function listClasses() {
  const found = photos.flatMap(({ answer }) => answer?.detections ?? []);
  const labels = classes.filter((name) => found.some(({ label }) => label === name));
  const boxes = () => [...$("class-list").querySelectorAll("input")];
  if (String(labels) === String(boxes().map(({ value }) => value))) return;
  const focused = boxes().find((box) => box === document.activeElement)?.value;
  $("classes").hidden = labels.length === 0;
  $("class-list").replaceChildren(...labels.map((label) => {
    const made = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.value = label;
    box.checked = !hidden.has(label);
    made.append(box, swatch(label), label);
    return made;
  }));
  boxes().find(({ value }) => value === focused)?.focus();
}

$("class-list").addEventListener("change", ({ target }) => {
  if (target.checked) hidden.delete(target.value);
  else hidden.add(target.value);
  photos.forEach(draw);
});
$("threshold").addEventListener("input", ({ target }) => {
  $("threshold-value").textContent = Number(target.value).toFixed(2);
  photos.forEach(draw);
});
$("proposals").addEventListener("change", () => photos.forEach(draw));
addEventListener("resize", () => photos.forEach(draw));

// ---- to take away ----------------------------------------------------------------------------

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const stem = (photo) => (photo.file.name || "photo").replace(/\.[^.]*$/, "");

function saveJson(photo) {
  const { proposal_boxes, ...answer } = photo.answer;
  const kept = { file: photo.file.name, ...answer, detections: shown(photo) };
  save(new Blob([JSON.stringify(kept, null, 1)], { type: "application/json" }), `${stem(photo)}.json`);
}

async function savePicture(photo) {
  const { width, height } = photo.answer;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const pen = canvas.getContext("2d");
  pen.drawImage(photo.article.querySelector("img"), 0, 0, width, height);
  const size = Math.max(width, height) / 45;
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.lineWidth = Math.max(2, size / 6);
  for (const { label, score, box: [x1, y1, x2, y2] } of shown(photo).reverse()) {
    const text = `${label} ${score.toFixed(2)}`;
    const breadth = pen.measureText(text).width + 0.4 * size;
    const x = Math.max(0, Math.min(x1, width - breadth));
    const y = y1 >= 1.3 * size ? y1 - 1.3 * size : y1;
    pen.strokeStyle = pen.fillStyle = colour(label);
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
    pen.fillRect(x, y, breadth, 1.3 * size);
    pen.fillStyle = "#000";
    pen.fillText(text, x + 0.2 * size, y + size);
  }
  canvas.toBlob((blob) => save(blob, `${stem(photo)}-detections.png`));
}

askForModel().catch(() => { $("model").textContent = "The service does not answer."; });
