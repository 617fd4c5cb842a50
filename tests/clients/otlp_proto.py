"""Reads an OTLP/HTTP JSON request from standard input by the protobuf schema of OpenTelemetry, and prints its spans.

OTLP departs from the JSON mapping of protobuf in one thing: ids are hexadecimal, not base64. They are turned here.
"""

import base64
import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


def turned(value):
    if isinstance(value, list):
        return [turned(one) for one in value]
    if not isinstance(value, dict):
        return value
    ids = ("traceId", "spanId", "parentSpanId")
    return {
        key: base64.b64encode(bytes.fromhex(inner)).decode() if key in ids else turned(inner)
        for key, inner in value.items()
    }


request = json_format.ParseDict(turned(json.load(sys.stdin)), ExportTraceServiceRequest())
assert len(request.resource_spans) == 1
resource = request.resource_spans[0]
names = {one.key: one.value.string_value for one in resource.resource.attributes}
assert names["service.name"] == "corelane", names
for span in resource.scope_spans[0].spans:
    assert (len(span.trace_id), len(span.span_id), len(span.parent_span_id)) == (16, 8, 8), span
    assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano, span
    assert span.trace_state == "a=1", span
    values = {one.key: one.value for one in span.attributes}
    assert len(values) == len(span.attributes), "an attribute is there twice"
    assert all(value.WhichOneof("value") for value in values.values()), span
    if span.kind == Span.SPAN_KIND_CLIENT:
        assert values["gen_ai.usage.output_tokens"].int_value == 8, span
        assert values["gen_ai.response.time_to_first_chunk"].double_value > 0, span
        assert values["gen_ai.request.stream"].bool_value, span
    print(Span.SpanKind.Name(span.kind), span.name, span.trace_id.hex(), span.parent_span_id.hex())
