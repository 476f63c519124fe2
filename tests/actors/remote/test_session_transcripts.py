"""The session told by transcripts: commands, and under each what is heard and how things stand.

A line that begins with `> ` is a command about one of two sessions, `a` that calls and `b` that is called:

    hears              everything that the other has to say by now
    hears TEXT         bytes from elsewhere
    answer [known], begin [resume], welcome, goodbye CODE TEXT
    at SECONDS         its clock, and a tick
    sends KIND FIELD.. a frame of that kind, whatever the stage
"""

from pathlib import Path

import pytest

from understudy.actors.remote.framing import ProtocolError
from understudy.actors.remote.protocol import Identity, Kind, Limits, pack
from understudy.actors.remote.session import Session

TRANSCRIPTS = Path(__file__).parent / "transcripts"

LIMITS = Limits(silence_seconds_max=4.0, handshake_seconds_max=2.0)


class Stage:
    """Two sessions, and the bytes that each has not heard yet."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sessions = {
            "a": Session(Identity("alpha", "a1"), LIMITS, True, 0.0),
            "b": Session(Identity("beta", "b1"), LIMITS, False, 0.0),
        }

    def run(self, command: str) -> list[str]:
        who, verb, *words = command.split(" ")
        session, other = self.sessions[who], self.sessions["ab".replace(who, "")]
        try:
            if verb == "hears":
                return self.hear(session, " ".join(words).encode() if words else other.outgoing.take())
            if verb == "at":
                self.now = float(words[0])
                lost = session.tick(self.now)
                return [f"lost: {lost}"] if lost else []
            if verb == "sends":
                session.outgoing.add(pack(Kind[words[0]], *(int(word) for word in words[1:])))
            elif verb == "goodbye":
                session.goodbye(words[0], " ".join(words[1:]))
            elif verb == "welcome":
                session.welcome()
            else:
                {"answer": session.answer, "begin": session.begin}[verb](bool(words))
            return [f"({session.stage.value})"]
        except ProtocolError as error:
            return [f"protocol error: {error}"]

    def hear(self, session: Session, data: bytes) -> list[str]:
        session.feed(data, self.now)
        lines = []
        while (frame := session.next_frame()) is not None:
            lines.append(" ".join([Kind(frame[0]).name, *(str(field) for field in frame[1:])]))
        return [*lines, f"({session.stage.value})"]


@pytest.mark.parametrize("path", sorted(TRANSCRIPTS.glob("*.txt")), ids=lambda path: path.stem)
def test_it_goes_as_the_transcript_says(path: Path) -> None:
    stage, told = Stage(), []
    text = path.read_text()
    for line in text.splitlines():
        if line.startswith("> "):
            told += [line, *stage.run(line.removeprefix("> "))]
        elif line.startswith("#") or not line:
            told.append(line)
    assert "\n".join(told) + "\n" == text
