"""What an error of MLflow's client means for the records that caused it."""

from __future__ import annotations

import re
import traceback

from rl_logging.sinks import TransientError

# What a database or its pool says when it is busy, whatever status MLflow wraps it in: a full pool comes as 400.
_BUSY = re.compile(
    r"QueuePool limit|database is locked|too many (?:clients|connections)|deadlock|could not serialize"
    r"|server closed the connection|Lost connection|gone away|(?:table|relation) \S*alembic_version\S* already exists",
    re.IGNORECASE,
)
_WAITING_STATUSES = frozenset({408, 425, 429})
_NOT_IMPLEMENTED = 501
_SERVER_ERROR = 500
_MESSAGE_LIMIT = 600


def status_of(error: BaseException) -> int | None:
    """Returns the HTTP status an error of mlflow or requests stands for, None for any other error."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(status, int):
        return status
    get_status = getattr(error, "get_http_status_code", None)
    return int(get_status()) if get_status is not None else None


def words_of(error: BaseException) -> str:
    """Returns what the store said, shortened."""
    text = str(error).strip() or repr(error)
    return text if len(text) <= _MESSAGE_LIMIT else text[:_MESSAGE_LIMIT] + " ..."


def transient(error: BaseException, *, remote: bool) -> TransientError | None:
    """Returns the `TransientError` that `error` stands for, None where waiting does not help.

    Args:
        error: What the client raised.
        remote: True for a tracking server: there an internal error is the server's, and may pass. In a store that
            this process opens itself it is a refusal.
    """
    if isinstance(error, TransientError):
        return error
    status = status_of(error)
    if _is_bad_url(error):
        return None
    if status is None:
        return TransientError(words_of(error)) if _is_connection_error(error) or _BUSY.search(str(error)) else None
    busy = bool(_BUSY.search(str(error)))
    waiting = status in _WAITING_STATUSES or (status > _SERVER_ERROR and status != _NOT_IMPLEMENTED)
    failing = status == _SERVER_ERROR and (remote or _is_connection_error(error))
    if not (busy or waiting or failing):
        return None
    return TransientError(words_of(error), retry_after_s=_retry_after_s(error))


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _is_connection_error(error: BaseException) -> bool:
    causes = _causes(error)
    return any(isinstance(cause, ConnectionError | TimeoutError) or _of_requests(cause) for cause in causes)


def _is_bad_url(error: BaseException) -> bool:
    """Tells whether requests found no address in the URL, which it reports as a `ValueError` of its own."""
    return any(isinstance(cause, ValueError) and _of_requests(cause) for cause in _causes(error))


def _of_requests(error: BaseException) -> bool:
    return (type(error).__module__ or "").startswith(("requests.", "urllib3."))


def _retry_after_s(error: BaseException) -> float | None:
    """Returns the seconds a server asked us to wait.

    MLflow's client turns a 429 or 503 into an error without the response; it is still found where urllib3 gave up on
    it.
    """
    for cause in _causes(error):
        responses = [getattr(cause, "response", None)]
        responses += [frame.f_locals.get("response") for frame, _ in traceback.walk_tb(cause.__traceback__)]
        for response in responses:
            headers = getattr(response, "headers", None)
            value = headers.get("Retry-After") if headers is not None else None
            if value is not None and re.fullmatch(r"\s*\d+(\.\d+)?\s*", str(value)):
                return float(value)
    return None
