"""What a server says, read: counts, waits, complaints, and the failure that each stands for."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.chat.providers.errors import MOST, complaint, count, failure_without_status, refused, retry_after
from harness.chat.providers.quota import wait_in
from harness.chat.providers.refusals import Dialect, folded
from harness.chat.providers.servers import Connection
from harness.chat.values import Message

SERVER = Connection("openai", "http://127.0.0.1:9", None, None, 1.0, False)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "detail", "message", "code", "loc", "msg", "type"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(body=JSON)
def test_any_error_page_is_read(body: Any) -> None:
    for form in (body, json.dumps(body), json.dumps(body).encode()):
        assert isinstance(complaint(form).text, str)
        assert failure_without_status(SERVER, form).reason.startswith("openai: ")


@given(seconds=st.floats(0, 1e5))
def test_retry_after_in_each_unit(seconds: float) -> None:
    assert retry_after({"retry-after": repr(seconds)}) == pytest.approx(seconds)
    assert retry_after({"retry-after-ms": repr(seconds * 1000), "retry-after": "3"}) == pytest.approx(seconds)
    before = time.time()
    wait = retry_after({"retry-after": formatdate(before + seconds, usegmt=True)})
    assert wait is not None
    assert max(0.0, seconds - 1 - (time.time() - before)) <= wait + 1e-3  # dates have whole seconds
    assert wait <= seconds + 1


@pytest.mark.parametrize("value", ["", "soon", "nan", "inf", "Tue, 99 Nov"])
def test_a_retry_after_that_says_nothing(value: str) -> None:
    assert retry_after({"retry-after": value}) is None


def test_a_date_that_has_passed_asks_for_no_wait() -> None:
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after({"retry-after": "-4"}) == 0.0


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (12, 12),
        (12.0, 12),
        (12.5, 0),
        (1e25, MOST),
        (10**25, MOST),
        (float("inf"), MOST),
        (float("nan"), 0),
        (-3, 0),
        (-3.0, 0),
        (0.5, 0),
        (True, 0),
        ("12", 0),
        (None, 0),
        ([1], 0),
    ],
)
def test_counts_are_whole_numbers_that_a_database_holds(value: Any, number: int) -> None:
    found = count(value)
    assert (found, type(found)) == (number, int)


@given(st.integers() | st.floats())
def test_a_count_is_within_bounds(value: float) -> None:
    assert 0 <= count(value) <= MOST


@pytest.mark.parametrize(
    ("error", "status", "retryable", "words"),
    [
        (
            {"code": "token_limit_exceeded", "message": "Enqueued token limit reached for gpt-4o."},
            429,
            True,
            "429 Too Many Requests: Enqueued token limit reached for gpt-4o. (token_limit_exceeded)",
        ),
        ({"type": "overloaded_error", "message": "busy"}, 529, True, "529: busy"),
        ({"code": 502, "message": "upstream"}, 502, True, "502 Bad Gateway: upstream"),
        ({"code": "quite_new", "message": "odd"}, None, True, "openai: odd (quite_new)"),
        ({"code": "insufficient_quota", "message": "no money"}, None, False, "openai: no money (insufficient_quota)"),
        ({"type": "invalid_request_error", "message": "bad"}, 400, False, "400 Bad Request: bad"),
    ],
)
def test_an_error_without_a_status_gets_the_one_it_stands_for_and_none_is_made_up(
    error: Any, status: int | None, retryable: bool, words: str
) -> None:
    found = failure_without_status(SERVER, error)
    assert (found.status, found.retryable) == (status, retryable)
    assert found.reason.endswith(words)


def google(message: str, *details: Any) -> dict[str, Any]:
    return {"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": list(details)}}


DELAY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}
QUOTA = "You exceeded your current quota, please check your plan and billing details."


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (429, google("Resource has been exhausted (e.g. check quota)."), (429, False, None)),
        (429, [google("Resource has been exhausted (e.g. check quota).")], (429, False, None)),
        (429, {"error": {"message": json.dumps(google("Resource has been exhausted (e.g. check quota).")), "code": 429}}, (429, False, None)),
        (429, google(QUOTA, {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}, DELAY), (429, False, None)),
        (429, google(QUOTA, {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}]}, DELAY), (429, True, 37.0)),
        (429, google(f"{QUOTA} Please retry in 12.5s."), (429, True, 12.5)),
        (429, google("Resource exhausted. Please try again later."), (429, True, None)),
        (429, google("Quota exceeded for requests per minute."), (429, True, None)),
        (429, {"error": {"message": "Rate limit reached (TPM). Please try again in 2s.", "code": "rate_limit_exceeded"}}, (429, True, 2.0)),
        (429, {"error": {"message": "slow down", "type": "rate_limit_error"}}, (429, True, None)),
        (429, {"error": {"message": QUOTA, "code": "insufficient_quota"}}, (429, False, None)),
        (429, {"error": {"message": "Your account is out of credits", "type": "exceeded_current_quota_error"}}, (429, False, None)),
        (400, {"error": {"message": "Your credit balance is too low to access the API.", "type": "invalid_request_error"}}, (402, False, None)),
        (400, {"error": {"message": "Access denied", "code": "Arrearage"}}, (402, False, None)),
        (403, {"code": "permission-denied", "error": "Your team has used all available credits."}, (402, False, None)),
        (402, {"error": {"message": "Insufficient Balance"}}, (402, False, None)),
        (403, {"error": {"message": "flagged by moderation"}}, (403, False, None)),
        (400, {"error": {"message": "context length exceeded"}}, (400, False, None)),
        (500, {"error": {"message": "insufficient credits to answer this"}}, (500, True, None)),
        (429, {"error": {"message": "Please try again later", "code": "insufficient_balance"}}, (429, False, None)),
        (429, {"error": {"message": "余额不足或无可用资源包,请充值。", "code": "1113"}}, (429, False, None)),
        (403, {"code": 30001, "message": "Sorry, your account balance is insufficient", "data": None}, (402, False, None)),
        (400, {"error": {"message": "You have reached your specified API usage limits. You will regain access on 2026-12-01."}}, (402, False, None)),
        (400, {"error": {"message": "Budget has been exceeded! Current cost: 1.2, Max budget: 1.0", "type": "budget_exceeded"}}, (402, False, None)),
        (412, {"error": {"message": "Account mine is suspended, possibly due to reaching the monthly spending limit"}}, (402, False, None)),
        (403, {"error": {"code": "AccountOverdueError", "message": "Your account has an overdue balance"}}, (402, False, None)),
        (403, {"code": "AllocationQuota.FreeTierOnly", "message": "The free tier of the model has been exhausted."}, (402, False, None)),
        (429, {"error": {"message": "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock more", "code": 429}}, (429, False, None)),
        (429, {"error": {"message": "Rate limit reached on requests per day (RPD): Limit 200. Please try again in 7m12s."}}, (429, False, 432.0)),
        (429, {"error": {"message": "Rate limit reached on requests per day (RPD): Limit 10000. Please try again in 8.64s."}}, (429, True, 8.64)),
        (429, {"error": {"message": "Too many tokens per day, please wait before trying again."}}, (429, False, None)),
        (429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}, (429, False, None)),
        (429, {"error": {"message": "Rate limit reached on tokens per min (TPM): Limit 30000. Please try again in 350ms."}}, (429, True, 0.35)),
        (429, {"error": {"message": "You have exceeded the token rate limit of your tier. Please retry after 20 seconds."}}, (429, True, 20.0)),
        (429, {"error": {"message": "exceeds your rate limit of 50 requests per minute", "type": "rate_limit_error"}}, (429, True, None)),
        (400, {"error": {"message": "the text speaks of a balance sheet and of credits"}}, (400, False, None)),
    ],
)
def test_an_empty_account_is_known_by_many_words_and_a_full_minute_is_none(status: int, body: Any, found: tuple[Any, ...]) -> None:
    failure = refused(SERVER, status, complaint(json.dumps(body)))
    assert (failure.status, failure.retryable, failure.retry_after) == found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please try again in 1h2m3.5s.", 3723.5),
        ("retry in 37s", 37.0),
        ("Please wait 2 minutes and 3 seconds", 123.0),
        ("try again in 2 days", 172800.0),
        ("try again in 5", None),
        ("try again later", None),
        ("you may wait before trying again", None),
        ("try again in " + "1" * 5000, None),
        ("try again in 1s" * 5000, 1.0),
    ],
)
def test_waits_that_a_text_names(text: str, seconds: float | None) -> None:
    assert wait_in(text) == (None if seconds is None else pytest.approx(seconds))


@given(st.integers(0, 9), st.integers(0, 59), st.integers(1, 59), st.sampled_from(["try again in ", "Retry after ", "please wait "]))
def test_a_wait_is_read_back_in_either_spelling(hours: int, minutes: int, seconds: int, words: str) -> None:
    total = 3600 * hours + 60 * minutes + seconds
    assert wait_in(f"{words}{hours}h{minutes}m{seconds}s.") == total
    assert wait_in(f"{words}{hours} hours, {minutes} minutes and {seconds} seconds.") == total


def test_the_header_goes_before_what_the_text_says() -> None:
    assert refused(SERVER, 429, complaint(google(QUOTA, DELAY)), {"retry-after": "2"}).retry_after == 2.0


@pytest.mark.parametrize("path", ["", "/openai", "/openai/deployments/gpt-4o"])
@pytest.mark.parametrize("host", ["mine.openai.azure.com", "mine.cognitiveservices.azure.com", "mine.services.ai.azure.com"])
def test_an_address_of_azures_gets_a_hint_at_the_one_that_works(host: str, path: str) -> None:
    azure = replace(SERVER, url=f"https://{host}{path}")
    hint = f"Azure speaks this API at https://{host}/openai/v1: give that as base_url"
    assert hint in refused(azure, 404, complaint({"error": {"code": "404", "message": "Resource not found"}})).reason
    assert hint not in refused(azure, 500, complaint("")).reason
    for url in (f"https://{host}/openai/v1", "https://api.example.org/v1", "https://openai.azure.com.evil.org/v1"):
        assert "Azure" not in refused(replace(SERVER, url=url), 404, complaint("")).reason


def test_learning_ends() -> None:
    dialect = Dialect("s", {"temperature": "gone"})
    said = complaint({"error": {"message": "temperature is unsupported"}})
    assert dialect.learn("m", ["temperature"], said)
    assert not dialect.takes("m", "temperature")
    assert dialect.takes("n", "temperature")
    assert not dialect.learn("m", ["model"], said), "what was not sent cannot be left out"
    assert len(dialect.notes) == 1


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=3)), max_size=6))
def test_folding_loses_no_word_and_leaves_no_system_text(chat: list[tuple[Any, str]]) -> None:
    messages = tuple(Message(role, text) for role, text in chat)
    found = folded(messages)
    assert all(one.role != "system" for one in found)
    system = [text for role, text in chat if role == "system"]
    assert sum(len(one.content) for one in found) >= sum(len(text) for _, text in chat)
    assert [one for one in found if one.role == "assistant"] == [one for one in messages if one.role == "assistant"]
    if not system:
        assert found == messages
