"""Made-up sign-ins, and the answers to a refresh of them, so that a test can see where an agent
keeps what it gets.

The values are good for nothing. What a refresh gives ends in `new`.
"""

import base64
import json
import time

LIFETIME_SECONDS = 8 * 3600
ACCOUNT = "scripted-account"


def refreshed(path):
    """The answer of the authority that `path` belongs to."""
    common = {"token_type": "Bearer", "expires_in": LIFETIME_SECONDS}
    if path.startswith("/v1/"):
        # Anthropic's path has the version, OpenAI's has not.
        return {
            **common,
            "access_token": "sk-ant-oat01-new",
            "refresh_token": "sk-ant-ort01-new",
            "scope": "user:inference user:profile",
        }
    return {**common, "id_token": jwt(), "access_token": jwt(), "refresh_token": "rt-new"}


def accounts():
    """The workspaces of the account, which Codex asks for before its first turn."""
    entry = {
        "id": ACCOUNT,
        "name": "scripted",
        "plan_type": "pro",
        "structure": "personal",
        "is_deactivated": False,
        "is_fedramp_compliant_workspace": False,
        "can_access_with_session": True,
        "sso_connection_name": None,
        "workspace_backend_origin": "https://chatgpt.com",
        "account_routing_override": "us",
        "profile_picture_url": None,
    }
    return {"accounts": [entry], "account_ordering": [ACCOUNT], "default_account_id": ACCOUNT}


def jwt(lifetime_seconds=LIFETIME_SECONDS):
    """A token in the right shape; its signature is nonsense."""
    claims = {
        "exp": int(time.time()) + lifetime_seconds,
        "email": "someone@example.com",
        "https://api.openai.com/auth": {"chatgpt_plan_type": "pro", "chatgpt_account_id": ACCOUNT},
    }
    return f"{_part({'alg': 'none'})}.{_part(claims)}.bmV3"


def _part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
