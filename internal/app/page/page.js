// A small chat client for each region, speaking roam.v1.json (docs/protocol.md).
"use strict";

const USER = "alice", TOKEN = "dev:alice";
const LONG = "Tell me word for word and without any hurry what a message goes through from the moment it leaves a phone in one city " +
  "until it is read in another because I am about to lose my network in a tunnel and I would like to see that whatever was said " +
  "by then is still there and that whatever was not said yet follows without a gap and without a single word said twice 好吗";
const enc = new TextEncoder(), dec = new TextDecoder();
const closed = (state) => ["done", "failed", "stopped"].includes(state);
const $ = (root, sel) => root.querySelector(sel);

// newOID makes an id that is unique in its session: time, then 80 random bits.
function newOID() {
  const rnd = crypto.getRandomValues(new Uint8Array(10));
  return Date.now().toString(36) + "-" + Array.from(rnd, (b) => b.toString(16).padStart(2, "0")).join("");
}

// Device is what a device holds of a session, wherever it is connected: its state, its token and its outbox.
class Device {
  constructor() {
    this.entries = new Map(); // oid -> entry
    this.map = new Map(); // key -> {v, hlc}
    this.hlcs = new Map(); // register of an edit, deletion or reaction -> the greatest stamp seen
    this.outbox = []; // ops that are not safe yet: {op, stage}
    this.stages = new Map(); // oid -> sent, stored, safe or refused
    this.cur = "";
    this.doubted = new Set();
  }

  log() {
    const by = (x, y) => (x < y ? -1 : x > y ? 1 : 0);
    return [...this.entries.values()].sort((a, b) => a.seq - b.seq || by(a.at, b.at) || by(a.oid, b.oid));
  }

  snap(f) {
    this.entries.clear();
    this.map = new Map(Object.entries(f.map || {}));
    this.hlcs.clear();
    for (const e of f.log || []) this.entry(e);
  }

  // entry takes an entry; of an answer, a shorter text of the attempt that is held already is what was sent before.
  entry(e) {
    const held = this.entries.get(e.oid);
    if (held && e.k === "run") {
      if (e.ep < held.ep || (e.ep === held.ep && closed(held.state) && !closed(e.state))) {
        e = { ...held, seq: e.seq, at: e.at };
      } else if (e.text === undefined || (e.ep === held.ep && !closed(e.state) && held.text.startsWith(e.text))) {
        e.text = held.text;
      }
    }
    e.text = e.text || "";
    this.entries.set(e.oid, e);
  }

  // tok takes a piece: true if it fitted or was known, false if something is missing before it.
  tok(f) {
    const e = this.entries.get(f.run);
    if (!e || f.ep < e.ep || (f.ep === e.ep && closed(e.state))) return true;
    const held = enc.encode(e.text), piece = enc.encode(f.d);
    if (f.off > held.length) return false;
    if (f.ep > e.ep) {
      Object.assign(e, { ep: f.ep, state: "running", text: dec.decode(held.subarray(0, f.off)) + f.d });
    } else if (f.off + piece.length > held.length) {
      e.text += dec.decode(piece.subarray(held.length - f.off));
    }
    return true;
  }

  mapOp(o) {
    const key = o.k === "set" ? o.key : undefined;
    if (o.k === "set") {
      if (o.hlc > (this.map.get(key)?.hlc || "")) this.map.set(key, { v: o.v, hlc: o.hlc });
      return;
    }
    const reg = o.k === "react" ? ["react", o.of, o.user, o.v].join(" ") : "text " + o.of;
    const e = this.entries.get(o.of);
    if (!e || !(o.hlc > (this.hlcs.get(reg) || ""))) return;
    this.hlcs.set(reg, o.hlc);
    if (o.k === "edit") Object.assign(e, { text: o.text, edited: true, deleted: false });
    if (o.k === "del") Object.assign(e, { text: "", deleted: true });
  }

  take(items) {
    for (const it of items || []) it.k === "msg" || it.k === "run" ? this.entry(it) : this.mapOp(it);
  }

