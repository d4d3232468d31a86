from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_logging.secrets import (
    SecretMissingError,
    extract,
    looks_secret,
    mask,
    mask_arguments,
    mask_text,
    restore,
    strip_url_credentials,
)

SECRET = "s3cr3tvalue"


@pytest.mark.parametrize(
    "key",
    [
        *(
            "token",
            "hf_token",
            "authToken",
            "MLFLOW_TRACKING_TOKEN",
            "api_key",
            "apiKey",
            "APIKey",
            "apikey",
            "X-API-Key",
        ),
        *("WANDB_API_KEY", "wandb.api_key", "password", "db_passwd", "MLFLOW_TRACKING_PASSWORD", "client_secret"),
        *("credentials", "Authorization", "private_key", "AWS_SECRET_ACCESS_KEY", "aws_access_key", "SLURM_JWT"),
        *("cookie", "slack_webhook_url", "passphrase", "--api-key"),
    ],
)
def test_keys_of_secrets(key: str) -> None:
    assert looks_secret(key)


@pytest.mark.parametrize(
    "key",
    [
        *("key", "keyboard", "monkey", "learning_rate", "public_key", "max_tokens", "num_tokens", "pad_token_id", ""),
        *("token_dim", "tokenizer", "token_count", "episode_reward", "bearing", "author", "n_steps", "keys"),
    ],
)
def test_keys_of_nothing_secret(key: str) -> None:
    assert not looks_secret(key)


@pytest.mark.parametrize(
    ("text", "shown", "stripped"),
    [
        ("http://u:p@h/x", "http://***@h/x", "http://h/x"),
        ("http://u:p@ss@h/x?y=a@b", "http://***@h/x?y=a@b", "http://h/x?y=a@b"),
        ("postgresql://u:pa/ss@h/db", "postgresql://***@h/db", "postgresql://h/db"),
        ("https://tok@github.com/a.git", "https://***@github.com/a.git", "https://github.com/a.git"),
        ("redis://:pw@h:1", "redis://***@h:1", "redis://h:1"),
        ("git+https://tok@h/x", "git+https://***@h/x", "git+https://h/x"),
        ("ssh://git@h/x", "ssh://git@h/x", "ssh://git@h/x"),
        ("git@github.com:a/b.git", "git@github.com:a/b.git", "git@github.com:a/b.git"),
        ("http://h:8080/p@x", "http://h:8080/p@x", "http://h:8080/p@x"),
        ("http://[::1]:5000/x@y", "http://[::1]:5000/x@y", "http://[::1]:5000/x@y"),
        ("sqlite:///C:/foo@bar.db", "sqlite:///C:/foo@bar.db", "sqlite:///C:/foo@bar.db"),
        ("me@example.org", "me@example.org", "me@example.org"),
    ],
)
def test_credentials_in_addresses(text: str, shown: str, stripped: str) -> None:
    assert mask_text(text) == shown
    assert strip_url_credentials(text) == stripped


def test_secrets_in_other_texts() -> None:
    assert mask_text("http://h/?access_token=abc&x=1") == "http://h/?access_token=***&x=1"
    assert mask_text("Authorization: Bearer abcdefghijklmnopqrst") == "Authorization: Bearer ***"
    assert mask_text("a basic reinforcement learner") == "a basic reinforcement learner"


def test_mask() -> None:
    given_value = {
        "wandb": {"api_key": SECRET, "project": "p", "token": None, "password": 1234, "secret": ""},
        "token_bonus": 0.5,
        "use_token": True,
        "uris": ["http://u:p@h", ("a", 1)],
        "credentials": {"user": "me", "x": [SECRET]},
        "api_key": {"$env": "RL_LOGGING_SECRET_X"},
    }
    before = json.dumps(given_value)
    assert mask(given_value) == {
        "wandb": {"api_key": "***", "project": "p", "token": None, "password": "***", "secret": ""},
        "token_bonus": 0.5,
        "use_token": True,
        "uris": ["http://***@h", ["a", 1]],
        "credentials": "***",
        "api_key": {"$env": "RL_LOGGING_SECRET_X"},
    }
    assert json.dumps(given_value) == before


