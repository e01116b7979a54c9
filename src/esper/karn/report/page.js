"use strict";
// Draws every plot from the JSON inside its element, in the colours of the page, and keeps the x axes of the
// plots over the run's progress together.
(() => {
  const LINE = 29;  // pixels of a legend of one line, which most have: drawing twice is slow
  const plots = [...document.querySelectorAll(".plot")];
  const config = (small) => ({
    displaylogo: false, displayModeBar: small ? false : "hover",
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d", ...(touch ? ["toImage", "zoomIn2d", "zoomOut2d"] : [])],
    showSendToCloud: false, plotlyServerURL: "",  // the data stay here
  });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function themed(layout, small, width) {
    const ink = colour("--ink"), line = colour("--line"), quiet = colour("--quiet");
    const axis = (own) => ({
      gridcolor: line, zerolinecolor: line, linecolor: line, tickfont: { color: quiet }, ...own,
    });
    const left = Math.min(layout.margin?.l ?? 0, width * 0.4);  // a narrow screen cuts the names of rows
    const names = left < (layout.margin?.l ?? 0) && layout.yaxis.ticktext
      ? { ticktext: layout.yaxis.ticktext.map((name) => cut(name, Math.floor((left - 16) / 7))) } : {};
    return {
      ...layout,
      dragmode: touch ? false : "zoom",  // a finger scrolls the page until it asks for the zoom
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, size: small ? 11 : 12, family: getComputedStyle(document.body).fontFamily },
      margin: { ...(small ? { l: 48, r: 8, b: 24 } : { l: 60, r: 16, b: 42 }),
        t: above(small, layout.showlegend ? LINE : 0), ...layout.margin,
        ...(left ? { l: left } : {}) },
      hoverlabel: { bgcolor: colour("--raised"), bordercolor: line, font: { color: ink }, align: "left", namelength: -1 },
      legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, font: { size: small ? 11 : 12 },
        maxheight: 4000 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: quiet, activecolor: ink },
      xaxis: axis(layout.xaxis), yaxis: axis({ ...layout.yaxis, ...names }),
    };
  }

  function cut(name, most) {
    return name.length <= most ? name : `${name.slice(0, Math.max(1, most - 1))}…`;
  }

  // Pixels above the plot: a small one without a legend needs few, a large one has its buttons there.
  function above(small, legend) {
    return legend + (small ? (legend ? 4 : 8) : 30);
  }

  // The legend gets the room it needs above the plot, which keeps its own height.
  async function fit(plot) {
    const legend = plot.querySelector(".legend");
    if (!legend) return;
    const needed = Math.ceil(legend.getBoundingClientRect().height);
    const top = above(plot.spec.small, needed);
    const height = `${plot.spec.height + needed}px`;
    if (plot.layout.margin.t === top && plot.style.height === height) return;
    plot.style.height = height;
    await Plotly.relayout(plot, { "margin.t": top, autosize: true });
  }

  function inked(trace) {
    return trace.meta === "ink" ? { ...trace, line: { ...trace.line, color: colour("--ink") } } : trace;
  }

  let following = false;
  async function follow(leader, change) {
    if (following) return;
    const range = change["xaxis.range[0]"] !== undefined
      ? [change["xaxis.range[0]"], change["xaxis.range[1]"]] : change["xaxis.range"];
    if (!range && !change["xaxis.autorange"]) return;
    following = true;
    for (const plot of plots) {
      if (plot === leader || !plot.spec.linked) continue;
      await Plotly.relayout(plot, range ? { "xaxis.range": [...range] } : { "xaxis.autorange": true });
    }
    following = false;
  }

  async function drawAll() {
    for (const plot of plots) {
      const spec = plot.spec;
      await Plotly.react(plot, spec.data.map(inked), themed(spec.layout, spec.small, plot.clientWidth), config(spec.small));
      await fit(plot);
      await new Promise((resolve) => setTimeout(resolve));
    }
    document.body.dataset.drawn = plots.length;
  }

  async function resizeAll() {
    await Promise.all(plots.map(async (plot) => {  // each waits a moment by itself
      await Plotly.Plots.resize(plot);
      await fit(plot);
    }));
  }

  for (const plot of plots) {
    plot.spec = JSON.parse(plot.querySelector("script").textContent);
    plot.spec.height = plot.clientHeight;
    if (plot.spec.layout.showlegend) plot.style.height = `${plot.spec.height + LINE}px`;
    plot.replaceChildren();
  }
  let drawing = drawAll().then(() => {
    for (const plot of plots) {
      if (plot.spec.linked) plot.on("plotly_relayout", (change) => follow(plot, change));
    }
  });
  dark.addEventListener("change", () => { drawing = drawing.then(drawAll); });
  let width = innerWidth, turned;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(turned);
    turned = setTimeout(() => { drawing = drawing.then(resizeAll); }, 100);
  });
})();