  // stored places an own op: a region does not send it back to the connection that put it.
  stored(p, at) {
    if (!at) return;
    if (p.op.k === "msg") {
      const held = this.entries.get(p.op.oid);
      this.entry({ k: "msg", user: USER, role: "user", text: p.op.text, ...held, oid: p.op.oid, seq: at.seq, at: at.at });
    } else if (p.op.k === "set") {
      this.mapOp({ ...p.op, hlc: at.hlc });
    }
  }

  safe(oids) {
    for (const oid of oids) this.stages.set(oid, "safe");
    this.outbox = this.outbox.filter((p) => !oids.includes(p.op.oid));
  }
}

// Pane is a region's part of the page: one connection, and the device that uses it.
class Pane {
  constructor(region, session) {
    Object.assign(this, { region, session, device: new Device(), tries: 0, live: false, behind: false, nextID: 1, puts: new Map() });
    this.el = $(document, "#pane").content.cloneNode(true).firstElementChild;
    $(this.el, "h2").textContent = region.name;
    $(this.el, ".cut").onclick = () => this.cut();
    $(this.el, ".move").onclick = () => moveTo(this);
    $(this.el, ".stop").onclick = () => this.put({ k: "stop" });
    $(this.el, ".long").onclick = () => { $(this.el, "textarea").value = LONG; };
    $(this.el, ".title").onchange = (e) => this.put({ k: "set", key: "title", v: e.target.value || null });
    $(this.el, ".say").onsubmit = (e) => { e.preventDefault(); this.say(); };
    $(this.el, "textarea").onkeydown = (e) => { if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); this.say(); } };
  }

  event(text) {
    const box = $(this.el, ".events");
    const line = document.createElement("div");
    line.textContent = new Date().toISOString().slice(11, 23) + " " + text;
    box.append(line);
    while (box.childElementCount > 100) box.firstChild.remove();
    box.scrollTop = box.scrollHeight;
  }

  connect() {
    clearTimeout(this.timer);
    this.status("connecting", "wait");
    const ws = (this.ws = new WebSocket(this.region.url, "roam.v1.json"));
    this.puts.clear();
    Object.assign(this, { live: false, asking: 0, gaps: 0, started: performance.now() });
    ws.onopen = () => {
      this.asking = this.nextID++;
      const open = { s: this.session, tail: 100 };
      if (this.device.cur) open.cur = this.device.cur;
      this.send({ t: "hello", id: this.asking, token: TOKEN, device: "page-" + this.region.name, agent: "roam-page", open: [open] });
    };
    ws.onmessage = (m) => { if (ws === this.ws) for (const line of m.data.split("\n")) if (line.trim()) this.receive(JSON.parse(line)); };
    ws.onclose = (e) => { if (ws === this.ws) this.lost(e.code, e.reason); };
  }

  lost(code, reason) {
    this.ws = null;
    this.live = false;
    clearTimeout(this.beat);
    for (const p of this.device.outbox) p.sent = false;
    if (code >= 4500 && code < 5000) return this.status(`refused: ${code} ${reason}`, "");
    const wait = Math.random() * Math.min(30000, 500 * 2 ** this.tries++);
    this.status("offline", "");
    this.event(`connection lost (${code})`);
    this.timer = setTimeout(() => this.connect(), wait);
  }

  // hangUp leaves without coming back by itself.
  hangUp() {
    clearTimeout(this.timer);
    clearTimeout(this.beat);
    const ws = this.ws;
    this.ws = null;
    this.live = false;
    if (ws) ws.close();
    for (const p of this.device.outbox) p.sent = false;
  }

  // cut drops the connection and stays away long enough to be seen.
  cut() {
    const bytes = this.bytes();
    this.hangUp();
    this.status("cut", "");
    this.event("✂ cut" + (bytes ? ` at byte ${bytes} of the answer` : ""));
    this.timer = setTimeout(() => this.connect(), 1500);
  }

  // bytes is how much there is of the answer that comes now.
  bytes() {
    const run = this.device.log().findLast((e) => e.k === "run" && !closed(e.state));
    return run ? enc.encode(run.text).length : 0;
  }

  send(f) { if (this.ws?.readyState === WebSocket.OPEN) this.ws.send(JSON.stringify(f)); }

  receive(f) {
    clearTimeout(this.beat);
    this.beat = setTimeout(() => this.ws?.close(), 60000);
    const d = this.device;
    if (f.t === "ping") return this.send({ t: "pong" });
    if (f.t === "welcome") { this.tries = 0; this.putAll(); return; }
    if (f.t === "err") return this.refused(f);
    if (f.s !== this.session) return;
    const answers = this.asking && (f.t === "snap" || (f.t === "delta" && (f.id === this.asking || !this.live)));
    if (answers) this.resumed(f);
    let whole = true;
    if (f.t === "snap") { d.snap(f); if (f.why === "resync") this.putAll(true); }
    if (f.t === "delta") d.take(f.ops);
    if (f.t === "tok") whole = d.tok(f);
    if (f.t === "tok" && whole) this.gaps = 0;
    if (f.t === "ok") this.stored(f);
    if (f.t === "safe") d.safe(f.oids);
    if (!whole && !this.asking) this.ask(++this.gaps > 1);
    if (f.cur && !this.asking && whole) d.cur = f.cur;
    if (f.behind !== undefined) this.behind = f.behind;
    if (f.t === "snap" || f.t === "delta") this.verify();
    draw(this);
  }

  resumed(f) {
    const bytes = this.bytes();
    if (!this.live) {
      const what = f.t === "snap" ? `a snap (${f.why})` : "the rest" + (bytes ? ` after byte ${bytes}` : "");
      this.event(`connected in ${(performance.now() - this.started).toFixed(1)} ms; the region sends ${what}`);
    }
    Object.assign(this, { asking: 0, live: true, behind: false });
    this.status("connected", "on");
  }

  // ask opens the session again: what is missing, or (fresh) all of it.
  ask(fresh) {
    this.asking = this.nextID++;
    const open = { t: "open", id: this.asking, s: this.session, tail: 100 };
    if (!fresh && this.device.cur) open.cur = this.device.cur;
    this.event("something is missing: asking again");
    this.send(open);
  }

  // verify holds closed answers against their length and sum; one that differs is asked for again, once.
  async verify() {
    for (const e of this.device.entries.values()) {
      if (e.k !== "run" || !closed(e.state) || !e.sum || e.verified === e.sum) continue;
      const text = e.text, sum = await sumOf(text);
      if (e.text !== text) continue;
      e.verified = e.sum;
      const wrong = (sum && sum !== e.sum) || enc.encode(text).length !== e.len;
      if (wrong && !this.device.doubted.has(e.oid)) {
        this.device.doubted.add(e.oid);
        this.event("an answer is not what its sum says");
        if (!this.asking) this.ask(true);
      }
      e.checked = !wrong;
      draw(this);
    }
  }

  say() {
    const box = $(this.el, "textarea"), text = box.value.trim();
    if (!text) return;
    const op = { k: "msg", text };
    if ($(this.el, "input[type=checkbox]").checked) op.run = {};
    this.put(op);
    box.value = "";
  }

  put(op) {
    goTo(this);
    this.device.outbox.push({ op: { ...op, oid: newOID() }, sent: false });
    this.putAll();
    draw(this);
  }

  // putAll puts what was not put on this connection, in order.
  putAll(again) {
    if (this.ws?.readyState !== WebSocket.OPEN) return;
    for (const p of this.device.outbox) {
      if (p.sent && !again) continue;
      const id = this.nextID++;
      this.puts.set(id, p);
      p.sent = true;
      if (!this.device.stages.has(p.op.oid)) this.device.stages.set(p.op.oid, "sent");
      this.send({ t: "put", id, s: this.session, ops: [p.op] });
    }
  }

  stored(f) {
    const p = this.puts.get(f.id);
    if (!p) return;
    this.puts.delete(f.id);
    this.device.stages.set(p.op.oid, "stored");
    this.device.stored(p, (f.at || []).find((a) => a.oid === p.op.oid));
    if (f.safe) this.device.safe([p.op.oid]);
  }

  refused(f) {
    const p = this.puts.get(f.id);
    this.event(`${f.code}: ${f.msg}`);
    if (f.id === this.asking) { this.asking = 0; if (f.retry !== undefined) setTimeout(() => this.ws && this.ask(false), f.retry); }
    if (!p) return;
    this.puts.delete(f.id);
    if (f.retry !== undefined) {
      p.sent = false;
      setTimeout(() => this.putAll(), f.retry);
    } else {
      this.device.stages.set(p.op.oid, "refused");
      this.device.outbox = this.device.outbox.filter((q) => q !== p);
    }
    draw(this);
  }

  status(text, dot) {
    this.text = text;
    $(this.el, ".dot").className = "dot " + dot;
    draw(this);
  }

  draw() {
    const d = this.device, box = $(this.el, ".log"), down = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    this.el.classList.toggle("here", this === here);
    $(this.el, ".move").disabled = this === here;
    const waiting = d.outbox.length ? ` · ${d.outbox.length} not safe yet` : "";
    $(this.el, ".state").textContent = this.text + (this.behind ? " · behind" : "") + waiting;
    const title = $(this.el, ".title");
    if (document.activeElement !== title) title.value = d.map.get("title")?.v ?? "";
    const pending = d.outbox.filter((p) => p.op.k === "msg" && !d.entries.has(p.op.oid))
      .map((p) => ({ k: "msg", oid: p.op.oid, user: USER, text: p.op.text, pending: true }));
    box.replaceChildren(...d.log().concat(pending).map((e) => entryNode(e, d)));
    if (down) box.scrollTop = box.scrollHeight;
  }
}

