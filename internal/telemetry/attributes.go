package telemetry

import (
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// Attribute says something of a span.
type Attribute = attribute.KeyValue

// Attributes that no convention has a name for.
const (
	KeyKind      = attribute.Key("roam.op.kind")
	KeyPartition = attribute.Key("roam.partition")
	KeyOrigin    = attribute.Key("roam.origin")
	KeyF         = attribute.Key("roam.f")
	KeyPeer      = attribute.Key("roam.peer.region")
	KeyVerdict   = attribute.Key("roam.verdict")
	KeyOutcome   = attribute.Key("roam.outcome")
	KeyConn      = attribute.Key("roam.conn")
	KeyFanout    = attribute.Key("roam.fanout") // connections that an op is shown to on this node
	KeyCount     = attribute.Key("messaging.batch.message_count")
)

// Message says which op of which session a span is about. id is the op's oid, or the answer that it is a part of.
func Message(session, id, kind string) []Attribute {
	return []Attribute{
		semconv.MessagingMessageConversationID(session), semconv.MessagingMessageID(id), KeyKind.String(kind),
	}
}
