// Photos are sent to POST /detect, one after another. The answers are drawn over the photos.
// Changes of the threshold or the classes need no further request.

const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
const photos = [];                // { file, article, answer, url, waiting, refused }
const hiddenClasses = new Set();
let classes = [];
let key = "";

// ---- The model ---------------------------------------------------------------------------------

async function loadModel() {
  const model = await (await fetch("/model")).json();
  classes = model.classes;
  const networks = model.members === 1 ? "one network" : `${model.members} networks`;
  $("model").textContent = `${model.name} ${model.version}: ${networks}, ${classes.length} classes`;
  $("preset").replaceChildren(...Object.keys(model.presets).map((name) => new Option(name)));
}

// The golden ratio spreads any number of hues. detector-run --visualize uses the same colours.
const colour = (label) => `hsl(${Math.round(360 * ((classes.indexOf(label) * 0.618034) % 1))} 85% 70%)`;

// ---- New photos --------------------------------------------------------------------------------

$("files").addEventListener("change", (event) => {
  addFiles(event.target.files);
  event.target.value = "";  // so that the same photo can be chosen again
});
document.addEventListener("paste", (event) => addFiles(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  addFiles(event.dataTransfer.files);
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value;
  $("key-form").hidden = true;
  $("files").focus();
  for (const photo of photos) if (photo.refused) enqueue(photo);
  detectNext();
});

function addFiles(files) {
  for (const file of files) {
    const article = $("photo").content.firstElementChild.cloneNode(true);
    const photo = { file, article };
    article.querySelector("h2").textContent = file.name || "pasted photo";
    article.querySelector(".remove").addEventListener("click", () => remove(photo));
    article.querySelector(".retry").addEventListener("click", () => retry(photo));
    article.querySelector(".download-json").addEventListener("click", () => downloadJson(photo));
    article.querySelector(".download-image").addEventListener("click", () => downloadImage(photo));
    $("photos").append(article);
    photos.push(photo);
    enqueue(photo);
  }
  detectNext();
}

function retry(photo) {
  photo.article.querySelector(".remove").focus();  // before this button is hidden
  enqueue(photo);
  detectNext();
}

function remove(photo) {
  photos.splice(photos.indexOf(photo), 1);
  photo.article.remove();
  if (photo.url) URL.revokeObjectURL(photo.url);
  listClasses();
  $("files").focus();
}

// ---- Requests ----------------------------------------------------------------------------------

let busy = false;

function enqueue(photo) {
  photo.waiting = true;
  photo.refused = false;
  showButtons(photo, {});
  showState(photo, "waiting");
}

async function detectNext() {
  const photo = photos.find((each) => each.waiting);
  if (busy || !photo || !$("key-form").hidden) return;
  busy = true;
  photo.waiting = false;
  showState(photo, "detecting objects …");
  try {
    await detect(photo);
  } catch (error) {
    showFailure(photo, `the service cannot be reached (${error.message})`, true);
  }
  busy = false;
  detectNext();
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
  const answer = await response.json().catch(() => null);  // a proxy's answer may not be JSON
  if (!photos.includes(photo)) return;  // it was removed in the meantime

  if (!response.ok || !answer) {
    const { status, statusText } = response;
    const isTemporary = status === 408 || status >= 500;
    showFailure(photo, answer?.detail ?? `${status} ${statusText}`, isTemporary);
    if (status === 401) {
      photo.refused = true;
      $("key-form").hidden = false;
      $("key").focus();
    }
    return;
  }
  await showAnswer(photo, answer);
}

function showFailure(photo, text, isTemporary) {
  showState(photo, text, true);
  showButtons(photo, { retry: isTemporary });
}

function showButtons({ article }, { retry = false, json = false, image = false }) {
  article.querySelector(".retry").hidden = !retry;
  article.querySelector(".download-json").hidden = !json;
  article.querySelector(".download-image").hidden = !image;
}

function showState(photo, text, failed = false) {
  photo.article.querySelector(".state").textContent = text;
  photo.article.classList.toggle("failed", failed);
  announce(photo, text);
}

// Screen readers read the status aloud.
function announce(photo, text) {
  const name = photo.article.querySelector("h2").textContent;
  $("status").textContent = `${name}: ${text}`;
}

// ---- Answers -----------------------------------------------------------------------------------

async function showAnswer(photo, answer) {
  const { article } = photo;
  photo.answer = answer;

  photo.url ??= URL.createObjectURL(photo.file);
  const image = article.querySelector("img");
  image.src = photo.url;
  const hasRightSize = () =>
    image.naturalWidth === answer.width && image.naturalHeight === answer.height;
  const isReadable = await image.decode().then(hasRightSize, () => false);
  if (!isReadable) {  // the browser does not know the format, or does not turn it upright
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
  article.querySelector("svg").setAttribute("viewBox", `0 0 ${answer.width} ${answer.height}`);
  article.querySelector("figure").hidden = false;
  showButtons(photo, { json: true, image: isReadable });
  listClasses();
  draw(photo);
  announce(photo, summarise(photo));
}

const shownDetections = (photo) => photo.answer.detections.filter(
  ({ label, score }) => score >= Number($("threshold").value) && !hiddenClasses.has(label));

function summarise(photo) {
  const counts = new Map();
  for (const { label } of shownDetections(photo)) counts.set(label, (counts.get(label) ?? 0) + 1);
  const parts = [...counts].map(([label, count]) => `${count} ${label}`);
  return parts.length ? parts.join(", ") : "no objects above the minimum score";
}

function draw(photo) {
  if (!photo.answer) return;
  const { article, answer } = photo;
  const regions = $("proposals").checked ? answer.proposal_boxes : [];
  article.querySelector(".regions").replaceChildren(...regions.map((box) => makeRectangle(box)));

  const pixel = answer.width / (article.querySelector("img").clientWidth || answer.width);
  const fontSize = Math.max(answer.width / 45, answer.height / 45, 11 * pixel);
  const detections = shownDetections(photo);
  const boxes = detections.map((detection) => makeBox(detection, fontSize, answer.width));
  article.querySelector(".boxes").replaceChildren(...boxes.reverse());  // the best one on top
  article.querySelector(".detections").replaceChildren(...detections.map(makeListItem));
  article.querySelector("svg").setAttribute("aria-label", summarise(photo));
  article.querySelector(".state").textContent = summarise(photo);
}

function makeSvg(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) node.setAttribute(attribute, value);
  node.append(...children);
  return node;
}