function entryNode(e, d) {
  const node = document.createElement("div"), text = document.createElement("span"), meta = document.createElement("small");
  node.className = "entry" + (e.k === "msg" && e.user === USER ? " mine" : "") + (e.k === "run" && !closed(e.state) ? " running" : "");
  text.className = "text";
  text.textContent = e.deleted ? "(deleted)" : e.text;
  const words = [];
  if (e.k === "run") {
    words.push(e.model || "default model", e.state, enc.encode(e.text).length + " bytes");
    if (e.checked) words.push("sum ✓");
    if (e.err) words.push(JSON.stringify(e.err));
  } else {
    words.push(e.user, e.device || "here");
  }
  if (e.seq) words.push("#" + e.seq, (e.at || "").split(".")[0]);
  meta.textContent = words.join(" · ");
  const stage = d.stages.get(e.oid) || (e.pending ? "waiting" : "");
  if (stage) {
    const mark = document.createElement("span");
    mark.className = stage;
    mark.textContent = " · " + { waiting: "… waiting", sent: "↑ sent", stored: "✓ stored", safe: "✓✓ safe", refused: "✗ refused" }[stage];
    meta.append(mark);
  }
  node.append(text, meta);
  return node;
}

// sumOf is the first 16 hex digits of a text's SHA-256; "" where the browser does not offer it.
async function sumOf(text) {
  if (!crypto.subtle) return "";
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", enc.encode(text)));
  return Array.from(sum.slice(0, 8), (b) => b.toString(16).padStart(2, "0")).join("");
}

