"""The world of the seeded shop: its products, where visits come from, browsers, languages, bots. Data only.

Hosts are reserved names (RFC 2606) but for the referrers, which channel rules must know by name. Weights are relative.
"""

from __future__ import annotations

from typing import NamedTuple

HOST = "www.example.com"
CHECKOUT_HOST = "checkout.example.com"  # another host of the same site: its referrers are internal


class Product(NamedTuple):
    """A product; price in cents, the same figure in every currency."""

    sku: str
    name: str
    category: str
    price_cents: int


class Source(NamedTuple):
    """Where a visit comes from. `quality` multiplies the chance to stay and to buy; `click_id` is added as parameter.

    `first` and `later` weigh it for a visitor's first visit and for the ones after it.
    """

    name: str
    first: float
    later: float
    quality: float
    referrers: tuple[str, ...] = ("",)
    query: str = ""
    click_id: str = ""


class Browser(NamedTuple):
    """A browser: share, user agent, client hints (brand list, platform; empty: sends none) and screen sizes."""

    weight: float
    user_agent: str
    brands: str
    platform: str
    screens: tuple[str, ...]


class Locale(NamedTuple):
    """Language, currency and networks (first two octets, or an IPv6 prefix) of visitors from one place."""

    weight: float
    accept_language: str
    language: str
    currency: str
    networks: tuple[str, ...]


class Bot(NamedTuple):
    """A robot: user agent, network, and pages per run; `runs_scripts` ones also report what they see."""

    user_agent: str
    network: str
    pages_max: int
    runs_scripts: bool


CATEGORIES = {
    "tents": (("Kuppelzelt Fjell 2", 24990), ("Tunnelzelt Sylt 4", 44900), ("Biwaksack", 7995), ("Tarp 3 x 3 m", 5990)),
    "boots": (("Trail boots Ötztal", 16995), ("Winter boots", 18900), ("Sandals", 6495), ("Gaiters", 3990)),
    "jackets": (("Rain jacket", 12995), ("Daunenjacke „Föhn“", 21900), ("Fleece", 5995), ("Softshell & hood", 9990)),
    "backpacks": (("Daypack 20 l", 6990), ("Trekking pack 65 l", 19990), ("Sac à dos vélo", 8450), ("Dry bag", 1995)),
    "cooking": (("Gas stove", 4495), ("Titanium pot 0.9 l", 5290), ("Coffee press", 2990), ("Spork, 4 pcs", 995)),
    "light": (("Head torch 400 lm", 4990), ("Camp lantern", 3495), ("Power bank 20 Ah", 5990), ("Glow cord", 795)),
}
PRODUCTS = tuple(
    Product(f"{category[:3].upper()}-{100 + n}", name, category, cents)
    for category, products in CATEGORIES.items()
    for n, (name, cents) in enumerate(products)
)
SEARCHES = ("zelt 2 personen", "rain jacket", "gore-tex", "chaussures 42", "stove", "größe l", "rucksack", "gift card")

GOOGLE = ("https://www.google.com/", "https://www.google.de/", "https://www.google.co.uk/")
META = ("https://l.facebook.com/", "https://www.facebook.com/", "https://www.instagram.com/")
SOURCES = (
    Source("direct", 10, 34, 1.2),
    Source("organic search", 24, 16, 1.1, (*GOOGLE, "https://www.bing.com/", "https://duckduckgo.com/")),
    Source(
        "organic social", 9, 4, 0.6, (*META, "https://t.co/", "https://www.reddit.com/", "https://www.linkedin.com/")
    ),
    Source("organic video", 3, 1, 0.7, ("https://www.youtube.com/",)),
    Source("ai assistant", 5, 3, 1.5, ("https://chatgpt.com/", "https://www.perplexity.ai/", "https://claude.ai/")),
    Source("partner", 6, 3, 1.0, ("https://trails.example.org/best-tents", "https://magazine.example.net/winter")),
    Source(
        "paid search", 13, 8, 1.4, GOOGLE, "utm_source=google&utm_medium=cpc&utm_campaign=brand&utm_term=tent", "gclid"
    ),
    Source("paid search, tagged by click id only", 3, 2, 1.3, GOOGLE, "", "gclid"),
    Source("bing ads", 3, 2, 1.3, ("https://www.bing.com/",), "utm_source=bing&utm_medium=cpc", "msclkid"),
    Source(
        "paid shopping", 6, 4, 1.7, GOOGLE, "utm_source=google&utm_medium=cpc&utm_campaign=shopping_winter", "gclid"
    ),
    Source(
        "paid social",
        13,
        4,
        0.7,
        META,
        "utm_source=facebook&utm_medium=paid_social&utm_campaign=prospecting&utm_content=video_b",
        "fbclid",
    ),
    Source("display", 4, 7, 0.5, ("",), "utm_source=criteo&utm_medium=display&utm_campaign=retargeting"),
    Source("affiliate", 3, 3, 1.2, ("https://deals.example.net/",), "utm_source=deals&utm_medium=affiliate"),
    Source(
        "email",
        1,
        14,
        1.8,
        ("", "https://mail.google.com/"),
        "utm_source=newsletter&utm_medium=email&utm_campaign=kw47",
    ),
    Source("sms", 0.5, 2, 1.5, ("",), "utm_source=sms&utm_medium=sms&utm_campaign=flash_sale"),
    Source("push", 0.2, 2, 1.3, ("",), "utm_source=app&utm_medium=push"),
    Source(
        "cross-network", 2, 1, 1.0, GOOGLE, "utm_source=google&utm_medium=cpc&utm_campaign=cross-network_pmax", "gclid"
    ),
    Source("mistagged", 1, 1, 0.9, ("",), "utm_source=flyer&utm_medium=qr%20code&utm_campaign=Messe%20K%C3%B6ln"),
)

