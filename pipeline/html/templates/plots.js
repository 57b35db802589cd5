"use strict";
{
  const page = JSON.parse(document.getElementById("plots").textContent);
  const options = {
    mode: "vega-lite",
    renderer: "svg",
    actions: false,
    defaultStyle: false,
    ast: true, // expressions are interpreted: the page's policy forbids eval
    config: page.config,
    tooltip: { disableDefaultStyle: true },
  };
  const drawn = Object.entries(page.plots).map(([name, spec]) => {
    const place = document.querySelector(`[data-plot="${name}"]`);
    return vegaEmbed(place, spec, options).catch((error) => {
      place.textContent = "This plot could not be drawn.";
      console.error(name, error);
    });
  });
  Promise.all(drawn).then(() => document.documentElement.setAttribute("data-drawn", drawn.length));

  // On paper nothing can be opened; long tables stay closed, their plots tell enough.
  const ROWS = 20;
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed = closed.filter((details) => details.querySelectorAll("tr").length <= ROWS);
    closed.forEach((details) => (details.open = true));
  });
  addEventListener("afterprint", () => closed.forEach((details) => (details.open = false)));
}
