"""What can go wrong when something starts, and is the user's to put right."""


class StartError(Exception):
    """It cannot start as it was asked to; the message is one line, the hint says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message
