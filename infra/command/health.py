"""Whether the processes of this container or host live: `python -m infra.command.health [healthz|readyz]`.

Exit code 0 when an admin port of these settings answers 200 (of `up`, `collect`, `forward` or `work`, whichever runs
here), else 1 and why on stderr. For a container's HEALTHCHECK, which has no curl.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request

from infra.command.box import ADMIN_PORT_OFFSET
from schemas.settings import Settings, load

TIMEOUT_S = 5.0
PATHS = ("healthz", "readyz")
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104  compared, not bound


def main() -> None:
    """Ask the admin ports; the entry point."""
    path = sys.argv[1] if len(sys.argv) > 1 else PATHS[0]
    if path not in PATHS:
        sys.exit(f"usage: python -m infra.command.health [{'|'.join(PATHS)}]")
    sys.exit(trouble(load(), path) or 0)


def trouble(settings: Settings, path: str) -> str:
    """Return "" when an admin port answers `path` with 200, else what each of them said."""
    host = EVERYWHERE.get(settings.admin_host, settings.admin_host)
    answers = []
    for offset in sorted(set(ADMIN_PORT_OFFSET.values())):
        url = f"http://{host}:{settings.admin_port + offset}/{path}"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S):
                return ""
        except urllib.error.HTTPError as error:
            with error:
                answers.append(f"{url}: {error.code} {error.read().decode(errors='replace').strip()}")
        except OSError as error:
            answers.append(f"{url}: {error}")
    return "\n".join(answers)


if __name__ == "__main__":
    main()
