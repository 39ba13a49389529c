"""Answers to a token refresh, so that a test can see where an agent keeps what it gets.

The values are made up and good for nothing; `new` is in each of them so that a test can look for it.
"""

import base64
import json
import time

LIFETIME_SECONDS = 8 * 3600


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


def jwt(lifetime_seconds=LIFETIME_SECONDS):
    """A token in the right shape; its signature is nonsense."""
    claims = {
        "exp": int(time.time()) + lifetime_seconds,
        "email": "someone@example.com",
        "https://api.openai.com/auth": {"chatgpt_plan_type": "pro", "chatgpt_account_id": "new"},
    }
    return f"{_part({'alg': 'none'})}.{_part(claims)}.bmV3"


def _part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
