"use strict";

const films = [...document.querySelectorAll(".film")];
const methods = [...document.querySelectorAll("input[name=method]")];
const element = (id) => document.getElementById(id);

/** Show the chosen method's map of each film's chosen box, and the words that belong to them. */
function showMaps() {
  const method = document.querySelector("input[name=method]:checked")?.value;
  for (const text of document.querySelectorAll(".method-text")) text.hidden = text.dataset.method !== method;
  for (const film of films) {
    const box = film.querySelector("input[type=radio]:checked")?.value;
    for (const part of film.querySelectorAll("[data-method]"))
      part.hidden = part.dataset.method !== method || part.dataset.box !== box;
    for (const part of film.querySelectorAll(".predicted")) part.classList.toggle("current", part.dataset.box === box);
  }
}

function showOpacity() {
  const percent = element("opacity").value;
  document.documentElement.style.setProperty("--opacity", percent / 100);
  element("opacity-value").textContent = `${percent} %`;
}

function showBoxes() {
  document.body.classList.toggle("no-truth", !element("truth").checked);
  document.body.classList.toggle("no-predicted", !element("predicted").checked);
}

/** A film stays when one of its pairs of finding and outcome fits both filters, so that a hit of another finding does not count. */
function filterFilms() {
  const finding = element("finding").value;
  const outcome = element("outcome").value;
  let shown = 0;
  for (const film of films) {
    const pairs = JSON.parse(film.dataset.pairs);
    const fits = ([f, o]) => (!finding || f === finding) && (!outcome || o === outcome);
    film.hidden = (finding || outcome) && !pairs.some(fits);
    shown += !film.hidden;
  }
  const count = element("count");
  count.textContent = count.dataset.text.replace("{shown}", shown).replace("{total}", films.length);
}

/** Keys 1 to 9 choose a method, from wherever the focus is, but for a list that takes keys itself. */
function chooseByKey(event) {
  const method = methods[Number(event.key) - 1];
  if (!method || event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  method.checked = true;
  showMaps();
}

if (films.length) {
  document.addEventListener("change", showMaps);
  document.addEventListener("keydown", chooseByKey);
  element("opacity").addEventListener("input", showOpacity);
  for (const id of ["truth", "predicted"]) element(id).addEventListener("change", showBoxes);
  for (const id of ["finding", "outcome"]) element(id).addEventListener("change", filterFilms);
  for (const show of [showMaps, showOpacity, showBoxes, filterFilms]) show(); // a reload keeps what was chosen
}
