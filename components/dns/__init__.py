"""The cluster's DNS, as CoreDNS with its kubernetes plugin answers.

`zone`    what the names of Services, endpoints and pods stand for, without any wire format
`server`  DNS messages in, DNS messages out: negotiation, truncation, malformed queries
`core_dns` the actor that keeps the zone and answers queries
`listener` its sockets: a real adapter
"""