def test_mask_arguments() -> None:
    arguments = [
        *("train.py", "--api-key=abc", "--token", "xyz", "--lr", "1e-3", "wandb.api_key=abc"),
        *(
            '{"password": "hunter 2", "lr": 1}',
            "Authorization: Basic abcdef==",
            "--uri=http://a:b@c",
            "--secret",
            "--seed=3",
        ),
    ]
    assert mask_arguments(arguments) == [
        *("train.py", "--api-key=***", "--token", "***", "--lr", "1e-3", "wandb.api_key=***"),
        *('{"password": ***, "lr": 1}', "Authorization: ***", "--uri=http://***@c", "--secret", "--seed=3"),
    ]


OPTIONS: dict[str, Any] = {
    "api_key": SECRET,
    "tracking_uri": f"https://me:{SECRET}@host/mlflow",
    "headers": {"X-Api-Key": SECRET, "Accept": "json", "numbers": [1, 2.5, None, True]},
    "stores": [{"password": SECRET}, {"password": "other"}],
    "credentials": {"user": "me", "parts": ["x", SECRET]},
    "project": "p",
    "empty": {"token": "", "nothing": {}},
}


def test_extract_leaves_no_secret_and_restore_puts_them_back() -> None:
    public, environ = extract(OPTIONS, "my-sink")
    assert SECRET not in json.dumps(public)
    assert public["api_key"] == {"$env": "RL_LOGGING_SECRET_MY_SINK_API_KEY"}
    assert public["tracking_uri"] == {"$env": "RL_LOGGING_SECRET_MY_SINK_TRACKING_URI"}
    assert public["stores"][1] == {"password": {"$env": "RL_LOGGING_SECRET_MY_SINK_STORES_1_PASSWORD"}}
    assert public["project"] == "p"
    assert set(environ.values()) == {SECRET, f"https://me:{SECRET}@host/mlflow", "other", "me", "x"}
    assert restore(json.loads(json.dumps(public)), environ) == OPTIONS


def test_variables_that_would_be_called_the_same() -> None:
    options = {"api-key": "one", "api_key": "two", "API KEY": "three"}
    public, environ = extract(options, "x")
    assert len(environ) == 3
    assert restore(public, environ) == options


def test_restore_names_all_that_is_missing() -> None:
    public, environ = extract(OPTIONS, "mlflow")
    del environ["RL_LOGGING_SECRET_MLFLOW_API_KEY"], environ["RL_LOGGING_SECRET_MLFLOW_STORES_0_PASSWORD"]
    with pytest.raises(SecretMissingError) as caught:
        restore(public, environ)
    assert "RL_LOGGING_SECRET_MLFLOW_API_KEY (for the option api_key)" in str(caught.value)
    assert "RL_LOGGING_SECRET_MLFLOW_STORES_0_PASSWORD (for the option stores[0].password)" in str(caught.value)


def test_a_foreign_run_directory_cannot_ask_for_any_variable_it_likes() -> None:
    with pytest.raises(SecretMissingError, match="AWS_SECRET_ACCESS_KEY"):
        restore({"tracking_uri": {"$env": "AWS_SECRET_ACCESS_KEY"}}, {"AWS_SECRET_ACCESS_KEY": SECRET})


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=12,
)
_keys = st.sampled_from(["api_key", "password", "token", "url", "a", "b"]) | st.text(max_size=6)


@given(st.dictionaries(_keys, _json, max_size=4), st.text(max_size=8))
def test_restore_undoes_extract(options: dict[str, Any], prefix: str) -> None:
    public, environ = extract(options, prefix)
    assert restore(public, environ) == options
    assert all(variable.startswith("RL_LOGGING_SECRET_") and variable.isascii() for variable in environ)
