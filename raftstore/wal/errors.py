"""Why a member's folder cannot be used, each time with what to do about it."""

from attrs import define

from understudy.actors.disk import DiskError, InUse, NoSpace, NoSuchFile, NotPermitted


@define(slots=False)
class StoreFolderError(Exception):
    """A folder that a member keeps its log in cannot be used. `path` is the file or folder meant."""

    path: str
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}. {self.advice}"


@define(slots=False)
class FolderRefused(StoreFolderError):
    """It is in use, or somebody else's, or of a format that is not known here."""


@define(slots=False)
class Damaged(StoreFolderError):
    """Something that was durable is not as it was written."""

    offset: int = 0
    """Where in the file, in bytes."""

    def __str__(self) -> str:
        return f"{self.path}, byte {self.offset}: {self.what}. {self.advice}"


@define(slots=False)
class DiskUnusable(StoreFolderError):
    """The disk did not do what it was asked. What it was to make durable must count as lost."""


def unusable(folder: str, error: DiskError) -> StoreFolderError:
    """What an error of the disk means for the member whose folder it is."""
    path = getattr(error, "path", "") or folder
    match error:
        case InUse():
            return FolderRefused(
                path, "another process has this folder open", "Stop that one, or use another folder"
            )
        case NoSuchFile():
            return FolderRefused(path, "there is no such file or folder", "Check the name")
        case NoSpace():
            return DiskUnusable(path, "the disk is full", "Make room, then start the member again")
        case NotPermitted():
            return DiskUnusable(
                path, error.what, "Give this user the right to write there, then start the member again"
            )
        case _:
            return DiskUnusable(
                path,
                getattr(error, "what", "") or repr(error),
                "What was not acknowledged may be lost. Look after the disk (dmesg, smartctl), then start "
                "the member again; if it fails again, remove it and add it with an empty folder",
            )
