"use strict";
// A picture is sent when it is chosen; of the camera the next frame when the last one has come back painted.
const at = (id) => document.getElementById(id);
const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
const REASONS = {
  NotAllowedError: "The browser may not use the camera; allow it beside the address.",
  NotFoundError: "There is no camera here; connect one, or drop a picture.",
  NotReadableError: "Another program uses the camera; close it there and try again.",
};
let file = null; // what was painted last: a picture, or a frame
let filming = false; // also while the browser asks whether the camera may be used
let stream = null; // of the camera
let latest = 0; // number of the newest request: older answers are not shown
const shown = []; // when frames were shown, in milliseconds

function fail(text) {
  at("error").textContent = text;
  at("error").hidden = !text;
}

function show(image, blob) {
  const before = image.src;
  image.src = URL.createObjectURL(blob);
  image.hidden = false;
  if (before.startsWith("blob:")) URL.revokeObjectURL(before);
}

async function paint(blob) {
  const number = ++latest;
  const begun = performance.now();
  const before = file;
  file = blob;
  try {
    const answer = await fetch(`paint?style=${chosen("style")}&side=${chosen("side")}`, {
      method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: blob,
    });
    if (!answer.ok) throw new Error((await answer.json()).error);
    const made = await answer.blob();
    if (number !== latest) return false;
    fail("");
    at("invitation").hidden = true;
    show(at("painted"), made);
    show(at("original"), blob);
    at("save").href = at("painted").src;
    at("save").hidden = false;
    tell(performance.now() - begun);
    return true;
  } catch (error) {
    if (number === latest) {
      file = before; // which is still shown
      const lost = error instanceof TypeError || error instanceof SyntaxError;
      fail(lost ? "topwork does not answer; start it again." : error.message);
    }
    return false;
  }
}

function tell(milliseconds) {
  const now = performance.now();
  shown.push(now);
  while (now - shown[0] > 5000) shown.shift();
  const rate = shown.length > 1 ? (1000 * (shown.length - 1)) / (now - shown[0]) : 0;
  const live = stream && rate ? `${rate.toFixed(1)} pictures a second · ` : "";
  at("status").textContent = `${live}${Math.round(milliseconds)} ms`;
}

async function take(given) {
  if (!given) return;
  stop();
  at("status").textContent = "Painting …";
  if (!await paint(given) && !at("error").hidden) at("status").textContent = "";
}

function stop() {
  if (stream) stream.getTracks().forEach((track) => track.stop());
  stream = null;
  filming = false;
  latest += 1; // what is on its way is not shown any more
  at("camera").textContent = "Camera";
  at("status").setAttribute("aria-live", "polite");
  if (at("status").textContent.endsWith("…")) at("status").textContent = "";
}

async function film() {
  stop();
  const turn = latest; // another one when it was stopped, or a picture chosen, meanwhile
  filming = true;
  fail("");
  at("camera").textContent = "Stop";
  at("status").textContent = "Starting the camera …";
  at("status").setAttribute("aria-live", "off"); // it changes with every frame
  const video = at("video");
  let own;
  try {
    own = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1024 } } });
    if (turn !== latest) {
      own.getTracks().forEach((track) => track.stop());
      return;
    }
    stream = own;
    video.srcObject = own;
    await video.play();
  } catch (error) {
    if (turn !== latest) return;
    stop();
    fail(REASONS[error.name] || `The camera does not start here: ${error.message}.`);
    return;
  }
  own.getVideoTracks()[0].addEventListener("ended", () => {
    if (stream !== own) return;
    stop();
    fail("The camera ended; connect it again.");
  });
  shown.length = 0;
  const canvas = document.createElement("canvas");
  while (stream === own) {
    const scale = Math.min(1, chosen("side") / Math.max(video.videoWidth, video.videoHeight));
    canvas.width = Math.round(scale * video.videoWidth);
    canvas.height = Math.round(scale * video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    const frame = await new Promise((done) => { canvas.toBlob(done, "image/jpeg", 0.9); });
    if (stream === own && !await paint(frame) && stream === own) stop();
  }
}

at("file").addEventListener("change", () => { take(at("file").files[0]); at("file").value = ""; });
at("camera").addEventListener("click", () => { if (filming) stop(); else film(); });
at("original").addEventListener("error", () => { at("original").hidden = true; }); // a kind no browser shows, as TIFF
document.addEventListener("paste", (event) => {
  take([...event.clipboardData.files].find((each) => each.type.startsWith("image/")));
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); at("drop").classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); at("drop").classList.remove("over"); });
}
document.addEventListener("drop", (event) => take(event.dataTransfer.files[0]));
for (const input of document.querySelectorAll("fieldset input")) {
  input.addEventListener("change", () => { if (!filming && file) paint(file); });
}
if (location.hash === "#camera") film();
