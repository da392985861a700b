"""What is confidential is known by its name or its look, and nothing else is hidden."""

from __future__ import annotations

import pytest

from hpctf.common.secrets import (
    credentials_in,
    hidden,
    hidden_in_shell,
    hide,
    is_secret,
    without_credentials,
    without_secrets,
)

SECRET = (
    "TOKEN HF_TOKEN hfToken HF_TOKEN_2 access-token SLURM_JWT NPM_TOKEN GITLABTOKEN "
    "PASSWORD PGPASSWORD MYSQL_PWD DB_PASS SSHPASS PASSPHRASE client_secret "
    "AWS_SECRET_ACCESS_KEY SECRETS GOOGLE_APPLICATION_CREDENTIALS BASIC_AUTH REDISCLI_AUTH "
    "API_KEY api_keys apiKey APIKEY WANDB_API_KEY OPENAI_APIKEY SSH_PRIVATE_KEY accountKey "
    "GITHUB_PAT AZURE_SAS AZURE_STORAGE_CONNECTION_STRING SESSION_COOKIE SESSION_ID "
    "--api-key --token --password=x session "
)

VISIBLE = (
    "PATH PWD OLDPWD KEYBOARD MONKEY AUTHOR num_keys tokenizer max_tokens vocab_tokens "
    "tokens LD_LIBRARY_PATH PATTERN pad_token author_name sort_key keyboard_layout "
    "num_sessions bypass passes forward_pass COMPASS hotkeys turkey KEY_FILE pathology "
    "sassy tokenizers DONKEY_KONG session_length --num-keys passenger secretary HOME "
    "learning_rate "
)


@pytest.mark.parametrize("name", SECRET.split())
def test_a_name_that_tells_a_secret(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", VISIBLE.split())
def test_a_name_that_tells_none(name: str) -> None:
    assert not is_secret(name)


LOOKS = {
    "https://me:{}@host/simple": "canary1234",
    "git+https://{}@github.com/a/b": "canary1234",
    "https://me:p%40{}@host:8080/": "canary1234",
    "postgresql://me:{}@db/x": "canary1234",
    "https://conda.host/t/{}/channel/linux-64": "canary1234",
    "https://host/x?sv=1&sig={}&b=2": "canary1234",
    "https://host/x?access_token={}": "canary1234",
    "key {} in a line": "AKIA" + "A1B2" * 4,
    "token {}.": "ghp_" + "a1B2" * 9,
    "a {}": "github_pat_" + "a1B2" * 9,
    "b {}": "glpat-" + "a1B2" * 6,
    "c {}": "hf_" + "abCD" * 9,
    "d {}": "sk-" + "a1B2" * 9,
    "e {}": "xoxb-" + "1234" * 5,
    "f {}": "AIza" + "a1B2_" * 7,
    "g {}": "eyJ" + "a1B2" * 5 + "." + "a1B2" * 5 + "." + "a1B2" * 5,
    "Authorization: Bearer {}": "canary1234",
    "AccountName=x;AccountKey={};EndpointSuffix=y": "canary1234",
    "before\n{}\nafter": "-----BEGIN A PRIVATE KEY-----\nabc\n-----END A PRIVATE KEY-----",
}


@pytest.mark.parametrize("text", LOOKS)
def test_what_looks_like_a_secret_is_hidden_and_what_is_beside_it_stays(text: str) -> None:
    before, _, after = text.partition("{}")
    found = hidden(text.format(LOOKS[text]))
    assert LOOKS[text] not in found and "(hidden)" in found
    assert found.startswith(before.split("me:")[0]) and found.endswith(after)
    assert hidden(found) == found


@pytest.mark.parametrize(
    "text",
    [
        "git+ssh://git@github.com/a/b",
        "https://host/simple",
        "me@example.org",
        "see https://host/a and mail me@host",
        "sorted(x, key=len)",
        "task-AKIA",
        "skip-connection-in-a-residual-network",
        "https://host/x?lr=0.1&batch=32",
    ],
)
def test_what_only_resembles_one_stays(text: str) -> None:
    assert hidden(text) == text and hide({text: [text]}, set()) == {text: [text]}


@pytest.mark.parametrize("text", ["AccountKey=x", "a://b:c@d", "bearer abcdef"])
def test_the_shortest_ones_are_seen(text: str) -> None:
    assert hidden(text).count("(hidden)") == 1


def test_addresses_without_their_passwords_still_lead_there() -> None:
    spec = {"sources": ["https://me:pw12@host/simple"], "pip": ("x @ https://tok1@host/x.whl",)}
    assert without_credentials(spec) == {
        "sources": ["https://host/simple"],
        "pip": ("x @ https://host/x.whl",),
    }
    assert credentials_in(["https://me:p%40ss@host/"]) == {"me:p%40ss", "p%40ss", "me:p@ss", "p@ss"}


def test_shell_lines_and_commands_hide_by_name() -> None:
    line = "export HF_TOKEN='a b' API_KEY=c PATH=/x:$PATH; run --password=d --lr=0.1"
    assert hidden_in_shell(line) == (
        "export HF_TOKEN=(hidden) API_KEY=(hidden) PATH=/x:$PATH; run --password=(hidden) --lr=0.1"
    )
    words = ["hpctf", "submit", "--env", "DB_PWD=x", "--pip", "a @ https://u:p@h/a.whl", "t.py"]
    assert without_secrets(words) == [
        *["hpctf", "submit", "--env", "DB_PWD=(hidden)"],
        *["--pip", "a @ https://(hidden)@h/a.whl", "t.py"],
    ]