const makeRectangle = ([x1, y1, x2, y2], attributes = {}) =>
  makeSvg("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, ...attributes });

function makeBox({ label, score, box }, fontSize, imageWidth) {
  const text = `${label} ${score.toFixed(2)}`;
  const width = text.length * fontSize * 0.58 + fontSize * 0.4;
  const [x, y] = placeCaption(box, fontSize, width, imageWidth);
  return makeSvg("g", {},
    makeRectangle(box, { class: "box", stroke: colour(label) }),
    makeRectangle([x, y, x + width, y + 1.3 * fontSize], { fill: colour(label) }),
    makeSvg("text", { x: x + 0.2 * fontSize, y: y + fontSize, "font-size": fontSize }, text));
}

// A caption is above its box if there is room, and inside it otherwise.
function placeCaption([x1, y1], fontSize, width, imageWidth) {
  const x = Math.max(0, Math.min(x1, imageWidth - width));
  const y = y1 >= 1.3 * fontSize ? y1 - 1.3 * fontSize : y1;
  return [x, y];
}

function makeListItem({ label, score, box }) {
  const item = document.createElement("li");
  item.append(makeSwatch(label), `${label} ${score.toFixed(2)}`);
  item.title = `x ${box[0]} to ${box[2]}, y ${box[1]} to ${box[3]}`;
  return item;
}

function makeSwatch(label) {
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.background = colour(label);
  return swatch;
}

// ---- Display -----------------------------------------------------------------------------------

function listClasses() {
  const detections = photos.flatMap(({ answer }) => answer?.detections ?? []);
  const labels = classes.filter((name) => detections.some(({ label }) => label === name));
  const checkboxes = () => [...$("class-list").querySelectorAll("input")];
  if (String(labels) === String(checkboxes().map(({ value }) => value))) return;

  const focused = checkboxes().find((box) => box === document.activeElement)?.value;
  $("classes").hidden = labels.length === 0;
  $("class-list").replaceChildren(...labels.map((name) => {
    const label = document.createElement("label");
    const checkbox = document.createElement("input");
    checkbox.type = "checkbox";
    checkbox.value = name;
    checkbox.checked = !hiddenClasses.has(name);
    label.append(checkbox, makeSwatch(name), name);
    return label;
  }));
  checkboxes().find(({ value }) => value === focused)?.focus();
}

$("class-list").addEventListener("change", ({ target }) => {
  if (target.checked) hiddenClasses.delete(target.value);
  else hiddenClasses.add(target.value);
  photos.forEach(draw);
});
$("threshold").addEventListener("input", ({ target }) => {
  $("threshold-value").textContent = Number(target.value).toFixed(2);
  photos.forEach(draw);
});
$("proposals").addEventListener("change", () => photos.forEach(draw));
addEventListener("resize", () => photos.forEach(draw));

// ---- Downloads ---------------------------------------------------------------------------------

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const stem = (photo) => (photo.file.name || "photo").replace(/\.[^.]*$/, "");

function downloadJson(photo) {
  const { proposal_boxes, ...answer } = photo.answer;
  const content = { file: photo.file.name, ...answer, detections: shownDetections(photo) };
  const blob = new Blob([JSON.stringify(content, null, 1)], { type: "application/json" });
  download(blob, `${stem(photo)}.json`);
}

async function downloadImage(photo) {
  const { width, height } = photo.answer;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(photo.article.querySelector("img"), 0, 0, width, height);

  const fontSize = Math.max(width, height) / 45;
  context.font = `600 ${fontSize}px system-ui, sans-serif`;
  context.lineWidth = Math.max(2, fontSize / 6);
  for (const { label, score, box } of shownDetections(photo).reverse()) {
    const text = `${label} ${score.toFixed(2)}`;
    const captionWidth = context.measureText(text).width + 0.4 * fontSize;
    const [x, y] = placeCaption(box, fontSize, captionWidth, width);
    const [x1, y1, x2, y2] = box;
    context.strokeStyle = colour(label);
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    context.fillStyle = colour(label);
    context.fillRect(x, y, captionWidth, 1.3 * fontSize);
    context.fillStyle = "#000";
    context.fillText(text, x + 0.2 * fontSize, y + fontSize);
  }
  canvas.toBlob((blob) => download(blob, `${stem(photo)}-detections.png`));
}

loadModel().catch(() => { $("model").textContent = "The service does not answer."; });
