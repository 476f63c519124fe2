"""The etcd v3 API over any `Storage`, and a real etcd as one.

Sans I/O
- `schema` over `proto/`: messages and methods; `grpc`: status codes, framing; `errors`: etcd's own texts
- `service`: what each method does, with `watching`, `leasing`, `maintaining`; `translation`: to the contract
- `calls`: one call as the service sees it, and calls in memory
- `connection`: gRPC at the server's end of an HTTP/2 connection

Real adapters
- `listening`: sockets and TLS; `server`: the front; `http1`: what it answers to a browser
"""