let panes = [], here = null, dirty = new Set();

// draw shows a pane at the next frame, however often it changes until then.
function draw(pane) {
  if (dirty.size === 0) requestAnimationFrame(() => { const all = dirty; dirty = new Set(); for (const p of all) p.draw(); });
  dirty.add(pane);
}

function goTo(pane) {
  const before = here;
  here = pane;
  if (before) draw(before);
  draw(pane);
}

// moveTo takes the user from where they are to a pane: with what they saw, their token and their outbox. The device
// that was there becomes a new one where they came from.
function moveTo(pane) {
  const from = here;
  if (!from || from === pane) return;
  const bytes = from.bytes();
  from.hangUp();
  pane.hangUp();
  pane.device = from.device;
  from.device = new Device();
  from.event(`left for ${pane.region.name}` + (bytes ? ` at byte ${bytes} of the answer` : ""));
  pane.event(`arrived from ${from.region.name} with its token`);
  goTo(pane);
  pane.connect();
  from.connect();
}

async function start() {
  const name = decodeURIComponent(location.hash.slice(1)) || "demo";
  const form = $(document, "#pick");
  $(document, "#name").value = name;
  form.onsubmit = (e) => { e.preventDefault(); location.hash = $(document, "#name").value; location.reload(); };
  const regions = await (await fetch("regions.json")).json();
  panes = regions.map((r) => new Pane(r, USER + "/" + name));
  $(document, "#panes").replaceChildren(...panes.map((p) => p.el));
  here = panes[0] || null;
  for (const p of panes) p.connect();
}

window.addEventListener("hashchange", () => location.reload());
start();
