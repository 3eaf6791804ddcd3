// hitstream: <script async src="https://HOST/pixel.js" data-site="SITE"></script>
((w, d, n) => {
  const tag = d.currentScript, site = tag.dataset.site, base = tag.src.slice(0, tag.src.lastIndexOf("$SCRIPT$"));
  const queue = w.hitstream && w.hitstream.q || [];
  let consent = tag.dataset.consent, page, from = d.referrer;

  // randomUUID is there on https and localhost alone
  const random = () => Math.random().toString(36).slice(2);
  const id = () => crypto.randomUUID ? crypto.randomUUID() : Date.now().toString(36) + random() + random();

  // by beacon, else by image; an image that fails is sent once more, with its id and time
  const send = (event, again) => {
    event.sent = Date.now();
    if (n.onLine && n.sendBeacon && n.sendBeacon(base + "$EVENTS$", JSON.stringify(event))) return;
    const image = new Image(), retry = () => send(event, true);
    image.onerror = () => {
      if (again) return;
      if (n.onLine) setTimeout(retry, 5000);
      else addEventListener("online", retry, { once: true });
    };
    const text = value => encodeURIComponent(value instanceof Object ? JSON.stringify(value) : value);
    const names = Object.keys(event).filter(name => event[name] != null);
    image.src = base + "$PIXEL$?" + names.map(name => text(name) + "=" + text(event[name])).join("&");
  };

  const hit = (name, fields) => {
    if (name === "consent") consent = fields;
    else send(Object.assign({
      s: site, e: name, id: id(), t: Date.now(), u: location.href, r: from, ti: d.title, l: n.language,
      sr: screen.width + "x" + screen.height, c: consent
    }, fields));
  };

  const here = () => location.href.split("#")[0];
  const view = () => {
    page = here();
    hit("PageView");
    from = page;
  };

  // after the page has set its title
  const moved = () => setTimeout(() => page !== here() && view());

  const take = first => queue.forEach(call => first === (call[0] === "consent") && hit(...call));
  const start = () => {
    take(true);
    view();
    take(false);
    w.hitstream = hit;
    ["pushState", "replaceState"].forEach(name => {
      const original = history[name];
      history[name] = (...call) => {
        original.apply(history, call);
        moved();
      };
    });
    addEventListener("popstate", moved);
    addEventListener("pageshow", event => event.persisted && view());
  };

  if (d.prerendering) d.addEventListener("prerenderingchange", start, { once: true });
  else start();
})(window, document, navigator);