_CHROMIUM = '"Chromium";v="141", "Google Chrome";v="141", "Not?A_Brand";v="8"'
_EDGE = '"Chromium";v="140", "Microsoft Edge";v="140", "Not=A?Brand";v="24"'
_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_DESKTOP = ("1920x1080", "2560x1440", "1536x864", "1440x900")
_PHONE = ("390x844", "412x915", "360x800", "393x873")
BROWSERS = (
    Browser(
        26,
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/141.0.0.0 Safari/537.36",
        _CHROMIUM,
        "Windows",
        _DESKTOP,
    ),
    Browser(
        7,
        f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Chrome/141.0.0.0 Safari/537.36",
        _CHROMIUM,
        "macOS",
        _DESKTOP,
    ),
    Browser(
        6,
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
        _EDGE,
        "Windows",
        _DESKTOP,
    ),
    Browser(
        22,
        f"Mozilla/5.0 (Linux; Android 10; K) {_WEBKIT} Chrome/141.0.0.0 Mobile Safari/537.36",
        _CHROMIUM,
        "Android",
        _PHONE,
    ),
    Browser(
        21,
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 "
        "Mobile/15E148 Safari/604.1",
        "",
        "",
        _PHONE,
    ),
    Browser(
        5,
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 "
        "Safari/605.1.15",
        "",
        "",
        _DESKTOP,
    ),
    Browser(
        4,
        "Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
        "Mobile/15E148 Safari/604.1",
        "",
        "",
        ("820x1180", "1024x1366"),
    ),
    Browser(
        6,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
        "",
        "",
        _DESKTOP,
    ),
    Browser(2, "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0", "", "", _DESKTOP),
)
LOCALES = (
    Locale(40, "de-DE,de;q=0.9,en;q=0.7", "de-DE", "EUR", ("84.132", "91.12", "79.199", "2003:e1:")),
    Locale(10, "de-AT,de;q=0.9", "de-AT", "EUR", ("80.108", "62.178", "2001:871:")),
    Locale(12, "fr-FR,fr;q=0.9,en;q=0.5", "fr-FR", "EUR", ("86.194", "90.63", "2a01:cb00:")),
    Locale(8, "nl-NL,nl;q=0.9,en;q=0.8", "nl-NL", "EUR", ("82.72", "145.53")),
    Locale(30, "en-US,en;q=0.9", "en-US", "USD", ("73.162", "98.207", "24.130", "2600:1700:")),
)
BOTS = (
    Bot("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "66.249", 20, runs_scripts=True),
    Bot("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", "157.55", 12, runs_scripts=True),
    Bot(
        f"Mozilla/5.0 (X11; Linux x86_64) {_WEBKIT} HeadlessChrome/139.0.0.0 Safari/537.36",
        "34.107",
        15,
        runs_scripts=True,
    ),
    Bot("Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", "54.36", 10, runs_scripts=False),
    Bot(f"Mozilla/5.0 {_WEBKIT}; compatible; GPTBot/1.2; +https://openai.com/gptbot)", "20.171", 8, runs_scripts=False),
    Bot("curl/8.5.0", "185.220", 3, runs_scripts=False),
    Bot("python-requests/2.32.3", "104.28", 5, runs_scripts=False),
)
