"""One visit to the seeded shop, as the events its pages report. Pure.

Promise: event times rise strictly within a visit, by at least 10 ms and at most 5 min, so that a visit is one
session; the events of the landing page carry the visit's campaign, as the page's URL does, and no others carry one.
Every page reports a PageView; the funnel ViewContent, AddToCart, InitiateCheckout, AddPaymentInfo, Purchase is walked
in order and left at every step. A cart that was not bought is there on the next visit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from urllib.parse import quote_plus

from benchmarks.shop_world import CATEGORIES, CHECKOUT_HOST, HOST, PRODUCTS, SEARCHES, Product, Source
from benchmarks.traffic import Parameter

Event = dict[str, Parameter]
Cart = list[tuple[Product, int]]
PAGES_MAX = 12


@dataclass
class Shopper:
    """What a visitor carries from visit to visit. `intent` in [0, 1] rises with every product looked at."""

    currency: str
    intent: float
    user_id: str = ""
    experiment: str = ""
    cart: Cart = field(default_factory=list)


class Visit:
    """The events of one visit; `events` have `t` in ms, `e`, `u`, `r` and what the event is about, no `s` nor `id`."""

    def __init__(self, rng: Random, shopper: Shopper, source: Source, start_ms: int) -> None:
        self.events: list[Event] = []
        self._rng = rng
        self._shopper = shopper
        self._time_ms = start_ms
        self._url = ""
        self._referrer = rng.choice(source.referrers)
        self._quality = source.quality
        self._walk(source)

    def _walk(self, source: Source) -> None:
        rng = self._rng
        product = self._land(source)
        if rng.random() < 0.42 / self._quality:
            if rng.random() < 0.3:
                self._engage()
            return
        for _ in range(rng.randint(1, PAGES_MAX)):
            if product is None:
                product = self._browse()
            if product is not None:
                self._look_at(product)
                product = None
            if rng.random() > 0.78:
                break
        if rng.random() < 0.02:
            self._report("Lead" if rng.random() < 0.7 else "Contact")
        if self._shopper.cart and rng.random() < min(0.9, 0.38 * self._quality):
            self._check_out()

    def _land(self, source: Source) -> Product | None:
        """Open the landing page; return the product if it is one's."""
        rng = self._rng
        product = None
        page = rng.random()
        if page < 0.35:
            path = "/"
        elif page < 0.7:
            path = f"/c/{rng.choice(list(CATEGORIES))}"
        else:
            product = rng.choice(PRODUCTS)
            path = _product_path(product)
        tags = [source.query] if source.query else []
        if source.click_id:
            tags.append(f"{source.click_id}={rng.getrandbits(80):020x}")
        self._open(f"https://{HOST}{path}" + ("?" + "&".join(tags) if tags else ""), first=True)
        return product

    def _browse(self) -> Product | None:
        """Open a category or search; return the product clicked, if any."""
        rng = self._rng
        if rng.random() < 0.15:
            term = rng.choice(SEARCHES)
            self._open(f"https://{HOST}/search?q={quote_plus(term)}")
            self._report("Search", {"p.search_term": term, "p.results": str(rng.randrange(40))})
        else:
            self._open(f"https://{HOST}/c/{rng.choice(list(CATEGORIES))}")
        return rng.choice(PRODUCTS) if rng.random() < 0.7 else None

    def _look_at(self, product: Product) -> None:
        rng = self._rng
        path = f"https://{HOST}{_product_path(product)}"
        if not self._url.startswith(path):
            self._open(path)
        self._report("ViewContent", self._basket([(product, 1)]), soon=True)
        self._shopper.intent = min(1.0, self._shopper.intent + 0.05)
        if rng.random() < 0.5:
            self._engage()
        if rng.random() < 0.36 * self._shopper.intent * self._quality:
            quantity = rng.choice((1, 1, 1, 2, 3))
            self._shopper.cart.append((product, quantity))
            self._report("AddToCart", self._basket([(product, quantity)]))

    def _check_out(self) -> None:
        rng = self._rng
        basket = self._basket(self._shopper.cart)
        self._open(f"https://{CHECKOUT_HOST}/cart")
        self._report("InitiateCheckout", basket, soon=True)
        if rng.random() > 0.65:
            return
        if not self._shopper.user_id and rng.random() < 0.3:
            self._shopper.user_id = f"u{rng.randrange(1_000_000)}"
            self._report("CompleteRegistration")
        self._report("AddPaymentInfo", {**basket, "p.method": rng.choice(("card", "paypal", "invoice"))})
        if rng.random() > 0.82:
            return
        order = {**basket, "oid": f"A{rng.randrange(10**9):09d}"}
        self._open(f"https://{CHECKOUT_HOST}/thank-you")
        self._report("Purchase", order, soon=True)
        self._shopper.cart.clear()
        if rng.random() < 0.05:  # the thank-you page is opened again: another event, the same order
            self._report("Purchase", order)

    def _basket(self, cart: Cart) -> Event:
        items: list[dict[str, str | float | int]] = [
            {"sku": p.sku, "name": p.name, "category": p.category, "price": p.price_cents / 100, "qty": quantity}
            for p, quantity in cart
        ]
        cents = sum(product.price_cents * quantity for product, quantity in cart)
        return {"v": cents / 100, "cur": self._shopper.currency, "items": items}

    def _engage(self) -> None:
        seconds = self._rng.randint(5, 90)
        self._report("Engagement", {"p.seconds": str(seconds), "p.scroll": f"{self._rng.randrange(10, 101)}%"})

    def _open(self, url: str, *, first: bool = False) -> None:
        if not first:
            self._time_ms += self._rng.randint(2_000, 60_000)
            self._referrer = self._url
        self._url = url
        self._add({"e": "PageView"} if self._rng.random() < 0.5 else {})  # absent means PageView

    def _report(self, name: str, about: Event | None = None, *, soon: bool = False) -> None:
        self._time_ms += self._rng.randint(10, 400) if soon else self._rng.randint(1_000, 90_000)
        self._add({"e": name, **(about or {})})

    def _add(self, event: Event) -> None:
        self.events.append(
            {
                **event,
                "t": self._time_ms,
                "u": self._url,
                "r": self._referrer or None,
                "uid": self._shopper.user_id or None,
                "ab": self._shopper.experiment or None,
            }
        )


def _product_path(product: Product) -> str:
    return f"/p/{product.sku.lower()}"
