// Figures, drawn by Observable Plot from the JSON that the page holds. Each number of them stands in a table of the page, too.
"use strict";
(() => {
  let data = {};
  const pen = document.createElement("canvas").getContext("2d");

  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (number) => variable(`--c${number}`);
  const soft = () => variable("--soft");
  const dash = (series) => (series.control ? "5,4" : null);
  const number = d3.format("~g");

  function wide(text, size = 12) {
    pen.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
    return pen.measureText(text).width;
  }

  function short(name, room) {
    if (wide(name) <= room) return name;
    const letters = [...name];
    while (letters.length > 1 && wide(`${letters.join("")}…`) > room) letters.splice(-Math.max(1, Math.floor(letters.length / 12)));
    return `${letters.join("")}…`;
  }

  const margin = (names, most) => Math.ceil(Math.min(most, Math.max(...names.map((name) => wide(name))) + 14));
  const figure = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(3)).toString());
  const shown = (value) => value !== null && value !== undefined;

  function plot(options) {
    const made = Plot.plot({ style: { overflow: "visible", background: "none", fontSize: "12px" }, ...options });
    // Plot adds its style as an element, which the page's policy forbids; site.css has what is needed of it.
    made.querySelectorAll("style").forEach((element) => element.remove());
    made.setAttribute("aria-hidden", "true"); // the figure has a label, and a table its numbers
    return made;
  }

  function titled(title, node) {
    const box = document.createElement("div");
    const head = document.createElement("h5");
    head.textContent = title;
    head.title = title;
    box.append(head, node);
    return box;
  }

  function grid(kind, nodes, n) {
    const box = document.createElement("div");
    box.className = kind;
    box.style.gridTemplateColumns = `repeat(${n}, minmax(0, 1fr))`;
    box.append(...nodes);
    return box;
  }

  // How many panels stand beside each other, and how wide each is; of few panels no row holds one alone.
  function columns(width, least, gap, count) {
    let n = Math.max(1, Math.min(count, Math.floor((width + gap) / (least + gap))));
    if (count <= 8 && n < count) n = Math.ceil(count / Math.ceil(count / n));
    return [n, Math.floor((width - gap * (n - 1)) / n)];
  }

  // ---------------------------------------------------------------------------------------------------------- scores, intervals

  function limits(values, bounds, around) {
    const known = [...values, around].filter(shown);
    let [low, high] = [Math.min(...known), Math.max(...known)];
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    low = bounds[0] === null ? low - room : Math.max(bounds[0], low - room);
    high = bounds[1] === null ? high + room : Math.min(bounds[1], high + room);
    return low < high ? [low, high] : [low - 0.5, high + 0.5];
  }

  function intervals(spec, width) {
    if (!spec.points.length) return null;
    const names = spec.points.map((point, place) => ({ ...point, key: String(place), label: point.rank && point.rank !== "–" ? `${point.rank}  ${point.name}` : point.name }));
    const above = width < 620; // a phone: names stand above their intervals
    const left = above ? 14 : margin(names.map((point) => point.label), width * 0.45);
    const label = new Map(names.map((point) => [point.key, short(point.label, above ? width - 30 : left - 12)]));
    const hue = (point) => (point.control ? soft() : colour(point.colour));
    const x = limits(names.flatMap((point) => [point.value, point.low, point.high]), spec.bounds, spec.trivial);
    const known = names.filter((point) => shown(point.low));
    return plot({
      width,
      height: names.length * (above ? 40 : 25) + 52,
      marginLeft: left,
      marginRight: 14,
      marginBottom: 38,
      marginTop: above ? 22 : 8,
      x: { domain: x, label: spec.label, nice: false, grid: true },
      y: { domain: names.map((point) => point.key), label: null, axis: above ? null : "left", tickFormat: (key) => label.get(key), tickSize: 0, padding: 0.3 },
      marks: [
        shown(spec.trivial) ? Plot.ruleX([spec.trivial], { stroke: soft(), strokeDasharray: "3,3" }) : null,
        Plot.ruleY(known, { y: "key", x1: "low", x2: "high", stroke: hue, strokeWidth: 2.5, strokeOpacity: 0.55 }),
        Plot.dot(names, { x: "value", y: "key", fill: hue, r: 4.5 }),
        above ? Plot.text(names, { x: x[0], y: "key", text: (point) => label.get(point.key), dy: -13, textAnchor: "start" }) : null,
        Plot.tip(names, Plot.pointerY({ x: "value", y: "key", title: (point) => `${point.name}\n${figure(point.value)}${shown(point.low) ? ` [${figure(point.low)}, ${figure(point.high)}]` : ""}`, fill: variable("--ground") })),
      ],
    });
  }

  // ----------------------------------------------------------------------------------------------------------------- strengths

  function units(series) {
    const many = series.filter((one) => one.points.length > 1);
    return [...new Set((many.length ? many : series).map((one) => one.unit))];
  }

  function curves(spec, width) {
    const nodes = [];
    const found = units(spec.series);
    const [n, panel] = columns(width, 250, 22, spec.aspects.length);
    for (const unit of found) {
      const many = spec.series.filter((one) => one.points.length > 1 && one.unit === unit);
      const single = spec.series.filter((one) => one.points.length === 1);
      for (const aspect of spec.aspects) {
        const rows = many.flatMap((one) => one.points.filter((point) => shown(point[aspect])).map((point) => ({ ...one, s: point.s, v: point[aspect] })));
        const level = single.filter((one) => shown(one.points[0][aspect])).map((one) => ({ ...one, v: one.points[0][aspect] }));
        const title = aspect + (found.length > 1 ? ` (${unit || "no unit"})` : "");
        nodes.push(titled(title, plot({
          width: panel,
          height: 240,
          marginLeft: 30,
          marginRight: 12,
          marginBottom: 40,
          x: { label: many.length ? short(`strength${unit ? ` (${unit})` : ""}`, panel - 50) : null, ticks: [...new Set(rows.map((row) => row.s))].filter((_, at, all) => at % Math.ceil(all.length / 7) === 0), tickFormat: number, inset: 4 },
          y: { domain: [0, 2], label: null, grid: true, ticks: 5 },
          marks: [
            Plot.ruleY(level, { y: "v", stroke: (one) => colour(one.colour), strokeDasharray: "2,4", strokeWidth: 1.8 }),
            ...many.map((one) => Plot.line(rows.filter((row) => row.name === one.name), { x: "s", y: "v", stroke: colour(one.colour), strokeWidth: 2.2, strokeDasharray: dash(one) })),
            Plot.dot(rows, { x: "s", y: "v", fill: (one) => colour(one.colour), r: 3 }),
            Plot.tip(rows, Plot.pointer({ x: "s", y: "v", title: (row) => `${row.name}\nstrength ${row.s}: ${figure(row.v)}`, fill: variable("--ground") })),
          ],
        })));
      }
    }
    return grid("panels", nodes, n);
  }

  function tradeoff(spec, width) {
    const points = spec.series.flatMap((one) => one.points.filter((point) => shown(point.concept)).map((point) => ({ ...one, ...point })));
    if (!points.length) return null;
    const many = spec.series.filter((one) => one.points.length > 1);
    const most = Math.max(...points.map((point) => point.concept));
    return plot({
      width: Math.min(width, 760),
      height: Math.min(460, Math.max(320, width * 0.6)),
      marginLeft: 40,
      marginRight: 24,
      marginBottom: 38,
      x: { label: "fluency", domain: limits(points.map((point) => point.fluency), [0, 2], 2), grid: true },
      y: { label: "concept", domain: [0, Math.min(2, Math.max(0.5, most * 1.15))], grid: true },
      marks: [
        ...many.map((one) => Plot.line(points.filter((point) => point.name === one.name), { x: "fluency", y: "concept", stroke: colour(one.colour), strokeWidth: 2, strokeDasharray: dash(one), strokeOpacity: 0.7 })),
        Plot.dot(points, { x: "fluency", y: "concept", fill: (one) => colour(one.colour), r: 4 }),
        Plot.text(points.filter((point) => many.some((one) => one.name === point.name)), { x: "fluency", y: "concept", text: (point) => String(point.s), dy: -10, fontSize: 10.5, fill: soft() }),
        Plot.tip(points, Plot.pointer({ x: "fluency", y: "concept", title: (point) => `${point.name}\nstrength ${point.s}\nconcept ${figure(point.concept)}, fluency ${figure(point.fluency)}`, fill: variable("--ground") })),
      ],
    });
  }

  function multiples(spec, width) {
    const [n, panel] = columns(width, 150, 14, Math.max(spec.concepts.length, 4));
    const nodes = spec.concepts.map((concept) => {
      const rows = spec.series.map((one, place) => one.strengths.map((s, at) => ({ s, v: concept.values[place][at] ?? null })).filter((row) => shown(row.v)));
      return titled(concept.name, plot({
        width: panel,
        height: 110,
        marginLeft: 22,
        marginBottom: 22,
        marginTop: 6,
        marginRight: 8,
        x: { label: null, ticks: 3, tickFormat: number },
        y: { domain: [0, 2], label: null, ticks: [0, 1, 2], tickFormat: number, grid: true },
        style: { overflow: "visible", background: "none", fontSize: "10px" },
        marks: spec.series.map((one, place) => Plot.line(rows[place], { x: "s", y: "v", stroke: colour(one.colour), strokeWidth: one.control ? 1.4 : 2.2, strokeDasharray: one.control ? "4,3" : null, strokeOpacity: one.control ? 0.85 : 1 })),
      }));
    });
    return grid("small", nodes, n);
  }

  function ratings(spec, width) {
    const used = spec.bins.map((bin, place) => ({ bin, place })).filter(({ place }) => spec.rows.some((row) => row.counts.some((counts) => counts[place])));
    const shade = d3.scaleLinear([0, 1, 2], [variable("--r0"), variable("--r1"), variable("--r2")]);
    const [n, panel] = columns(width, 320, 22, spec.aspects.length);
    const left = margin(spec.rows.map((row) => row.name), panel * 0.45);
    return grid("panels", spec.aspects.map((aspect, at) => {
      const rows = spec.rows.flatMap((row, number) => {
        const total = row.counts[at].reduce((sum, count) => sum + count, 0);
        let sum = 0;
        return used.map(({ bin, place }) => ({ key: String(number), name: row.name, bin, count: row.counts[at][place], x1: sum / (total || 1), x2: (sum += row.counts[at][place]) / (total || 1) }));
      });
      return titled(aspect, plot({
        width: panel,
        height: spec.rows.length * 26 + 46,
        marginLeft: left,
        marginRight: 18,
        marginTop: 4,
        marginBottom: 38,
        x: { domain: [0, 1], label: "share of texts", ticks: 3, tickFormat: (value) => `${Math.round(100 * value)} %` },
        y: { domain: spec.rows.map((_, place) => String(place)), label: null, tickSize: 0, tickFormat: (key) => short(spec.rows[Number(key)].name, left - 10), padding: 0.25 },
        marks: [
          Plot.barX(rows, { x1: "x1", x2: "x2", y: "key", fill: (row) => shade(row.bin), insetRight: 0.5, title: (row) => `${row.name}\n${row.count} texts rated ${row.bin}` }),
        ],
      }));
    }), n);
  }

  // ----------------------------------------------------------------------------------------------------------------- detection

  function picker(holder, names, first, redraw) {
    const label = document.createElement("label");
    const select = document.createElement("select");
    label.className = "pick";
    names.forEach((name, place) => select.append(new Option(name, String(place))));
    label.append(first, select);
    holder.before(label);
    select.addEventListener("input", redraw);
    return select;
  }

  function choice(holder, names, first) {
    holder.harnessPick ??= picker(holder, names, first, () => draw(holder.parentElement));
    return Number(holder.harnessPick.value);
  }

  function roc(spec, width, holder) {
    const place = spec.concepts.length ? choice(holder, ["mean over concepts", ...spec.concepts], "curve of") : 0;
    const size = Math.min(width, 480);
    const rows = spec.series
      .map((one) => ({ ...one, points: place === 0 ? one.mean : one.concepts[place - 1] }))
      .filter((one) => one.points)
      .map((one) => ({ ...one, points: one.points.map(([x, y]) => ({ x, y, name: one.name, colour: one.colour })) }));
    return plot({
      width: size,
      height: size,
      marginLeft: 40,
      marginBottom: 36,
      x: { domain: [0, 1], label: "false positive rate", grid: true, ticks: 5 },
      y: { domain: [0, 1], label: "true positive rate", grid: true, ticks: 5 },
      marks: [
        Plot.line([[0, 0], [1, 1]], { stroke: soft(), strokeDasharray: "3,3" }),
        ...rows.map((one) => Plot.line(one.points, { x: "x", y: "y", stroke: colour(one.colour), strokeWidth: 2.2, strokeDasharray: dash(one) })),
        Plot.tip(rows.flatMap((one) => one.points), Plot.pointer({ x: "x", y: "y", title: (row) => `${row.name}\n${figure(row.y)} at ${figure(row.x)}`, fill: variable("--ground") })),
      ],
    });
  }

  function histogram(spec, width, holder) {
    if (!spec.concepts.length) return null;
    const place = choice(holder, spec.concepts, "concept");
    const known = spec.series.filter((one) => one.concepts[place]);
    const [n, panel] = columns(width, 270, 22, known.length);
    const nodes = known.map((one) => {
      const { edges, positives, negatives } = one.concepts[place];
      const bars = [["with the concept", positives, 2], ["without", negatives, 9]].flatMap(([name, counts, hue]) => {
        const total = counts.reduce((sum, count) => sum + count, 0) || 1;
        return counts.map((count, at) => ({ name, count, hue, x1: edges[at], x2: edges[at + 1], share: count / total }));
      });
      return titled(one.name, plot({
        width: Math.min(panel, 520),
        height: 200,
        marginLeft: 44,
        marginBottom: 38,
        x: { label: "score", ticks: 4, tickFormat: number },
        y: { label: null, grid: true, ticks: 4, tickFormat: (value) => `${Math.round(100 * value)} %` },
        marks: [
          Plot.rectY(bars, { x1: "x1", x2: "x2", y1: 0, y2: "share", fill: (bar) => colour(bar.hue), fillOpacity: 0.5, title: (bar) => `${bar.name}: ${bar.count} texts` }),
          Plot.ruleY([0]),
        ],
      }));
    });
    return nodes.length ? grid("panels", [key([["with the concept", 2], ["without", 9]]), ...nodes], n) : null;
  }

  function key(parts) {
    const list = document.createElement("ul");
    list.className = "legend";
    for (const [name, number] of parts) {
      const line = document.createElement("li"), swatch = document.createElement("span");
      swatch.className = `swatch c${number}`;
      line.append(swatch, name);
      list.append(line);
    }
    list.style.gridColumn = "1 / -1";
    return list;
  }

  // -------------------------------------------------------------------------------------------------------------- dictionaries

  function bars(spec, width) {
    const metrics = [...new Set(spec.bars.map((bar) => bar.metric))];
    const [n, panel] = columns(width, 340, 22, metrics.length);
    return grid("panels", metrics.map((metric) => {
      const own = spec.bars.filter((bar) => bar.metric === metric).map((bar, place) => ({ ...bar, key: String(place) }));
      const left = margin(own.map((bar) => bar.subject), panel * 0.4);
      return titled([metric, own[0].better].filter(Boolean).join(" · "), plot({
        width: panel,
        height: own.length * 30 + 44,
        marginLeft: left,
        marginTop: 4,
        marginRight: 20,
        x: { label: null, grid: true, ticks: Math.max(2, Math.floor((panel - left) / 70)), nice: true },
        y: { domain: own.map((bar) => bar.key), label: null, tickSize: 0, tickFormat: (place) => short(own[Number(place)].subject, left - 10), padding: 0.3 },
        marks: [
          Plot.barX(own, { x: "value", y: "key", fill: (bar) => (bar.control ? soft() : colour(0)), fillOpacity: 0.75, title: (bar) => `${bar.subject}: ${figure(bar.value)}` }),
          Plot.ruleY(own.filter((bar) => shown(bar.low)), { y: "key", x1: "low", x2: "high", stroke: "currentColor", strokeWidth: 1.5 }),
          Plot.tickX(own.filter((bar) => shown(bar.trivial)), { x: "trivial", y: "key", stroke: colour(2), strokeWidth: 2, title: (bar) => `the empty answer: ${figure(bar.trivial)}` }),
          Plot.dot(own.filter((bar) => shown(bar.random)), { x: "random", y: "key", stroke: colour(1), strokeWidth: 2, r: 4, title: (bar) => `the random control: ${figure(bar.random)}` }),
          Plot.ruleX([0], { stroke: soft() }),
        ],
      }));
    }), n);
  }

  function arms(spec, width) {
    const [n, panel] = columns(width, 330, 22, spec.panels.length);
    return grid("panels", spec.panels.map((one) => {
      const known = one.arms.filter((arm) => shown(arm.value));
      const names = one.arms.map((arm) => arm.name);
      const left = margin(names, panel * 0.45);
      const seeds = known.flatMap((arm) => arm.seeds.map((seed) => ({ ...seed, name: arm.name, control: arm.control })));
      const hue = (arm) => (arm.control ? soft() : colour(0));
      const lines = [["the empty answer", one.trivial, 2], ["the random dictionary", one.random, 1]].filter(([, value]) => shown(value)).map(([name, value, number]) => ({ name, value, number }));
      const domain = limits([...known.flatMap((arm) => [arm.value, arm.low, arm.high]), ...seeds.map((seed) => seed.value), one.random], one.bounds, one.trivial);
      return titled([one.title, one.better].join(" · "), plot({
        width: panel,
        height: one.arms.length * 32 + 40,
        marginLeft: left,
        marginTop: 4,
        marginRight: 20,
        x: { domain, label: null, grid: true, nice: false, ticks: Math.max(2, Math.floor((panel - left) / 70)), tickFormat: number },
        y: { domain: names, label: null, tickSize: 0, tickFormat: (name) => short(name, left - 10), padding: 0.3 },
        marks: [
          Plot.ruleX(lines, { x: "value", stroke: (line) => colour(line.number), strokeDasharray: "4,3", strokeWidth: 1.5, title: (line) => `${line.name}: ${figure(line.value)}` }),
          Plot.ruleY(known.filter((arm) => shown(arm.low)), { y: "name", x1: "low", x2: "high", stroke: hue, strokeWidth: 2.5, strokeOpacity: 0.5 }),
          Plot.dot(seeds, { x: "value", y: "name", stroke: hue, fill: variable("--ground"), r: 3, dy: 8 }),
          Plot.dot(known, { x: "value", y: "name", fill: hue, r: 5 }),
          Plot.tip(known, Plot.pointerY({ x: "value", y: "name", title: (arm) => `${arm.name}: ${figure(arm.value)}${shown(arm.low) ? ` [${figure(arm.low)}, ${figure(arm.high)}]` : ""}\n${arm.seeds.map((seed) => `${seed.seed ? `seed ${seed.seed}: ` : ""}${figure(seed.value)}`).join("\n")}`, fill: variable("--ground") })),
        ],
      }));
    }), n);
  }

  function sparsity(spec, width) {
    const [n, panel] = columns(width, 340, 22, 2);
    const axes = [["width", "features of the dictionary"], ["l0", "L0: features that fire on a token"]];
    return grid("panels", axes.map(([name, label]) => {
      const points = spec.points.filter((point) => shown(point[name]) && point[name] > 0);
      if (!points.length) return null;
      const hue = (point) => (point.control ? soft() : colour(0));
      return titled(label, plot({
        width: panel,
        height: 270,
        marginLeft: 40,
        marginBottom: 40,
        marginRight: 20,
        x: { type: "log", label: name === "l0" ? "L0" : "width", ticks: 4, tickFormat: (value) => d3.format("~s")(value), nice: true },
        y: { label: spec.label, grid: true },
        marks: [
          Plot.ruleX(points.filter((point) => shown(point.low)), { x: name, y1: "low", y2: "high", stroke: hue, strokeOpacity: 0.35 }),
          Plot.dot(points, { x: name, y: "score", fill: hue, r: 4, fillOpacity: 0.8 }),
          Plot.tip(points, Plot.pointer({ x: name, y: "score", title: (point) => `${point.name}\n${point.sae}: ${figure(point.score)}`, fill: variable("--ground") })),
        ],
      }));
    }).filter(Boolean), n);
  }

  function pair(spec, width) {
    const size = Math.min(width, 460);
    const values = spec.points.flatMap((point) => [point.a, point.b]);
    const domain = limits(values, [null, null], null);
    return plot({
      width: size,
      height: size,
      marginLeft: 44,
      marginBottom: 38,
      x: { domain, label: spec.first, grid: true },
      y: { domain, label: spec.second, grid: true },
      marks: [
        Plot.line([[domain[0], domain[0]], [domain[1], domain[1]]], { stroke: soft(), strokeDasharray: "3,3" }),
        Plot.dot(spec.points, { x: "a", y: "b", fill: colour(0), fillOpacity: 0.65, r: 4 }),
        Plot.tip(spec.points, Plot.pointer({ x: "a", y: "b", title: (point) => `${point.name}\n${figure(point.a)} and ${figure(point.b)}`, fill: variable("--ground") })),
      ],
    });
  }

  // ----------------------------------------------------------------------------------------------------------------- training

  function training(spec, width) {
    const [n, panel] = columns(width, 300, 22, spec.panels.length);
    const hue = (loss) => colour(loss === "training" ? 0 : 1);
    return grid("panels", spec.panels.map((one) => {
      const kinds = [...new Set(one.points.map((point) => point.loss))];
      const of = (loss) => one.points.filter((point) => point.loss === loss);
      return titled(one.name, plot({
        width: panel,
        height: 240,
        marginLeft: 44,
        marginRight: 14,
        marginBottom: 40,
        x: { label: "step", grid: false, ticks: Math.max(2, Math.floor(panel / 80)) },
        y: { label: "loss", grid: true, ticks: 5, zero: true },
        marks: [
          ...kinds.map((loss) => Plot.areaY(of(loss), { x: "step", y1: "low", y2: "high", fill: hue(loss), fillOpacity: 0.15 })),
          ...kinds.map((loss) => Plot.line(of(loss), { x: "step", y: "mean", stroke: hue(loss), strokeWidth: 2.2, strokeDasharray: loss === "training" ? null : "5,4" })),
          Plot.dot(one.points, { x: "step", y: "mean", fill: (point) => hue(point.loss), r: 3 }),
          Plot.tip(one.points, Plot.pointer({ x: "step", y: "mean", title: (point) => `${point.loss}\nstep ${figure(point.step)}: ${figure(point.mean)} [${figure(point.low)}, ${figure(point.high)}]`, fill: variable("--ground") })),
        ],
      }));
    }), n);
  }

  // ---------------------------------------------------------------------------------------------------------------- the figures

  const KINDS = { intervals, curves, tradeoff, multiples, ratings, roc, histogram, bars, arms, sparsity, pair, training };

  function draw(figure) {
    const spec = data[figure.id], holder = figure.querySelector(".plot");
    const width = Math.floor(holder.clientWidth);
    if (!spec || width < 40) return;
    const made = KINDS[spec.type](spec, width, holder);
    if (made === null) figure.hidden = true;
    else holder.replaceChildren(made);
    figure.dataset.drawn = String(width);
  }

  const again = () => document.querySelectorAll("figure[data-drawn]").forEach(draw);

  window.harnessFigure = (figure, spec) => { data[figure.id] = spec; draw(figure); };
  document.addEventListener("DOMContentLoaded", () => {
    const block = document.getElementById("figures");
    if (block) data = JSON.parse(block.textContent);
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
    }, { rootMargin: "400px" });
    document.querySelectorAll("figure[data-chart]").forEach((figure) => seen.observe(figure));
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    window.addEventListener("beforeprint", () => document.querySelectorAll("figure[data-chart]").forEach(draw));
    let width = window.innerWidth, waiting = 0;
    window.addEventListener("resize", () => {
      if (window.innerWidth === width) return; // a phone's address bar that comes and goes
      width = window.innerWidth;
      clearTimeout(waiting);
      waiting = setTimeout(again, 120);
    });
  });
})();
