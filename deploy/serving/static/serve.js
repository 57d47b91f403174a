// Asks the service and shows its answer. Texts, labels and words are put in as text, never as markup.
"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  const token = new URLSearchParams(location.search).get("token") || "";
  let asked = "";

  const call = async (path, body) => {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: "Bearer " + token },
      body: JSON.stringify(body),
    });
    const told = await answer.json().catch(() => ({ detail: answer.statusText }));
    if (!answer.ok) {
      const why = Array.isArray(told.detail) ? told.detail.map((each) => each.what).join("; ") : told.detail;
      throw new Error(why || "the service refused");
    }
    return told;
  };

  const row = (name, figure) => {
    const line = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    const cell = document.createElement("td");
    cell.textContent = figure;
    line.append(head, cell);
    return line;
  };

  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(3);

  const show = (told) => {
    at("label").textContent = told.label;
    at("confidence").textContent = (100 * told.confidence).toFixed(1) + " %";
    at("probabilities").replaceChildren(...Object.entries(told.probabilities).map(([k, p]) => row(k, p.toFixed(4))));
    const read = told.words.filter((word) => word.attribution !== null);
    const most = Math.max(...read.map((word) => Math.abs(word.attribution)), 1e-9);
    at("words").replaceChildren(...told.words.flatMap((word) => {
      const span = document.createElement("span");
      span.textContent = word.text;
      const share = word.attribution === null ? 0 : word.attribution / most;
      if (Math.abs(share) >= 0.15) {
        span.style.borderBottomColor = share > 0 ? "var(--good)" : "var(--over)";
        span.style.borderBottomStyle = share > 0 ? "solid" : "double";
        span.title = signed(word.attribution);
      }
      return [span, document.createTextNode(" ")];
    }));
    const strongest = [...read].sort((a, b) => Math.abs(b.attribution) - Math.abs(a.attribution)).slice(0, 10);
    at("strongest").replaceChildren(...strongest.map((word) => row(word.text, signed(word.attribution))));
    at("right").value = told.label;
    at("answer").hidden = false;
    at("answer-title").focus();
  };

  at("ask").addEventListener("submit", async (event) => {
    event.preventDefault();
    asked = at("text").value;
    at("said").textContent = "Asking …";
    try {
      show(await call("/explain", { text: asked }));
      at("said").textContent = "";
    } catch (error) {
      at("said").textContent = error.message;
    }
  });

  at("feedback").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const told = await call("/feedback", { text: asked, label: at("right").value });
      at("said").textContent = "Kept in " + told.kept_in + ".";
    } catch (error) {
      at("said").textContent = error.message;
    }
  });
})();
