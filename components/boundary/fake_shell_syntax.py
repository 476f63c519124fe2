"""Reading shell text: words with their quotes, and the small grammar that fake containers run.

Lists with `;`, `&`, `&&`, `||` and `|`, redirections, `while`/`until`/`for`/`if`, `( )` and `{ }`.
Functions, `case` and here-documents are refused rather than misread.
"""

from attrs import frozen

OPERATORS = ("&&", "||", ";;", "2>&1", "1>&2", ">&2", "2>>", "2>", ">>", ">", "<", ";", "&", "|", "(", ")")
_BLANK = " \t\r"


class ShellSyntaxError(Exception):
    """Text that is no shell script, or uses what the fake shell lacks."""


@frozen
class Part:
    """A piece of a word; `expand` is False inside single quotes, `quoted` keeps spaces together."""

    text: str
    expand: bool
    quoted: bool


@frozen
class Word:
    parts: tuple[Part, ...]

    @property
    def bare(self) -> str | None:
        """Its text when it is one unquoted piece: only such a word can be a keyword."""
        if len(self.parts) == 1 and not self.parts[0].quoted:
            return self.parts[0].text
        return None


@frozen
class Operator:
    text: str
    """One of OPERATORS, or a newline."""


Token = Word | Operator


@frozen
class Redirect:
    operator: str
    target: Word | None


@frozen
class Simple:
    assignments: tuple[tuple[str, Word], ...]
    words: tuple[Word, ...]


@frozen
class Pipeline:
    commands: tuple["Command", ...]
    negated: bool


@frozen
class AndOr:
    first: Pipeline
    rest: tuple[tuple[str, Pipeline], ...]
    """Each with `&&` or `||` before it."""
    background: bool = False


Script = tuple[AndOr, ...]


@frozen
class Loop:
    condition: Script
    body: Script
    until: bool


@frozen
class For:
    name: str
    words: tuple[Word, ...]
    body: Script


@frozen
class If:
    branches: tuple[tuple[Script, Script], ...]
    otherwise: Script


@frozen
class Group:
    body: Script
    subshell: bool


@frozen
class Command:
    node: Simple | Loop | For | If | Group
    redirects: tuple[Redirect, ...] = ()


def tokenize(text: str) -> list[Token]:
    """The tokens of a script. Raises ShellSyntaxError on an unfinished quote."""
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        char = text[position]
        if text.startswith("\\\n", position):
            position += 2
        elif char in _BLANK:
            position += 1
        elif char == "\n":
            tokens.append(Operator("\n"))
            position += 1
        elif char == "#":
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
        else:
            operator = next((o for o in OPERATORS if text.startswith(o, position)), None)
            if operator is not None:
                tokens.append(Operator(operator))
                position += len(operator)
            else:
                word, position = _word(text, position)
                tokens.append(word)
    return tokens


def _word(text: str, position: int) -> tuple[Word, int]:
    parts: list[Part] = []
    plain = ""

    def flush() -> None:
        nonlocal plain
        if plain:
            parts.append(Part(plain, True, False))
            plain = ""

    while position < len(text) and text[position] not in _BLANK + "\n;&|()<>":
        char = text[position]
        if char == "'":
            flush()
            end = _find(text, "'", position + 1)
            parts.append(Part(text[position + 1 : end], False, True))
            position = end + 1
        elif char == '"':
            flush()
            inner, position = _double_quoted(text, position + 1)
            parts.extend(inner)
        elif char == "\\":
            flush()
            parts.append(Part(text[position + 1 : position + 2], False, True))
            position += 2
        elif char == "$" and text[position + 1 : position + 2] in ("(", "{"):
            end = _closing(text, position + 1)
            plain += text[position:end]
            position = end
        elif char == "`":
            end = _find(text, "`", position + 1)
            plain += f"$({text[position + 1 : end]})"
            position = end + 1
        else:
            plain += char
            position += 1
    flush()
    return Word(tuple(parts)), position


def _double_quoted(text: str, position: int) -> tuple[list[Part], int]:
    parts: list[Part] = []
    inner = ""
    while True:
        if position >= len(text):
            raise ShellSyntaxError("unterminated quoted string")
        char = text[position]
        if char == '"':
            parts.append(Part(inner, True, True))
            return parts, position + 1
        if char == "\\" and text[position + 1 : position + 2] in tuple('"\\$`'):
            parts += [Part(inner, True, True), Part(text[position + 1], False, True)]
            inner = ""
            position += 2
        elif char == "$" and text[position + 1 : position + 2] in ("(", "{"):
            end = _closing(text, position + 1)
            inner += text[position:end]
            position = end
        else:
            inner += char
            position += 1


def _find(text: str, quote: str, position: int) -> int:
    end = text.find(quote, position)
    if end < 0:
        raise ShellSyntaxError("unterminated quoted string")
    return end


def _closing(text: str, position: int) -> int:
    """The position behind the bracket that closes the one at `position`."""
    pairs = {"(": ")", "{": "}"}
    opening, closing, depth = text[position], pairs[text[position]], 0
    for index in range(position, len(text)):
        if text[index] == opening:
            depth += 1
        elif text[index] == closing:
            depth -= 1
            if depth == 0:
                return index + 1
    raise ShellSyntaxError(f'missing "{closing}"')


def parse(text: str) -> Script:
    """The script in `text`. Raises ShellSyntaxError."""
    parser = _Parser(tokenize(text))
    script = parser.script(())
    if parser.position < len(parser.tokens):
        raise ShellSyntaxError(f"unexpected {_show(parser.tokens[parser.position])}")
    return script


