"use strict";
// Draws every plot from the JSON inside its element when it comes near the screen, in the colours of the page, and
// keeps the x axes of the plots over the run's progress together.
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

  let range = null, following = false;  // of all plots over the run's progress; null is the whole run
  async function follow(leader, change) {
    if (following) return;
    const zoomed = change["xaxis.range[0]"] !== undefined
      ? [change["xaxis.range[0]"], change["xaxis.range[1]"]] : change["xaxis.range"];
    if (!zoomed && !change["xaxis.autorange"]) return;
    following = true;
    range = zoomed ? [...zoomed] : "all";
    for (const plot of plots) {
      if (plot !== leader && plot.spec.linked && plot.drawn) await Plotly.relayout(plot, ranged());
    }
    following = false;
  }

  function ranged() {
    return range === "all" ? { "xaxis.autorange": true } : { "xaxis.range": [...range] };
  }

  let library = null;
  function loaded() {
    library ??= (async () => {
      const packed = atob(document.getElementById("plotly").textContent);
      const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
      const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      const script = document.createElement("script");
      script.textContent = await new Response(unpacked).text();
      document.head.append(script);
    })();
    return library;
  }

  async function draw(plot) {
    try {
      await loaded();
    } catch (error) {
      plot.textContent = `This browser cannot draw it (${error}); the sentence above says what it shows.`;
      return;
    }
    const spec = plot.spec, first = !plot.drawn;
    plot.drawn = true;
    await Plotly.react(plot, spec.data.map(inked), themed(spec.layout, spec.small, plot.clientWidth), config(spec.small));
    await fit(plot);
    for (const button of plot.querySelectorAll(".modebar-btn")) button.tabIndex = -1;  // the keyboard has the page's text
    if (spec.linked && range) {
      following = true;
      await Plotly.relayout(plot, ranged());
      following = false;
    }
    if (first && spec.linked) plot.on("plotly_relayout", (change) => follow(plot, change));
    if (first) document.body.dataset.drawn = plots.filter((other) => other.drawn).length;
  }

  // One after the other, and between them the page may scroll.
  let drawing = Promise.resolve();
  function queue(action) {
    drawing = drawing.then(() => new Promise((resolve) => setTimeout(resolve))).then(action);
  }

  function inked(trace) {
    return trace.meta === "ink" ? { ...trace, line: { ...trace.line, color: colour("--ink") } } : trace;
  }

  for (const plot of plots) {
    const spec = plot.spec = JSON.parse(plot.querySelector("script").textContent);
    for (const trace of spec.data) {
      if (Array.isArray(trace.text)) trace.text = mapped(trace.text, spec.texts);
    }
    spec.height = parseFloat(plot.style.height);
    if (spec.layout.showlegend) plot.style.height = `${spec.height + LINE}px`;
    plot.replaceChildren();
  }

  function mapped(text, texts) {
    return text.map((one) => (Array.isArray(one) ? mapped(one, texts) : typeof one === "number" ? texts[one] : one));
  }

  document.body.dataset.drawn = 0;
  const near = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      queue(() => draw(target));
    }
  }, { rootMargin: "500px" });
  for (const plot of plots) near.observe(plot);

  addEventListener("load", () => setTimeout(loaded));

  // Paper shows everything: what has been folded, and what nobody has scrolled to.
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details.fold")) fold.open = true;
    for (const plot of plots) if (!plot.drawn) draw(plot);
  });

  dark.addEventListener("change", () => {
    for (const plot of plots) if (plot.drawn) queue(() => draw(plot));
  });

  // Only what scrolls stops the keyboard.
  function stops() {
    for (const box of document.querySelectorAll(".box, nav > div")) {
      const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight + 1;
      if (scrolls) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }
  stops();
  document.addEventListener("toggle", stops, true);

  let width = innerWidth, turned;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(turned);
    turned = setTimeout(() => {
      stops();
      queue(() => Promise.all(plots.filter((plot) => plot.drawn && plot.clientWidth).map(async (plot) => {
        await Plotly.Plots.resize(plot);
        await fit(plot);
      })));
    }, 100);
  });
})();
