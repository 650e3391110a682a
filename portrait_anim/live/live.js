"use strict";
// The page of `portrait-anim live`. What goes through the socket is described in connection.py.
const $ = id => document.getElementById(id);
const FRAME = 1, SOUND = 2, LONGER_SIDE = 640, MOST_WAITING = 150_000;  // px; bytes not sent yet before pictures are left out
let socket = null, camera = null, encoding = false, decoding = false, waiting = null;
let recording = null;  // {began, microphone, recorder}
let calibrating = 0;  // until when the page says so
let written = () => {};  // called when the recording is a file
let delays = [];  // ms from the camera to the screen, of the last pictures
const small = document.createElement("canvas");

// ---------------------------------------------------------------- what the page shows

function become(state) {  // "idle", "asking" or "live"
  document.body.dataset.state = state;
  $("controls").disabled = state !== "live";
  $("start").disabled = state === "asking";
  $("start").textContent = state === "asking" ? "Asking for the camera" : "Start the camera";
  $("start").hidden = state === "live";
  $("stop").hidden = state !== "live";
  if (state !== "live") { $("facts").textContent = ""; hint(""); }
}

function hint(text) {
  if ($("hint").textContent !== text) $("hint").textContent = text;
}

function complain(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

const median = values => values.slice().sort((a, b) => a - b)[values.length >> 1];

function showStatus(now) {
  if (!now.given) return;
  const delay = delays.length ? ` · ${Math.round(median(delays))} ms delay` : "";
  $("facts").textContent = `${now.size[0]} × ${now.size[1]} px · ${Math.round(now.rate)} pictures/s${delay}`;
  if (performance.now() < calibrating) return;
  if (!now.has_face) hint("No face is seen; the portrait waits for you.");
  else if (!now.holds && now.capacity) hint(`This machine makes ${Math.round(now.capacity)} pictures a second; ${Math.round(now.wanted)} were wanted.`);
  else hint("");
}

const clock = seconds => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

function listRecordings(recordings) {
  $("recordings").hidden = !recordings.length;
  $("recorded").replaceChildren(...recordings.map(made => {
    const item = document.createElement("li");
    const link = Object.assign(document.createElement("a"), {href: `recordings/${made.number}`, download: made.name, textContent: made.name});
    item.append(link, ` (${clock(made.seconds)})`);
    for (const text of made.warnings) item.append(Object.assign(document.createElement("small"), {textContent: " " + text}));
    return item;
  }));
}

function draw(image) {  // in the place that the page keeps for it, whatever size it has
  const canvas = $("portrait");
  if (canvas.width !== image.width || canvas.height !== image.height) { canvas.width = image.width; canvas.height = image.height; }
  canvas.getContext("2d").drawImage(image, 0, 0);
  image.close();
}

async function showPicture(data) {  // the newest; while one is decoded, those that come between are left out
  if (decoding) { waiting = data; return; }
  decoding = true;
  try {
    const image = await createImageBitmap(new Blob([new Uint8Array(data, 8)], {type: "image/jpeg"}));
    draw(image);
    const taken = new DataView(data).getFloat64(0, true);
    if (camera && taken > camera.began) {
      delays.push(performance.now() - taken);
      if (delays.length > 60) delays.shift();
    }
  } finally {
    decoding = false;
    if (waiting) { const next = waiting; waiting = null; showPicture(next); }
  }
}

async function showStill() {  // the portrait before anything moves
  const response = await fetch("portrait.jpg").catch(() => null);
  if (!response || !response.ok) return complain("The server does not answer; is the command still running?");
  const image = await createImageBitmap(await response.blob());
  $("frame").style.setProperty("--ratio", image.width / image.height);
  if (!socket) draw(image);
}

// ---------------------------------------------------------------- camera and socket

const REASONS = {
  NotAllowedError: "The browser may not use the camera; allow it for this page (beside the address) and start again.",
  NotFoundError: "No camera was found; plug one in and start again.",
  NotReadableError: "The camera is used by another program; close that and start again.",
  OverconstrainedError: "The camera cannot give such pictures; try another.",
};

async function start() {
  complain("");
  if (!navigator.mediaDevices) return complain("Browsers give the camera only to pages of this machine: open the address with 127.0.0.1 or localhost.");
  become("asking");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {width: {ideal: 640}, height: {ideal: 480}, frameRate: {ideal: 30}}});
  } catch (error) {
    become("idle");
    return complain(REASONS[error.name] ?? `The camera cannot be used (${error.message || error.name}).`);
  }
  const video = $("camera");
  camera = {stream, began: performance.now()};
  stream.getVideoTracks()[0].addEventListener("ended", () => stop("The camera was unplugged or taken away; plug it in and start again."));
  video.srcObject = stream;
  await video.play().catch(() => {});
  const address = new URL("socket", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  const own = socket;
  let told = false;  // why it ends
  own.onmessage = event => {
    if (own !== socket) return;
    if (typeof event.data !== "string") return showPicture(event.data);
    const news = JSON.parse(event.data);
    if (news.say === "ready") ready(news);
    else if (news.say === "status") showStatus(news);
    else if (news.say === "recorded") { listRecordings(news.recordings); written(); }
    else if (news.say === "failed") { complain(news.text); written(); }
    else if (news.say === "error") { told = true; stop(news.text); }
  };
  own.onclose = () => { if (own === socket && !told) stop("The server does not answer any more; is the command still running?"); };
}

