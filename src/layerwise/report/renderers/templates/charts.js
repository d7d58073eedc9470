// Draws each specification into its figure. Runs under a policy without eval and inline styles:
// expressions go through Vega's interpreter, styles through the CSSOM, tooltips as plain text.
(() => {
  const data = JSON.parse(document.getElementById("charts").textContent);
  const tip = document.getElementById("tip");

  const tooltip = (_handler, event, _item, value) => {
    if (value === null || typeof value !== "object") {
      tip.hidden = true;
      return;
    }
    const [[, block], ...readings] = Object.entries(value);
    const known = readings.filter(([, text]) => text !== "");
    tip.textContent = [block, ...known.map(([name, text]) => `${name}: ${text}`)].join("\n");
    tip.hidden = false;
    const right = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, right))}px`;
    tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 12)}px`;
  };

  const options = {
    mode: "vega-lite",
    renderer: "svg",
    ast: true,
    actions: false,
    defaultStyle: false,
    config: data.config,
    tooltip,
    loader: { load: () => Promise.reject(new Error("charts load nothing")) },
  };

  const draw = (place, spec) =>
    window.vegaEmbed(place, { ...spec, datasets: { ...data.datasets, ...spec.datasets } }, options);

  const drawings = Array.from(document.querySelectorAll("[data-chart]"), (place) =>
    draw(place, data.specs[place.dataset.chart]),
  );
  Promise.all(drawings).then(
    () => document.documentElement.setAttribute("data-drawn", String(drawings.length)),
    (error) => console.error(error),
  );
})();
