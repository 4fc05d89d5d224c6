"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const root = document.documentElement;
  const tip = document.getElementById("tip");
  const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}\u00a0%`;

  function make(name, settings = {}, text = null) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(settings)) node.setAttribute(key, value);
    if (text !== null) node.textContent = text;
    return node;
  }

  function html(name, className = "", text = null) {
    const node = document.createElement(name);
    if (className) node.className = className;
    if (text !== null) node.textContent = text;
    return node;
  }

  // ---- theme

  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try { chosen = localStorage.getItem("layerprobe-theme"); } catch { /* a page from a file may have no storage */ }
  const dark = () => (chosen ? chosen === "dark" : system.matches);
  function showTheme() {
    root.style.colorScheme = chosen || "";
    button.textContent = dark() ? "Light theme" : "Dark theme";
  }
  button.addEventListener("click", () => {
    chosen = dark() ? "light" : "dark";
    try { localStorage.setItem("layerprobe-theme", chosen); } catch { /* then it holds for this visit */ }
    showTheme();
  });
  system.addEventListener("change", showTheme);
  showTheme();

  // ---- the table of contents: beside the page where there is room, folded above it where there is not

  const contents = document.querySelector(".toc details");
  const roomy = matchMedia("(min-width: 76.01rem)");
  const fold = () => { contents.open = roomy.matches; };
  roomy.addEventListener("change", fold);
  fold();
  const entries = new Map([...contents.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  contents.addEventListener("click", (event) => { if (event.target.closest("a") && !roomy.matches) contents.open = false; });
  function showPlace() {
    // The last part whose top has passed the upper third of the window.
    const tops = [...entries.keys()].map((id) => [id, document.getElementById(id).getBoundingClientRect().top]);
    const [current] = tops.filter(([, top]) => top < innerHeight / 3).pop() || tops[0];
    for (const [id, link] of entries) id === current ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  }
  addEventListener("scroll", showPlace, { passive: true });
  showPlace();

  // ---- images: tiles of one picture

  function sheetOf(about) {
    const picture = new Image();
    const ready = new Promise((done) => { picture.onload = done; });
    picture.src = about.address;
    return (tile, label) => {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = about.side;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", label);
      ready.then(() => {
        const x = (tile % about.columns) * about.side;
        const y = Math.floor(tile / about.columns) * about.side;
        canvas.getContext("2d").drawImage(picture, x, y, about.side, about.side, 0, 0, about.side, about.side);
      });
      return canvas;
    };
  }

  // ---- what is told of the point under the pointer, or chosen by the arrow keys

  function showTip(target, x, y, tileOf) {
    tip.replaceChildren();
    if (tileOf && target.dataset.tile) tip.append(tileOf(Number(target.dataset.tile), ""));
    const [first, ...rest] = target.dataset.tip.split("\n");
    tip.append(html("b", "", first), rest.join("\n"));
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = x + 14 + box.width > innerWidth ? x - 14 - box.width : x + 14;
    tip.style.left = `${Math.max(4, Math.min(left, innerWidth - box.width - 4))}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - box.height - 4))}px`;
  }

  function listen(chart, tileOf = null) {
    let at = null;
    const leave = () => { at?.classList.remove("at"); at = null; tip.hidden = true; };
    const follow = (event) => {
      const target = event.target.closest("[data-tip]");
      leave();
      if (target) showTip(target, event.clientX, event.clientY, tileOf);
    };
    chart.addEventListener("pointermove", follow);
    chart.addEventListener("pointerdown", follow);
    chart.addEventListener("pointerleave", leave);
    chart.addEventListener("blur", leave);
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") leave();
      if (!step) return;
      event.preventDefault();
      const points = [...chart.querySelectorAll("[data-tip]")];
      if (!points.length) return;
      const place = at ? points.indexOf(at) + step : step > 0 ? 0 : points.length - 1;
      leave();
      at = points[(place + points.length) % points.length];
      at.classList.add("at");
      const box = at.getBoundingClientRect();
      showTip(at, box.right, box.bottom, tileOf);
    });
  }
  document.querySelectorAll("svg.chart").forEach((chart) => listen(chart));
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  // ---- tables that sort

  document.querySelectorAll("table.sortable").forEach((table) => {
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      header.querySelector("button").addEventListener("click", () => {
        const number = header.classList.contains("number");
        const before = header.getAttribute("aria-sort");
        // The largest numbers first, the first letters first; the next click turns it round.
        const down = before === "none" ? number : before === "ascending";
        const value = (row) => row.cells[column].dataset.v;
        const rows = [...table.tBodies[0].rows].sort((one, other) => {
          const [a, b] = [value(one), value(other)];
          if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
          const order = number ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
          return down ? -order : order;
        });
        headers.forEach((each) => each.setAttribute("aria-sort", "none"));
        header.setAttribute("aria-sort", down ? "descending" : "ascending");
        table.tBodies[0].append(...rows);
      });
    });
  });

  // ---- a link into closed details opens them

  function openTarget() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    if (target) target.scrollIntoView();
  }
  addEventListener("hashchange", openTarget);
  openTarget();

  // ---- a figure as a file: the theme's colours are written into a copy, the light ones, for paper

  const WRITTEN = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap",
    "stroke-linejoin", "opacity", "paint-order", "font-family", "font-size", "font-weight", "text-anchor",
    "dominant-baseline", "image-rendering"];

  function standalone(chart) {
    const copy = chart.cloneNode(true);
    root.style.colorScheme = "light";
    const nodes = [chart, ...chart.querySelectorAll("*")];
    const copies = [copy, ...copy.querySelectorAll("*")];
    nodes.forEach((node, place) => {
      const style = getComputedStyle(node);
      for (const name of WRITTEN) copies[place].setAttribute(name, style.getPropertyValue(name));
      for (const name of ["class", "tabindex", "data-tip", "data-tile"]) copies[place].removeAttribute(name);
    });
    showTheme();
    const [, , width, height] = chart.getAttribute("viewBox").split(" ").map(Number);
    copy.setAttribute("xmlns", SVG);
    copy.setAttribute("width", width);
    copy.setAttribute("height", height);
    const sheet = make("rect", { width, height, fill: "#ffffff" });
    copy.prepend(make("title", {}, chart.getAttribute("aria-label")), sheet);
    return new XMLSerializer().serializeToString(copy);
  }

  document.querySelectorAll("button.download").forEach((each) => {
    each.addEventListener("click", () => {
      const charts = [...each.closest("figure").querySelectorAll("svg.chart")];
      const chart = charts.find((one) => one.getClientRects().length);
      if (!chart) return;
      const blob = new Blob([standalone(chart)], { type: "image/svg+xml" });
      const link = html("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${each.dataset.name}.svg`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
  });

  // ---- confusion matrices

  const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

  function drawConfusion(classes, { counts, outside }, name, room) {
    const size = classes.length;
    const names = classes.map((each) => cut(each, 14));
    const longest = Math.max(...names.map((each) => each.length));
    const left = 30 + 7 * longest;
    // As large as the page allows: letters keep their size, cells give way.
    const cell = Math.max(20, Math.min(44, Math.floor((room - left - 8) / size)));
    const slanted = 7 * longest > cell - 6;
    const top = 30 + (slanted ? 5.2 * longest + 6 : 16);
    const [width, height] = [left + size * cell + (slanted ? 40 : 8), top + size * cell + 8];
    const right = counts.reduce((sum, row, place) => sum + row[place], 0);
    const all = counts.flat().reduce((sum, count) => sum + count, outside);
    const chart = make("svg", {
      class: "chart square", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", tabindex: 0,
      "aria-label": `Confusion matrix of ${name}: ${right} of ${all} test images right`,
    });
    chart.append(make("text", { x: left + (size * cell) / 2, y: 14, class: "label strong", "text-anchor": "middle" }, "said"));
    const middle = top + (size * cell) / 2;
    chart.append(make("text", { x: 12, y: middle, class: "label strong", "text-anchor": "middle",
      transform: `rotate(-90 12 ${middle})` }, "truth"));
    names.forEach((each, place) => {
      const [x, y] = [left + (place + 0.5) * cell, top + (place + 0.5) * cell];
      const turn = slanted ? { transform: `rotate(-40 ${x} ${top - 8})`, "text-anchor": "start" } : { "text-anchor": "middle" };
      chart.append(make("text", { x, y: top - 8, class: "label", ...turn }, each));
      chart.append(make("text", { x: left - 8, y: y + 4, class: "label", "text-anchor": "end" }, each));
    });
    counts.forEach((row, truth) => {
      const support = row.reduce((sum, count) => sum + count, 0);
      row.forEach((count, said) => {
        const share = support ? count / support : 0;
        const cellOf = make("rect", { x: left + said * cell + 1, y: top + truth * cell + 1, width: cell - 2, height: cell - 2, rx: 3,
          class: `cell ${count ? (truth === said ? "right" : "wrong") : ""}` });
        if (count) cellOf.setAttribute("fill-opacity", (0.2 + 0.5 * Math.sqrt(share)).toFixed(3));
        cellOf.dataset.tip = `${classes[truth]} taken for ${classes[said]}\n${count.toLocaleString("en")} of ` +
          `${support.toLocaleString("en")} test images (${percent(share)})`;
        if (truth === said) cellOf.dataset.tip = cellOf.dataset.tip.replace("taken for", "said to be");
        chart.append(cellOf);
        if (count && cell >= 7.2 * String(count).length) {
          const at = { x: left + (said + 0.5) * cell, y: top + (truth + 0.5) * cell + 4, class: "count", "text-anchor": "middle" };
          chart.append(make("text", at, String(count)));
        }
      });
    });
    return chart;
  }

  // ---- what was wrong

  function showErrors(block, about, tileOf) {
    const { all, sure, shown } = about;
    const how = sure ? "the ones that it was most sure of first" : "in the data set's order, since it gives no probabilities";
    block.querySelector("[data-counted]").textContent =
      `${shown.length.toLocaleString("en")} of ${all.toLocaleString("en")} wrong test image${all === 1 ? "" : "s"}, ${how}.`;
    block.querySelector("[data-gallery]").replaceChildren(...shown.map(([tile, row, truth, said, sureness]) => {
      const figure = html("figure");
      const told = said === null ? "no class of the data set" : said;
      const caption = html("figcaption");
      caption.append("is ", html("b", "", cut(truth, 28)), html("br"), "said ", html("b", "", cut(told, 28)),
        sureness === null ? "" : `, ${percent(sureness)}`, html("br"),
        html("small", "", `image ${row.toLocaleString("en")}`));
      figure.append(tileOf(tile, `test image ${row}: ${truth}, said to be ${told}`), caption);
      return figure;
    }));
  }

  // ---- maps of the features

  const SHAPES = 3;
  function spot(label, x, y) {
    const style = `f${label % 7}`;
    const shape = Math.floor(label / 7) % SHAPES;
    if (shape === 1) return make("rect", { x: x - 4, y: y - 4, width: 8, height: 8, class: style });
    if (shape === 2) return make("path", { d: `M${x} ${y - 5.5}L${x + 5} ${y + 4}H${x - 5}Z`, class: style });
    return make("circle", { cx: x, cy: y, r: 4.5, class: style });
  }

  function drawMap(points, places, classes, title, room) {
    const glyphs = classes && classes.every((name) => [...name].length <= 2);
    const side = Math.max(300, Math.min(720, room));
    const margin = 14;
    // Both axes have one scale; what the map leaves free above and below is not drawn.
    const ends = [Math.min(...places.map((each) => each[1])), Math.max(...places.map((each) => each[1]))];
    const scale = (side - 2 * margin) / 1000;
    const bottom = 2 * margin + (ends[1] - ends[0]) * scale;
    const across = side > 500 ? 4 : 2;
    const rows = classes && !glyphs ? Math.ceil(classes.length / across) : 0;
    const height = bottom + rows * 20 + (rows ? 12 : 0);
    const chart = make("svg", { class: "chart square", viewBox: `0 0 ${side} ${height}`, width: side, height, role: "img",
      tabindex: 0, "aria-label": title });
    points.forEach(([tile, row, label, truth, said, sure, right], place) => {
      const [x, y] = [margin + places[place][0] * scale, margin + (ends[1] - places[place][1]) * scale];
      const group = make("g");
      const back = make("circle", { cx: x, cy: y, r: 9, class: "spot" });
      const opinion = right ? `said to be ${said}` : `wrongly said to be ${said === null ? "no class of the data set" : said}`;
      back.dataset.tip = `${truth}\n${opinion}${sure === null ? "" : `, ${percent(sure)} sure`}\ntest image ${row}`;
      if (tile >= 0) back.dataset.tile = tile;
      group.append(back);
      if (!right) group.append(make("circle", { cx: x, cy: y, r: 9.5, class: "miss" }));
      if (glyphs) {
        group.append(make("text", { x, y: y + 4.5, class: `glyph f${label % 7}`, "text-anchor": "middle" }, truth));
      } else {
        // With very many classes colours would tell nothing apart.
        const dot = spot(classes ? label : 0, x, y);
        dot.setAttribute("pointer-events", "none");
        group.append(dot);
      }
      chart.append(group);
    });
    if (rows) {
      classes.forEach((name, label) => {
        const [x, y] = [margin + 4 + (label % across) * (side / across), bottom + 12 + Math.floor(label / across) * 20];
        chart.append(spot(label, x, y), make("text", { x: x + 11, y: y + 4, class: "label" }, cut(name, 20)));
      });
    }
    return chart;
  }

  // ---- every section

  const redraw = [];

  document.querySelectorAll("script[data-section]").forEach((script) => {
    const section = script.closest("section");
    const data = JSON.parse(script.textContent);
    const tileOf = data.sheet ? sheetOf(data.sheet) : null;

    const confusion = section.querySelector("[data-confusion]");
    if (confusion) {
      const select = section.querySelector('[data-choose="confusion"]');
      const draw = () => {
        const name = select.selectedOptions[0].textContent;
        const chart = drawConfusion(data.classes, data.confusion[select.value], name, confusion.clientWidth);
        listen(chart);
        confusion.replaceChildren(chart);
      };
      select.addEventListener("change", draw);
      redraw.push(draw);
      draw();
    }

    const gallery = section.querySelector("[data-gallery]");
    if (gallery) {
      const select = section.querySelector('[data-choose="errors"]');
      const draw = () => showErrors(gallery.closest(".block"), data.errors[select.value], tileOf);
      select.addEventListener("change", draw);
      draw();
    }

    const map = section.querySelector("[data-map]");
    if (map) {
      const figure = map.closest("figure");
      const group = figure.querySelector('[data-choose="group"]');
      const draw = () => {
        const place = group ? Number(group.value) : 0;
        const fields = [...figure.querySelectorAll("[data-layers]")];
        fields.forEach((field, number) => { field.hidden = number !== place; });
        const layer = fields[place].querySelector("input:checked").value;
        const about = data.maps.groups[place][layer];
        const wanted = figure.querySelector("[data-methods] input:checked").value;
        const method = about.maps[wanted] ? wanted : "PCA";
        const title = `${method} of ${data.maps.points.length} test images at ${layer}`;
        const chart = drawMap(data.maps.points, about.maps[method], data.classes, title, map.clientWidth);
        listen(chart, tileOf);
        map.replaceChildren(chart);
        figure.querySelector("[data-map-note]").textContent = ` ${about.note}.`;
      };
      figure.querySelector(".controls").addEventListener("change", draw);
      redraw.push(draw);
      draw();
    }
  });

  let [width, waiting] = [innerWidth, 0];
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => redraw.forEach((draw) => draw()), 120);
  });
})();
