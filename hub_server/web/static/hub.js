// Keeps a running job's page fresh. Without it the page has a link that reloads it.
"use strict";

const live = document.getElementById("live");
const words = document.getElementById("live-words");
const seconds = Number(live?.dataset.refresh);

async function refresh() {
  if (document.hidden) return wait();
  const answer = await fetch(location.pathname, { credentials: "same-origin", redirect: "error" });
  if (!answer.ok) throw new Error(String(answer.status));
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById("live");
  if (!fresh) throw new Error("no such part");
  live.replaceChildren(...fresh.childNodes);
  if (!fresh.dataset.refresh) return location.reload(); // it is over: results and forms change
  wait();
}

function wait() {
  setTimeout(() => refresh().catch(() => {
    words.textContent = "The hub did not answer. Reload the page.";
  }), 1000 * seconds);
}

if (seconds > 0) {
  words.textContent = `Kept fresh every ${seconds} seconds.`;
  wait();
}
