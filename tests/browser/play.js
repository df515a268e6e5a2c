/* Plays a package with one player and posts what was seen, as numbers read from pixels. The picture
   has its frame's number in twelve black and white blocks and its shot in a colour; frames in
   `flashes` are white below, and a beep begins with each. See tests/playback_material.py. */
"use strict";

const video = document.getElementById("video");
const canvas = document.getElementById("canvas");
const pen = canvas.getContext("2d", { willReadFrequently: true });
const query = new URLSearchParams(location.search);
const result = { player: query.get("player"), errors: [], seeks: [], log: [] };
const note = (said) => fetch("/note", { method: "POST", body: said });
const sleep = (seconds) => new Promise((go) => setTimeout(go, 1000 * seconds));

window.onerror = (message) => { result.errors.push("page: " + message); };
window.onunhandledrejection = (event) => { result.errors.push("page: " + event.reason); };
for (const level of ["error"]) {
  const original = console[level].bind(console);
  console[level] = (...said) => { result.errors.push("console: " + said.join(" ")); original(...said); };
}

const ranges = (of) => Array.from({ length: of.length }, (_, i) => of.start(i) + "-" + of.end(i)).join(" ") || "nothing";
/* What to say of the element when something does not happen. */
let source = null;
const state = () => ["at", video.currentTime, "ready", video.readyState, "network", video.networkState, "paused", video.paused,
  "seeking", video.seeking, "ended", video.ended, "buffered", ranges(video.buffered),
  ...(source ? [source.readyState, ...Array.from(source.sourceBuffers, (b) => (b.updating ? "updating " : "") + ranges(b.buffered))] : [])].join(" ");
const Source = window.MediaSource;
if (Source) URL.createObjectURL = ((make) => (of) => { if (of instanceof Source) source = of; return make(of); })(URL.createObjectURL.bind(URL));

function once(target, name, seconds = +query.get("wait") || 60) {
  return new Promise((go, stop) => {
    const timer = setTimeout(() => stop(new Error("no " + name + " within " + seconds + " s: " + state())), 1000 * seconds);
    target.addEventListener(name, (event) => { clearTimeout(timer); go(event); }, { once: true });
  });
}

/* -- players: each creates, loads and fixes a rung (0 is the lowest), or rotates rungs by segment. */

