"use strict";
// Draws every figure from the JSON inside its element, in the colours of the page, and keeps the x axes of the
// figures over the run's progress together.
(() => {
  const plots = [...document.querySelectorAll(".plot")];
  const config = (small) => ({
    responsive: true, displaylogo: false, displayModeBar: small ? false : "hover",
    modeBarButtonsToRemove: ["lasso2d", "select2d"],
    showSendToCloud: false, plotlyServerURL: "",  // the data stay here
  });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function themed(layout, small) {
    const ink = colour("--ink"), line = colour("--line"), quiet = colour("--quiet");
    const axis = (own) => ({
      gridcolor: line, zerolinecolor: line, linecolor: line, tickfont: { color: quiet }, ...own,
    });
    return {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, size: small ? 11 : 12, family: getComputedStyle(document.body).fontFamily },
      margin: { ...(small ? { l: 48, r: 8, t: 8, b: 24 } : { l: 60, r: 16, t: 28, b: 42 }), ...layout.margin },
      hoverlabel: { bgcolor: colour("--raised"), bordercolor: line, font: { color: ink }, align: "left", namelength: -1 },
      legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, font: { size: small ? 10 : 12 } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: quiet, activecolor: ink },
      xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
    };
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
      await Plotly.react(plot, spec.data.map(inked), themed(spec.layout, spec.small), config(spec.small));
      await new Promise((resolve) => setTimeout(resolve));
    }
    document.body.dataset.drawn = plots.length;
  }

  for (const plot of plots) {
    plot.spec = JSON.parse(plot.querySelector("script").textContent);
    plot.replaceChildren();
  }
  drawAll().then(() => {
    for (const plot of plots) {
      if (plot.spec.linked) plot.on("plotly_relayout", (change) => follow(plot, change));
    }
  });
  dark.addEventListener("change", drawAll);
})();
