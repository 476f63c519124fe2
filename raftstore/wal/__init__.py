"""A member's log on a disk: a write-ahead log in segments, snapshots beside it, and tools to look at both.

- `batches`: what is written at a time, to bytes and back; `frames`: how it stands in a segment. Sans I/O.
- `segments`: the segments of a folder: recovery, appending, cutting, forgetting
- `snapshot_format`: a state as a stream of checked chunks. Sans I/O. `snapshot_files`: on a disk
- `folder`: whose folder it is, and who has it open
- `disklog`: all of it as a `MemberLog`
- `examine`: verify, dump and repair
"""