const players = {
  hls(url, rung, rotate) {
    const told = (...said) => { result.log.push((performance.now() / 1000).toFixed(3) + " " + said.join(" ")); };
    const debug = query.get("debug") ? { trace: told, debug: told, log: told, info: told, warn: told, error: told } : false;
    if (debug) result.log = [];
    // Told from outside, it drops what it has just loaded or has the next one on its way already: the
    // rung is what its own choice for the next segment comes to.
    let wanted = rung;
    const loaded = {};
    class Rotating extends Hls.DefaultConfig.abrController {
      get nextAutoLevel() { return wanted; }
      set nextAutoLevel(level) {}
      onFragLoading() {}
    }
    const hls = new Hls({ startLevel: rung, debug, ...(rotate ? { abrController: Rotating } : {}) });
    hls.on(Hls.Events.ERROR, (_, data) => {
      // It tells of requests that it aborts itself.
      if (data.fatal || data.details !== "aborted") result.errors.push("hls.js: " + data.details);
    });
    if (!rotate) hls.on(Hls.Events.MANIFEST_PARSED, () => { hls.loadLevel = rung; });
    if (rotate) hls.on(Hls.Events.FRAG_LOADED, (_, data) => {
      if (data.frag.type !== "main" || data.frag.sn === "initSegment") return;
      wanted = (data.frag.sn + 1) % hls.levels.length;
      loaded[data.frag.sn] = hls.levels[data.frag.level].height;
    });
    // After a seek to the start it may load the first segment again.
    if (rotate) video.addEventListener("seeking", () => { if (video.currentTime === 0) wanted = 0; });
    hls.loadSource(url + "master.m3u8");
    hls.attachMedia(video);
    return { loaded, close: () => hls.destroy() };
  },
  shaka(url, rung, rotate, name = "manifest.mpd") {
    shaka.polyfill.installAll();
    const player = new shaka.Player();
    player.configure({ abr: { enabled: false }, streaming: { bufferingGoal: 4, rebufferingGoal: 0.1, bufferBehind: 60 } });
    // Raw keys of an encrypted package, "id:key".
    const key = query.get("key");
    if (key) player.configure({ drm: { clearKeys: { [key.split(":")[0]]: key.split(":")[1] } } });
    player.addEventListener("error", (event) => result.errors.push("shaka: " + event.detail.code + " " + event.detail.message));
    const tracks = () => player.getVariantTracks().slice().sort((a, b) => a.height - b.height || a.bandwidth - b.bandwidth);
    let next = rung;
    const ready = (async () => {
      await player.attach(video);
      await player.load(url + name);
      player.selectVariantTrack(tracks()[rung], true);
      if (rotate) player.addEventListener("segmentappended", (event) => {
        if (event.contentType !== "video") return;
        next = (next + 1) % tracks().length;
        player.selectVariantTrack(tracks()[next], false);
      });
    })();
    ready.catch((error) => result.errors.push("shaka: " + error));
    return { ready, close: () => player.destroy() };
  },
  "shaka-hls": (url, rung, rotate) => players.shaka(url, rung, rotate, "master.m3u8"),
  dash(url, rung, rotate) {
    const player = dashjs.MediaPlayer().create();
    player.updateSettings({
      debug: { logLevel: 1 },
      streaming: {
        abr: { autoSwitchBitrate: { video: false } },
        buffer: { bufferTimeDefault: 4, bufferTimeAtTopQuality: 4, bufferTimeAtTopQualityLongForm: 4, fastSwitchEnabled: false, bufferToKeep: 60 },
      },
    });
    player.on("error", (event) => result.errors.push("dash.js: " + (event.error && event.error.message || event.type)));
    let next = rung, count = 1;
    player.on("streamInitialized", () => {
      count = player.getRepresentationsByType("video").length;
      player.setRepresentationForTypeByIndex("video", rung, true);
    });
    if (rotate) player.on("fragmentLoadingCompleted", (event) => {
      if (event.mediaType !== "video" || !event.request || event.request.type !== "MediaSegment") return;
      if (event.request.startTime + event.request.duration > video.duration - 0.1) return;
      next = (next + 1) % count;
      player.setRepresentationForTypeByIndex("video", next, false);
    });
    // After forced changes of the rung it now and then tells of the end, and the element does not.
    const over = new Promise((go) => player.on("playbackEnded", go));
    player.initialize(video, url + "manifest.mpd", false);
    return { over, close: () => player.destroy() };
  },
  file() {
    video.src = "/source.mp4";
    return { close: () => { video.removeAttribute("src"); video.load(); } };
  },
};

/* -- what the picture says */

function look() {
  pen.drawImage(video, 0, 0, 480, 270);
  const luma = (x, y) => {
    const [r, g, b] = pen.getImageData(x, y, 1, 1).data;
    return 0.299 * r + 0.587 * g + 0.114 * b;
  };
  let frame = 0;
  for (let bit = 0; bit < 12; bit++) if (luma(40 * bit + 20, 34) > 128) frame += 1 << bit;
  return {
    frame,
    colour: Array.from(pen.getImageData(240, 102, 1, 1).data.slice(0, 3)),
    flash: luma(120, 200) > 225 && luma(240, 200) > 225 && luma(360, 200) > 225,
    height: video.videoHeight,
  };
}

const painted = (seconds) => new Promise((go) => {
  const timer = setTimeout(() => go(null), 1000 * seconds);
  video.requestVideoFrameCallback((_, data) => { clearTimeout(timer); go(data); });
});

async function seek(frame, facts) {
  const time = (frame + 0.5) / facts.frame_rate;
  const shown = painted(query.get("key") ? 20 : 1);
  const arrived = once(video, "seeked");
  video.currentTime = time;
  await arrived;
  const announced = await shown;
  // A canvas gets no pixels of protected media: there the frame is the one that was announced.
  if (query.get("key")) {
    const number = announced ? Math.round(announced.mediaTime * facts.frame_rate) : -1;
    return { frame: number, height: announced ? announced.height : 0 };
  }
  let seen = look();
  // What was painted may be the frame before, where a browser paints twice.
  for (let tries = 0; tries < 10 && (seen.frame !== frame || video.readyState < 2); tries++) {
    await sleep(0.1);
    seen = look();
  }
  return seen;
}

async function open(name, rung, rotate, facts) {
  const player = players[name](facts.package, rung, rotate);
  if (player.ready) await player.ready;
  if (video.readyState < 3) await once(video, "canplay");
  return player;
}

/* -- every rung, a seek to both ends of every shot */