_UNSUPPORTED = frozenset({"case", "function", "select"})
_NOT_COMMANDS = frozenset({"do", "done", "then", "else", "elif", "fi", "}"})


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.position = 0

    def peek(self) -> Token | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def keyword(self) -> str | None:
        token = self.peek()
        return token.bare if isinstance(token, Word) else None

    def operator(self) -> str | None:
        token = self.peek()
        return token.text if isinstance(token, Operator) else None

    def expect(self, keyword: str) -> None:
        if self.keyword() != keyword:
            raise ShellSyntaxError(f'unexpected {_show(self.peek())} (expecting "{keyword}")')
        self.position += 1

    def skip(self, *operators: str) -> None:
        while self.operator() in operators:
            self.position += 1

    def script(self, ends: tuple[str, ...]) -> Script:
        lists: list[AndOr] = []
        while True:
            self.skip(";", "\n")
            if self.peek() is None or self.keyword() in ends or self.operator() == ")":
                return tuple(lists)
            first = self.pipeline()
            rest: list[tuple[str, Pipeline]] = []
            while (operator := self.operator()) in ("&&", "||"):
                self.position += 1
                self.skip("\n")
                rest.append((operator, self.pipeline()))
            background = self.operator() == "&"
            if background:
                self.position += 1
            elif self.operator() not in (";", "\n", ")", None):
                raise ShellSyntaxError(f"unexpected {_show(self.peek())}")
            lists.append(AndOr(first, tuple(rest), background))

    def pipeline(self) -> Pipeline:
        negated = self.keyword() == "!"
        if negated:
            self.position += 1
        commands = [self.command()]
        while self.operator() == "|":
            self.position += 1
            self.skip("\n")
            commands.append(self.command())
        return Pipeline(tuple(commands), negated)

    def command(self) -> Command:
        word = self.keyword()
        if self.operator() == "(":
            self.position += 1
            node: Simple | Loop | For | If | Group = Group(self.script(()), True)
            if self.operator() != ")":
                raise ShellSyntaxError('unexpected end of file (expecting ")")')
            self.position += 1
        elif word in ("while", "until"):
            self.position += 1
            condition = self.script(("do",))
            node = Loop(condition, self.body(), word == "until")
        elif word == "for":
            node = self.for_loop()
        elif word == "if":
            node = self.if_command()
        elif word == "{":
            self.position += 1
            node = Group(self.script(("}",)), False)
            self.expect("}")
        elif word in _UNSUPPORTED:
            raise ShellSyntaxError(f'"{word}" is not known to the fake shell')
        elif word in _NOT_COMMANDS:
            raise ShellSyntaxError(f'unexpected "{word}"')
        else:
            return self.simple()
        return Command(node, self.redirects())

    def body(self) -> Script:
        self.expect("do")
        body = self.script(("done",))
        self.expect("done")
        return body

    def for_loop(self) -> For:
        self.position += 1
        name = self.keyword() or ""
        if not name.isidentifier():
            raise ShellSyntaxError("bad for loop variable")
        self.position += 1
        self.expect("in")
        words: list[Word] = []
        while isinstance(token := self.peek(), Word):
            words.append(token)
            self.position += 1
        self.skip(";", "\n")
        return For(name, tuple(words), self.body())

    def if_command(self) -> If:
        branches: list[tuple[Script, Script]] = []
        otherwise: Script = ()
        self.position += 1
        while True:
            condition = self.script(("then",))
            self.expect("then")
            branches.append((condition, self.script(("elif", "else", "fi"))))
            if self.keyword() == "elif":
                self.position += 1
                continue
            if self.keyword() == "else":
                self.position += 1
                otherwise = self.script(("fi",))
            self.expect("fi")
            return If(tuple(branches), otherwise)

    def redirects(self) -> tuple[Redirect, ...]:
        found: list[Redirect] = []
        while (redirect := self.redirect()) is not None:
            found.append(redirect)
        return tuple(found)

    def redirect(self) -> Redirect | None:
        operator = self.operator()
        if operator in (">&2", "1>&2", "2>&1"):
            self.position += 1
            return Redirect(operator, None)
        if operator not in (">", ">>", "2>", "2>>", "<"):
            return None
        self.position += 1
        target = self.peek()
        if not isinstance(target, Word):
            raise ShellSyntaxError(f"unexpected {_show(target)} after {operator}")
        self.position += 1
        return Redirect(operator, target)

    def simple(self) -> Command:
        assignments: list[tuple[str, Word]] = []
        words: list[Word] = []
        redirects: list[Redirect] = []
        while True:
            redirect = self.redirect()
            if redirect is not None:
                redirects.append(redirect)
                continue
            token = self.peek()
            if not isinstance(token, Word):
                break
            self.position += 1
            assignment = None if words else _assignment(token)
            if assignment is not None:
                assignments.append(assignment)
            else:
                words.append(token)
        if not assignments and not words and not redirects:
            raise ShellSyntaxError(f"unexpected {_show(self.peek())}")
        if self.operator() == "(":
            raise ShellSyntaxError("functions are not known to the fake shell")
        return Command(Simple(tuple(assignments), tuple(words)), tuple(redirects))


def _assignment(word: Word) -> tuple[str, Word] | None:
    if not word.parts or word.parts[0].quoted:
        return None
    name, equals, value = word.parts[0].text.partition("=")
    if not equals or not name.isidentifier():
        return None
    rest = (Part(value, True, False),) if value else ()
    return name, Word((*rest, *word.parts[1:]))


def _show(token: Token | None) -> str:
    if token is None:
        return "end of file"
    if isinstance(token, Operator):
        return "newline" if token.text == "\n" else f'"{token.text}"'
    return f'"{"".join(part.text for part in token.parts)}"'
