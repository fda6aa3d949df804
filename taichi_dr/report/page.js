// The report of a fit: pictures, mesh and loss at the step of one slider. Whatever a user named goes into the page as text, never as markup.
"use strict";
(() => {
  const PER_SECOND = 12; // snapshots while it plays
  const POLL = 2000; // milliseconds between looks for news, of a fit that runs
  const CURVES = 8; // colors of curves in style.css

  const $ = (id) => document.getElementById(id);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const show = (id, shown) => { $(id).hidden = !shown; };
  const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
  const inShort = (x) => {
    if (x === null || x === undefined) return "–";
    const size = Math.abs(x);
    return x !== 0 && (size < 1e-3 || size >= 1e5) ? x.toExponential(2) : String(Number(x.toPrecision(4)));
  };

  let run = JSON.parse($("data").textContent);
  let now = 0; // index of the frame that is shown
  let view = 0;
  let gain = 1;
  let playing = null;

  /* --- What was recorded, by name -------------------------------------------------------------------------------- */

  const known = new Map();
  const once = (key, load) => {
    if (!known.has(key)) {
      const value = load();
      value.catch(() => known.delete(key)); // a run that goes on may have replaced it
      known.set(key, value);
    }
    return known.get(key);
  };
  const bytesOf = async (name) => {
    if (run.blobs) return Uint8Array.from(atob(run.blobs[name]), (c) => c.charCodeAt(0));
    const answer = await fetch(`blobs/${name}`);
    if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
    return new Uint8Array(await answer.arrayBuffer());
  };
  const picture = (name) => once(name, async () => createImageBitmap(new Blob([await bytesOf(name)], { type: "image/webp" })));
  const buffer = (name) => once(name, async () => (await bytesOf(name)).buffer);

  // What is shown of a part that not every frame has: the latest at or before now, else the first; and its step.
  const latest = (pick) => {
    for (let i = now; i >= 0; i--) if (pick(run.frames[i])) return { part: pick(run.frames[i]), step: run.frames[i].step };
    for (let i = now + 1; i < run.frames.length; i++) if (pick(run.frames[i])) return { part: pick(run.frames[i]), step: run.frames[i].step };
    return null;
  };

  /* --- Pictures -------------------------------------------------------------------------------------------------- */

  const paint = (canvas, image, label) => {
    canvas.width = image.width;
    canvas.height = image.height;
    canvas.classList.toggle("small", image.width < 180);
    canvas.setAttribute("aria-label", label);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    return context;
  };

  let painted = 0;
  async function drawPictures() {
    const ticket = ++painted;
    const shown = latest((frame) => frame.pictures[view]);
    const thumbs = run.views.map((_, k) => latest((frame) => frame.pictures[k])?.part[1]);
    try {
      const [target, render, ...small] = await Promise.all([...(shown?.part ?? [null, null]), ...thumbs].map((name) => name && picture(name)));
      if (ticket !== painted) return; // a later frame is on its way
      const of = `${run.views[view]}, step ${shown?.step}`;
      $("view-name").textContent = run.views[view] + (shown && shown.step !== run.frames[now].step ? ` (step ${shown.step.toLocaleString("en")})` : "");
      for (const id of ["target", "difference"]) $(id).closest("figure").hidden = !target;
      if (target) paint($("target"), target, `Target, ${of}`);
      if (render) paint($("render"), render, `Render, ${of}`);
      if (target && render) {
        const context = paint($("difference"), target, `Difference of target and render, ${gain} times, ${of}`);
        context.globalCompositeOperation = "difference";
        context.drawImage(render, 0, 0, target.width, target.height);
        context.globalCompositeOperation = "lighter";
        for (let k = 1; k < gain; k *= 2) context.drawImage(context.canvas, 0, 0);
      }
      small.forEach((image, k) => image && paint($("views").children[k].firstChild, image, ""));
    } catch (error) {
      if (run.blobs) throw error;
    }
  }

  function listViews() {
    view = Math.min(view, Math.max(run.views.length - 1, 0));
    show("views", run.views.length > 1);
    const buttons = run.views.map((name, k) => {
      const button = make("button", { type: "button", title: name, onclick: () => { view = k; listViews(); drawPictures(); } }, make("canvas"));
      button.setAttribute("aria-label", name);
      button.setAttribute("aria-pressed", k === view);
      return button;
    });
    const focus = [...$("views").children].indexOf(document.activeElement);
    $("views").replaceChildren(...buttons);
    buttons[focus]?.focus();
  }

  for (const button of document.querySelectorAll(".picture")) {
    button.onclick = () => {
      const figure = button.closest("figure");
      for (const other of figure.parentElement.children) if (other !== figure) other.classList.remove("large");
      figure.classList.toggle("large");
    };
  }

  /* --- Mesh ------------------------------------------------------------------------------------------------------ */

  // Area-weighted normals of the vertices, so that corners at a seam of the texture share one.
  function normalsOf(positions, faces, source, out) {
    const sums = new Float32Array(positions.length);
    const vertex = (k) => 3 * (source ? source[faces[k]] : faces[k]);
    for (let k = 0; k < faces.length; k += 3) {
      const [a, b, c] = [vertex(k), vertex(k + 1), vertex(k + 2)];
      const [ux, uy, uz] = [positions[b] - positions[a], positions[b + 1] - positions[a + 1], positions[b + 2] - positions[a + 2]];
      const [vx, vy, vz] = [positions[c] - positions[a], positions[c + 1] - positions[a + 1], positions[c + 2] - positions[a + 2]];
      const [x, y, z] = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
      for (const v of [a, b, c]) { sums[v] += x; sums[v + 1] += y; sums[v + 2] += z; }
    }
    for (let k = 0; k < out.length; k += 3) {
      const v = source ? 3 * source[k / 3] : k;
      const length = Math.hypot(sums[v], sums[v + 1], sums[v + 2]) || 1;
      for (let d = 0; d < 3; d++) out[k + d] = sums[v + d] / length;
    }
  }

  function makeViewer(canvas) {
    if (!document.createElement("canvas").getContext("webgl2")) return null; // asked first, since three.js would log an error
    const T = THREE;
    T.ColorManagement.enabled = false; // colors are shown as the pictures show them
    let renderer;
    try {
      renderer = new T.WebGLRenderer({ canvas, antialias: true, alpha: true });
    } catch {
      return null;
    }
    renderer.outputColorSpace = T.LinearSRGBColorSpace;
    renderer.setClearColor(0, 0);
    const scene = new T.Scene();
    const camera = new T.PerspectiveCamera(35, 1, 0.01, 1000);
    const lamp = new T.DirectionalLight(0xffffff, 0.62 * Math.PI); // pi, since three.js divides by it
    lamp.position.set(-0.5, 0.7, 1);
    camera.add(lamp, lamp.target);
    lamp.target.position.set(0, 0, -1);
    scene.add(camera, new T.AmbientLight(0xffffff, 0.4 * Math.PI));
    const plain = { side: T.DoubleSide, flatShading: false };
    const materials = {
      color: new T.MeshLambertMaterial({ ...plain, vertexColors: true }),
      texture: new T.MeshLambertMaterial({ ...plain, map: new T.Texture() }),
      clay: new T.MeshLambertMaterial({ ...plain, color: 0xc9cdd3 }),
      wire: new T.MeshLambertMaterial({ ...plain, color: 0x7f8fa6, wireframe: true }),
    };
    const body = new T.Mesh(new T.BufferGeometry(), materials.clay);
    body.frustumCulled = false;
    scene.add(body);
    const controls = new T.OrbitControls(camera, canvas);
    controls.enableDamping = false;
    let waiting = false;
    const draw = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; renderer.render(scene, camera); });
    };
    controls.addEventListener("change", draw);

    let shown = null; // what the geometry holds
    let look = "color";
    let framed = null;
    const dress = () => {
      if (!shown) return;
      body.material = look !== "color" ? materials[look] : shown.texture ? materials.texture : shown.colored ? materials.color : materials.clay;
      draw();
    };
    const place = () => { // the camera, so that the last mesh fills the view
      if (!framed) return;
      const radius = Math.max(framed.radius, 1e-9) * 1.04;
      const distance = (radius / Math.sin((camera.fov * Math.PI) / 360)) * Math.max(1, 1 / camera.aspect);
      controls.target.fromArray(framed.center);
      camera.position.setFromSpherical(new T.Spherical(distance, 1.3, 0.5)).add(controls.target);
      Object.assign(camera, { near: distance / 100, far: distance * 100 });
      camera.updateProjectionMatrix();
      controls.update();
      draw();
    };
    const resize = () => {
      const { clientWidth: width, clientHeight: height } = canvas.parentElement;
      if (!width || !height) return;
      renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
      renderer.setSize(width, height, false);
      camera.aspect = width / height;
      camera.updateProjectionMatrix();
      draw();
    };
    new ResizeObserver(resize).observe(canvas.parentElement);
    resize();

    let ticket = 0;
    const set = async (mesh) => {
      const mine = ++ticket;
      const [topology, frame, image] = await Promise.all([buffer(mesh.topology), buffer(mesh.frame), mesh.texture && picture(mesh.texture)]);
      if (mine !== ticket) return;
      const N = mesh.corners;
      let start = 0;
      const source = mesh.texture ? new Uint32Array(topology, 0, N) : null;
      const uv = mesh.texture ? new Float32Array(topology, 4 * N, 2 * N) : null;
      if (mesh.texture) start = 12 * N;
      const faces = new Uint32Array(topology, start, 3 * mesh.faces);
      if (shown?.topology !== mesh.topology) {
        body.geometry.dispose();
        body.geometry = new T.BufferGeometry();
        body.geometry.setIndex(new T.BufferAttribute(faces, 1));
        for (const name of ["position", "normal"]) body.geometry.setAttribute(name, new T.BufferAttribute(new Float32Array(3 * N), 3));
        if (uv) body.geometry.setAttribute("uv", new T.BufferAttribute(uv, 2));
      }
      const coordinates = new Int16Array(frame, 0, 3 * mesh.vertices);
      const positions = Float32Array.from(coordinates, (q, k) => mesh.center[k % 3] + mesh.scale * q);
      const { position, normal } = body.geometry.attributes;
      if (source) for (let k = 0; k < 3 * N; k++) position.array[k] = positions[3 * source[Math.floor(k / 3)] + (k % 3)];
      else position.array.set(positions);
      normalsOf(positions, faces, source, normal.array);
      position.needsUpdate = normal.needsUpdate = true;
      if (mesh.colored) body.geometry.setAttribute("color", new T.BufferAttribute(new Uint8Array(frame, 6 * mesh.vertices, 3 * N), 3, true));
      if (image && shown?.texture !== mesh.texture) {
        materials.texture.map.dispose();
        const map = new T.Texture(image);
        Object.assign(map, { flipY: false, colorSpace: T.NoColorSpace, wrapS: 1000, wrapT: 1000, needsUpdate: true }); // 1000 repeats
        materials.texture.map = map;
      }
      shown = mesh;
      canvas.dataset.frame = mesh.frame;
      dress();
    };

    canvas.addEventListener("keydown", (event) => {
      const turn = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[event.key];
      const zoom = { "+": 0.88, "=": 0.88, "-": 1.14 }[event.key];
      if (!turn && !zoom) return;
      event.preventDefault();
      event.stopPropagation();
      const offset = camera.position.clone().sub(controls.target);
      const at = new T.Spherical().setFromVector3(offset);
      at.theta += turn?.[0] ?? 0;
      at.phi = Math.min(Math.max(at.phi + (turn?.[1] ?? 0), 0.02), Math.PI - 0.02);
      at.radius *= zoom ?? 1;
      camera.position.setFromSpherical(at).add(controls.target);
      controls.update();
      draw();
    });
    canvas.addEventListener("webglcontextrestored", draw);
    return { set, place, look: (name) => { look = name; dress(); }, frame: (mesh) => { const first = !framed; framed = mesh; if (first) place(); } };
  }

  let viewer;
  function drawMesh() {
    const { part: mesh, step } = latest((frame) => frame.mesh) ?? {};
    if (!mesh) return;
    $("counts").textContent = `${plural(mesh.vertices, "vertex", "vertices")} · ${plural(mesh.faces, "face")}` +
      (mesh.broken ? ` · ${mesh.broken.toLocaleString("en")} not finite, drawn at the center` : "");
    $("mesh").setAttribute("aria-label", `The mesh at step ${step}; arrow keys turn it, plus and minus zoom`);
    if (viewer === undefined) {
      viewer = makeViewer($("mesh"));
      show("no-webgl", !viewer);
      for (const id of ["mesh", "look", "reset"]) show(id, viewer);
    }
    if (!viewer) return;
    viewer.frame([...run.frames].reverse().find((frame) => frame.mesh).mesh);
    viewer.set(mesh).catch((error) => { if (run.blobs) throw error; });
  }

  /* --- Curves ---------------------------------------------------------------------------------------------------- */

  const hidden = new Set();
  let scale = run.curves[0][1].some((x) => x !== null && x <= 0) ? "linear" : "log"; // what is not positive has no logarithm
  let toStep = null; // from a place on the chart
  const color = (k) => `var(--c${k === 0 ? 0 : 1 + ((k - 1) % (CURVES - 1))})`;

  const ticksOf = (low, high, log) => {
    const ticks = [];
    if (log) {
      const decades = Math.log10(high / low);
      const every = Math.max(1, Math.ceil(decades / 6));
      for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p += every) {
        for (const digit of decades < 1.6 ? [1, 2, 5] : [1]) ticks.push(digit * 10 ** p);
      }
    } else {
      const rough = (high - low) / 4;
      const power = 10 ** Math.floor(Math.log10(rough));
      const stride = [1, 2, 5, 10].map((digit) => digit * power).find((x) => x >= rough);
      for (let k = Math.ceil(low / stride); k * stride <= high; k++) ticks.push(k * stride);
    }
    return ticks.filter((x) => x >= low && x <= high);
  };

  function drawCurves() {
    const svg = $("chart");
    const width = svg.clientWidth, height = svg.clientHeight;
    if (!width || !run.steps.length) return;
    const [left, right, top, bottom] = [54, 10, 6, 24];
    const visible = run.curves.map(([name, values], k) => ({ name, values, k })).filter(({ k }) => !hidden.has(k));
    const all = visible.flatMap(({ values }) => values).filter((x) => x !== null);
    const positive = all.filter((x) => x > 0);
    const log = scale === "log" && positive.length > 0;
    const least = (list) => list.reduce((a, b) => Math.min(a, b), Infinity), most = (list) => list.reduce((a, b) => Math.max(a, b), -Infinity);
    let low = all.length ? least(log ? positive : all) : 0, high = all.length ? most(log ? positive : all) : 1;
    if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - 1, high + 1];
    else if (log) [low, high] = [low / (high / low) ** 0.04, high * (high / low) ** 0.04];
    else [low, high] = [low - 0.04 * (high - low), high + 0.04 * (high - low)];
    const [first, last] = [run.steps[0], Math.max(run.steps[run.steps.length - 1], run.steps[0] + 1)];
    const x = (step) => left + ((step - first) / (last - first)) * (width - left - right);
    const y = (value) => {
      const t = log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
      return top + (1 - t) * (height - top - bottom);
    };
    toStep = (place) => first + ((place - left) / (width - left - right)) * (last - first);

    const parts = [];
    const add = (tag, attributes, text) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      if (text !== undefined) element.textContent = text;
      parts.push(element);
    };
    for (const tick of ticksOf(low, high, log)) {
      add("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) });
      add("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, inShort(tick).replace(/\.?0*e/, "e"));
    }
    for (const tick of ticksOf(first, last, false).filter(Number.isInteger)) {
      add("text", { x: x(tick), y: height - 6, "text-anchor": x(tick) > width - 30 ? "end" : "middle" }, tick.toLocaleString("en"));
    }
    for (const { name, values, k } of [...visible].reverse()) {
      let path = "", drawn = 0; // points since the last gap
      values.forEach((value, i) => {
        if (value !== null && (!log || value > 0)) path += `${drawn++ ? "L" : "M"}${x(run.steps[i]).toFixed(1)} ${y(value).toFixed(1)}`;
        else {
          if (drawn === 1) path += "h0"; // a point between gaps
          drawn = 0;
        }
      });
      if (drawn === 1) path += "h0";
      add("path", { class: k === 0 ? "curve loss" : "curve", d: path, stroke: color(k), "data-name": name });
    }
    // The slider's step.
    const step = run.frames.length ? run.frames[now].step : run.steps[run.steps.length - 1];
    const row = rowOf(step);
    if (run.frames.length && step >= first && step <= last) add("line", { class: "marker", x1: x(step), x2: x(step), y1: top, y2: height - bottom, "data-step": step });
    for (const { values, k } of visible) {
      const value = values[row];
      if (value !== null && (!log || value > 0)) add("circle", { class: "dot", cx: x(run.steps[row]), cy: y(value), r: 4.5, fill: color(k) });
    }
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren(...parts);
    svg.setAttribute("aria-label", `Loss over ${plural(run.count, "step")}: ${run.curves.map(([name, values]) => `${name} ${inShort(values[row])}`).join(", ")} at step ${step}`);
    [...$("legend").children].forEach((item, k) => { item.querySelector("b").textContent = inShort(run.curves[k][1][row]); });
  }

  // The last row at or before a step.
  const rowOf = (step) => {
    let [a, b] = [0, run.steps.length - 1];
    while (a < b) {
      const middle = (a + b + 1) >> 1;
      if (run.steps[middle] <= step) a = middle;
      else b = middle - 1;
    }
    return a;
  };

  function listCurves() {
    $("legend").replaceChildren(...run.curves.map(([name], k) => {
      const mark = make("i");
      mark.style.background = color(k);
      const button = make("button", { type: "button", title: name }, mark, make("span", { textContent: name }), make("b"));
      button.setAttribute("aria-pressed", !hidden.has(k));
      button.onclick = () => {
        if (!hidden.delete(k)) hidden.add(k);
        button.setAttribute("aria-pressed", !hidden.has(k));
        drawCurves();
      };
      return make("li", {}, button);
    }));
  }

  const seek = (event) => {
    if (!toStep || !run.frames.length) return;
    const step = toStep(event.clientX - $("chart").getBoundingClientRect().left);
    const distances = run.frames.map((frame) => Math.abs(frame.step - step));
    pause();
    go(distances.indexOf(Math.min(...distances)));
  };
  $("chart").addEventListener("pointerdown", (event) => { $("chart").setPointerCapture(event.pointerId); seek(event); });
  $("chart").addEventListener("pointermove", (event) => { if (event.buttons) seek(event); });
  new ResizeObserver(() => drawCurves()).observe($("chart"));

  /* --- Time ------------------------------------------------------------------------------------------------------ */

  function go(index) {
    if (!run.frames.length) return;
    now = Math.min(Math.max(index, 0), run.frames.length - 1);
    const { step } = run.frames[now];
    const end = Math.max(run.frames[run.frames.length - 1].step, run.steps[run.steps.length - 1] ?? 0);
    $("time").value = now;
    $("time").setAttribute("aria-valuetext", `step ${step} of ${end}`);
    $("step").replaceChildren(`step ${step.toLocaleString("en")}`, make("small", { textContent: ` / ${end.toLocaleString("en")}` }));
    if (run.views.length) drawPictures();
    drawMesh();
    drawCurves();
  }

  const sign = (path, label) => { $("play-sign").setAttribute("d", path); $("play").setAttribute("aria-label", label); };
  function pause() {
    clearInterval(playing);
    playing = null;
    sign("M7 4.5v15l13-7.5z", "Play");
  }
  function play() {
    if (now === run.frames.length - 1) go(0);
    playing = setInterval(() => {
      if (now === run.frames.length - 1) pause();
      else go(now + 1);
    }, 1000 / PER_SECOND);
    sign("M6 5h4.5v14H6zM13.5 5H18v14h-4.5z", "Pause");
  }
  $("play").onclick = () => (playing === null ? play() : pause());
  $("time").oninput = () => { pause(); go(Number($("time").value)); };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !run.frames.length || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.key !== " ") return;
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: run.frames.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      pause();
      go(to);
    } else if (event.key === " " && event.target.tagName !== "BUTTON" && event.target.tagName !== "A") {
      event.preventDefault();
      $("play").click();
    }
  });

  /* --- The rest of the page -------------------------------------------------------------------------------------- */

  function choice(id, options, chosen, choose) {
    $(id).replaceChildren(...options.map(([value, label, title]) => {
      const button = make("button", { type: "button", textContent: label, title: title ?? "" });
      button.setAttribute("aria-pressed", value === chosen);
      button.onclick = () => {
        for (const other of $(id).children) other.setAttribute("aria-pressed", other === button);
        choose(value);
      };
      return button;
    }));
  }

  const inWords = (seconds) => {
    if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
    const minutes = Math.round(seconds / 60);
    return minutes < 60 ? `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  };
  const rows = (pairs) => pairs.map(([name, value]) => {
    // May break after its dots.
    const head = make("th", { scope: "row" }, ...name.split(".").flatMap((part, k) => (k ? [".", make("wbr"), part] : [part])));
    return make("tr", {}, head, make("td", { textContent: value }));
  });

  function fill() {
    $("title").textContent = run.title;
    const state = run.finished ? "finished" : run.live ? "running" : "stopped before its end";
    const losses = run.curves[0][1].filter((x) => x !== null);
    const facts = [];
    if (run.count) facts.push(!run.finished && run.planned ? `step ${run.count.toLocaleString("en")} of ${run.planned.toLocaleString("en")}` : plural(run.count, "step"), inWords(run.seconds));
    if (losses.length) facts.push(`loss ${inShort(losses[0])} → ${inShort(losses[losses.length - 1])}`);
    if (run.started) facts.push(new Date(run.started).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }));
    const words = [make("span", { className: run.live && !run.finished ? "state running" : "state", textContent: state }), ...facts.map((fact) => make("span", { textContent: fact }))];
    $("summary").replaceChildren(...words.flatMap((word, k) => (k ? [" · ", word] : [word])));
    if (!run.count) $("summary").textContent = run.live && !run.frames.length ? "waiting for the first step" : "";
    const meshes = run.frames.some((frame) => frame.mesh);
    show("mesh-card", meshes);
    show("pictures-card", run.views.length > 0);
    show("curves-card", run.count > 0);
    show("config-card", run.config.length > 0);
    show("versions-card", run.versions.length > 0);
    show("empty", !meshes && !run.views.length && !run.count);
    show("transport", run.frames.length > 1);
    document.querySelector("main").className = `${meshes ? "" : "no-mesh"} ${run.views.length ? "" : "no-pictures"} ${run.config.length ? "" : "no-config"}`;
    show("broken", run.broken > 0);
    $("broken").textContent = `The loss of ${plural(run.broken, "step")} was not a finite number; the curve has gaps there.`;
    $("config").replaceChildren(...rows(run.config));
    $("versions").replaceChildren(...rows(run.versions));
    show("files-part", run.files.length > 0);
    $("files").replaceChildren(...run.files.map((name) => make("li", {}, make("a", { href: encodeURIComponent(name), textContent: name }))));
    $("time").max = Math.max(run.frames.length - 1, 0);
    listViews();
    listCurves();
  }

  choice("look", [["color", "Color"], ["clay", "Clay"], ["wire", "Wire"]], "color", (value) => viewer?.look(value));
  choice("gain", [[1, "×1"], [2, "×2"], [4, "×4"]].map(([n, label]) => [n, label, `The difference, ${n} times as bright`]), 1, (value) => { gain = value; drawPictures(); });
  choice("scale", [["log", "Log"], ["linear", "Linear"]], scale, (value) => { scale = value; drawCurves(); });
  $("reset").onclick = () => viewer?.place();

  fill();
  go(run.frames.length - 1);
  drawCurves();

  /* --- News of a fit that runs ----------------------------------------------------------------------------------- */

  let tag = null;
  async function poll() {
    try {
      const answer = await fetch("data.json", { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
      if (answer.status === 200) {
        tag = answer.headers.get("ETag");
        const following = now === run.frames.length - 1 || !run.frames.length;
        const step = run.frames[now]?.step;
        run = await answer.json();
        fill();
        go(following && playing === null ? run.frames.length - 1 : Math.max(run.frames.findIndex((frame) => frame.step >= step), 0));
        drawCurves();
      }
    } finally {
      setTimeout(() => poll().catch(() => { $("summary").textContent = "The program that serves this page has stopped."; }), POLL);
    }
  }
  if (run.live) poll();
})();