async function seeks(facts) {
  for (let rung = 0; rung < facts.rungs.length; rung++) {
    const player = await open(result.player, rung, false, facts);
    result.durations = (result.durations || []).concat(video.duration);
    const order = facts.shots.flatMap(([start, end]) => [start, end - 1]);
    for (const frame of order) {
      note("rung " + rung + " seek " + frame);
      // A seek while the last segment arrives can keep hls.js from ever telling the browser that nothing
      // follows, for which Chromium waits before it shows the very last frame.
      if (result.player === "hls" && frame === order[order.length - 1])
        for (let tries = 0; tries < 100 && !(source && source.readyState === "ended"); tries++) await sleep(0.1);
      const seen = await seek(frame, facts);
      result.seeks.push({ rung, asked: frame, ...seen });
    }
    await player.close();
    await sleep(0.2);
  }
}

/* -- start to end; rungs rotate from shot to shot; every painted frame is looked at */

async function listen() {
  const context = new AudioContext();
  const code = `registerProcessor("onsets", class extends AudioWorkletProcessor {
    constructor() { super(); this.quiet = 1e9; this.peak = 0; }
    process(inputs) {
      const channel = inputs[0][0];
      if (channel) for (let i = 0; i < channel.length; i++) {
        if (Math.abs(channel[i]) > 0.08) {
          if (this.quiet > 0.2 * sampleRate) this.port.postMessage(currentTime + i / sampleRate);
          this.quiet = 0;
        } else this.quiet++;
      }
      return true;
    }
  });`;
  await context.audioWorklet.addModule(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  const node = new AudioWorkletNode(context, "onsets");
  context.createMediaElementSource(video).connect(node);
  node.connect(context.destination);
  return { context, node };
}

async function playthrough(name, rotate, facts, ear) {
  const player = await open(name, 0, rotate, facts);
  const found = { frames: [], clocks: [], onsets: [], waits: [], heights: [], gaps: [] };
  ear.node.port.onmessage = (event) => found.onsets.push(event.data);
  note(name + " open, sound " + ear.context.state);
  await Promise.race([ear.context.resume(), sleep(5)]);
  note("sound " + ear.context.state + " " + ear.context.currentTime);
  if (video.currentTime > 0) { const back = once(video, "seeked"); video.currentTime = 0; await back; }
  let going = true;
  const watch = (now, data) => {
    const seen = look();
    // The height is that of the picture announced, as its time is; the pixels may be of an older one.
    found.frames.push([data.mediaTime, seen.frame, data.height, seen.flash ? 1 : 0]);
    if (going) video.requestVideoFrameCallback(watch);
  };
  video.requestVideoFrameCallback(watch);
  const clock = setInterval(() => {
    if (!video.paused && video.readyState > 2) found.clocks.push([ear.context.currentTime, video.currentTime]);
  }, 15);
  const waiting = () => { if (found.frames.length) found.waits.push(video.currentTime); };
  video.addEventListener("waiting", waiting);
  const began = performance.now();
  const over = once(video, "ended", 90);
  // Of the source's own file some beeps are enough.
  const heard = name !== "file" ? [] : [(async () => { while (found.onsets.length < 4) await sleep(0.1); })()];
  const pulse = setInterval(() => note(found.frames.length + " frames, " + state()), 5000);
  await video.play();
  note("playing");
  over.catch(() => 0);
  await Promise.race([over, ...heard, ...(player.over ? [player.over] : [])]);
  found.ended = video.ended;
  found.state = state();
  note("over");
  going = false;
  clearInterval(clock);
  clearInterval(pulse);
  video.removeEventListener("waiting", waiting);
  found.seconds = (performance.now() - began) / 1000;
  found.ended_at = video.currentTime;
  found.duration = video.duration;
  for (let i = 0; i < video.buffered.length; i++) found.gaps.push([video.buffered.start(i), video.buffered.end(i)]);
  const quality = video.getVideoPlaybackQuality();
  if (player.loaded) found.loaded = Object.values(player.loaded);
  found.dropped = quality.droppedVideoFrames;
  await sleep(0.5);  // a beep may be on its way
  await player.close();
  return found;
}

async function main() {
  const facts = await (await fetch("/facts.json")).json();
  try {
    await seeks(facts);
    if (query.get("only") === "seeks") return;
    const ear = await listen();
    result.play = await playthrough(result.player, true, facts, ear);
    await sleep(0.3);
    if (!query.get("known")) result.file = await playthrough("file", false, facts, ear);
  } catch (error) {
    result.errors.push("test: " + error + " " + (error.stack || ""));
  } finally {
    await fetch("/result", { method: "POST", body: JSON.stringify(result) });
  }
}

main();
