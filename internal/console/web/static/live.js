// What is marked live is replaced by what the server says now, while somebody
// looks at it. A refresh does not count as use: the session ends when it should.
"use strict";
const every = 10000;

async function refresh() {
  const busy = document.activeElement && document.activeElement.closest("[data-live] details, [data-live] form");
  if (!document.hidden && !busy) {
    try {
      const answer = await fetch(location.href, { headers: { "X-Refresh": "1" }, redirect: "manual", cache: "no-store" });
      if (answer.type === "opaqueredirect") {
        location.reload();
        return;
      }
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const old of document.querySelectorAll("[data-live]")) {
          const fresh = page.getElementById(old.id);
          if (fresh) old.replaceWith(document.importNode(fresh, true));
        }
      }
      document.body.classList.toggle("stale", !answer.ok);
    } catch {
      document.body.classList.add("stale");
    }
  }
  setTimeout(refresh, every);
}
setTimeout(refresh, every);
