"""Values of this installation shown in `/AGENTS.md` and `/llms.txt`."""

from typing import Any

from promptly.blueprints.v1.models import listed
from promptly.gateway import current_gateway
from promptly.services.payments import offers
from promptly.settings import current_settings


def facts() -> dict[str, Any]:
    """Return the templates' values; `models` is empty while no model server is ready."""
    settings = current_settings()
    return {
        "settings": settings,
        "base_url": settings.base_url,
        "models": listed(),
        "default_model": current_gateway().model_names.default(),
        "packs": settings.packs,
        "custom_offer": offers.custom_offer(settings),
    }
