// Asks for a part of the page again when something happened, and says so to screen readers.
// All markup comes escaped from the server; nothing is built from texts here.
"use strict";
(() => {
  const part = document.getElementById("live");
  if (!part) return;
  const token = new URLSearchParams(location.search).get("token") || "";
  const headers = { Authorization: "Bearer " + token };
  const said = document.getElementById("said");
  const source = part.dataset.part;
  let query = part.dataset.query || "";
  const slider = document.getElementById("epsilon");
  let waiting = false, again = false;

  const label = (node) => node.id || node.getAttribute("aria-label") || node.textContent;

  const show = (html) => {
    const open = new Map([...part.querySelectorAll("details")].map((d) => [label(d.firstElementChild), d.open]));
    const chosen = new Set([...part.querySelectorAll("input:checked")].map((i) => i.value));
    const focus = part.contains(document.activeElement) ? label(document.activeElement) : null;
    const scrolled = new Map([...part.querySelectorAll(".scroll, .log")].map((s) => [label(s), [s.scrollLeft, s.scrollTop]]));
    part.innerHTML = html;
    part.querySelectorAll("details").forEach((d) => {
      const before = open.get(label(d.firstElementChild));
      if (before !== undefined) d.open = before;
    });
    part.querySelectorAll("input[type=checkbox]").forEach((i) => { i.checked = chosen.has(i.value); });
    part.querySelectorAll(".scroll").forEach((s) => {
      const before = scrolled.get(label(s));
      if (before) [s.scrollLeft, s.scrollTop] = before;
    });
    toLogEnd();
    if (focus !== null) {
      const found = [...part.querySelectorAll("a, button, summary, input, [tabindex]")].find((n) => label(n) === focus);
      if (found) found.focus({ preventScroll: true });
    }
  };

  const toLogEnd = () => part.querySelectorAll(".log").forEach((l) => { l.scrollTop = l.scrollHeight; });

  const refresh = async () => {
    if (waiting) { again = true; return; }
    waiting = true;
    try {
      const answer = await fetch(source + (query ? "?" + query : ""), { headers, cache: "no-store" });
      if (answer.ok) {
        show(await answer.text());
        if (slider && said) said.textContent = "Forecast for epsilon " + slider.value + ".";
      }
      else if (said) said.textContent = await answer.text();
    } catch (error) {
      if (said) said.textContent = "The command that serves this page has ended.";
    }
    setTimeout(() => { waiting = false; if (again) { again = false; refresh(); } }, 300);
  };

  toLogEnd();
  if (part.dataset.events) {
    const events = new EventSource(part.dataset.events);
    events.onmessage = (message) => {
      const told = JSON.parse(message.data);
      if (said && told.kind !== "site-replied") said.textContent = told.line;
      refresh();
    };
    events.onopen = refresh;
  }
  if (part.dataset.every) setInterval(refresh, Number(part.dataset.every) * 1000);

  if (slider) {
    const shown = document.getElementById("epsilon-shown");
    let timer = 0;
    slider.addEventListener("input", () => {
      shown.textContent = slider.value;
      if (said) said.textContent = "Forecasting …";
      clearTimeout(timer);
      timer = setTimeout(() => { query = "epsilon=" + encodeURIComponent(slider.value); refresh(); }, 250);
    });
  }
})();
