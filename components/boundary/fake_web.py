"""How a fake web server answers: the name of its pod, whatever is asked."""

from urllib.parse import parse_qs, urlsplit

from attrs import frozen

from .podnet import HttpAnswer, HttpExchange

_TEXT = (("content-type", "text/plain; charset=utf-8"),)


@frozen
class Exit:
    """The server was asked to end."""

    code: int


def respond(exchange: HttpExchange, pod_name: str, repository: str, healthy: bool) -> HttpAnswer | Exit:
    """The answer to one request.

    The end-to-end test image of Kubernetes has some paths of its own (`netexec`), which are kept.
    """
    if not healthy:
        return _answer(503, "unhealthy\n", exchange)
    if repository.endswith("/agnhost"):
        url = urlsplit(exchange.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match url.path:
            case "/exit":
                code = query.get("code", "0")
                return Exit(int(code) & 255 if code.isdigit() else 1)
            case "/echo":
                return _answer(200, query.get("msg", ""), exchange)
            case "/clientip":
                return _answer(200, exchange.source_ip, exchange)
            case "/header":
                wanted = query.get("key", "").lower()
                return _answer(200, dict(exchange.headers).get(wanted, ""), exchange)
            case "/hostname" | "/hostName":
                return _answer(200, pod_name, exchange)
    return _answer(200, f"{pod_name}\n", exchange)


def _answer(status: int, text: str, exchange: HttpExchange) -> HttpAnswer:
    body = text.encode()
    headers = (*_TEXT, ("content-length", str(len(body))))
    return HttpAnswer(status, headers, b"" if exchange.method == "HEAD" else body)
