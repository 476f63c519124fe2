"""Between etcd's protobuf messages and the messages of the Storage contract, both ways.

Requests that contradict themselves are refused here with etcd's own errors; the rest is the store's to judge.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeVar, get_args

from understudy.raftstore.storage import (
    Compare,
    CompareOperator,
    CompareTarget,
    DeleteRange,
    DeleteRangeReply,
    EmptyKey,
    Event,
    KeyValue,
    Operation,
    OperationReply,
    Put,
    PutReply,
    Range,
    RangeReply,
    SortOrder,
    SortTarget,
    Txn,
    TxnReply,
)

from .errors import INVALID_COMPARE, INVALID_SORT, KEY_NOT_FOUND, LEASE_PROVIDED, VALUE_PROVIDED, rpc_error
from .grpc import Code, RpcError
from .schema import messages

T = TypeVar("T")

SORT_ORDERS: Final[tuple[SortOrder, ...]] = ("none", "ascend", "descend")
SORT_TARGETS: Final[tuple[SortTarget, ...]] = ("key", "version", "create", "mod", "value")
OPERATORS: Final[tuple[CompareOperator, ...]] = ("=", ">", "<", "!=")
TARGETS: Final[tuple[CompareTarget, ...]] = ("version", "create", "mod", "value", "lease")
_TARGET_FIELDS: Final = ("version", "create_revision", "mod_revision", "value", "lease")
"""Each by its number in the protocol."""
assert {*get_args(CompareTarget)} == {*TARGETS} and {*get_args(SortTarget)} == {*SORT_TARGETS}

_KeyValue: Final = messages.KeyValue
_ResponseHeader: Final = messages.ResponseHeader

# ------------------------------------------------------------------------------------------------------------
# Requests, as a server reads them
# ------------------------------------------------------------------------------------------------------------


def _numbered(names: Sequence[T], number: int, refusal: tuple[Code, str]) -> T:
    """What a number stands for. The numbers of enums are whatever a client sends. Raises RpcError."""
    if not 0 <= number < len(names):
        raise RpcError(*refusal)
    return names[number]


def range_from(request: Any) -> Range:
    """A `Range` from a RangeRequest. Raises RpcError."""
    sort_order = _numbered(SORT_ORDERS, request.sort_order, INVALID_SORT)
    sort_target = _numbered(SORT_TARGETS, request.sort_target, INVALID_SORT)
    if not request.key:
        raise rpc_error(EmptyKey())
    return Range(
        key=request.key,
        range_end=request.range_end,
        limit=max(0, request.limit),
        revision=request.revision,
        serializable=request.serializable,
        keys_only=request.keys_only,
        count_only=request.count_only,
        sort_order=sort_order,
        sort_target=sort_target,
        min_mod_revision=request.min_mod_revision,
        max_mod_revision=request.max_mod_revision,
        min_create_revision=request.min_create_revision,
        max_create_revision=request.max_create_revision,
    )


def put_from(request: Any) -> Put:
    """A `Put` from a PutRequest. Raises RpcError."""
    if not request.key:
        raise rpc_error(EmptyKey())
    if request.ignore_value and request.value:
        raise RpcError(*VALUE_PROVIDED)
    if request.ignore_lease and request.lease:
        raise RpcError(*LEASE_PROVIDED)
    return Put(
        request.key,
        request.value,
        request.lease,
        request.prev_kv,
        request.ignore_value,
        request.ignore_lease,
    )


def delete_from(request: Any) -> DeleteRange:
    """A `DeleteRange` from a DeleteRangeRequest. Raises RpcError."""
    if not request.key:
        raise rpc_error(EmptyKey())
    return DeleteRange(request.key, request.range_end, request.prev_kv)


def txn_from(request: Any) -> Txn:
    """A `Txn` from a TxnRequest. Raises RpcError."""
    return Txn(
        tuple([_compare_from(compare) for compare in request.compare]),
        tuple([_operation_from(operation) for operation in request.success]),
        tuple([_operation_from(operation) for operation in request.failure]),
    )


def _compare_from(compare: Any) -> Compare:
    if not compare.key:
        raise rpc_error(EmptyKey())
    return Compare(
        compare.key,
        _numbered(TARGETS, compare.target, INVALID_COMPARE),
        _numbered(OPERATORS, compare.result, INVALID_COMPARE),
        getattr(compare, _TARGET_FIELDS[compare.target]),
        compare.range_end,
    )


def _operation_from(operation: Any) -> Operation:
    match operation.WhichOneof("request"):
        case "request_range":
            return range_from(operation.request_range)
        case "request_put":
            return put_from(operation.request_put)
        case "request_delete_range":
            return delete_from(operation.request_delete_range)
        case "request_txn":
            return txn_from(operation.request_txn)
        case _:
            raise RpcError(*KEY_NOT_FOUND)


# ------------------------------------------------------------------------------------------------------------
# Answers, as a server writes them
# ------------------------------------------------------------------------------------------------------------


def key_value_to(pair: KeyValue) -> Any:
    return _KeyValue(
        key=pair.key,
        value=pair.value,
        create_revision=pair.create_revision,
        mod_revision=pair.mod_revision,
        version=pair.version,
        lease=pair.lease,
    )


def event_to(event: Event) -> Any:
    return messages.Event(
        type=0 if event.type == "PUT" else 1,
        kv=key_value_to(event.kv),
        prev_kv=None if event.prev_kv is None else key_value_to(event.prev_kv),
    )


def range_to(reply: RangeReply, header: Any) -> Any:
    return messages.RangeResponse(
        header=header, kvs=[key_value_to(pair) for pair in reply.kvs], more=reply.more, count=reply.count
    )


def put_to(reply: PutReply, header: Any) -> Any:
    previous = None if reply.prev_kv is None else key_value_to(reply.prev_kv)
    return messages.PutResponse(header=header, prev_kv=previous)


def delete_to(reply: DeleteRangeReply, header: Any) -> Any:
    return messages.DeleteRangeResponse(
        header=header, deleted=reply.deleted, prev_kvs=[key_value_to(pair) for pair in reply.prev_kvs]
    )


def txn_to(reply: TxnReply, header: Any) -> Any:
    responses = [_operation_to(response) for response in reply.responses]
    return messages.TxnResponse(header=header, succeeded=reply.succeeded, responses=responses)


def _operation_to(reply: OperationReply) -> Any:
    # Inside a transaction a header tells the revision and no more.
    header = _ResponseHeader(revision=reply.revision)
    match reply:
        case RangeReply():
            return messages.ResponseOp(response_range=range_to(reply, header))
        case PutReply():
            return messages.ResponseOp(response_put=put_to(reply, header))
        case DeleteRangeReply():
            return messages.ResponseOp(response_delete_range=delete_to(reply, header))
        case TxnReply():
            # One within another says no revision at all, in etcd.
            return messages.ResponseOp(response_txn=txn_to(reply, _ResponseHeader()))


# ------------------------------------------------------------------------------------------------------------
# Requests, as a client writes them
# ------------------------------------------------------------------------------------------------------------


def range_request(request: Range) -> Any:
    return messages.RangeRequest(
        key=request.key,
        range_end=request.range_end,
        limit=request.limit,
        revision=request.revision,
        serializable=request.serializable,
        keys_only=request.keys_only,
        count_only=request.count_only,
        sort_order=SORT_ORDERS.index(request.sort_order),
        sort_target=SORT_TARGETS.index(request.sort_target),
        min_mod_revision=request.min_mod_revision,
        max_mod_revision=request.max_mod_revision,
        min_create_revision=request.min_create_revision,
        max_create_revision=request.max_create_revision,
    )


def put_request(request: Put) -> Any:
    return messages.PutRequest(
        key=request.key,
        value=request.value,
        lease=request.lease,
        prev_kv=request.prev_kv,
        ignore_value=request.ignore_value,
        ignore_lease=request.ignore_lease,
    )


def delete_request(request: DeleteRange) -> Any:
    return messages.DeleteRangeRequest(key=request.key, range_end=request.range_end, prev_kv=request.prev_kv)


def txn_request(request: Txn) -> Any:
    return messages.TxnRequest(
        compare=[_compare_request(compare) for compare in request.compares],
        success=[_operation_request(operation) for operation in request.success],
        failure=[_operation_request(operation) for operation in request.failure],
    )


def _compare_request(compare: Compare) -> Any:
    target = TARGETS.index(compare.target)
    return messages.Compare(
        key=compare.key,
        range_end=compare.range_end,
        target=target,
        result=OPERATORS.index(compare.operator),
        **{_TARGET_FIELDS[target]: compare.value},
    )


def _operation_request(operation: Operation) -> Any:
    match operation:
        case Range():
            return messages.RequestOp(request_range=range_request(operation))
        case Put():
            return messages.RequestOp(request_put=put_request(operation))
        case DeleteRange():
            return messages.RequestOp(request_delete_range=delete_request(operation))
        case Txn():
            return messages.RequestOp(request_txn=txn_request(operation))


# ------------------------------------------------------------------------------------------------------------
# Answers, as a client reads them
# ------------------------------------------------------------------------------------------------------------


def key_value_from(pair: Any) -> KeyValue:
    return KeyValue(pair.key, pair.value, pair.create_revision, pair.mod_revision, pair.version, pair.lease)


def event_from(event: Any) -> Event:
    previous = key_value_from(event.prev_kv) if event.HasField("prev_kv") else None
    return Event("DELETE" if event.type else "PUT", key_value_from(event.kv), previous)


def range_reply(response: Any) -> RangeReply:
    pairs = tuple([key_value_from(pair) for pair in response.kvs])
    return RangeReply(response.header.revision, pairs, response.more, response.count)


def put_reply(response: Any) -> PutReply:
    previous = key_value_from(response.prev_kv) if response.HasField("prev_kv") else None
    return PutReply(response.header.revision, previous)


def delete_reply(response: Any) -> DeleteRangeReply:
    pairs = tuple([key_value_from(pair) for pair in response.prev_kvs])
    return DeleteRangeReply(response.header.revision, response.deleted, pairs)


def txn_reply(response: Any) -> TxnReply:
    return _txn_reply(response, response.header.revision)


def _txn_reply(response: Any, revision: int) -> TxnReply:
    return TxnReply(
        revision, response.succeeded, tuple([_operation_reply(each, revision) for each in response.responses])
    )


def _operation_reply(operation: Any, revision: int) -> OperationReply:
    match operation.WhichOneof("response"):
        case "response_range":
            return range_reply(operation.response_range)
        case "response_put":
            return put_reply(operation.response_put)
        case "response_delete_range":
            return delete_reply(operation.response_delete_range)
        case "response_txn":
            return _txn_reply(operation.response_txn, revision)
        case other:
            raise AssertionError(f"a transaction's answer of an unknown kind: {other}")
