"""The etcd v3 API over any `Storage`, and a real etcd as one.

Sans I/O
- `schema` over `proto/`: messages and methods; `grpc`: status codes, framing; `errors`: etcd's own texts
- `service`: what each method does, with `watching`, `leasing`, `maintaining`, `authority`, `clustering`
- `autocompaction`: forgetting the past by itself; `configuration`: etcd's flags
- `translation`: between protobuf and the Storage contract
- `calls`: one call as the service sees it, and calls in memory
- `http2`: gRPC on an HTTP/2 connection; `connection`: at the server's end, `client_connection`: at the
  client's

Real adapters
- `listening`: sockets and TLS; `server`: the front; `http1`: what it answers to a browser
- `node`: one member as a process of its own
- `client`: a channel to a server; `remote_store`: a `Storage` that is a real etcd
"""
