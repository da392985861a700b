// The curves of a report (with uPlot), and tables that sort. Nothing here asks a server.
(() => {
  "use strict";

  const HEIGHT = 240;
  const COLOURS = 8;
  const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
  const all = JSON.parse(document.getElementById("panels").textContent);
  const groups = {};
  const panels = [];

  const groupOf = (name) => (groups[name] ||= { axis: "x", smooth: 0 });
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colourOf = (n) => css(`--c${n % COLOURS}`);
  const dashOf = (n) => DASHES[Math.floor(n / COLOURS) % DASHES.length];

  function told(value) {
    if (value === null || value === undefined) return "–";
    return String(Number(value.toPrecision(6)));
  }

  function clock(seconds) {
    const whole = Math.round(Math.abs(seconds));
    const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    const sign = seconds < 0 ? "-" : "";
    if (Math.abs(seconds) < 60) return `${Number(seconds.toPrecision(3))} s`;
    return `${sign}${h ? `${h}:${String(m).padStart(2, "0")}` : m}:${String(s).padStart(2, "0")}`;
  }

  // The exponential mean of what came before, without its pull to 0 at the beginning.
  function smoothed(values, weight) {
    if (!weight) return values;
    let sum = 0;
    let whole = 0;
    return values.map((value) => {
      if (value === null) return null;
      sum = sum * weight + value * (1 - weight);
      whole = whole * weight + (1 - weight);
      return sum / whole;
    });
  }

  function pointsOf(panel, line) {
    const { axis, smooth } = groupOf(panel.group);
    const x = line[axis];
    let y = smoothed(line.y, smooth);
    if (panel.log) y = y.map((value) => (value > 0 ? value : null));
    const order = x.map((_, n) => n).sort((a, b) => x[a] - x[b] || a - b);
    return [order.map((n) => x[n]), order.map((n) => y[n])];
  }

  // The lines may have other steps than each other: uPlot wants one x for all. What a line lacks
  // there is undefined, and drawn over; null is a gap of its own.
  function joined(tables) {
    if (tables.length === 0) return [[]];
    return uPlot.join(tables, tables.map((table) => table.map(() => 1)));
  }

  function nearest(x, at) {
    let low = 0;
    let high = x.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (x[middle] < at) low = middle;
      else high = middle;
    }
    return Math.abs(x[low] - at) <= Math.abs(x[high] - at) ? low : high;
  }

  function rangeOf(tables) {
    const ends = tables.flatMap(([x]) => (x.length ? [x[0], x[x.length - 1]] : []));
    const [low, high] = ends.length ? [Math.min(...ends), Math.max(...ends)] : [0, 1];
    return low === high ? [low - 0.5, high + 0.5] : [low, high];
  }

  function axesOf(panel) {
    const byTime = groupOf(panel.group).axis === "t";
    const look = { stroke: css("--soft"), grid: { stroke: css("--grid"), width: 1 } };
    const ticks = { ticks: { stroke: css("--edge"), width: 1 } };
    const across = byTime ? { values: (_, marks) => marks.map(clock), space: 70 } : {};
    const up = { size: 64, values: (_, marks) => marks.map((m) => (m === null ? "" : told(m))) };
    return [{ ...look, ...ticks, ...across }, { ...look, ...ticks, ...up }];
  }

  function draw(panel) {
    const shown = panel.lines.filter((line) => line.on);
    const tables = shown.map((line) => pointsOf(panel, line));
    panel.full = rangeOf(tables);
    if (panel.chart) panel.chart.destroy();
    panel.tables = tables;
    panel.shown = shown;
    panel.chart = new uPlot(
      {
        width: panel.place.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        cursor: { drag: { x: true, y: false }, focus: { prox: -1 } },
        scales: {
          x: { time: false, range: (u, low, high) => panel.zoomed || panel.full },
          y: { distr: panel.log ? 3 : 1 },
        },
        axes: axesOf(panel),
        series: [
          {},
          ...shown.map((line) => ({
            label: line.label,
            stroke: colourOf(line.n),
            dash: dashOf(line.n),
            width: 2,
            points: { fill: css("--page") },
          })),
        ],
        hooks: {
          setCursor: [() => tell(panel)],
          setSelect: [(u) => select(panel, u)],
          draw: [(u) => drawMarks(panel, u)],
        },
      },
      joined(tables),
      panel.place,
    );
    bind(panel);
    show(panel);
    tell(panel);
  }

  function select(panel, u) {
    if (u.select.width < 5) return;
    const from = u.posToVal(u.select.left, "x");
    const to = u.posToVal(u.select.left + u.select.width, "x");
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    zoomTo(panel, from, to);
  }

  function zoomTo(panel, from, to) {
    const [low, high] = panel.full;
    const least = (high - low) / 1e6;
    if (to - from < least) return;
    const whole = from <= low && to >= high;
    panel.zoomed = whole ? null : [Math.max(low, from), Math.min(high, to)];
    panel.chart.setScale("x", { min: low, max: high }); // range() has the last word
    show(panel);
  }

  function zoom(panel, factor, at) {
    const [low, high] = panel.zoomed || panel.full;
    const centre = at === undefined ? (low + high) / 2 : at;
    zoomTo(panel, centre - (centre - low) * factor, centre + (high - centre) * factor);
  }

  function show(panel) {
    panel.figure.dataset.range = (panel.zoomed || panel.full).join(" ");
    for (const line of panel.lines) {
      const entry = panel.entries[line.n];
      entry.querySelector(".swatch").style.color = line.on ? colourOf(line.n) : "transparent";
    }
  }

  // Values that are no numbers, at the lower edge.
  function drawMarks(panel, u) {
    const { axis } = groupOf(panel.group);
    const size = 4 * devicePixelRatio;
    u.ctx.save();
    u.ctx.strokeStyle = css("--bad");
    u.ctx.lineWidth = 2 * devicePixelRatio;
    for (const line of panel.shown) {
      for (const [place] of line.marks) {
        const x = u.valToPos(line[axis][place], "x", true);
        const y = u.bbox.top + u.bbox.height - 2 * size;
        if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
        u.ctx.beginPath();
        u.ctx.moveTo(x - size, y - size);
        u.ctx.lineTo(x + size, y + size);
        u.ctx.moveTo(x + size, y - size);
        u.ctx.lineTo(x - size, y + size);
        u.ctx.stroke();
      }
    }
    u.ctx.restore();
  }

  // The values of all lines under the cursor, or the last ones.
  function tell(panel) {
    const u = panel.chart;
    if (!u) return;
    const byTime = groupOf(panel.group).axis === "t";
    const over = u.cursor.left >= 0;
    const at = over ? u.posToVal(u.cursor.left, "x") : panel.full[1];
    let place = null;
    panel.shown.forEach((line, n) => {
      const [x, y] = panel.tables[n];
      if (x.length === 0) return;
      const found = over ? nearest(x, at) : x.length - 1;
      if (place === null || Math.abs(x[found] - at) < Math.abs(place - at)) place = x[found];
      const mark = y[found] === null ? markAt(panel, line, x[found]) : "";
      panel.entries[line.n].querySelector("output").textContent = mark || told(y[found]);
    });
    const where = place === null ? "" : byTime ? clock(place) : `step ${told(place)}`;
    panel.at.textContent = over ? where : place === null ? "" : `${where} (last)`;
  }

  function markAt(panel, line, x) {
    const { axis } = groupOf(panel.group);
    const found = line.marks.find(([place]) => line[axis][place] === x);
    return found ? found[1] : "";
  }

  function bind(panel) {
    const over = panel.chart.over;
    over.addEventListener("dblclick", () => zoomTo(panel, ...panel.full));
    over.addEventListener("mousedown", () => panel.place.focus({ preventScroll: true }));
    over.addEventListener(
      "wheel",
      (event) => {
        const meant = event.ctrlKey || document.activeElement === panel.place;
        if (!meant) return; // the page scrolls
        event.preventDefault();
        const at = panel.chart.posToVal(panel.chart.cursor.left, "x");
        zoom(panel, event.deltaY > 0 ? 1.25 : 0.8, at);
      },
      { passive: false },
    );
  }

  function press(panel, event) {
    const u = panel.chart;
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.key in steps) {
      const left = u.cursor.left < 0 ? u.over.clientWidth : u.cursor.left;
      const moved = left + (steps[event.key] * u.over.clientWidth) / 50;
      u.setCursor({ left: Math.max(0, Math.min(u.over.clientWidth - 1, moved)), top: 1 });
    } else if (event.key === "+") zoom(panel, 0.8);
    else if (event.key === "-") zoom(panel, 1.25);
    else if (event.key === "0") zoomTo(panel, ...panel.full);
    else return;
    event.preventDefault();
  }

  function control(panel) {
    const does = {
      in: () => zoom(panel, 0.5),
      out: () => zoom(panel, 2),
      all: () => zoomTo(panel, ...panel.full),
    };
    for (const button of panel.figure.querySelectorAll("button[data-do]")) {
      button.addEventListener("click", does[button.dataset.do]);
    }
    const log = panel.figure.querySelector("[data-do=log]");
    log.addEventListener("change", () => {
      panel.log = log.checked;
      draw(panel);
    });
    panel.entries.forEach((entry, n) => {
      const box = entry.querySelector("input");
      box.addEventListener("change", () => {
        panel.lines[n].on = box.checked;
        draw(panel);
      });
    });
    panel.place.addEventListener("keydown", (event) => press(panel, event));
  }

  function open(figure) {
    const panel = {
      ...all[Number(figure.dataset.panel)],
      figure,
      group: figure.dataset.group,
      place: figure.querySelector(".chart"),
      at: figure.querySelector(".at"),
      entries: [...figure.querySelectorAll(".lines li")],
      log: false,
      zoomed: null,
    };
    panel.lines.forEach((line, n) => (line.n = n));
    panels.push(panel);
    if (panel.group === "system") groupOf("system").axis = "t";
    control(panel);
    draw(panel);
    new ResizeObserver(() => {
      const width = panel.place.clientWidth;
      if (width && width !== panel.chart.width) panel.chart.setSize({ width, height: HEIGHT });
    }).observe(panel.place);
  }

  function steer(form) {
    const group = groupOf(form.dataset.controls);
    const mine = () => panels.filter((panel) => panel.group === form.dataset.controls);
    const [axis, smooth] = ["axis", "smooth"].map((is) => form.querySelector(`[data-do=${is}]`));
    form.addEventListener("submit", (event) => event.preventDefault());
    axis.addEventListener("change", () => {
      group.axis = axis.value;
      for (const panel of mine()) {
        panel.zoomed = null;
        draw(panel);
      }
    });
    smooth.addEventListener("input", () => {
      group.smooth = Number(smooth.value);
      form.querySelector("output").textContent = group.smooth ? smooth.value : "off";
      mine().forEach(draw);
    });
  }

  function valueOf(row, column) {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = Number(text);
    return text !== "" && !Number.isNaN(number) ? number : text;
  }

  // Numbers before words; what is empty stays at the end.
  function compare(a, b) {
    if ((a === "") !== (b === "")) return a === "" ? 2 : -2;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return typeof a === "number" ? a - b : a.localeCompare(b);
  }

  function sort(table, head, column) {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows];
    const order = (a, b) => {
      const by = compare(valueOf(a, column), valueOf(b, column));
      return Math.abs(by) === 2 || !down ? by : -by;
    };
    table.tBodies[0].append(...rows.sort(order));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, head, column));
      head.append(button);
    });
  }
  document.querySelectorAll("figure[data-panel]").forEach(open);
  document.querySelectorAll("form[data-controls]").forEach(steer);
  const again = () => panels.forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.print = "";
    again();
  });
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.print;
    again();
  });
})();
