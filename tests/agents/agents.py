"""The two agents: how they are called, where they sign in, what an old sign-in looks like."""

import json
import time

import tokens

LONG_AGO_SECONDS = 10 * 24 * 3600


class Claude:
    """Claude Code."""

    hosts = ("api.anthropic.com", "platform.claude.com")
    key = {"ANTHROPIC_API_KEY": "sk-ant-scripted"}

    def arguments(self, base, _auth):
        command = ["-p", "follow the script", "--dangerously-skip-permissions"]
        if base:
            command += ["--settings", json.dumps({"env": {"ANTHROPIC_BASE_URL": base}})]
        return command

    def sign_in(self, home):
        """An account whose access has run out, as a user's home has it."""
        account = {"accountUuid": "a", "emailAddress": "someone@example.com", "organizationUuid": "o"}
        write(home / ".claude.json", {"hasCompletedOnboarding": True, "oauthAccount": account})
        login = {
            "accessToken": "sk-ant-oat01-old",
            "refreshToken": "sk-ant-ort01-old",
            "expiresAt": int((time.time() - LONG_AGO_SECONDS) * 1000),
            "scopes": ["user:inference", "user:profile"],
            "subscriptionType": "max",
        }
        write(home / ".claude" / ".credentials.json", {"claudeAiOauth": login})

    def signed_in_anew(self, home):
        login = json.loads((home / ".claude" / ".credentials.json").read_text())
        return login["claudeAiOauth"]["refreshToken"].endswith("new")


class Codex:
    """Codex."""

    hosts = ("api.openai.com", "auth.openai.com", "chatgpt.com")
    key = {"CODEX_API_KEY": "sk-scripted"}

    def arguments(self, base, auth):
        command = ["exec", "--skip-git-repo-check"]
        if auth == "account":
            # It compresses requests with zstd then, which Python 3.11 cannot read.
            command += ["-c", "features.enable_request_compression=false"]
        if base:
            command += ["--dangerously-bypass-approvals-and-sandbox", "-c", f'openai_base_url="{base}/v1"']
        return [*command, "follow the script"]

    def sign_in(self, home):
        """An account whose access has run out, as a user's home has it."""
        old = tokens.jwt(-LONG_AGO_SECONDS)
        login = {"id_token": old, "access_token": old, "refresh_token": "rt-old", "account_id": tokens.ACCOUNT}
        whole = {"OPENAI_API_KEY": None, "auth_mode": "chatgpt", "tokens": login}
        write(home / ".codex" / "auth.json", {**whole, "last_refresh": "2025-01-01T00:00:00Z"})

    def signed_in_anew(self, home):
        login = json.loads((home / ".codex" / "auth.json").read_text())
        return login["tokens"]["refresh_token"].endswith("new")


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    path.chmod(0o600)


AGENTS = {"claude": Claude(), "codex": Codex()}