function ready(news) {
  $("strength").value = news.options.strength;
  $("strength-value").textContent = Number(news.options.strength).toFixed(1);
  $("mirror").checked = news.options.mirror;
  const only = news.options.only;
  for (const box of boxes) box.checked = !only.length || only.includes(box.value) || (only.includes("face") && box.value !== "head");
  document.body.classList.toggle("mirrored", news.options.mirror);
  listRecordings(news.recordings);
  delays = [];
  become("live");
  nextFrame();
}

function stop(reason = "") {
  if (recording) stopRecording(false);
  const [own, seen] = [socket, camera];
  socket = camera = null;
  if (own) own.close();
  if (seen) for (const track of seen.stream.getTracks()) track.stop();
  $("camera").srcObject = null;
  encoding = false;
  become("idle");
  complain(reason);
}

function nextFrame() {
  const video = $("camera"), seen = camera;
  if (!seen) return;
  const go = (now, about) => {
    if (seen !== camera) return;
    sendFrame(about?.captureTime ?? now);
    nextFrame();
  };
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(go);
  else setTimeout(() => go(performance.now()), 33);
}

function sendFrame(taken) {
  const video = $("camera");
  if (encoding || !socket || socket.readyState !== WebSocket.OPEN || socket.bufferedAmount > MOST_WAITING || !video.videoWidth) return;
  const scale = Math.min(1, LONGER_SIDE / Math.max(video.videoWidth, video.videoHeight));
  const [width, height] = [Math.round(video.videoWidth * scale), Math.round(video.videoHeight * scale)];
  if (small.width !== width || small.height !== height) { small.width = width; small.height = height; }
  small.getContext("2d").drawImage(video, 0, 0, width, height);
  encoding = true;
  const own = socket;
  small.toBlob(async blob => {
    try {
      if (blob && own === socket) await send(FRAME, blob, taken);
    } finally {
      encoding = false;
    }
  }, "image/jpeg", .85);
}

async function send(kind, blob, taken = null) {
  const head = new DataView(new ArrayBuffer(taken === null ? 1 : 9));
  head.setUint8(0, kind);
  if (taken !== null) head.setFloat64(1, taken, true);
  const message = await new Blob([head.buffer, blob]).arrayBuffer();
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(message);
}

function order(what, details = {}) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({do: what, ...details}));
}

// ---------------------------------------------------------------- controls

const boxes = [...document.querySelectorAll(".chips input")];

function change() {
  const parts = boxes.filter(box => box.checked).map(box => box.value);
  if (!parts.length) {  // something must move; the last one stays
    this.checked = true;
    return;
  }
  $("strength-value").textContent = Number($("strength").value).toFixed(1);
  document.body.classList.toggle("mirrored", $("mirror").checked);
  order("change", {strength: Number($("strength").value), mirror: $("mirror").checked, only: parts.length === boxes.length ? [] : parts});
}
for (const control of [...boxes, $("mirror"), $("strength")]) control.addEventListener("input", change);
$("start").addEventListener("click", start);
$("stop").addEventListener("click", async () => {
  if (recording) {
    const done = new Promise(resolve => { written = resolve; setTimeout(resolve, 15_000); });
    await stopRecording();
    await done;
  }
  stop();
});
$("calibrate").addEventListener("click", () => {
  order("calibrate");
  calibrating = performance.now() + 1500;
  hint("Look straight at the camera for a second.");
});
$("record").addEventListener("click", () => recording ? stopRecording() : startRecording());
addEventListener("pagehide", () => stop());

// ---------------------------------------------------------------- recordings

async function startRecording() {
  complain("");
  const own = recording = {began: 0, microphone: null, recorder: null, timer: 0};
  document.body.classList.add("recording");
  $("record-text").textContent = "Finish the recording";
  $("sound").disabled = true;
  if ($("sound").checked) {
    try {
      own.microphone = await navigator.mediaDevices.getUserMedia({audio: true});
      own.recorder = new MediaRecorder(own.microphone);
      own.recorder.ondataavailable = event => { if (event.data.size) own.sending = (own.sending ?? Promise.resolve()).then(() => send(SOUND, event.data)); };
      const begun = new Promise(done => { own.recorder.onstart = done; });
      own.recorder.start(500);
      await begun;
    } catch (error) {
      complain(`There is no microphone, or the browser may not use it (${error.name}); what follows is recorded without sound.`);
    }
  }
  if (recording !== own) return;  // stopped meanwhile
  own.began = performance.now();
  order("record", {time: own.began});
  $("rec").hidden = false;
  own.timer = setInterval(() => { $("rec-time").textContent = clock((performance.now() - own.began) / 1000); }, 250);
  $("rec-time").textContent = clock(0);
}

async function stopRecording(tell = true) {
  const own = recording, ended = performance.now();
  recording = null;
  clearInterval(own.timer);
  $("rec").hidden = true;
  document.body.classList.remove("recording");
  $("record-text").textContent = "Record";
  $("sound").disabled = false;
  if (own.recorder && own.recorder.state !== "inactive") {
    const last = new Promise(done => { own.recorder.onstop = done; });
    own.recorder.stop();
    await last;
    await own.sending;
  }
  if (own.microphone) for (const track of own.microphone.getTracks()) track.stop();
  if (tell && own.began) order("finish", {time: ended});
}

become("idle");
showStill();
