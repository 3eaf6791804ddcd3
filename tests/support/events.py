"""Events as tests want them: made empty, as the worker makes them, and filled in."""

from typing import Any

from schemas.event import Event


def event_of(**fields: Any) -> Event:
    """Return an event with these fields; the others say nothing."""
    event = Event()
    for name, value in fields.items():
        if not hasattr(event, name):
            raise TypeError(f"an event has no {name}")
        setattr(event, name, value)
    return event


def fields_of(event: Event) -> dict[str, Any]:
    """Return an event's fields by name."""
    return {name: getattr(event, name) for name in dir(event) if not name.startswith("_")}
